"""The index of names and its lists: what stands on a name, whatever the sizes, the shards and the way it came in."""

from __future__ import annotations

import gc
from datetime import UTC, date, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdnblock.matching import names as canonical_names
from cdnblock.matching.index import NameIndex
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders import name_list as name_lists
from cdnblock.orders.model import Lifting, Measure, Name, NamesFile, Order, Territory
from cdnblock.orders.name_list import SHORT, LineNumbers, NameList, name_list

NOON = datetime(2025, 5, 1, 12, tzinfo=UTC)
MANY = [f"site{number}.example" for number in range(SHORT + 200)]


def order(name, annex=(), **changes):
    values = {
        "id": name, "court": "a court", "decided": date(2025, 1, 2), "legal_basis": "a law", "claimant": "a claimant",
        "territory": Territory(world=True), "measures": {Measure.DNS: "refuse"}, "until": date(2026, 1, 1),
        "names_file": NamesFile(file="annex.txt", names=name_list(annex), lines=range(1, len(annex) + 1)) if annex else None,
    }  # fmt: skip
    return Order(**(values | changes))


def on(index, name):
    return list(index[name])


LISTS = st.lists(st.sampled_from([*MANY[:40], "a.b.c.d.example", "example", "other.test"]), max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pqrs"), LISTS, st.booleans()), max_size=6))
@example([("p", MANY[:3], True), ("q", MANY[:3], True), ("p", MANY[:3], False)])
def test_the_index_equals_a_naive_dictionary(given_claims):
    """Long lists, which are merged by shards, and short ones, name by name, leave the same claims in the same order."""
    claims = {letter: f"claim {letter}" for letter in "pqrs"}  # one object each: claims are told apart by identity
    parts = [(claims[letter], [*MANY[-SHORT:], *names] if long else names) for letter, names, long in given_claims]
    naive: dict[str, list[str]] = {}
    for claim in dict.fromkeys(claim for claim, _ in parts):  # in the order in which claims first came
        for name in dict.fromkeys(name for other, names in parts if other is claim for name in names):
            naive.setdefault(name, []).append(claim)
    index = NameIndex((claim, name_list(names)) for claim, names in parts)
    assert {name: on(index, name) for name, _ in index.items()} == naive
    assert len(index) == len(naive)
    for name in ("example", "www.site1.example", "x.a.b.c.d.example", "other.test", "test", "absent.test", ""):
        suffixes = [name.split(".", depth)[depth] for depth in range(name.count(".") + 1)]
        assert index.nearest(name) == next((suffix for suffix in suffixes if suffix in naive), "")


def test_a_list_alone_is_shared_and_never_written_to():
    """An order beside it copies the shards that its own names fall into; the list stays what it was."""
    large = NameList([MANY])
    alone = NameIndex([("large", large)])
    assert all(mine is theirs for mine, theirs in zip(alone.shards, large.shards, strict=True) if theirs)
    beside = NameIndex([("large", large), ("small", ["site1.example", "new.example"])])
    assert on(beside, "site1.example") == ["large", "small"]
    assert on(beside, "new.example") == ["small"]
    assert len(beside.own) <= 2
    assert "new.example" not in large
    assert on(alone, "site1.example") == ["large"]


def test_two_orders_with_one_list_share_it():
    """The same annex in two orders is the same names with two claims, and costs one list."""
    first, second = NameList([MANY]), NameList([MANY[:100], MANY[100:]])
    assert first == second
    index = NameIndex([("a", first), ("b", second)])
    assert on(index, MANY[0]) == ["a", "b"]
    assert index.own == ()


def test_two_versions_of_one_list_are_told_apart():
    """They share dictionaries, in which a name looks alike in both: here it has the claim of each list that has it."""
    first = NameList([MANY])
    second = first.amended(0, 2, ["new.example", "site1.example"])
    assert second is not None
    assert second.mark is first.mark
    for given_claims in ([("a", first), ("b", second)], [("b", second), ("a", first)]):
        index = NameIndex(given_claims)
        assert on(index, "new.example") == ["b"]
        assert on(index, "site0.example") == ["a"]
        assert sorted(on(index, "site1.example")) == sorted(on(index, MANY[-1])) == ["a", "b"]


def test_a_deep_host_costs_no_more_than_the_deepest_name():
    """Labels that no listed name can have are never looked up."""
    index = NameIndex([("claim", ["a.b.example"])])
    assert index.nearest(".".join(["x"] * 126)) == ""
    assert index.nearest(".".join(["x"] * 120) + ".a.b.example") == "a.b.example"
    assert NameIndex([]).nearest("www.example") == ""


@pytest.mark.parametrize("count", [0, 1, SHORT, SHORT + 1, 5_000])
def test_a_name_list_is_a_sequence_of_its_names(count):
    """In the file's order, doubled ones included, whatever the pieces."""
    names = [f"n{number % 4_000}.example" for number in range(count)]
    found = name_list(names)
    assert list(found) == names
    assert len(found) == count
    assert found == tuple(names)
    assert found[10:20] == tuple(names[10:20])
    assert found.doubled() == {name for name in names if names.count(name) > 1 and count > 4_000} | set()
    if count:
        assert (found[0], found[-1]) == (names[0], names[-1])
        assert [found.index(name) for name in names[:50]] == list(range(min(50, count)))
    for place in (count, -count - 1):
        with pytest.raises(IndexError):
            found[place]
    assert "absent.example" not in found
    with pytest.raises(ValueError, match="absent"):
        found.index("absent.example")


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 5)), max_size=20))
def test_line_numbers_are_a_sequence(runs):
    """Runs of lines, kept as runs, read like the list of all numbers."""
    kept, expected, line = LineNumbers(), [], 0
    for gap, count in runs:
        line += gap
        kept.add(line, count)
        expected += range(line, line + count)
        line += count
    assert list(kept) == expected == [kept[place] for place in range(len(kept))]
    assert kept == expected
    assert kept[1:3] == tuple(expected[1:3])


