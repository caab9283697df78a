"""The plan that engines are given: walked as an engine walks it, it says what the rules say."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.exporters._planner import make_plan, nothing_told, notice_told, orders_told
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.model import (
    VARIANTS,
    Addition,
    Lifting,
    Measure,
    Name,
    NamesFile,
    Order,
    Territory,
    UnknownLocation,
)  # fmt: skip

sys.path.insert(0, str(Path(__file__).parent.parent / "matching"))
from test_properties import INSTANTS, NAMES, PLACES, boundary_instants, folders, hosts

AT = datetime(2025, 5, 1, 12, tzinfo=UTC)
ALL = {(measure, variant): variant for measure, variants in VARIANTS.items() for variant in variants}
PROXY = {pair: variant for pair, variant in ALL.items() if pair[0] is not Measure.DNS}
HOSTS = st.one_of(hosts(), hosts().map(lambda host: f"{host}.example"))


def an_order(order_id, *names, **changes):
    keys = {
        "court": "a court", "decided": date(2025, 1, 1), "legal_basis": "a law", "claimant": "a claimant",
        "territory": Territory(countries=frozenset({"FR"})), "measures": {Measure.PROXY: "terminate"},
        "names": tuple(Name(name=name) if isinstance(name, str) else name for name in names), "until": date(2090, 1, 1),
    } | changes  # fmt: skip
    return Order(id=order_id, **keys)


def planned(*orders, carries=ALL, tells=notice_told):
    return make_plan(compile_orders(orders), AT, carries, tells)


def walked(plan, host, country):
    """Return the outcome that an engine comes to, None for a host that is let through."""
    group = plan.exact.get(host)
    if host not in plan.exact:
        suffix = host
        while suffix and suffix not in plan.suffixes:
            suffix = suffix.partition(".")[2]
        group = plan.suffixes.get(suffix)
    place = "unknown" if country is None else country if country in plan.countries else "other"
    return None if group is None else group.outcomes.get(place)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), folder=folders(), country=PLACES)
def test_an_engine_that_walks_the_plan_decides_as_the_rules_do(data, folder, country):
    """For any orders, host, country and instant: the same measures, and the same orders, additions, names and ends."""
    rules = compile_orders(folder)
    at = data.draw(st.one_of(INSTANTS, st.sampled_from(boundary_instants(folder))))
    plan = make_plan(rules, at, ALL, notice_told)
    for _ in range(8):
        host = data.draw(st.one_of(HOSTS, NAMES))
        outcome, decision = walked(plan, host, country), rules.decide(host, country=country, at=at)
        assert dict(outcome.measures if outcome else {}) == dict(decision.measures)
        if outcome and decision.measures.get(Measure.PROXY) == "terminate":
            mine, theirs = outcome.because(Measure.PROXY), decision.because(Measure.PROXY)
            assert [(r.id, r.notice, r.until) for r in mine] == [(r.id, r.notice, r.until) for r in theirs]
            depths = [reason.name.count(".") + 1 for reason in mine]
            assert [".".join(host.split(".")[-depth:]) for depth in depths] == [reason.name for reason in theirs]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), folder=folders(), country=PLACES)
def test_a_plan_for_some_measures_holds_these_alone(data, folder, country):
    """An engine that carries some measures gets the rules' decisions without the others, and DNS the same orders."""
    rules = compile_orders(folder)
    at = data.draw(st.sampled_from(boundary_instants(folder)))
    proxy, dns = (
        make_plan(rules, at, PROXY, notice_told),
        make_plan(rules, at, {k: v for k, v in ALL.items() if k not in PROXY}, orders_told),
    )
    for _ in range(8):
        host = data.draw(HOSTS)
        decision = rules.decide(host, country=country, at=at)
        outcomes = [walked(plan, host, country) for plan in (proxy, dns)]
        found = {measure: variant for outcome in outcomes if outcome for measure, variant in outcome.measures.items()}
        assert found == dict(decision.measures)
        if outcomes[1]:
            assert [r.id for r in outcomes[1].because(Measure.DNS)] == [r.id for r in decision.because(Measure.DNS)]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), folder=folders(), country=PLACES)
def test_a_plan_for_served_hosts_decides_about_them_alone(data, folder, country):
    """Whatever a server serves, by name or by all below a name, is decided as before; other hosts are not in it."""
    rules = compile_orders(folder)
    at = data.draw(st.sampled_from(boundary_instants(folder)))
    whole = make_plan(rules, at, ALL, nothing_told)
    served = data.draw(st.lists(st.one_of(HOSTS, NAMES.map(lambda name: f"*.{name}")), max_size=4))
    plan = whole.served(served)
    for host in [*(name for name in served if name[0] != "*"), *(f"a.{name[2:]}" for name in served if name[0] == "*")]:
        mine, theirs = walked(plan, host, country), walked(whole, host, country)
        assert (mine and mine.id) == (theirs and theirs.id)
    assert all(name in served or any(name.endswith(tree[1:]) or name == tree[2:] for tree in served if tree[0] == "*")
               for name in (*plan.exact, *plan.suffixes))  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(data=st.data(), folder=folders(), country=PLACES)
