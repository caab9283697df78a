"""What a change of the orders would do: in total exactly the difference of decisions, and in words what a person needs."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from order_texts import order_text
from thoroughness import examples

from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.model import Addition, Lifting, Measure, Mode, Name, Order, Territory, UnknownLocation, Window
from cdnblock.reports.changes import Kind, Scope, What, changes_between
from cdnblock.reports.changes_json import as_json
from cdnblock.reports.changes_text import as_text, places_in_words
from cdnblock.sources.live_orders import LiveOrders
from cdnblock.sources.order_folder import load_orders

sys.path.insert(0, str(Path(__file__).parent.parent / "matching"))
from test_comparison import changed, decided, plain
from test_properties import INSTANTS, PLACES, boundary_instants, folders, hosts

NOW = datetime(2025, 5, 1, 10, tzinfo=UTC)
END, LATER = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)


def order(*names, **changes):
    values = {
        "id": "one", "court": "a court", "decided": date(2025, 1, 2), "legal_basis": "a law", "claimant": "a claimant",
        "territory": Territory(countries=frozenset({"FR"})), "measures": {Measure.DNS: "refuse"}, "timezone": "UTC",
        "names": tuple(Name(name=name) for name in names or ("a.example",)), "until": END,
    }  # fmt: skip
    return Order(**(values | changes))


def between(old, new, at=NOW):
    return changes_between(compile_orders(old), compile_orders(new), at)


def turns(groups):
    return [(turn.kind, turn.reported, group.scope, group.names) for group in groups for turn in group.turns]


def told(changes, host):
    """Return the shifts of a host as somebody reads them: by the nearest name that is told or said to be spared."""
    own, below = {}, {}
    for group in changes.groups:
        for name in group.names:
            if group.scope is not Scope.BELOW:
                own[name] = group.shifts
            if group.scope is not Scope.ALONE:
                below[name] = group.shifts
    for scope, name in changes.spared:
        if scope is not Scope.BELOW:
            own[name] = ()
        if scope is not Scope.ALONE:
            below[name] = ()
    if host in own:
        return own[host]
    # A name that is told alone says nothing of what is below it.
    while host := host.partition(".")[2]:
        if host in below:
            return below[host]
    return ()


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data(), folder=folders(), at=INSTANTS)
def test_what_is_told_is_exactly_the_difference_of_decisions(data, folder, at):
    """For each host, place and instant: both decisions where something is told, the same decision where nothing is."""
    edited = data.draw(changed(folder))
    old, new = compile_orders(folder), compile_orders(edited)
    changes = changes_between(old, new, at)
    listed = sorted({name for rules in (old, new) for name, _ in rules.index.items()})
    for _ in range(6):
        host = data.draw(st.one_of(st.sampled_from(listed), hosts(st.sampled_from(listed))))
        country = data.draw(st.one_of(PLACES, st.just("JP")))
        instant = data.draw(st.sampled_from([at, *(m for m in boundary_instants([*folder, *edited]) if m >= at)]))
        before, after = decided(old, host, country, instant), decided(new, host, country, instant)
        found = [
            (plain(shift.before), plain(shift.after))
            for shift in told(changes, host)
            if shift.since <= instant.timestamp() < shift.until and shift.places.have(country)
        ]
        assert found == ([] if before == after else [(before, after)])
    assert bool(changes) is any(group.shifts for group in changes.groups)
    list(as_text(changes, 3))
    as_json(changes, None)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([order("a.example", "b.example")], [(Kind.BLOCKS, False, Scope.WHOLE, ("b.example",))]),
        ([], [(Kind.RELEASES, False, Scope.WHOLE, ("a.example",))]),
        ([order(until=LATER)], [(Kind.PROLONGS, False, Scope.WHOLE, ("a.example",))]),
        ([order(until=datetime(2025, 5, 20, tzinfo=UTC))], [(Kind.SHORTENS, False, Scope.WHOLE, ("a.example",))]),
        ([order(measures={Measure.DNS: "nodata"})], [(Kind.ALTERS, False, Scope.WHOLE, ("a.example",))]),
        (
            [order(measures={Measure.DNS: "refuse", Measure.CDN: "disable"})],
            [(Kind.BLOCKS, False, Scope.WHOLE, ("a.example",))],
        ),
        (
            [order(mode=Mode.REPORT)],
            [(Kind.RELEASES, False, Scope.WHOLE, ("a.example",)), (Kind.BLOCKS, True, Scope.WHOLE, ("a.example",))],
        ),
        (
            [order(names=(Name(name="a.example", subdomains=False),))],
            [(Kind.RELEASES, False, Scope.BELOW, ("a.example",))],
        ),
        ([order(territory=Territory(countries=frozenset({"FR", "RE"})))], [(Kind.BLOCKS, False, Scope.WHOLE, ("a.example",))]),
        ([order(unknown_location=UnknownLocation.ENFORCE)], [(Kind.BLOCKS, False, Scope.WHOLE, ("a.example",))]),
        (
            [order(windows=(Window(begins=NOW, until=LATER),), until=LATER)],
            [(Kind.PROLONGS, False, Scope.WHOLE, ("a.example",))],
        ),
        ([order(lifted=(Lifting(at=NOW),))], [(Kind.RELEASES, False, Scope.WHOLE, ("a.example",))]),
        (
            [order(lifted=(Lifting(at=NOW, names=("shop.a.example",)),))],
            [(Kind.RELEASES, False, Scope.WHOLE, ("shop.a.example",))],
        ),
        (
            [order(additions=(Addition(notice="n", notified=NOW, names=(Name(name="c.example"),)),))],
            [(Kind.BLOCKS, False, Scope.WHOLE, ("c.example",))],
        ),
        ([order(begins=date(2025, 5, 10))], [(Kind.RELEASES, False, Scope.WHOLE, ("a.example",))]),
        ([order(begins=date(2025, 3, 1))], []),
        ([order(title="another", contact="somebody")], []),
    ],
    ids=[
        "a name more", "gone", "longer", "shorter", "another variant", "a measure more", "only reported", "without what is below",
        "a country more", "clients of no country", "a window that ends later", "lifted", "a name below lifted", "an addition",
        "starts later", "started otherwise in the past", "texts",
    ],
)  # fmt: skip
def test_each_edit_is_called_what_it_is(after, expected):
    """Blocks, releases, goes on, ends earlier, blocks otherwise: from now on, for the names that it concerns."""
    assert turns(between([order()], after).groups) == expected


def test_what_another_order_blocks_stays_blocked():
    """An order that goes releases nothing that another one names; that is said, with the other's id."""
    other = order("a.example", "b.example", id="two", until=LATER)
    changes = between([order("a.example", "c.example"), other], [other])
    assert turns(changes.groups) == [(Kind.RELEASES, False, Scope.WHOLE, ("c.example",))]
    (gone,) = changes.orders
    assert (gone.what, turns(gone.groups)) == (
        What.GONE, [(Kind.RELEASES, False, Scope.WHOLE, ("a.example", "c.example"))],
    )  # fmt: skip
    assert [(stay.names, stay.by) for stay in gone.stays] == [(("a.example",), ("two",))]


