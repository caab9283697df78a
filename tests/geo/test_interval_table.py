"""Country tables as intervals, and their packed form."""

from __future__ import annotations

import json
import zlib
from datetime import date
from hashlib import sha256
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnblock.errors import ConfigError
from cdnblock.geo.interval_table import FORMAT, Interval, Origin, build_table, pack, unpack

ORIGIN = Origin(source="test", built=date(2026, 1, 2), version="7", licence="CC0-1.0")
V4_END, V6_END = 1 << 32, 1 << 64
NETWORKS = [
    (4, Interval(0x5A540000, 0x5A550000, "FR")),
    (4, Interval(0x5A550000, 0x5A560000, "FR")),
    (4, Interval(0x66230000, 0x66240000, "RE")),
    (4, Interval(0x66240000, 0x66250000, "FR")),
    (4, Interval(0xDF000000, 0xE0000000, "AU")),
    (6, Interval(0x2A01CB00_00000000, 0x2A01CC00_00000000, "FR")),
    (6, Interval(0x20010DB8_00000000, 0x20010DB8_00000001, "GP")),
]
TABLE = build_table(ORIGIN, NETWORKS)


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("90.83.255.255", None), ("90.84.0.0", "FR"), ("90.84.144.1", "FR"), ("90.85.255.255", "FR"), ("90.86.0.0", None),
        ("102.34.255.255", None), ("102.35.0.0", "RE"), ("102.35.255.255", "RE"), ("102.36.0.0", "FR"), ("102.37.0.0", None),
        ("222.255.255.255", None), ("223.0.0.0", "AU"), ("223.255.255.255", "AU"), ("224.0.0.0", None), ("1.0.0.0", None),
        ("2a01:caff:ffff:ffff::", None), ("2a01:cb00::", "FR"), ("2a01:cbff:ffff:ffff:ffff:ffff:ffff:ffff", "FR"),
        ("2a01:cc00::", None), ("2001:db8::", "GP"), ("2001:db8::ffff:ffff:ffff:ffff", "GP"), ("2001:db8:0:1::", None),
        ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", None), ("3fff::", None),
        ("::ffff:102.35.1.1", "RE"), ("2002:6623:101::", "RE"), ("10.0.0.1", None), ("x", None), ("", None),
    ],
)  # fmt: skip
def test_each_interval_begins_and_ends_exactly(address, country):
    """First and last address of each, and their neighbours."""
    assert TABLE.locate(address) == country
    assert unpack(pack(TABLE), "packed").locate(address) == country


def test_neighbours_of_one_country_become_one_interval():
    """And what lies between has no country; nothing is left out."""
    assert list(TABLE.intervals(4)) == [
        (0, 0x5A540000, None),
        (0x5A540000, 0x5A560000, "FR"),
        (0x5A560000, 0x66230000, None),
        (0x66230000, 0x66240000, "RE"),
        (0x66240000, 0x66250000, "FR"),
        (0x66250000, 0xDF000000, None),
        (0xDF000000, 0xE0000000, "AU"),
        (0xE0000000, V4_END, None),
    ]
    assert (TABLE.ranges(4), TABLE.ranges(6)) == (4, 2)
    assert TABLE.countries == ("AU", "FR", "GP", "RE")
    assert TABLE.description == "test of 2026-01-02"
    assert TABLE.as_intervals() is TABLE


def test_an_empty_table_knows_nothing():
    """No networks at all, or all of one version."""
    empty = build_table(ORIGIN, [])
    assert list(unpack(pack(empty), "packed").intervals(6)) == [(0, V6_END, None)]
    assert empty.locate("90.84.144.1") is None
    whole = build_table(ORIGIN, [(4, Interval(0, V4_END, "FR"))])
    assert list(unpack(pack(whole), "packed").intervals(4)) == [(0, V4_END, "FR")]


CUTS = st.sets(st.integers(1, V6_END - 1), max_size=30).map(sorted)


@given(cuts=CUTS, data=st.data())
def test_a_table_answers_what_it_was_made_of(cuts, data):
    """Any partition of the space, in any order, packed and unpacked: the same intervals and answers."""
    edges = [0, *cuts, V6_END]
    codes = [data.draw(st.sampled_from([None, "FR", "RE", "US"])) for _ in edges[1:]]
    parts = [Interval(start, end, code) for start, end, code in zip(edges, edges[1:], codes, strict=False)]
    table = unpack(pack(build_table(ORIGIN, [(6, part) for part in data.draw(st.permutations(parts))])), "packed")
    for start, end, code in parts:
        assert table.find(6, start << 64) == table.find(6, (end << 64) - 1) == code