def test_a_plan_seen_from_one_place_decides_for_everybody_as_for_clients_there(data, folder, country):
    """What is everybody's is what clients in that country get."""
    rules = compile_orders(folder)
    at = data.draw(st.sampled_from(boundary_instants(folder)))
    whole = make_plan(rules, at, ALL, nothing_told)
    plan = whole.seen_from(whole.place_of(country))
    for _ in range(6):
        host = data.draw(HOSTS)
        everybody, there = walked(plan, host, data.draw(PLACES)), walked(whole, host, country)
        assert (everybody and everybody.id) == (there and there.id)


def test_a_name_below_another_of_the_same_order_is_left_out():
    """The parent covers it for the same reasons but one: the notice names what the order lists, so the depth stays."""
    names = ("a.example", "www.a.example")
    assert [*planned(an_order("one", *names), tells=nothing_told).suffixes] == ["a.example"]
    assert [*planned(an_order("one", *names)).suffixes] == ["a.example", "www.a.example"]


def test_tables_that_nobody_has_asked_for_are_there_all_the_same():
    """They are made at the first look, once, and go into what is made of the plan; nothing else is made up."""
    orders = [an_order("one", "a.example", Name(name="b.example", subdomains=False))]
    plan, same = planned(*orders), planned(*orders)
    assert replace(plan, revision="other") != plan == same
    assert [*replace(plan, revision="other").suffixes] == [*plan.suffixes] == ["a.example"]
    assert [*plan.exact] == ["b.example"]
    assert plan.exact is plan.exact
    assert not hasattr(plan, "prefixes")


def test_a_name_alone_is_in_the_table_of_hosts():
    """`subdomains: false` covers the host and nothing below it."""
    plan = planned(an_order("one", Name(name="cdn.a.example", subdomains=False)))
    assert ([*plan.exact], [*plan.suffixes], plan.depths()) == (["cdn.a.example"], [], ())


def test_a_lifted_name_is_free_below_one_that_is_not():
    """A name without a group hides the one above it; where nothing is above, it is not there at all."""
    lifted = Lifting(at=datetime(2025, 4, 1, tzinfo=UTC), names=("free.a.example", "b.example"))
    plan = planned(an_order("one", "a.example", "b.example", lifted=(lifted,)))
    assert {name: group is None for name, group in plan.suffixes.items()} == {
        "a.example": False,
        "free.a.example": True,
    }


def test_ids_stay_when_other_orders_come():
    """A group and an outcome are called by what they are, so that an addition adds lines and changes none."""
    one = an_order("one", "a.example", "b.example")
    more = an_order(
        "two",
        "c.example",
        additions=(Addition(notice="n 1", notified=date(2025, 4, 1), names=(Name(name="d.example"),)),),
    )
    alone, together = planned(one), planned(one, more)
    assert alone.suffixes["a.example"].id == together.suffixes["a.example"].id == together.suffixes["b.example"].id
    assert len({group.id for group in together.groups}) == 3


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, False),
    ({"unknown_location": UnknownLocation.ENFORCE}, True),
    ({"territory": Territory(world=True)}, False),
])  # fmt: skip
def test_whether_unknown_clients_have_to_be_told_apart(changes, expected):
    """Only where they fare otherwise than those of countries that no order mentions."""
    assert planned(an_order("one", "a.example", **changes)).tells_unknown is expected


def test_what_ended_or_has_not_begun_has_no_part_in_the_plan():
    """Neither its names nor its countries; the plan knows when it is no longer right."""
    ended = an_order("ended", "a.example", until=date(2025, 4, 1), territory=Territory(countries=frozenset({"DE"})))
    begins = an_order("begins", "b.example", begins=datetime(2025, 6, 1, tzinfo=UTC))
    plan = planned(ended, begins, an_order("one", "c.example"))
    assert ([*plan.suffixes], plan.countries, [order.id for order in plan.orders]) == (["c.example"], ("FR",), ["one"])
    assert plan.until == datetime(2025, 6, 1, tzinfo=UTC)


def test_the_many_names_of_an_annex_are_few_groups():
    """One for each number of labels that a notice has to name."""
    names = [f"{'www.' if number % 9 == 0 else ''}n{number}.example" for number in range(20_000)]
    order = an_order("one", names_file=NamesFile(file="annex.txt", names=names, lines=range(1, len(names) + 1)))
    plan = planned(order)
    assert (len(plan.suffixes), len(plan.groups), plan.depths()) == (20_000, 2, (3, 2))
