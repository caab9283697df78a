"""Policy zones: walked as any engine walks them, they say what the rules say."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import dns.rdata
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.exporters._exporter import Options
from cdnblock.exporters._planner import make_plan, orders_told
from cdnblock.exporters._rpz import LONGEST_NAME, extra_text, no_names_in_zones, parts, soa_data, zone_text
from cdnblock.matching.ruleset import compile_orders
from cdnblock.measures.dns_refusal import SOA_RDATA
from cdnblock.orders.model import VARIANTS, Lifting, Measure, Name, Territory, UnknownLocation

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "matching")]
from test_plan import AT, HOSTS, an_order
from test_properties import INSTANTS, NAMES, PLACES, boundary_instants, folders

DNS = {(Measure.DNS, variant): variant for variant in VARIANTS[Measure.DNS]}
POINTS_TO = {"refuse": "refuse.", "nxdomain": ".", "nodata": "*."}
VARIANT = {target: variant for variant, target in POINTS_TO.items()} | {"rpz-passthru.": None}


def planned(*orders, at=AT):
    return make_plan(compile_orders(orders), at, DNS, orders_told)


def records(part):
    """Return owner and target of each record of a part's zone, but for those at its top."""
    lines = [line.split() for line in zone_text(part, POINTS_TO).splitlines()]
    found = [(line[0], line[2]) for line in lines if line[1] == "CNAME"]
    assert len(dict(found)) == len(found), "an owner comes twice: some engines then load nothing at all"
    return dict(found)


def by_longest_suffix(zone, host):
    """Walk a zone as Unbound and PowerDNS do."""
    if host in zone:
        return zone[host]
    while host := host.partition(".")[2]:
        if f"*.{host}" in zone:
            return zone[f"*.{host}"]
    return None


def by_dns(zone, host):
    """Walk a zone as RFC 4592 has it: only the wildcard at the closest name that is there counts."""
    if host in zone:
        return zone[host]
    there = {"."}
    for owner in zone:
        name = owner
        while name:
            there.add(name)
            name = name.partition(".")[2]
    if host in there:
        return None
    closest = host.partition(".")[2]
    while closest and closest not in there:
        closest = closest.partition(".")[2]
    return zone.get(f"*.{closest}")


WALKS = [by_longest_suffix, by_dns]


def variant_for(plan, walk, host, country):
    """Return the variant that an engine comes to with all zones for a client's place, None for no refusal."""
    zones = [records(part) for part in parts(plan) if part.holds_in(plan.place_of(country))]
    said = [target for target in (walk(zone, host) for zone in zones) if target is not None]
    assert len(said) <= 1, "two zones have a say in one name"
    return VARIANT[said[0]] if said else None


@pytest.mark.parametrize("walk", WALKS)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), folder=folders(), country=PLACES)
def test_zones_say_what_the_rules_say(walk, data, folder, country):
    """For any orders, name, country and instant, in both ways of walking."""
    rules = compile_orders(folder)
    at = data.draw(st.one_of(INSTANTS, st.sampled_from(boundary_instants(folder))))
    plan = make_plan(rules, at, DNS, orders_told)
    for _ in range(6):
        host = data.draw(st.one_of(HOSTS, NAMES))
        wanted = rules.decide(host, country=country, at=at).measures.get(Measure.DNS)
        assert variant_for(plan, walk, host, country) == wanted


REFUSE = {Measure.DNS: "refuse"}
TANGLE = [
    an_order("one", "a.example", measures={Measure.DNS: "nxdomain"},
             lifted=(Lifting(names=("free.a.example",), at=datetime(2025, 4, 20, tzinfo=UTC)),)),
    an_order("two", "x.y.a.example", "deep.down.free.a.example", measures=REFUSE,
             territory=Territory(countries=frozenset({"FR", "RE"}))),
    an_order("three", Name(name="alone.a.example", subdomains=False), measures={Measure.DNS: "nodata"},
             territory=Territory(world=True), unknown_location=UnknownLocation.ENFORCE),
    an_order("four", "everywhere.example", measures=REFUSE, territory=Territory(world=True)),
]  # fmt: skip
TANGLED = [
    # host, in France, in Réunion
    ("a.example", "nxdomain", None),
    ("z.y.a.example", "nxdomain", None),
    ("y.a.example", "nxdomain", None),
    ("x.y.a.example", "refuse", "refuse"),
    ("w.x.y.a.example", "refuse", "refuse"),
    ("free.a.example", None, None),
    ("w.free.a.example", None, None),
    ("down.free.a.example", None, None),
    ("deep.down.free.a.example", "refuse", "refuse"),
    ("alone.a.example", "nxdomain", "nodata"),
    ("x.alone.a.example", "nxdomain", None),
    ("xa.example", None, None),
    ("example", None, None),
]


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize(("host", "france", "reunion"), TANGLED)
def test_names_below_and_between_names(walk, host, france, reunion):
    """Where DNS's wildcards are hidden by names below them, the zone says it once more."""
    plan = planned(*TANGLE)
    assert variant_for(plan, walk, host, "FR") == france
    assert variant_for(plan, walk, host, "RE") == reunion


