"""When one listed name is enforced: its whole life as a few instants and what holds between them.

Instants are seconds since 1970-01-01T00:00Z. Only instants are compared, never local texts, so both switches of
daylight saving time pass unnoticed.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import inf

from cdnblock.matching.decision import Why


@dataclass(frozen=True, slots=True)
class Span:
    """From `begins` (inclusive) to `ends` (exclusive), enforced inside `windows` only, if there are any."""

    begins: float
    ends: float
    windows: tuple[tuple[float, float], ...] = ()

    def why_not(self, at: float, lifted: float) -> Why | None:
        """Return why the name is not enforced at the instant `at`, None when it is."""
        if at < self.begins:
            return Why.NOT_YET_IN_FORCE
        if at >= self.ends:
            return Why.ENDED
        if at >= lifted:
            return Why.LIFTED
        if self.windows and not any(opens <= at < closes for opens, closes in self.windows):
            return Why.OUTSIDE_WINDOW
        return None

    def timeline(self, lifted: float = inf) -> Timeline:
        """Return this span as a timeline, cut short by a lifting at the instant `lifted`."""
        instants = {self.begins, self.ends, lifted, *(edge for window in self.windows for edge in window)} - {inf}
        breaks = sorted(instants)
        states = [self.why_not(breaks[0] - 1, lifted), *(self.why_not(instant, lifted) for instant in breaks)]
        return Timeline(tuple(breaks), tuple(states), min(self.ends, lifted))


@dataclass(frozen=True, slots=True)
class Timeline:
    """`states[i]` holds from `breaks[i - 1]` (inclusive) to `breaks[i]` (exclusive); None means enforced.

    `until` is the instant at which the name is released for good: the end, or a lifting before it.
    """

    breaks: tuple[float, ...]
    states: tuple[Why | None, ...]
    until: float

    def why_not(self, at: float) -> Why | None:
        """Return why the name is not enforced at the instant `at`, None when it is."""
        return self.states[bisect_right(self.breaks, at)]

    def next_enforced(self, at: float) -> float | None:
        """Return the first instant later than `at` from which the name is enforced, None if there is none."""
        later = bisect_right(self.breaks, at)
        return next((self.breaks[i] for i in range(later, len(self.breaks)) if self.states[i + 1] is None), None)
