"""What three zones say together is what the rules say, whatever changes, and whichever bulk a resolver still has."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.errors import ConfigError
from cdnblock.matching.difference import differing_names
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.model import Lifting, Measure, Name, Order, Territory
from cdnblock.rpz_primary.known_names import KnownNames
from cdnblock.rpz_primary.layers import Layers
from cdnblock.rpz_primary.planning import Planning
from cdnblock.rpz_primary.policies import Clients, read_clients

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "matching")]
from test_properties import INSTANTS, NAMES, boundary_instants, folders, hosts, orders
from walking import as_dns, by_longest_suffix, told

PLACES = {"fr": "FR", "pf": "PF", "rest": "other", "lost": "unknown"}
COUNTRIES = {"FR": "FR", "PF": "PF", "other": "DK", "unknown": None}
CLIENTS = [Clients.read(f"{name}={place}") for name, place in PLACES.items()]
GIVEN = {"refuse": "nxdomain"}


def make(rules, at):
    layers = [Layers({}) for _ in CLIENTS]
    planning = Planning(rules, at, CLIENTS, layers, longest=246)
    planning.follow(rules, at)
    return planning, layers


def ordered(rules, host, clients, at):
    variant = rules.decide(host, country=COUNTRIES[clients.places[0]], at=at).measures.get(Measure.DNS)
    return GIVEN.get(variant, variant)


def assert_right(planning, layers, bulks, rules, at, asked, those=CLIENTS):
    """Hold every bulk that a resolver may still have, behind the zones in front of it, against the rules."""
    for clients, each, older in zip(CLIENTS, layers, bulks, strict=True):
        if clients not in those:
            continue
        passing, delta = planning.front(each)
        for base in older:
            for host in asked:
                for walk in (by_longest_suffix, as_dns):
                    says = told((passing, delta, base), host, walk)
                    assert says == ordered(rules, host, clients, at), (host, clients.name, walk.__name__)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), folder=folders())
def test_the_zones_say_what_the_rules_say_through_all_changes(data, folder):
    """Orders come, go and change, time goes on and back, the bulk is written anew: each answer stays the rules' own."""
    rules = compile_orders(folder)
    at = data.draw(st.one_of(INSTANTS, st.sampled_from(boundary_instants(folder))))
    planning, layers = make(rules, at)
    for each in layers:
        each.fold()
    bulks = [[each.base] for each in layers]
    for step in range(data.draw(st.integers(1, 6))):
        match data.draw(st.sampled_from(["orders", "order", "time", "fold", "settle"])):
            case "orders":
                folder = data.draw(folders())
            case "order":
                number = data.draw(st.integers(0, len(folder)))
                folder = [order for order in folder if order.id != f"order-{number}"] + [data.draw(orders(number))]
            case "time":
                at = data.draw(st.one_of(INSTANTS, st.sampled_from(boundary_instants(folder))))
            case "fold":
                for each, older in zip(layers, bulks, strict=True):
                    passing, delta = planning.front(each)
                    each.linger([name for name in each.fold() if name in passing or name in delta], step)
                    older.append(each.base)
            case "settle":
                bulks = [[each.base] for each in layers]
                for each in layers:
                    each.settle(step)
        rules = compile_orders(folder)
        planning.follow(rules, at)
        asked = [data.draw(st.one_of(hosts(), hosts().map(lambda host: f"{host}.example"), NAMES)) for _ in range(6)]
        assert_right(planning, layers, bulks, rules, at, [host for host in asked if "." in host])


# A tree that is crowded on purpose: everything stands above or below everything.
CROWDED = [".".join([*labels, "example"]) for depth in (1, 2, 3) for labels in product("ab", repeat=depth)]
ASKED = [*CROWDED, *(f"a.{name}" for name in CROWDED if name.count(".") == 3), "b.b.b.b.a.example", "x.example"]
AT = datetime(2025, 5, 1, tzinfo=UTC)


