"""Hosts that are not all ASCII come out as the whole URL parser would have them, up to 64 characters."""

from __future__ import annotations

import urllib.parse

import ada_url
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thoroughness import examples

from cdnblock.matching.names import MAX_UNICODE, canonical, canonical_query_name

PARTS = st.sampled_from([
    "a", "b", "-", ".", ".", "1", "0x", "xn--", "XN--a", "xn--bcher-kva", "!", "=", "ü", "ß", "ς", "Σ", "İ", "\u00ad", "\u200d", "\u200b",
    "\ufeff", "\u3002", "\uff0e", "㍿", "Ａ", "１", "u\u0308", "\u0345", "א", "ب", "₨", "≠", "⒈", "…", "／", "％", "각", "\u1100\u1161\u11a8", "中",
    "𝐰", "😀\ufe0f", "\U0001d15e", "\ufdfa", "ﬃ", "\ud800", "\x80", "%61", "%2E", "%c3%bc", "%", "%zz", "%00", "%3D", "%25", "bücher.", "aüo.",
    "ü" * 40 + ".", "a" * 50, "u\u0308" * 25, "ü.", "xn--tda.",
])  # fmt: skip


def by_the_url_parser(host):
    """Return what ada's URL parser makes of a host, with the lengths that a name may have; None if it is none."""
    if not host or any(character in "\t\n\r /\\?#@:" for character in host):
        return None
    try:
        name = ada_url.URL(f"http://{host}/").hostname.removesuffix(".")
    except ValueError:
        return None
    return name if len(name) <= 253 and all(0 < len(label) <= 63 for label in name.split(".")) else None


@settings(max_examples=examples(2_000), deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=40).map("".join).filter(lambda host: len(host) <= 250))
@example("\u03b1\u0345\u0301" * 20 + ".a")
@example("a." * 20 + "xn--a_." + "ü.example")
@example("m\u00ad" * 28 + ".example")
def test_a_host_comes_out_as_the_url_parser_has_it(host):
    """However it is escaped; only ASCII hosts keep A-labels that are none, and only short ones may be Unicode."""
    decoded = host if host.isascii() and "%" not in host else unquoted(host)
    if decoded.isascii() and decoded == host and "xn--" in host.lower():
        return
    expected = by_the_url_parser(host) if decoded.isascii() or len(decoded) <= MAX_UNICODE else None
    assert canonical(host) == expected


def unquoted(host):
    """Return a host with its escapes decoded; what is no UTF-8 then is not told apart, for it is no host."""
    return urllib.parse.unquote_to_bytes(host.encode("utf-8", "replace")).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (".".join(["ü" * 15] * 4), ".".join(["xn--tdaaaaaaaaaaaaaaa"] * 4)),  # 63 characters
        (".".join(["ü" * 15] * 4) + "ü", ".".join(["xn--tdaaaaaaaaaaaaaaa"] * 3 + ["xn--tdaaaaaaaaaaaaaaaa"])),
        (".".join(["ü" * 15] * 4) + "üü", None),
        (".".join(["%C3%BC" * 15] * 4), ".".join(["xn--tdaaaaaaaaaaaaaaa"] * 4)),
        (".".join(["%C3%BC" * 15] * 4) + "%C3%BC%C3%BC", None),
        ("ü" + "\u00ad" * 62 + "a", "xn--a-dha"),
        ("ü" + "\u00ad" * 63 + "a", None),
        ("a" * 50 + ".bücher.exampl", "a" * 50 + ".xn--bcher-kva.exampl"),  # 64 characters
        ("a" * 50 + ".bücher.example", None),
        ("ｗ" * 63, "w" * 63),
        ("ｗ" * 64, None),
        ("中" * 60, None),
        ("%61" * 63 + ".example", "a" * 63 + ".example"),  # ASCII, once it is decoded
        (".".join(["xn--" + "a" * 59] * 3), ".".join(["xn--" + "a" * 59] * 3)),  # A-labels are as long as names may be
    ],
)
def test_lengths(host, expected):
    """Characters are counted as they are spelled, escapes decoded; of ASCII, the limits of names are the only ones."""
    assert canonical(host) == expected


@pytest.mark.parametrize("label", ["\ufdfa", "a\0ü", "\ud800ü", "ü" * 65])
def test_a_label_of_a_query_that_has_no_ascii_form_stays_as_it_is(label):
    """Sentences with spaces, what a C string cannot hold, half a character, far too much: the name below still counts."""
    assert canonical_query_name(f"{label}.Site.example") == f"{label}.site.example"