def test_an_order_in_another_country_keeps_nothing_blocked():
    """It is not named as one by which a name stays blocked."""
    german = order(id="german", territory=Territory(countries=frozenset({"DE"})))
    french = order(id="french")
    changes = between([order(), german, french], [german, french])
    assert changes.groups == ()
    assert [stay.by for stay in changes.orders[0].stays] == [("french",)]


def test_a_name_below_that_fares_as_before_is_told_as_spared():
    """Everything below a name is released, but for what another order names."""
    other = order("shop.a.example", id="two")
    changes = between([order(), other], [other])
    assert turns(changes.groups) == [(Kind.RELEASES, False, Scope.WHOLE, ("a.example",))]
    assert changes.spared == ((Scope.WHOLE, "shop.a.example"),)


def test_later_instants_are_told_apart_from_now():
    """What starts in December is told of December."""
    changes = between([order()], [order(), order("z.example", id="two", begins=date(2025, 5, 20), until=LATER)])
    (group,) = changes.groups
    (turn,) = group.turns
    assert (turn.since, turn.until) == (datetime(2025, 5, 20, tzinfo=UTC), LATER)
    lines = list(as_text(changes, 10))
    assert "  from 2025-05-20 00:00+00:00" in lines
    assert "    blocks 1 name (dns refuse) in FR, until 2025-07-01 00:00+00:00" in lines
    assert "  now" not in lines


def test_what_a_file_says_otherwise():
    """Key by key, with the values of before and after; and which names its lists have more and less."""
    after = order(
        "b.example", until=LATER, measures={Measure.DNS: "refuse", Measure.PROXY: "close"}, mode=Mode.REPORT,
        territory=Territory(world=True), title="new",
    )  # fmt: skip
    (changed_order,) = between([order()], [after]).orders
    assert {(field.key, field.before, field.after) for field in changed_order.fields} == {
        ("territory", "FR", "world"),
        ("measures", "dns refuse", "dns refuse, proxy close"),
        ("until", "2025-06-01T00:00+00:00", "2025-07-01T00:00+00:00"),
        ("mode", "enforce", "report"),
        ("title", None, "new"),
    }
    assert (changed_order.came, changed_order.went) == (("b.example",), ("a.example",))


