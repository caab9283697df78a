"""Where two country tables disagree: how much address space each calls what. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from cdnblock.geo.interval_table import IntervalTable


class Disagreement(NamedTuple):
    """How much space two tables both call one country, and how much only one of them does.

    Counted in IPv4 addresses or IPv6 /64 networks. `instead_a` and `instead_b` are what that table most often says of
    the space that only the other one calls so: None when it says nothing there, or when there is no such space.
    """

    both: int
    only_a: int
    only_b: int
    instead_a: str | None
    instead_b: str | None

    @property
    def share(self) -> float:
        """The part, 0 to 1, of what either table calls so on which they disagree; 0 where neither does."""
        apart = self.only_a + self.only_b
        return apart / (apart + self.both) if apart else 0.0


def disagreement(verdicts: Counter[tuple[str | None, str | None]], country: str) -> Disagreement:
    """Return what the verdicts (see `verdicts`) say about one country."""
    says_b = Counter({b: space for (a, b), space in verdicts.items() if a == country != b})
    says_a = Counter({a: space for (a, b), space in verdicts.items() if b == country != a})
    return Disagreement(
        both=verdicts[country, country],
        only_a=says_b.total(),
        only_b=says_a.total(),
        instead_a=_most(says_a),
        instead_b=_most(says_b),
    )


def verdicts(a: IntervalTable, b: IntervalTable, version: int) -> Counter[tuple[str | None, str | None]]:
    """Return how much space, in IPv4 addresses or IPv6 /64 networks, gets which pair of answers from two tables."""
    space: Counter[tuple[str | None, str | None]] = Counter()
    intervals_a, intervals_b = a.intervals(version), b.intervals(version)
    left, right = next(intervals_a, None), next(intervals_b, None)
    at = 0
    while left is not None and right is not None:
        end = min(left.end, right.end)
        space[left.country, right.country] += end - at
        at = end
        left = left if left.end > end else next(intervals_a, None)
        right = right if right.end > end else next(intervals_b, None)
    return space


def _most(says: Counter[str | None]) -> str | None:
    # The most space first, then the alphabet: the same tables, the same answer.
    return min(says, key=lambda country: (-says[country], country or ""), default=None)
