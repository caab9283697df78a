"""What stands on a name as a number: names with the same numbers on them and above them have the same life ahead. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeAlias

from cdnblock.matching.claims import Claim, Release
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Measure, Order

Variants: TypeAlias = tuple[tuple[Measure, str], ...]
"""Measures with their variants, in the order of `Measure`."""


class Numbers(dict[object, int]):
    """For each mark a number: the same for claims that come to the same from an instant on, 0 for nothing.

    Worked out when it is asked for: an index has marks that no name bears. `numbers` are given out already: whoever
    compares two rule sets hands the same to both.
    """

    def __init__(self, rules: RuleSet, at: float, numbers: dict[Hashable, int]) -> None:
        super().__init__({None: 0})
        self._index = rules.index
        self._at = at
        self._numbers = numbers
        self._said: dict[Claim, Hashable] = {}

    def __missing__(self, mark: object) -> int:
        said = frozenset(filter(None, map(self._of_claim, self._index.claims[mark])))
        number = self[mark] = self._numbers.setdefault(said, len(self._numbers))
        return number

    def at_and_above(self, name: str) -> tuple[int, ...]:
        """Return the numbers of what stands on a name and on each listed name above it, without those of nothing."""
        found = []
        suffix = self._index.nearest(name)
        while suffix:
            found.append(self[self._index.shards[hash(suffix) & (len(self._index.shards) - 1)][suffix]])
            suffix = self._index.nearest(suffix.partition(".")[2])
        return tuple(number for number in found if number)

    def _of_claim(self, claim: Claim) -> Hashable:
        if claim not in self._said:
            self._said[claim] = _said(claim, self._at)
        return self._said[claim]


def _said(claim: Claim, at: float) -> Hashable:
    """Return what a claim comes to from an instant on, None if to nothing: what is over by then."""
    if isinstance(claim, Release):
        return claim.order_id, claim.at
    span = claim.span
    windows = tuple(window for window in span.windows if window[1] > at)
    if min(span.ends, claim.lifted) <= at or (span.windows and not windows):
        return None
    life = (max(span.begins, at), span.ends, windows, claim.lifted, claim.notified)
    return _asked(claim.order), claim.subdomains, life


def _asked(order: Order) -> Hashable:
    """Return what an order asks for, and of whom."""
    return order.id, variants_of(order.measures), order.territory, order.unknown_location, order.mode


def variants_of(measures: Mapping[Measure, str]) -> Variants:
    """Return measures as a value that can be compared and hashed."""
    return tuple((measure, measures[measure]) for measure in Measure if measure in measures)
