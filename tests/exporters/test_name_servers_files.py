"""What name servers are given beside their programs: tables that find what the plan says, and kinds of places."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from struct import unpack_from

import pytest
from order_texts import order_text

from cdnblock.exporters import Options, export, load
from cdnblock.exporters._cdb import database, records
from cdnblock.exporters._kinds import kinds
from cdnblock.exporters._planner import make_plan, orders_told
from cdnblock.exporters.dnsdist import names_in
from cdnblock.geo.interval_table import Interval, Origin, build_table
from cdnblock.orders.model import VARIANTS, Measure
from cdnblock.sources.order_folder import load_orders

AT = datetime(2025, 5, 1, 12, tzinfo=UTC)
TABLE = build_table(Origin(source="test table", built=date(2026, 1, 1)), [(4, Interval(0xCB007100, 0xCB007200, "FR"))])
EVERY = {(Measure.DNS, variant): variant for variant in VARIANTS[Measure.DNS]}


@pytest.fixture
def rules_of(tmp_path):
    def rules(**orders):
        for order_id, changes in orders.items():
            (tmp_path / f"{order_id}.yaml").write_text(
                order_text(**({"id": order_id, "measures": "{dns: refuse}"} | changes))
            )
        return load_orders(tmp_path)

    return rules


PLACES = [
    ({}, {"other": "other", "unknown": "other"}),
    ({"a": {"territory": "[FR, RE]"}}, {"FR": "FR", "RE": "FR", "other": "other", "unknown": "other"}),
    ({"a": {"territory": "world"}}, {"other": "other", "unknown": "other"}),
    (
        {"a": {"territory": "[FR, RE]"}, "b": {"territory": "[RE]", "names": "[b.example]"}},
        {"FR": "FR", "RE": "RE", "other": "other", "unknown": "other"},
    ),
    (
        {"a": {"territory": "[FR, RE]\nunknown_location: enforce"}},
        {"FR": "FR", "RE": "FR", "other": "other", "unknown": "unknown"},
    ),
    (
        {"a": {"territory": "[FR]"}, "b": {"territory": "world"}},
        {"FR": "FR", "other": "other", "unknown": "other"},
    ),
]


@pytest.mark.parametrize(("orders", "wanted"), PLACES, ids=["none", "two", "world", "apart", "unknown", "both"])
def test_places_that_fare_alike_are_of_a_kind(orders, wanted, rules_of):
    """Countries are one where all is the same in them; unknown location is never a country's kind."""
    assert kinds(make_plan(rules_of(**orders), AT, EVERY, orders_told)) == wanted