def test_where_a_file_stands_is_no_difference(tmp_path):
    """The same order in another folder, under another name, with its names on other lines."""
    for folder, text in (("old", order_text()), ("new", "# a remark\n\n" + order_text())):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.yaml").write_text(text)
    changes = changes_between(load_orders(tmp_path / "old"), load_orders(tmp_path / "new"), NOW)
    assert (changes.orders, changes.groups) == ((), ())
    assert list(as_text(changes, 10)) == ["nothing differs: both say the same"]


GUARDED = {
    "a third and more is gone": ({"a": 10, "b": 10}, {"a": 10}, {}),
    "a few are gone": ({"a": 10, "b": 3}, {"a": 10}, {}),
    "emptied": ({"a": 1}, {}, {}),
    "an order is only reported": ({"a": 10, "b": 10}, {"a": 10, "b": 10}, {"b": "mode: report\n"}),
    "a small one is only reported": ({"a": 10, "b": 3}, {"a": 10, "b": 3}, {"b": "mode: report\n"}),
    "longer": ({"a": 3}, {"a": 10}, {}),
    "shortened": ({"a": 10}, {"a": 5}, {}),
    "lifted": ({"a": 10}, {"a": 10}, {"a": "lifted: [{at: 2025-04-10}]\n"}),
    "all are only reported": ({"a": 10}, {"a": 10}, {"a": "mode: report\n"}),
}


@pytest.mark.parametrize(("old", "new", "extra"), GUARDED.values(), ids=GUARDED)
def test_the_guard_is_foretold(tmp_path, old, new, extra):
    """Exactly what a running instance holds back is said to be held back."""
    for folder, sizes, more in (("old", old, {}), ("new", new, extra)):
        (tmp_path / folder).mkdir()
        for order_id, size in sizes.items():
            names = ", ".join(f"{order_id}{number}.example" for number in range(size))
            text = order_text(id=order_id, names=f"[{names}]") + more.get(order_id, "")
            (tmp_path / folder / f"{order_id}.yaml").write_text(text)
    rules = [
        load_orders(tmp_path / folder) if any((tmp_path / folder).iterdir()) else compile_orders(())
        for folder in ("old", "new")
    ]
    changes = changes_between(*rules, NOW)
    live = LiveOrders(tmp_path / "old", now=NOW)
    before = live.rules
    for file in (tmp_path / "old").iterdir():
        file.unlink()
    for file in (tmp_path / "new").iterdir():
        shutil.copy2(file, tmp_path / "old")
    live.refresh(NOW, by_content=True)
    while not live.is_settled():
        live.refresh(NOW, by_content=True)
    assert changes.guard.held is bool(live.held)
    assert changes.guard.in_force == before.count_in_force(NOW)
    assert any("would hold this back" in line for line in as_text(changes, 1)) is bool(live.held)


def test_only_the_first_names_are_shown():
    """With how many more there are; `None` shows all."""
    names = [f"n{number:02}.example" for number in range(20)]
    changes = between([], [order(*names)])
    assert "      n02.example" in list(as_text(changes, 3))
    assert "      … and 17 more (--names all)" in list(as_text(changes, 3))
    assert sum(".example" in line for line in as_text(changes, None)) == 20
    assert as_json(changes, 3)["total"][0]["names"] == names[:3]
    assert as_json(changes, 3)["total"][0]["count"] == 20


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "\u202eevil", "\u200b", "\udc80", "\x00\x07\r"])
def test_no_text_of_an_order_steers_a_terminal(text):
    """Whatever stands in an order's texts comes out escaped, on one line."""
    hostile = replace(
        order(), title=text, contact=text, court=text, additions=(Addition(notice=text, notified=NOW, names=(Name(name="c.example"),)),)
    )  # fmt: skip
    for line in as_text(between([order()], [hostile]), None):
        assert line.isprintable() or not line


@pytest.mark.parametrize(
    ("territory", "unknown", "words"),
    [
        (Territory(countries=frozenset({"RE", "FR"})), UnknownLocation.ALLOW, "in FR RE"),
        (
            Territory(countries=frozenset({"FR"})), UnknownLocation.ENFORCE,
            "in FR and where the country cannot be told",
        ),
        (Territory(world=True), UnknownLocation.ALLOW, "everywhere"),
    ],
    ids=["countries", "and the unknown", "the world"],
)  # fmt: skip
def test_places_in_words(territory, unknown, words):
    """For whom."""
    (group,) = between([], [order(territory=territory, unknown_location=unknown)]).groups
    assert places_in_words(group.shifts[0].places) == words


def test_the_world_but_for_a_country_that_was_covered_already():
    """From France to the world: everywhere but in France, and for clients of no country."""
    (group,) = between([order()], [order(territory=Territory(world=True))]).groups
    assert places_in_words(group.shifts[0].places) == "everywhere but in FR"
