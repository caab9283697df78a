"""Which names are asked for: those that changed, and in turn every one."""

from __future__ import annotations

import pytest

from cdnblock.engines._samples import in_turn, names_written, sample
from cdnblock.exporters._groups import Group
from cdnblock.exporters._plan import Plan

GROUP, OTHER = Group(id="g", outcomes={}), Group(id="h", outcomes={})


def plan(*names, group=GROUP, **more):
    suffixes = dict.fromkeys(names, group) | more
    return Plan(revision="r", until=None, orders=(), countries=("FR",), exact={}, suffixes=suffixes)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a.example g\n", "a.example g\nb.example g\n", ["b.example"]),
        ("a.example g\nb.example g\n", "a.example g\n", ["b.example"]),
        ("a.example g\nb.example g\n", "a.example g\nb.example h\n", ["b.example"]),
        ('{"a.example": 1,\n"b.example": 1\n}', '{"a.example": 1,\n"b.example": 1,\n"c.example": 1\n}', ["c.example"]),
        ("x a.example b.example", "x a.example b.example c.example", ["c.example"]),
        ("*.a.example CNAME .\n", "*.a.example CNAME .\na.b.example CNAME .\n", ["a.b.example"]),
        ("192.0.2.0/24 FR\n", "192.0.2.0/24 FR\n198.51.100.0/24 FR\nb.example g\n", ["b.example"]),
        ("same.example\n", "same.example\n", []),
        ("", "".join(f"n{number}.example\n" for number in range(3000)), None),
    ],
    ids=[
        "one more",
        "one less",
        "another group",
        "the comma of the last",
        "many on a line",
        "a zone",
        "networks",
        "nothing",
        "all",
    ],
)
def test_names_in_what_files_say_otherwise(before, after, expected):
    """Each name whose line changed, in whatever language; none where too much did."""
    assert names_written({"f": before.encode()}, {"f": after.encode()}) == expected


def test_where_too_much_differs_some_names_are_told():
    """Where nobody knows the plan of before: of both sides, and not a whole list."""
    old, new = ("".join(f"{mark}{number}.example\n" for number in range(3_000)).encode() for mark in "mn")
    found = names_written({"f": old}, {"f": new}, some=True)
    assert len(found) == len({*found}) == 2_000
    assert {name[0] for name in found} == {"m", "n"}
    assert names_written({"f": old}, {"f": new}) is None


def test_every_name_has_its_turn_within_a_day():
    """Whatever the number of the first; a look asks for no more than a few."""
    names = [f"n{number}.example" for number in range(40_000)]
    turn, seen = 123_456_789, set()
    for _ in range(24 * 60):
        some, turn = in_turn(plan(*names), turn)
        assert len(some) == len({*some}) <= 500
        seen.update(some)
    assert seen == {*names}
    assert in_turn(plan(), 7) == ([], 0)
    assert sorted(in_turn(plan("a.example", "b.example"), 1)[0]) == ["a.example", "b.example"]


def test_what_changed_is_asked_for_first_and_what_stayed_too():
    """By plans where both are known; otherwise by what files say, and names that were taken out are asked for as well."""
    before, after = plan("a.example", "b.example", "c.example"), plan("a.example", "d.example", x=OTHER)
    found = sample(before, after)
    assert ({*found.changed}, found.steady) == ({"b.example", "c.example", "d.example", "x"}, ("a.example",))
    told = sample(None, after, written=["b.example", "d.example", "cdnblock.conf"])
    assert (told.changed, told.gone) == (("d.example",), ("b.example", "cdnblock.conf"))
    assert {*sample(None, after, turns=["a.example", "d.example"]).steady} == {"a.example", "x", "d.example"}


def test_more_of_the_changed_names_are_in_reserve():
    """Two of a kind are asked for, and others before anything goes back."""
    found = sample(plan(), plan(*(f"n{number}.example" for number in range(100))))
    assert (len(found.changed), len(found.reserve)) == (2, 64)
    assert not {*found.changed} & {*found.reserve}