@st.composite
def crowded_orders(draw, number):
    names = draw(st.lists(st.sampled_from(CROWDED), min_size=1, max_size=3, unique=True))
    lifted = draw(st.lists(st.sampled_from(CROWDED), max_size=2))
    return an_order(
        f"order-{number}",
        names=tuple(Name(name=name, subdomains=draw(st.sampled_from([True, True, False]))) for name in names),
        lifted=(Lifting(at=datetime(2025, 2, 1, tzinfo=UTC), names=tuple(lifted)),) if lifted else (),
        measures={Measure.DNS: draw(st.sampled_from(["nxdomain", "nodata"]))},
        territory=draw(st.sampled_from([Territory(countries=frozenset({"FR"})), Territory(world=True)])),
    )


STEPS = st.lists(
    st.one_of(
        st.integers(0, 2).flatmap(crowded_orders),
        st.integers(0, 2).flatmap(crowded_orders),
        st.sampled_from(["order-0", "order-1", "order-2", "fold", "fold", "settle"]),
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=90, deadline=None)
@given(steps=STEPS)
def test_crowded_names_are_told_right_through_all_changes(steps):
    """Names above and below each other, listed alone or with all below, lifted and listed again: always the rules' own."""
    folder = {}
    planning, layers = make(compile_orders([]), AT)
    bulks = [[each.base] for each in layers]
    for number, step in enumerate(steps):
        if step == "settle":
            bulks = [[each.base] for each in layers]
            for each in layers:
                each.settle(number)
        elif step == "fold":
            for each, older in zip(layers, bulks, strict=True):
                passing, delta = planning.front(each)
                each.linger([name for name in each.fold() if name in passing or name in delta], number)
                older.append(each.base)
        elif isinstance(step, str):
            folder.pop(step, None)
        else:
            folder[step.id] = step
        rules = compile_orders(folder.values())
        planning.follow(rules, AT)
        assert_right(planning, layers, bulks, rules, AT, ASKED, [CLIENTS[0]])


@settings(max_examples=60, deadline=None)
@given(before=folders(), after=folders(), then=INSTANTS, now=INSTANTS)
def test_what_does_not_differ_fares_as_before(before, after, then, now):
    """A name neither among the differing ones, nor below one of them, is decided as it was."""
    old, new = compile_orders(before), compile_orders(after)
    differing = {*differing_names(old, then, new, now, Measure.DNS)}
    names = {name for rules in (old, new) for name, _, _ in rules.each_listed()}
    for name in names | {f"b.{name}" for name in names}:
        above = name
        while above and above not in differing:
            above = above.partition(".")[2]
        if not above:
            for country in ("FR", "DE", None):
                was, is_now = (
                    rules.decide(name, country=country, at=at).measures.get(Measure.DNS)
                    for rules, at in ((old, then), (new, now))
                )
                assert was == is_now, name


def an_order(order_id, *names, **changes):
    keys = {
        "court": "a court", "decided": datetime(2025, 1, 1).date(), "legal_basis": "a law", "claimant": "a claimant",
        "territory": Territory(countries=frozenset({"FR"})), "measures": {Measure.DNS: "nxdomain"},
        "names": tuple(Name(name=name) for name in names), "until": datetime(2090, 1, 1, tzinfo=UTC),
    } | changes  # fmt: skip
    return Order(id=order_id, **keys)


def test_one_more_name_is_a_change_of_the_small_zone_alone():
    """With a thousand names in the bulk another one is a single name of delta, and pass stays empty."""
    at = datetime(2025, 5, 1, tzinfo=UTC)
    bulk = an_order("bulk", *(f"n{number}.example" for number in range(1_000)))
    planning, layers = make(compile_orders([bulk]), at)
    layers[0].fold()
    assert planning.follow(compile_orders([bulk, an_order("more", "one.example")]), at)
    front = planning.front(layers[0])
    assert (front.passing, [*front.delta]) == ({}, ["one.example"])
    assert len(layers[0].base) == 1_000


def test_many_changes_at_once_come_to_the_same_as_one_by_one():
    """More than two thousand names are worked out anew, all of them; the zones are those of a fresh start."""
    bulk = an_order("bulk", *(f"n{number}.example" for number in range(100)))
    many = an_order("many", *(f"a.m{number}.n{number % 100}.example" for number in range(2_500)))
    planning, layers = make(compile_orders([bulk]), AT)
    for each in layers:
        each.fold()
    assert planning.follow(compile_orders([bulk, many]), AT)
    fresh, others = make(compile_orders([bulk, many]), AT)
    for each, other in zip(layers, others, strict=True):
        each.fold()
        other.fold()
        assert each.base == other.base
        assert planning.front(each) == fresh.front(other) == ({}, {})
    assert len(layers[0].base) == 100 + 2 * 2_500


def test_a_lifted_name_passes_until_the_bulk_is_without_it():
    """What is lifted is in pass while the bulk has it, and for as long afterwards as a resolver may have an older one."""
    at = datetime(2025, 5, 1, tzinfo=UTC)
    planning, layers = make(compile_orders([an_order("one", "a.example", "b.example")]), at)
    layers[0].fold()
    planning.follow(compile_orders([an_order("one", "a.example")]), at)
    assert layers[0].has_lifted()
    assert [*planning.front(layers[0]).passing] == ["b.example"]
    layers[0].linger(layers[0].fold(), since=100.0)
    assert [*layers[0].base] == ["a.example"]
    assert [*planning.front(layers[0]).passing] == ["b.example"]
    layers[0].settle(before=100.0)
    assert planning.front(layers[0]) == ({}, {})


def test_names_that_no_policy_zone_can_have_are_told_and_left_out():
    """A name too long for the zone's own name behind it, or one that would be a trigger of another kind."""
    long = ".".join(["a" * 60] * 4)
    rules = compile_orders([an_order("one", long, "32.1.0.0.127.rpz-client-ip", "fine.example")])
    planning, layers = make(rules, datetime(2025, 5, 1, tzinfo=UTC))
    layers[0].fold()
    assert [*layers[0].base] == ["fine.example"]
    assert planning.unwritable == ("32.1.0.0.127.rpz-client-ip", long)


def test_clients_whom_an_order_divides_are_told():
    """An order for some of a set's countries is enforced for the whole set, and that is said."""
    clients = [Clients.read("both=FR+DE")]
    rules = compile_orders([an_order("one", "a.example")])
    layers = [Layers({})]
    planning = Planning(rules, datetime(2025, 5, 1, tzinfo=UTC), clients, layers, longest=246)
    planning.follow(rules, datetime(2025, 5, 1, tzinfo=UTC))
    layers[0].fold()
    assert [*layers[0].base] == ["a.example"]
    assert planning.divided == (
        "order one concerns some of the clients 'both' (DE, FR) only, and is enforced for all of them",
    )


def test_names_below_a_name_are_found_whenever_they_came():
    """Names that were there, and later ones; none that only ends alike."""
    known = KnownNames(["a.example", "b.a.example", "ba.example", "c.b.a.example", "other.example"])
    known.add("d.a.example")
    assert sorted(known.below("a.example")) == ["b.a.example", "c.b.a.example", "d.a.example"]
    assert [*known.below("b.a.example")] == ["c.b.a.example"]
    assert [*known.below("other.example")] == []


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("fr=FR", ("FR",)),
        ("france=FR+RE+GP", ("FR", "GP", "RE")),
        ("rest=other+unknown", ("other", "unknown")),
        ("metro=metropolitan-france", ("FR",)),
    ],
)
def test_clients_are_read(text, places):
    """A short name, and countries, presets, all others, and whoever's country is not known."""
    assert Clients.read(text).places == places


@pytest.mark.parametrize(
    "text", ["fr", "=FR", "fr=", "FR=FR", "fr=UK", "f r=FR", "fr=FR,DE", "-a=FR", "a" * 40 + "=FR"]
)
def test_what_says_no_clients_is_an_error(text):
    """Nothing is guessed."""
    with pytest.raises(ConfigError, match="write a short name and where these clients are"):
        Clients.read(text)


def test_clients_need_names_of_their_own():
    """Two sets of clients cannot have the same zones."""
    with pytest.raises(ConfigError, match="'fr' is there twice"):
        read_clients(["fr=FR", "fr=DE"])
