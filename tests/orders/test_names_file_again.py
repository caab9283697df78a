"""A names file that is read again: what is shared with the last reading changes nothing of what is read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.orders.name_list import SHARD_MASK, SHORT
from cdnblock.orders.names_file import ReadBefore, parse_names_file
from cdnblock.orders.protected import Protected

PROTECTED = Protected({"drive.google.com": "protected.txt:1"})
LINES = [b"# the annex", b"", *(b"site%d.example" % number for number in range(SHORT + 60)), b"a.b.c.d.example"]
# Lines of every kind, right ones more often than wrong ones: a file with a wrong line is not shared with.
GOOD = [
    b"",
    b"# why",
    b"  WWW.Site1.Example  # as a human writes",
    "bücher.example".encode(),
    b"a.b.c.d.e.f.example",
    b"x.co.uk",
    b"cr.example\rcs.example",
    b"crlf.example\r",
]
BAD = [
    b"site3.example", b"new.example", b"no name", b"google.com", b"co.uk", b"\xff.example", b"\xef\xbb\xbfbom.example",
    "hid\u202eden.example".encode(), b"example",
]  # fmt: skip
NEW = st.integers(0, 400).map(lambda number: b"new%d.example" % number)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),  # where
        st.integers(0, 3),  # lines that go
        st.lists(st.one_of(NEW, NEW, NEW, st.sampled_from(GOOD), st.sampled_from(GOOD + BAD)), max_size=3),
    ),
    min_size=1,
    max_size=4,
)


def read(data, last=None):
    return parse_names_file(data, "annex.txt", PROTECTED, last=last)


def said(names_file):
    """Return all that a reading says; of the sieve, that no name falls through."""
    if names_file is None:
        return None
    names = names_file.names
    last = len(names.sieve) - 1
    assert all(names.sieve[hash(name) & last] for name in names)
    assert [*names] == [names[place] for place in range(len(names))]
    return (
        names_file.file, [*names], [*names_file.lines], names.digest, names.distinct, names.depth, names.shallowest,
        names.sieve, [{*shard} for shard in names.shards], {mark for shard in names.shards for mark in shard.values()} <= {names.mark},
    )  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(
    several=st.lists(EDITS, min_size=1, max_size=3),
    ends=st.lists(st.sampled_from([b"", b"\n"]), min_size=4, max_size=4),
    begins=st.lists(st.sampled_from([b"", b"", b"\xef\xbb\xbf"]), min_size=4, max_size=4),
)
def test_it_says_what_a_first_reading_says(several, ends, begins):
    """Whatever lines came and went, one version after the other: names, lines, digest and problems."""
    lines = [*LINES]
    before = begins[0] + b"\n".join(lines) + ends[0]
    found, _ = read(before)
    for edits, end, begin in zip(several, ends[1:], begins[1:], strict=False):
        now = [*lines]
        for where, count, new in edits:
            start = int(where * len(now))
            now[start : start + count] = new
        data = begin + b"\n".join(now) + end
        again, problems = read(data, ReadBefore(data=before, names_file=found))
        whole, expected = read(data)
        assert problems == expected
        assert said(again) == said(whole)
        if again is not None:
            lines, before, found = now, data, again


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([b"b.example"], [b"b.example", b"\xef\xbb\xbfc.example"]),
        ([b"b.example\rc.example"], [b"d.example"]),
        ([b"b.example"], [b"b.example\rc.example"]),
        ([b"a.b.c.d.e.f.example"], []),
        ([], [b"a.b.c.d.e.f.example"]),
        ([b"b.example"], []),
        ([b"b.example"], [b"# b.example", b"", b"c.example"]),
        ([b"b.example"], [b"site4.example"]),
        ([b"# one", b"# two", b"b.example"], [b"c.example"]),
    ],
    ids=["mark", "ends gone", "ends", "deepest gone", "deepest", "gone", "lines", "twice", "comments gone"],
)
@pytest.mark.parametrize("place", [0, 200, len(LINES)], ids=["top", "middle", "end"])
def test_lines_in_the_place_of_others(before, after, place):
    """The same as a first reading says, line numbers, bounds and sieve included."""
    one, other = (b"\n".join([*LINES[:place], *lines, *LINES[place:]]) for lines in (before, after))
    found, _ = read(one)
    again, problems = read(other, ReadBefore(data=one, names_file=found))
    whole, expected = read(other)
    assert found is not None
    assert (said(again), problems) == (said(whole), expected)


def test_what_did_not_change_is_shared():
    """One name more, one fewer, one in the place of another: all shards but theirs are the same dictionaries."""
    before = b"\n".join(LINES) + b"\n"
    found, _ = read(before)
    last = ReadBefore(data=before, names_file=found)
    for new, gone in (({"new.example"}, set()), (set(), {"site7.example"}), ({"new.example"}, {"site7.example"})):
        lines = [line for line in LINES if line.decode() not in gone] + [name.encode() for name in new]
        again, _ = read(b"\n".join(lines), last)
        assert {*again.names} == {*found.names} - gone | new
        other = [n for n, shard in enumerate(again.names.shards) if shard is not found.names.shards[n]]
        assert other == sorted({hash(name) & SHARD_MASK for name in new | gone})
    assert {*found.names} == {line.decode() for line in LINES[2:]}


def test_many_small_changes_leave_no_crumbs():
    """A list that grew name by name is kept in as few pieces as one that was read at once, or nearly."""
    lines = [*LINES]
    data = b"\n".join(lines) + b"\n"
    found, _ = read(data)
    for number in range(300):
        lines.insert(number * 2 + 2, b"new%d.example" % number)
        now = b"\n".join(lines) + b"\n"
        found, _ = read(now, ReadBefore(data=data, names_file=found))
        data = now
    assert [name.encode() for name in found.names] == lines[2:]
    assert len(found.names.pieces) <= 3


def test_another_protected_list_is_held_against_every_name():
    """What was fine before may not be fine now; whoever reads again with another list shares nothing."""
    data = b"\n".join(LINES)
    names, problems = parse_names_file(data, "annex.txt", Protected({"site9.example": "protected.txt:1"}))
    assert names is None
    assert [problem.line for problem in problems] == [12]
