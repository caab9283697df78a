"""How much two tables disagree."""

from __future__ import annotations

from datetime import date

import pytest

from cdnblock.geo.disagreement import disagreement, verdicts
from cdnblock.geo.interval_table import Interval, Origin, build_table


def table(*intervals):
    return build_table(Origin(source="t", built=date(2026, 1, 1)), [(4, Interval(*interval)) for interval in intervals])


A = table((0, 100, "FR"), (100, 150, "RE"), (200, 300, "US"))
B = table((10, 120, "FR"), (120, 150, "RE"), (150, 160, "RE"), (200, 210, "FR"), (210, 300, "US"))


def test_verdicts_count_the_whole_space():
    """Every address once, also those that no table knows."""
    found = verdicts(A, B, 4)
    assert found.total() == 1 << 32
    assert found["FR", "FR"] == 90
    assert found["FR", None] == 10
    assert found["RE", "FR"] == 20
    assert found["RE", "RE"] == 30
    assert found[None, "RE"] == 10
    assert found["US", "FR"] == 10
    assert verdicts(A, B, 6) == {(None, None): 1 << 64}


@pytest.mark.parametrize(
    ("country", "expected", "share"),
    [
        ("FR", (90, 10, 30, "RE", None), 40 / 130),
        ("RE", (30, 20, 10, None, "FR"), 30 / 60),
        ("US", (90, 10, 0, None, "FR"), 10 / 100),
        ("DE", (0, 0, 0, None, None), 0.0),
    ],
)
def test_a_country_is_compared(country, expected, share):
    """Both, only A, only B, and what the other one says instead."""
    found = disagreement(verdicts(A, B, 4), country)
    assert found == expected
    assert found.share == pytest.approx(share)


def test_a_table_agrees_with_itself():
    """Nothing differs."""
    assert disagreement(verdicts(A, A, 4), "FR") == (100, 0, 0, None, None)
