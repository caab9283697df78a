"""One canonical form: what a browser would look up, in ASCII and lower case."""

from __future__ import annotations

import time

import pytest

from cdnblock.matching.names import canonical, canonical_query_name, to_unicode

SAME_HOST = [
    "www.motogpstream.me", "WWW.MotoGPStream.ME", "www.motogpstream.me.", "www.motogpstream.me:443",
    "www.motogpstream.me.:8080", "www.motogpstream.me:", "www.motogpstream.me:99999", "www。motogpstream。me",
    "www．motogpstream．me", "www｡motogpstream｡me｡", "ｗｗｗ.ｍｏｔｏｇｐｓｔｒｅａｍ.ｍｅ", "www.moto%67pstream.me",
    "www%2Emotogpstream%2eme", "www.motogp\u00adstream.me", "www.motogp\u200bstream.me", "ⓦⓦⓦ.motogpstream.me",
    "𝐰𝐰𝐰.motogpstream.me", "www.motogpſtream.me", "%57WW.motogpstream.me", "www.motogpstream.m%EF%BD%85:80",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SAME_HOST)
def test_every_spelling_that_a_browser_takes_for_the_host_is_the_host(spelling):
    """Case, dots, ports, escapes and compatibility characters all come out as the one name (UTS 46)."""
    assert canonical(spelling) == "www.motogpstream.me"
    assert canonical(spelling.encode()) == "www.motogpstream.me"


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # not "strasse": UTS 46 non-transitional, as browsers do
        ("Σας.example", "xn--mxa8ab.example"),  # str.lower() would know a final sigma; UTS 46 maps letter by letter
        ("ΣΑΣ.example", "xn--mxa9ab.example"),
        ("my_live.example", "my_live.example"),
        ("a!b.example", "a!b.example"),
        ("xn--a.motogpstream.me", "xn--a.motogpstream.me"),  # no valid IDN, and yet below a name that may be covered
        ("localhost", "localhost"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("0xC0000201", "192.0.2.1"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ("[::ffff:192.0.2.1]", "::ffff:c000:201"),
        (".".join(["a" * 63] * 3 + ["a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 61])),  # 253 octets
    ],
)
def test_canonical_forms(spelling, expected):
    """Written-out expectations, as the WHATWG URL standard has them."""
    assert canonical(spelling) == expected


NO_HOST = [
    "", ".", "..", "a..b", ".a.example", "a.example..", "a.example.。", "a b.example", "a\tb.example", "a\x00.example",
    "a%00.example", "user@a.example", "http://a.example", "a.example/path", "a.example?x", "a.example#x",
    "a.example\\@b.example", "a:b", "a:1:2", "[::1", "::1", "[::1%25eth0]", "[a.example]", "a" * 64 + ".example",
    ".".join(["a" * 63] * 4), "a.example.1", "a.0x1", "%ff.example", "\ud800.example", "a<b.example", "a, b", "a|b",
    "xn--\u00fc.example", "\u00ad", "256.256.256.256",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_HOST, ids=ascii)
def test_what_is_no_host_has_no_canonical_form(text):
    """URL syntax, empty and over-long labels, control characters, broken addresses: None, never an exception."""
    assert canonical(text) is None


def test_bytes_that_are_not_utf8_are_no_host():
    """A Host field may hold any octets; those that are no text name nothing."""
    assert canonical(b"\xff\xfe.example") is None


@pytest.mark.parametrize(
    "host",
    [
        "a" * 10_000,
        "." * 10_000,
        "a." * 5_000,
        "ü" * 10_000,
        "%61" * 10_000,
        "xn--" * 2_500,
        "[" * 10_000,
        ":" * 10_000,
    ],
    ids=lambda host: ascii(host[:6]),
)
def test_ten_kilobytes_of_host_cost_nothing(host):
    """Hostile lengths are answered at once: a thousand of them in well under a second."""
    started = time.process_time()
    for _ in range(1_000):
        assert canonical(host) is None
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("WWW.MotoGPStream.me.", "www.motogpstream.me"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BüCHER.example", "xn--bcher-kva.example"),
        ("a b.motogpstream.me", "a b.motogpstream.me"),  # a label may hold any octet (RFC 2181 §11)
        ("a%2e.motogpstream.me", "a%2e.motogpstream.me"),  # nothing is percent-encoded in the DNS
        ("_dmarc.motogpstream.me", "_dmarc.motogpstream.me"),
        ("1.2.3.4", "1.2.3.4"),
        ("１.motogpstream.me", "1.motogpstream.me"),  # a label that is a number is no address
        ("", None),
        (".", None),
        ("a..b", None),
        ("x" * 5_000, None),
        ("ü." * 1_000, None),
    ],
)
def test_query_names(name, expected):
    """A DNS name is no URL: what stands right of an odd label can still be covered."""
    assert canonical_query_name(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("xn--bcher-kva.example", "bücher.example"), ("a.example", "a.example"), ("xn--a.example", "xn--a.example")],
)
def test_names_are_shown_as_people_write_them(name, expected):
    """U-labels where there are any; an A-label that is none stays."""
    assert to_unicode(name) == expected