def names_of(dice, count):
    """Return names, some below others, some meant alone, some let go."""
    names = [f"n{dice.randrange(count)}.d{dice.randrange(count // 4 + 1)}.example" for _ in range(count)]
    alone = [f"{{name: alone{number}.{dice.choice(names)}, subdomains: false}}" for number in range(count // 5)]
    free = sorted({f"free{number}.{dice.choice(names)}" for number in range(count // 5)})
    listed = f"[{', '.join([*dict.fromkeys(names), *alone])}]"
    return listed, f"lifted: [{{names: [{', '.join(free)}], at: 2025-04-20}}]\n" if free else ""


@pytest.mark.parametrize("count", [1, 2, 7, 60, 500])
def test_the_tables_find_what_the_plan_says(count, tmp_path, rules_of):
    """For listed names, what is above and below them, and strangers; by the rules by which the programs look."""
    dice = random.Random(count)
    names, lifted = names_of(dice, count)
    rules = rules_of(a={"names": names + "\n" + lifted.rstrip()})
    plan = make_plan(rules, AT, EVERY, orders_told)
    files = {
        file.name.rpartition(".")[2]: file.octets
        for target in ("powerdns", "dnsdist")
        for file in export(load(target), rules, TABLE, AT, Options(folder="/etc/x")).files
    }
    listed = [*plan.exact, *plan.suffixes]
    hosts = {*listed, *(f"x.{name}" for name in listed), *(name.partition(".")[2] for name in listed), "example", "x.y"}
    for host in sorted(hosts):
        group = plan.group_of(host)
        assert by_buckets(files["orders"].decode(), host) == (group.id if group else None)
        assert by_keys(files["cdb"], host) == (group.id if group else None)


def by_buckets(text, host):
    """Look a host up as `_powerdns.lua` does."""
    lines = text[text.index("\nnames ") + 1 :].splitlines(keepends=True)
    size = int(lines[0].split()[1])
    starts = [int(lines[1][place : place + 8], 16) for place in range(0, 8 * (size + 1), 8)]
    buckets = "".join(lines[2:])

    def held(key, name):
        number = int.from_bytes(name.encode()) % size
        found = dict(line.rsplit(" ", 1) for line in buckets[starts[number] : starts[number + 1]].splitlines())
        return found.get(key)

    depths = [{*part.split(",")} for part in lines[0].split()[2:]]
    if str(host.count(".") + 1) in depths[1] and (alone := held(f" {host}", host)):
        return None if alone == "free" else alone
    while host:
        if str(host.count(".") + 1) in depths[0] and (group := held(host, host)):
            return None if group == "free" else group
        host = host.partition(".")[2]
    return None


def by_keys(octets, host):
    """Look a host up as dnsdist does."""
    found = look_up(octets, host.encode())
    while found is None and host:
        found = look_up(octets, b"".join(bytes([len(label)]) + label.encode() for label in host.split(".")) + b"\0")
        host = host.partition(".")[2]
    return None if found in (None, b" free") else found.decode().strip()


def look_up(octets, key):
    """Return a key's value, None without it, as https://cr.yp.to/cdb/cdb.txt says."""
    number = 5381
    for octet in key:
        number = ((number << 5) + number & 0xFFFFFFFF) ^ octet
    start, count = unpack_from("<LL", octets, number % 256 * 8)
    for step in range(count):
        slot = (number // 256 + step) % count
        held, position = unpack_from("<LL", octets, start + slot * 8)
        if position == 0:
            return None
        if held == number:
            length, size = unpack_from("<LL", octets, position)
            if octets[position + 8 : position + 8 + length] == key:
                return octets[position + 8 + length : position + 8 + length + size]
    return None


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 5_000])
def test_each_key_is_found_and_no_other(count):
    """Keys of any octets and lengths, the empty one too; values as well."""
    dice = random.Random(count)
    wanted = {dice.randbytes(dice.randint(0, 40)): dice.randbytes(dice.randint(0, 9)) for _ in range(count)}
    octets = database(wanted.items())
    assert {key: look_up(octets, key) for key in wanted} == wanted
    assert list(records(octets)) == list(wanted.items())
    strangers = [key for key in (dice.randbytes(7) for _ in range(500)) if key not in wanted]
    assert [look_up(octets, key) for key in strangers] == [None] * len(strangers)


def test_keys_with_the_same_hash_are_told_apart():
    """These four pairs of octets meet in one number."""
    wanted = {b"ab": b"1", b"`C": b"2", b"b\x81": b"3", b"g$": b"4"}
    octets = database(wanted.items())
    assert {key: look_up(octets, key) for key in wanted} == wanted


def test_the_same_records_are_the_same_octets():
    """And what is empty is 256 pairs that point at the end."""
    assert database([(b"a", b"1")]) == database([(b"a", b"1")])
    assert database([]) == b"\x00\x08\0\0\0\0\0\0" * 256


def test_the_names_in_a_database_can_be_read_again(rules_of):
    """Each name of the orders, alone or with all below it, and nothing else that is in there."""
    rules = rules_of(
        one={"names": "[a.example, {name: alone.b.example, subdomains: false}]"},
        two={"names": "[c.example]\nlifted: [{names: [free.c.example], at: 2025-04-20}]"},
    )
    files = export(load("dnsdist"), rules, TABLE, AT, Options(folder="/x")).files
    (octets,) = (file.octets for file in files if file.name.endswith(".cdb"))
    found = dict(names_in(octets))
    assert sorted(found) == ["a.example", "alone.b.example", "c.example", "free.c.example"]
    assert found["free.c.example"] == b" free" != found["c.example"]


@pytest.mark.parametrize(
    "octets",
    [b"", b"short", b"\xff" * 4096, database([(b"\x03ab", b"")])[:-20]],
    ids=["nothing", "short", "noise", "cut"],
)
def test_what_is_no_database_is_told(octets):
    """Whatever somebody has put in its place."""
    with pytest.raises(ValueError, match=r"no cdb|decode"):
        list(names_in(octets))
