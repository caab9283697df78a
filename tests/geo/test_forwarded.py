"""Forwarded headers, read from the right."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnblock.geo.addresses import parse_address
from cdnblock.geo.forwarded import forwarded_nodes, node_address, x_forwarded_for_nodes


@pytest.mark.parametrize(
    ("node", "address"),
    [
        ("192.0.2.43", "192.0.2.43"),
        ("192.0.2.43:47011", "192.0.2.43"),
        ("192.0.2.43:_port", "192.0.2.43"),
        ("[2001:db8:cafe::17]", "2001:db8:cafe::17"),
        ("[2001:db8:cafe::17]:4711", "2001:db8:cafe::17"),
        ("[fe80::1%eth0]:4711", "fe80::1"),
        ("2001:db8:cafe::17", "2001:db8:cafe::17"),
        ("::ffff:192.0.2.43", "::ffff:c000:22b"),
    ],
)
def test_a_node_is_an_address_perhaps_with_brackets_and_port(node, address):
    """RFC 7239 §6, and how proxies write X-Forwarded-For."""
    assert node_address(node) == parse_address(address)


@pytest.mark.parametrize(
    "node",
    [
        "unknown", "unknown:80", "_gazonk", "_hidden:80", "", "[192.0.2.43]", "[192.0.2.43]:80", "[2001:db8::1", "2001:db8::1]",
        "[2001:db8::1]80", "[2001:db8::1]:", "[2001:db8::1]:x", "[2001:db8::1]:123456", "192.0.2.43:", "192.0.2.43:x",
        "192.0.2.43:80:80", "192.0.2.43 ", "127.1", "example.com", "example.com:80", "[]", "[", "[" * 1000, "1" * 100_000,
    ],
)  # fmt: skip
def test_other_nodes_are_no_address(node):
    """`unknown`, obfuscated identifiers, names, and what is broken."""
    assert node_address(node) is None


@pytest.mark.parametrize(
    ("lines", "nodes"),
    [
        # The examples of RFC 7239 §4, §6.3 and §7.1, right to left.
        (['for="_gazonk"'], ["_gazonk"]),
        (['For="[2001:db8:cafe::17]:4711"'], ["[2001:db8:cafe::17]:4711"]),
        (["for=192.0.2.60;proto=http;by=203.0.113.43"], ["192.0.2.60"]),
        (["for=192.0.2.43, for=198.51.100.17"], ["198.51.100.17", "192.0.2.43"]),
        (["for=_hidden, for=_SEVKISEK"], ["_SEVKISEK", "_hidden"]),
        (['for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown'], ["unknown", "[2001:db8:cafe::17]", "192.0.2.43"]),
        (["for=192.0.2.43", 'for="[2001:db8:cafe::17]", for=unknown'], ["unknown", "[2001:db8:cafe::17]", "192.0.2.43"]),
        # Spelling.
        (["FOR=192.0.2.1"], ["192.0.2.1"]),
        (["by=203.0.113.43 ; for=192.0.2.1;"], ["192.0.2.1"]),
        ([";;for=192.0.2.1;;"], ["192.0.2.1"]),
        (['for="192.0.2.1:80"'], ["192.0.2.1:80"]),
        (["for=[2001:db8::1]:80"], ["[2001:db8::1]:80"]),
        ([r'for="\1\9\2.0.2.1"'], ["192.0.2.1"]),
        (['for=""'], [""]),
        ([" , for=192.0.2.1,\t,"], ["192.0.2.1"]),
        (["", " ", ","], []),
        # Commas, semicolons and quotes inside quotes belong to the value.
        (['for=192.0.2.1;host="a,b;for=6.6.6.6"'], ["192.0.2.1"]),
        ([r'for=6.6.6.6, for=192.0.2.1;host="a\", for=7.7.7.7, x=\"b"'], ["192.0.2.1", "6.6.6.6"]),
        ([r'for=6.6.6.6, for=192.0.2.1;host="a\\"'], ["192.0.2.1", "6.6.6.6"]),
        # What the left end says cannot reach the right end.
        (['for="6.6.6.6, for=192.0.2.1'], ["192.0.2.1", None]),
        (['for=", for="192.0.2.1"'], ["192.0.2.1", None]),
        (["garbage, for=192.0.2.1"], ["192.0.2.1", None]),
        # No `for`, two of them, not well-formed: unreadable.
        (["proto=https"], [None]),
        (["for=192.0.2.1;for=192.0.2.2"], [None]),
        (["for = 192.0.2.1"], [None]),
        (["192.0.2.1"], [None]),
        (["for="], [None]),
        (['for="192.0.2.1"x'], [None]),
        (["for=192.0.2.1 proto=http"], [None]),
    ],
)  # fmt: skip
def test_forwarded_is_read_from_the_right(lines, nodes):
    """RFC 7239 §4: elements of all lines, each with its `for`."""
    assert list(forwarded_nodes(lines)) == nodes


@pytest.mark.parametrize(
    ("lines", "nodes"),
    [
        (["192.0.2.1"], ["192.0.2.1"]),
        (["192.0.2.1, 192.0.2.2,192.0.2.3"], ["192.0.2.3", "192.0.2.2", "192.0.2.1"]),
        (["192.0.2.1", "192.0.2.2, 192.0.2.3"], ["192.0.2.3", "192.0.2.2", "192.0.2.1"]),
        (["", ", ,192.0.2.1\t,"], ["192.0.2.1"]),
        (['"6.6.6.6, 192.0.2.1'], ["192.0.2.1", '"6.6.6.6']),
    ],
)
def test_x_forwarded_for_is_read_from_the_right(lines, nodes):
    """Lines in order, elements split at every comma, empty ones passed over."""
    assert list(x_forwarded_for_nodes(lines)) == nodes


@pytest.mark.parametrize("nodes", [x_forwarded_for_nodes, forwarded_nodes])
@pytest.mark.parametrize("junk", [",", '"', '\\"', '",', "a,", 'for="\\', ", ", "x" * 50, '""'])
def test_a_huge_line_costs_little(nodes, junk):
    """A megabyte of anything: only its right end is looked at, and what lies beyond counts as unreadable."""
    line = junk * (1_000_000 // len(junk)) + ", for=192.0.2.1"
    started = time.perf_counter()
    found = list(nodes([line]))
    assert time.perf_counter() - started < 1
    assert found[0] in {"192.0.2.1", "for=192.0.2.1"}
    assert found[-1] is None


@given(st.lists(st.text(alphabet=st.sampled_from('for=;,"\\ _[]:.0129\tx\x00é'), max_size=60), max_size=4))
def test_the_right_end_is_read_the_same_whatever_the_client_sent(forged):
    """A proxy appends its element to the same line or to a new one: it comes out first, and nothing raises."""
    appended = 'for="[2001:db8::1]:4711";host="a,\\"b"'
    *before, last = [*forged, ""]
    for lines in ([*before, f"{last}, {appended}"], [*before, last, appended]):
        assert next(forwarded_nodes(lines)) == "[2001:db8::1]:4711"
        assert len(list(forwarded_nodes(lines))) >= 1
    assert next(x_forwarded_for_nodes([*before, f"{last}, 192.0.2.1"])) == "192.0.2.1"
