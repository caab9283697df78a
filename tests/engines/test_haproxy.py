"""HAProxy's maps change one after the other: whatever mixture a request meets, it is decided by before or by after."""

from __future__ import annotations

import pytest

from cdnblock.engines._engine import Change
from cdnblock.engines.haproxy import bridge, differing, read_map, tally


@pytest.mark.parametrize(
    ("before", "after", "places", "expected"),
    [
        # a group for France alone, then another for France and La Réunion
        ({"FR:g1": "close"}, {"FR:g2": "close", "RE:g2": "close"}, {"FR", "RE"}, {"FR:g1": "close", "FR:g2": "close", "RE:g2": "close"}),
        # an order for the whole world, in force before La Réunion was told apart
        ({"other:w1": "close"}, {"other:w2": "close", "RE:w2": "close", "RE:g": "close"}, {"RE"},
         {"other:w1": "close", "RE:w1": "close", "other:w2": "close", "RE:w2": "close", "RE:g": "close"}),
        # and after it no longer is
        ({"other:w1": "close", "RE:w1": "close", "RE:g": "close"}, {"other:w2": "close"}, {"RE"},
         {"other:w1": "close", "RE:w1": "close", "RE:g": "close", "other:w2": "close", "RE:w2": "close"}),
        # what has changed is what it is now
        ({"FR:g": "close"}, {"FR:g": "uncached"}, {"FR"}, {"FR:g": "uncached"}),
    ],
    ids=["a country more", "the world, then a country", "a country, then the world", "another action"],
)  # fmt: skip
def test_actions_that_are_right_for_both(before, after, places, expected):
    """A place that one side does not know is there what other countries are."""
    assert bridge(before, after, places) == expected


def test_only_entries_that_differ_are_told():
    """Comments are none; a value that changed is on both sides."""
    before, after = (
        b"# one\na.example g1\nb.example g1\n=c.example free\n",
        b"# two\na.example g1\nb.example g2\nd.example g1\n",
    )
    assert differing(before, after) == (
        {"b.example": "g1", "=c.example": "free"},
        {"b.example": "g2", "d.example": "g1"},
    )
    assert read_map(b"# x\nreason Unavailable For Legal Reasons\n") == {"reason": "Unavailable For Legal Reasons"}


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"a": b"# 1\nx\n"}, {"a": b"# 2\n# 3\nx\n"}, set()),
        ({"a": b"// 1\nx\n"}, {"a": b"x\n"}, set()),
        ({"a": b"# 1\n"}, {"a": b""}, set()),
        ({"a": b"x\n# 1\n"}, {"a": b"x\n# 2\n"}, {"a"}),
        ({"a": b"x\n"}, {"a": b"y\n"}, {"a"}),
        ({"a": b"x\n"}, {"a": b"x\n", "b": b"# 1\n"}, {"b"}),
        ({"a": b"x\n", "b": b""}, {"a": b"x\n"}, {"b"}),
    ],
)
def test_a_header_alone_is_no_change(before, after, changed, tmp_path):
    """What an engine need not be told of; a file that comes or goes is a change whatever is in it."""
    assert Change(folder=tmp_path, before=before, after=after).names() == changed


def test_a_map_is_known_again_in_whatever_order_it_is_shown():
    """Comments and addresses are no part of it; one entry more, less, twice or otherwise is told."""
    file = b"# revision 1\na.example g1\nb.example g2\nreason Unavailable For Legal Reasons\n"
    shown = b"0x55 b.example g2\n0x56 reason Unavailable For Legal Reasons\n0x57 a.example g1\n\n"
    assert tally(shown, shown=True) == tally(file)
    others = (
        shown + b"0x58 c.example g1\n",
        shown[18:],
        shown + b"0x58 b.example g2\n",
        shown.replace(b"g1", b"g3"),
        b"",
    )
    for other in others:
        assert tally(other, shown=True) != tally(file)