def test_the_garbage_collector_has_nothing_to_follow():
    """A dictionary of names holds nothing that can be part of a cycle: a million of them cost no collection."""
    rules = compile_orders([order("large", MANY), order("small", MANY[:3])])
    gc.collect()
    assert not any(gc.is_tracked(shard) for shard in rules._names.shards)
    assert not any(gc.is_tracked(piece) for piece in name_list(tuple(MANY)).pieces[1:])


def test_the_revision_is_one_for_the_same_names_however_they_are_kept():
    """Pieces and shards are ours; the revision is of what the orders say."""
    large = [f"site{number}.example" for number in range(5_000)]
    kept = NamesFile(file="elsewhere.txt", names=NameList([large[:7], large[7:]]), lines=range(5_000))
    plain = NamesFile(file="annex.txt", names=tuple(large), lines=range(5_000))
    revisions = {compile_orders([order("o", names_file=file)]).revision for file in (kept, plain)}
    assert len(revisions) == 1
    assert compile_orders([order("o", large[::-1])]).revision not in revisions
    listed = tuple(Name(name=name) for name in large)
    exact = (*listed[:-1], Name(name=large[-1], subdomains=False))
    assert compile_orders([order("o", names=listed)]).revision != compile_orders([order("o", names=exact)]).revision


def test_what_a_change_releases():
    """Names that are in force and then are not, by themselves or through a parent; lifted and ended ones are not."""
    old = compile_orders(
        [order("large", MANY), order("small", ["site1.example", "www.site2.example", "a.test", "b.test"])]
    )
    assert set(old.released_by(old, NOON)) == set()
    fewer = compile_orders([order("large", MANY)])
    assert set(old.released_by(fewer, NOON)) == {"a.test", "b.test"}  # the others are covered by the large order
    assert set(fewer.released_by(old, NOON)) == set()
    assert set(old.released_by(compile_orders([]), NOON)) == {*MANY, "www.site2.example", "a.test", "b.test"}
    lifted = order("large", MANY, lifted=(Lifting(at=date(2025, 4, 1), names=("site3.example",)),))
    lifting = compile_orders([lifted])
    assert set(fewer.released_by(lifting, NOON)) == {"site3.example"}
    assert set(lifting.released_by(compile_orders([]), NOON)) == {*MANY} - {"site3.example"}
    assert (fewer.count_in_force(NOON), lifting.count_in_force(NOON)) == (len(MANY), len(MANY) - 1)
    assert set(lifting.names_in_force(NOON)) == {*MANY} - {"site3.example"}
    assert fewer.count_in_force(datetime(2027, 1, 1, tzinfo=UTC)) == 0


def test_covered_names_of_a_long_list():
    """Each name of it, and what a parent's lifting takes away from a name below it."""
    below = [f"a.site{number}.example" for number in range(SHORT + 1)]
    lifted = (Lifting(at=date(2025, 4, 1), names=("site3.example",)),)
    rules = compile_orders([order("parents", MANY), order("below", below, lifted=lifted)])
    covered = rules.covered_names(Measure.DNS, NOON)
    assert covered == {(name, True) for name in (*MANY, *below)}
    only_below = compile_orders([order("below", below, lifted=lifted)])
    assert only_below.covered_names(Measure.DNS, NOON) == {(name, True) for name in below}


def test_the_memo_is_bounded():
    """However many hosts come, and however many of them are covered; long spellings are not remembered at all."""
    rules = compile_orders([order("large", [f"n{number}.example" for number in range(3_000)])])
    for number in range(3_000):
        assert rules.decide(f"n{number}.example", at=NOON)
    assert len(rules.hosts) <= 1_100
    for number in range(70_000):
        rules.find(f"host{number}.test")
    assert 1_000 < len(rules.hosts) <= 65_536
    for number in range(3_000):
        rules.find(f"host{number}.n1.example")  # below one name: one coverage for all
    assert all(f"host{number}.n1.example" in rules.hosts.keys() for number in range(3_000))  # noqa: SIM118 (no look-up)
    rules.find("a" * 301)
    assert "a" * 301 not in rules.hosts.keys()  # noqa: SIM118 - `in` on the memo itself would be the same


def test_names_longer_than_anybody_spells_are_refused():
    """Without percent-escapes, 300 characters; with them, nine to each of 253; of what is not all ASCII, 64."""
    assert canonical_names.canonical("ü.a" * 101) is None
    assert canonical_names.canonical("%61" * 60 + ".example") == "a" * 60 + ".example"
    assert canonical_names.canonical("m\u00ad" * 28 + ".example") == "m" * 28 + ".example"
    assert canonical_names.canonical("m\u00ad" * 29 + ".example") is None


def test_a_sieve_has_room():
    """Its length is a power of two and at least four for each name; a name always passes."""
    names = NameList([MANY])
    assert len(names.sieve) >= 4 * len(MANY)
    assert len(names.sieve).bit_count() == 1
    assert all(names.sieve[hash(name) & (len(names.sieve) - 1)] for name in MANY)
    assert name_lists.sieve_size(0) == 1
