"""Hostile Unicode is refused early and converted bit by bit, and comes out as the whole URL parser would have it."""

from __future__ import annotations

import sys
import unicodedata

import ada_url
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdnblock.matching import uts46
from cdnblock.matching.names import canonical
from cdnblock.matching.uts46 import to_ascii

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


@settings(max_examples=2_000, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=40).map("".join).filter(lambda host: len(host) <= 250))
@example("ü" * 40 + "." + "a.\u00ad" * 20 + ".example")
@example("a." * 30 + "xn--a_." + "ü.example")
@example("u\u0308" * 40 + "." + "ｗ" * 63 + ".\u3002example")
@example("m\u00ad" * 60 + ".example" * 10)
@example("\u03b1\u0345\u0301" * 21 + "a.example")
def test_a_host_comes_out_as_the_url_parser_has_it(host):
    """However it is cut and counted on the way; only ASCII hosts keep A-labels that are none."""
    if host.isascii() and "%" not in host and "xn--" in host.lower():
        return
    assert canonical(host) == by_the_url_parser(host)


def test_composing_first_changes_nothing():
    """UTS 46 makes the same of a character and of its parts, so a label may be counted as it is composed."""
    for code in range(0xA0, sys.maxunicode + 1):
        parts = unicodedata.normalize("NFD", chr(code))
        if parts != chr(code):
            assert ada_url.idna.encode(f"a{chr(code)}b") == ada_url.idna.encode(f"a{parts}b")


def test_no_mark_but_one_becomes_a_letter():
    """U+0345 does, and is looked after; any other would join its neighbours after composing as it did not before."""
    becoming = [
        code
        for code in range(0xA0, sys.maxunicode + 1)
        if unicodedata.combining(chr(code)) and chr(code) == unicodedata.normalize("NFC", chr(code))
        and ada_url.idna.encode(f"q{chr(code)}x") not in (b"", ada_url.idna.encode(b"qx"))
        and ada_url.idna.decode(ada_url.idna.encode(f"q{chr(code)}x")) != unicodedata.normalize("NFC", f"q{chr(code)}x")
    ]  # fmt: skip
    assert becoming == [0x345]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (".".join(["ü" * 57] * 3 + ["ü" * 55]), 253),  # as long as a name may be
        (".".join(["u\u0308" * 28] * 4), 34 * 4 + 3),
        ("\u1112\u1161\u11ab" * 21 + ".example", 36),
        (
            ".".join(["e\u0301" * 30, "\u1100\u1161" * 45, "e\u0301" * 50, "o\u0308" * 10, "example"]),
            171,
        ),  # in 280 characters
        ("a\u00ad" * 63 + ".example", 71),
        ("aü." * 24 + "example", 24 * 10 + 7),
        (".".join(["ü" * 57] * 4), None),
        ("ü" * 64 + ".example", None),
        ("中" * 60 + ".example", None),
        ("㍿." * 60 + "example", None),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 62))) + ".example", None),
        ("a" + "\u0301\u0316" * 60 + ".example", None),
        ("ü." * 126 + "aü", None),
        ("ü" + "\u00ad" * 298 + "a", 9),
        ("ü" + "\u00ad" * 299 + "a", None),  # 301 characters
        ("%C3%BC" + "%C2%AD" * 299 + "a", None),
    ],
)
def test_lengths(host, expected):
    """Octets of the name, None where there is none: counted as the limits of names are, not as the host is spelled."""
    name = canonical(host)
    assert (None if name is None else len(name)) == expected


@pytest.mark.parametrize("text", ["\ufdfa", "a\ufdfb", "a\0", "a\0ü", "\ud800ü", "ü" * 300])
def test_what_has_no_ascii_form(text):
    """Sentences with spaces, what a C string cannot hold, half a character, far too much."""
    assert to_ascii(text) is None


def test_three_characters_become_dots_and_some_become_nothing():
    """Text is cut at the dots and counted without the others before ada sees it, so there must be no more of them."""
    dots = [
        code
        for code in range(0x80, sys.maxunicode + 1)
        if b"." in ada_url.idna.encode(f"a{chr(code)}b".encode("utf-8", "replace"))
    ]
    assert [chr(code) for code in dots] == list(uts46._DOTS)
    assert all(ada_url.idna.encode(f"a{character}b") == b"ab" for character in uts46._LEFT_OUT)
