"""Which lines differ between two texts: as sets of lines would tell, but sooner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdnblock.engines._lines import lines_of_one

LINES = st.lists(st.sampled_from([b"a", b"ab", b"b", b"ba", b"", b"c.example g", b"c.example h"]), unique=True)


@given(before=LINES, after=LINES, ends=st.sampled_from([b"", b"\n"]))
def test_the_same_as_of_sets(before, after, ends):
    """Wherever lines came, went or moved, with a line end at the end or without."""
    old, new = {*before} - {b""}, {*after} - {b""}
    assert lines_of_one(b"\n".join(before) + ends, b"\n".join(after) + ends) == (old - new, new - old)


def test_a_header_says_nothing():
    """Comments on top may differ in number and words."""
    assert lines_of_one(b"# 1\nx y\n", b"# 2\n# 3\nx y\nz w\n") == (set(), {b"z w"})