@pytest.mark.parametrize(
    "networks",
    [
        [(4, Interval(0, 10, "FR")), (4, Interval(9, 20, "FR"))],
        [(4, Interval(0, 10, "FR")), (4, Interval(0, 10, "RE"))],
        [(4, Interval(0, 10, "FR")), (4, Interval(0, 10, None))],
        [(4, Interval(0, V4_END + 1, "FR"))],
        [(4, Interval(10, 10, "FR"))],
        [(4, Interval(-1, 10, "FR"))],
    ],
)
def test_two_answers_for_one_address_are_refused(networks):
    """Overlaps, and what lies outside the address space."""
    with pytest.raises(ConfigError, match="a table gives one"):
        build_table(ORIGIN, networks)


def test_more_countries_than_a_byte_can_number_are_refused():
    """There are some 250 in the world."""
    codes = [a + b for a in "ABCDEFGHIJK" for b in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    with pytest.raises(ConfigError, match="at most 255"):
        build_table(ORIGIN, [(4, Interval(number, number + 1, code)) for number, code in enumerate(codes)])


def test_the_same_table_makes_the_same_bytes():
    """Whatever the order of its networks; and the origin comes back whole."""
    assert pack(build_table(ORIGIN, reversed(NETWORKS))) == pack(TABLE)
    assert unpack(pack(TABLE), "packed") == TABLE
    assert unpack(pack(TABLE), "packed").origin == ORIGIN


def test_no_damage_goes_unseen():
    """Every octet changed, and every length cut: never a table, always a ConfigError that names the file."""
    whole = pack(TABLE)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        with pytest.raises(ConfigError, match=r"some\.bin"):
            unpack(bytes(damaged), "some.bin")
        with pytest.raises(ConfigError, match=r"some\.bin"):
            unpack(whole[:position], "some.bin")
    with pytest.raises(ConfigError, match="checksum"):
        unpack(whole + b"\0", "some.bin")


def sealed(header, halves, tail=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    packed = zlib.compress(text + b"\n" + halves)
    return FORMAT + sha256(packed + tail).digest() + packed + tail


HEADER = {
    "source": "t",
    "built": "2026-01-02",
    "version": None,
    "licence": None,
    "countries": ["FR"],
    "ipv4": 1,
    "ipv6": 1,
}


def test_the_smallest_sealed_table_is_read():
    """So that the refusals below are about what they say."""
    assert unpack(sealed(HEADER, b"\1\0"), "sealed").locate("90.84.144.1") == "FR"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "begin like one"),
        (b"\x89PNG", "begin like one"),
        (sealed([], b""), "no header"),
        (sealed(b"{", b""), "damaged"),
        (sealed(b"\xff", b""), "damaged"),
        (sealed({}, b"\1\0"), "countries"),
        (sealed(HEADER | {"countries": "FR"}, b"\1\0"), "countries"),
        (sealed(HEADER | {"countries": ["fr"]}, b"\1\0"), "countries"),
        (sealed(HEADER | {"countries": [5]}, b"\1\0"), "countries"),
        (sealed(HEADER | {"countries": ["FR"] * 256}, b"\1\0"), "countries"),
        (sealed(HEADER | {"built": "yesterday"}, b"\1\0"), "damaged"),
        (sealed(HEADER | {"built": 5}, b"\1\0"), "damaged"),
        (sealed(HEADER | {"ipv4": 0}, b"\1\0"), "fewer"),
        (sealed(HEADER | {"ipv4": -1}, b"\1\0"), "fewer"),
        (sealed(HEADER | {"ipv4": "1"}, b"\1\0"), "fewer"),
        (sealed(HEADER | {"ipv4": 10**12}, b"\1\0"), "fewer"),
        (sealed(HEADER, b"\1"), "fewer"),
        (sealed(HEADER, b"\1\0\0"), "follows its last interval"),
        (sealed(HEADER, b"\2\0"), "does not list"),
        (sealed(HEADER | {"ipv4": 2}, b"\0\0\0\0" + b"\0\1" + b"\0"), "out of order"),
        (sealed(HEADER | {"ipv4": 3}, b"\xff\xff" * 4 + b"\0\1\0" + b"\0"), "damaged"),
        (sealed(HEADER, b"\1\0", tail=b"more"), "cut, or too long"),
        (sealed(HEADER, b"\0" * 70_000_000), "cut, or too long"),
    ],
)
def test_an_inconsistent_table_is_refused(data, why):
    """A right checksum is not enough: header, counts, order, positions, size."""
    with pytest.raises(ConfigError, match=why):
        unpack(data, "some.bin")


@given(st.ip_addresses())
def test_locating_is_finding_the_number(address):
    """Any address: the same by text and by number, unless it has no place or stands for another."""
    found = TABLE.locate(str(address))
    assert found is None or found in TABLE.countries
    if address.is_global and address.version == 4:
        assert found == TABLE.find(4, int(ip_address(address)))
