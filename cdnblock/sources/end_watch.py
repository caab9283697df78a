"""No order's end passes unseen: says of each order in time that it is about to end.

A mark is told once in a process for each end: a step of the clock tells nothing twice, a restart tells anew, and an
order whose end is moved is told of again when its new end is near.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.life import MARKS, Ending, ending, over_at
from cdnblock.orders.model import Order


class EndWatch:
    """Which ends are near, and which of them nobody has been told of. For one thread at a time.

    Cheap enough to ask once a second: only orders that end within the longest mark are looked at.
    """

    def __init__(self) -> None:
        self._rules: RuleSet | None = None
        self._ends: list[tuple[datetime, Order]] = []
        self._told: dict[tuple[str, datetime], timedelta] = {}

    def near(self, rules: RuleSet, at: datetime) -> Iterator[Ending]:
        """Yield each order whose end is near at `at`, the nearest first."""
        if rules is not self._rules:
            self._rules = rules
            ends = ((over_at(order), order) for order in rules.orders.values())
            self._ends = sorted(ends, key=lambda end: (end[0], end[1].id))
            known = {(order.id, over) for over, order in self._ends}
            self._told = {key: mark for key, mark in self._told.items() if key in known}
        for over, order in self._ends[bisect_right(self._ends, at, key=lambda end: end[0]) :]:
            if over - at > MARKS[0]:
                return
            if (found := ending(order, at)) is not None:
                yield found

    def untold(self, rules: RuleSet, at: datetime) -> list[Ending]:
        """Return those whose mark has not been told yet in this process, and count them as told."""
        found = []
        for item in self.near(rules, at):
            key = (item.order.id, item.over_at)
            if key not in self._told or item.mark < self._told[key]:
                self._told[key] = item.mark
                found.append(item)
        return found


def in_words(item: Ending, at: datetime) -> str:
    """Return the warning in a sentence, for the log."""
    left = item.over_at - at
    days, hours = left.days, left.seconds // 3600
    span = f"{days} {'day' if days == 1 else 'days'}" if days else f"{hours} {'hour' if hours == 1 else 'hours'}"
    mode = "" if item.order.is_enforced else " (it is only reported)"
    return f"order {item.order.id} ends in {span}, at {item.over_at.isoformat()}{mode}: its names are released then"


def as_json(item: Ending, at: datetime) -> dict[str, Any]:
    """Return the warning as `status` and the trail have it."""
    return {
        "order": item.order.id,
        "ends": item.over_at.isoformat(),
        "mark_days": item.mark.days,
        "seconds_left": int((item.over_at - at).total_seconds()),
        "names": item.order.size(),
    }
