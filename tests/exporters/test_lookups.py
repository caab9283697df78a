"""What engines look up in one long text: names by their checksum, and networks by bisection."""

from __future__ import annotations

import random
import zlib
from bisect import bisect
from datetime import UTC, date, datetime
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from order_texts import order_text

from cdnblock.exporters._hashed_names import hashed_names
from cdnblock.exporters._planner import make_plan, nothing_told
from cdnblock.exporters._spans import UNKNOWN_CODE, spans, trusted_spans
from cdnblock.exporters._territory import networks
from cdnblock.geo.interval_table import Interval, Origin, build_table
from cdnblock.orders.model import VARIANTS
from cdnblock.sources.order_folder import load_orders

TABLE = build_table(
    Origin(source="test table", built=date(2026, 1, 1)),
    [
        (4, Interval(0xC0000200, 0xC0000280, "RE")),
        (4, Interval(0xCB007100, 0xCB007180, "FR")),
        (4, Interval(0xCB007180, 0xCB007200, "FR")),
        (6, Interval(0x20010DB800000000, 0x20010DB800010000, "FR")),
        (6, Interval(0x20010DB800010000, 0x20010DB800010001, "DE")),
    ],
)


def looked_up(names, host):
    """Return what stands behind the longest name, as the programs walk: from the right, a look at each label."""
    found, digits = None, [ord(character) - ord("0") for character in names.index]
    for first in range(len(host) - 1, -1, -1):
        if first and host[first - 1] != ".":
            continue
        bucket = zlib.crc32(host[first:][::-1].encode()) & names.mask
        start, stop = (
            sum(digit << 6 * (4 - place) for place, digit in enumerate(digits[at : at + 5]))
            for at in (bucket * 5, bucket * 5 + 5)
        )
        for line in names.lines[start:stop].splitlines():
            if line.startswith(f"{host[first:]} ") or (first == 0 and line.startswith(f"{host}=")):
                found = line[len(host) - first + 1 :]
                if line.startswith(f"{host}="):
                    break
    return found


@pytest.fixture
def plan(tmp_path):
    dice = random.Random(7)
    names = [f"n{dice.randrange(10**6)}.{dice.choice('abc')}.example" for _ in range(2_000)]
    alone = [f"{{name: alone{number}.example, subdomains: false}}" for number in range(50)]
    texts = {
        "one": order_text(id="one", names=f"[{', '.join([*names, *alone, 'a.example'])}]", until="2035-12-31"),
        "two": order_text(id="two", names="[w.alone1.example, alone2.example]", until="2035-12-31"),
    }
    texts["one"] += "lifted: [{names: [" + names[3] + "], at: 2025-04-20}]\n"
    for order_id, text in texts.items():
        (tmp_path / f"{order_id}.yaml").write_text(text)
    everything = {(measure, variant): variant for measure, variants in VARIANTS.items() for variant in variants}
    return make_plan(load_orders(tmp_path), datetime(2025, 5, 1, 12, tzinfo=UTC), everything, nothing_told)


def test_a_walk_finds_what_the_plan_says(plan):
    """For each name, what is below it, and what only looks like it; names let go are told from names that are not there."""
    names = hashed_names(plan)
    assert names.mask + 1 >= len(plan.suffixes) + len(plan.exact)
    for name in {*plan.suffixes, *plan.exact}:
        for host in (name, f"x.{name}", f"a.b.{name}", f"x{name}", name.partition(".")[2], f"{name}.org"):
            group = plan.group_of(host)
            assert looked_up(names, host) in ({group.id} if group else {None, "-"}), host


def test_a_plan_without_names_is_a_table_without_names(plan):
    """And every look into it finds nothing."""
    names = hashed_names(plan.served([]))
    assert (names.lines, names.mask) == ("", 0)
    assert looked_up(names, "a.example") is None


def place_in(text, width, address):
    """Return the place of an address by bisection in fixed-width lines."""
    lines = text.splitlines()
    at = bisect(lines, f"{address:0{width}x}g") - 1  # behind all lines that begin with the address
    if at < 0 or f"{address:0{width}x}" > lines[at][width : 2 * width]:
        return None
    return lines[at][2 * width :]


def test_spans_say_where_the_table_says():
    """Adjacent networks are one span; nothing of a tunnel is there, and what is nowhere is unknown."""
    v4, v6 = spans(networks(TABLE, ["FR", "RE"], unknown=True))
    assert "cb007100cb0071ffFR\n" in v4
    assert [line for line in v6.splitlines() if line.endswith("FR")] == ["20010db80000000020010db80000ffffFR"]
    for text, place in {
        "203.0.113.200": "FR",
        "192.0.2.1": "RE",
        "198.51.100.1": UNKNOWN_CODE,
        "10.1.2.3": UNKNOWN_CODE,
    }.items():
        assert place_in(v4, 8, int(IPv4Address(text))) == place, text
    for text, place in {
        "2001:db8::7": "FR",
        "2003::7": UNKNOWN_CODE,
        "2001:db8:1::7": None,
        "fe80::1": UNKNOWN_CODE,
        "64:ff9b:1::1": UNKNOWN_CODE,
    }.items():
        assert place_in(v6, 16, int(IPv6Address(text)) >> 64) == place, text


def test_trusted_networks_are_whole_addresses():
    """IPv4-mapped ones are IPv4's; those that overlap are one."""
    v4, v6 = trusted_spans(["10.0.0.0/8", "10.1.0.0/16", "127.0.0.1", "::ffff:192.0.2.0/120", "2001:db8::7"])
    assert v4.splitlines() == ["0a0000000affffff--", "7f0000017f000001--", "c0000200c00002ff--"]
    address = f"{int(ip_network('2001:db8::7').network_address):032x}"
    assert v6 == f"{address}{address}--\n"
