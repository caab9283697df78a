"""What is told to become otherwise is exactly what decisions differ in, for every host, place and instant from then on."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from math import inf
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from cdnblock.matching.comparison import compare
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.model import Measure, Mode, Name, Order, Territory

sys.path.insert(0, str(Path(__file__).parent))
from test_properties import INSTANTS, NAMES, PLACES, boundary_instants, folders, hosts, orders


@st.composite
def changed(draw, folder):
    """A folder after an edit: orders come, go, and say something else; sometimes all of it is another one."""
    if draw(st.integers(0, 4)) == 0:
        return draw(folders())
    found = []
    for order in folder:
        match draw(st.sampled_from(["same", "same", "gone", "mode", "until", "names", "territory", "other"])):
            case "same":
                found.append(order)
            case "gone":
                pass
            case "mode":
                found.append(replace(order, mode=draw(st.sampled_from(Mode))))
            case "until":
                found.append(replace(order, until=order.until + timedelta(hours=draw(st.integers(1, 60)))))
            case "names":
                found.append(
                    replace(order, names=(*order.names, Name(name=draw(NAMES), subdomains=draw(st.booleans()))))
                )
            case "territory":
                found.append(replace(order, territory=Territory(countries=frozenset({"FR", "DE"}))))
            case "other":
                found.append(replace(draw(orders(9)), id=order.id))
    return [*found, *(draw(st.lists(orders(7), max_size=1)))]


def an_order(**changes):
    values = {
        "id": "one", "court": "a court", "decided": date(2025, 1, 2), "legal_basis": "a law", "claimant": "a claimant",
        "territory": Territory(countries=frozenset({"FR"})), "measures": {Measure.DNS: "refuse"},
        "names": (Name(name="a.example"),),
    }  # fmt: skip
    return Order(**(values | changes))


def told(kins, host):
    """Return the shifts of a host: its own where it is told, else those of what is below the nearest name above it."""
    of = {name: kin for kin in kins for name in kin.names}
    if host in of:
        return of[host].own
    while host:
        host = host.partition(".")[2]
        if host in of:
            return of[host].below
    return ()


def plain(effect):
    return dict(effect.measures), dict(effect.would)


def decided(rules, host, country, at):
    decision = rules.decide(host, country=country, at=at)
    return dict(decision.measures), dict(decision.would)


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data(), folder=folders(), at=INSTANTS)
def test_the_comparison_equals_the_difference_of_decisions(data, folder, at):
    """At every instant from then on each shift gives both decisions; where none is told they are the same."""
    edited = data.draw(changed(folder))
    old, new = compile_orders(folder), compile_orders(edited)
    kins = compare(old, new, at)
    listed = sorted({name for rules in (old, new) for name, _ in rules.index.items()})
    for _ in range(6):
        host = (
            data.draw(st.one_of(st.sampled_from(listed), hosts(), hosts(st.sampled_from(listed))))
            if listed
            else "a.example"
        )
        country = data.draw(st.one_of(PLACES, st.just("JP")))
        moments = [moment for moment in boundary_instants([*folder, *edited]) if moment >= at]
        instant = data.draw(st.one_of(st.just(at), st.sampled_from(moments) if moments else st.just(at)))
        before, after = decided(old, host, country, instant), decided(new, host, country, instant)
        found = [
            shift
            for shift in told(kins, host)
            if shift.since <= instant.timestamp() < shift.until and shift.places.have(country)
        ]
        if found:
            (shift,) = found
            assert (plain(shift.before), plain(shift.after)) == (before, after)
            assert before != after
        else:
            assert before == after


@settings(max_examples=examples(100), deadline=None)
@given(data=st.data(), folder=folders(), at=INSTANTS)
def test_of_each_order_alone_the_same_holds(data, folder, at):
    """What one order brings and takes is what it alone decides before and after."""
    edited = data.draw(changed(folder))
    kins = compare(compile_orders(folder), compile_orders(edited), at)
    order_id = data.draw(st.sampled_from([order.id for order in (*folder, *edited)]))
    old, new = (compile_orders([order for order in some if order.id == order_id]) for some in (folder, edited))
    for kin in kins:
        own, below = kin.orders.get(order_id, ((), ()))
        for host, shifts in ((kin.names[0], own), (f"q-q.{kin.names[0]}", below)):
            country = data.draw(PLACES)
            instant = data.draw(st.sampled_from([at, *(m for m in boundary_instants([*folder, *edited]) if m >= at)]))
            before, after = decided(old, host, country, instant), decided(new, host, country, instant)
            found = [
                (plain(shift.before), plain(shift.after))
                for shift in shifts
                if shift.since <= instant.timestamp() < shift.until and shift.places.have(country)
            ]
            assert found == ([] if before == after else [(before, after)])


@settings(max_examples=examples(100), deadline=None)
@given(folder=folders(), at=INSTANTS)
def test_equal_folders_differ_in_nothing(folder, at):
    """Also when the orders are other objects that say the same."""
    assert compare(compile_orders(folder), compile_orders([replace(order) for order in folder]), at) == []


def test_what_ran_before_is_told_where_an_order_goes_on_longer():
    """A later end is no new block: the measure ran on both sides until the old end."""
    order = an_order(until=datetime(2025, 6, 1, tzinfo=UTC))
    at = datetime(2025, 5, 1, tzinfo=UTC)
    (kin,) = compare(
        compile_orders([order]), compile_orders([replace(order, until=datetime(2025, 7, 1, tzinfo=UTC))]), at
    )
    (shift,) = kin.own
    assert (shift.since, shift.until) == (order.until.timestamp(), datetime(2025, 7, 1, tzinfo=UTC).timestamp())
    assert shift.ran == shift.after
    assert shift.until < inf