def test_places_with_the_same_names_share_a_zone():
    """However many countries: what holds in all of them is written once, under an id that stays."""
    overseas = Territory(countries=frozenset({"FR", "RE", "GP", "MQ"}))
    plan = planned(an_order("one", "a.example", territory=overseas, measures=REFUSE))
    more = planned(an_order("two", "a.example", "b.example", territory=overseas, measures=REFUSE))
    both = planned(
        an_order("one", "a.example", territory=overseas, measures=REFUSE), an_order("fr", "b.example", measures=REFUSE)
    )
    (part,) = parts(plan)
    assert part.places == ("FR", "GP", "MQ", "RE")
    assert [other.id for other in parts(more)] == [part.id]
    assert {other.places: [*other.suffixes] for other in parts(both)} == {
        part.places: ["a.example"],
        ("FR",): ["b.example"],
    }


def test_nobody_named_is_no_zone():
    """Nothing in force: no zone at all."""
    assert parts(planned()) == ()


def test_trees_can_be_sorted():
    """Those with a name that is refused apart from the others, whole."""
    plan = planned(
        an_order("one", "a.example", "b.example", measures={Measure.DNS: "nxdomain"}),
        an_order("two", "www.a.example", measures=REFUSE),
    )
    sorts = parts(plan, lambda outcomes: "refuse" if any("refuse" in o.measures.values() for o in outcomes) else "")
    assert {part.sort: {*part.suffixes} for part in sorts} == {
        "refuse": {"a.example", "www.a.example"},
        "": {"b.example"},
    }


@pytest.mark.parametrize(
    "name", [f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 54}", "32.1.2.0.192.rpz-ip", "ns.example.rpz-nsdname"]
)
def test_what_is_no_name_in_a_zone_is_told(name):
    """A name too long to have a wildcard, and what RPZ reads as another trigger: left out and missing."""
    plan = planned(an_order("one", name, "a.example", measures={Measure.DNS: "nxdomain"}))
    (part,) = parts(plan)
    assert records(part) == {"a.example": ".", "*.a.example": "."}
    assert [item.order for item in no_names_in_zones(plan, Options(folder="/"))] == ["one"]


def test_the_longest_name_fits():
    """255 octets with the zone's name, `*.` and the root (RFC 1035 §2.3.4)."""
    name = ".".join(("a" * 63, "b" * 63, "c" * 63, "d" * (LONGEST_NAME - 3 * 64)))
    assert len(name) == LONGEST_NAME
    plan = planned(an_order("one", name, measures={Measure.DNS: "nxdomain"}))
    (part,) = parts(plan)
    wire = sum(len(label) + 1 for label in f"*.{name}.{part.id}".split(".")) + 1
    assert wire == 255
    assert not [*no_names_in_zones(plan, Options(folder="/"))]


def test_the_extra_text_is_that_of_our_own_refusal():
    """Orders and whom to contact."""
    plan = planned(an_order("one", "a.example", measures=REFUSE, contact="legal@edge.example"))
    (outcome,) = plan.outcomes
    assert extra_text(outcome, Options(folder="/")) == "order one; contact legal@edge.example"
    assert extra_text(outcome, Options(folder="/", contact="noc")) == "order one; contact noc"


def test_the_soa_is_that_of_our_own_refusal():
    """Octet for octet."""
    assert dns.rdata.from_text("IN", "SOA", soa_data()).to_wire() == SOA_RDATA


def test_other_records_have_another_serial():
    """And the same the same: deterministic, and told apart by who compares serials."""
    one, two = (
        zone_text(parts(planned(an_order("one", *names, measures={Measure.DNS: "nodata"})))[0])
        for names in (["a.example"], ["a.example", "b.example"])
    )
    assert one.splitlines()[1] != two.splitlines()[1]
    assert one == zone_text(parts(planned(an_order("x", "a.example", measures={Measure.DNS: "nodata"})))[0])
