"""Every order of a rule set as a page needs it: its instants worked out once, sorted, ready to be cut into pages.

Ten thousand orders take about a second to work out, so it is done once for each rule set, in a thread, and what
depends on the present moment is left to be asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders import calendar
from cdnblock.orders.calendar import Holidays
from cdnblock.orders.life import OrderState
from cdnblock.orders.model import Order


class Turn(StrEnum):
    """What happens to an order at an instant."""

    STARTS = "starts"
    ENDS = "ends"
    WINDOW_OPENS = "window_opens"
    WINDOW_CLOSES = "window_closes"
    ADDITION_STARTS = "addition_starts"
    NAMES_LIFTED = "names_lifted"
    LIFTED = "lifted"


@dataclass(frozen=True, slots=True)
class Event:
    """One turn of one order; `names` is how many names it is about, `about` the notice or the window's label."""

    at: datetime
    turn: Turn
    order: Order
    names: int
    about: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One order with its instants; `lifted` is when it is lifted whole, `over` the earlier of that and its end."""

    order: Order
    starts: datetime
    ends: datetime
    lifted: datetime | None
    deadline: datetime | None
    names: int
    sought: str

    @property
    def over(self) -> datetime:
        """When the order stops being enforced."""
        return self.ends if self.lifted is None else min(self.lifted, self.ends)

    def state(self, now: datetime) -> OrderState:
        """Return where the order is in its life (`life.state_of`, from what is worked out already)."""
        if now < self.starts:
            return OrderState.PENDING
        if now >= self.ends:
            return OrderState.ENDED
        return OrderState.LIFTED if self.lifted is not None and now >= self.lifted else OrderState.IN_FORCE

    def owed(self, now: datetime) -> datetime | None:
        """Return the deadline, if the file does not say that the order was implemented, and it still runs."""
        return self.deadline if self.order.implemented is None and now < self.over else None


class Register:
    """The orders of one rule set, and everything that will happen to them."""

    def __init__(self, rules: RuleSet, holidays: Holidays) -> None:
        self.rules = rules
        self.holidays = holidays
        self.rows: Sequence[Row] = [_row(order, holidays) for order in rules.orders.values()]
        self._by_id: Mapping[str, Row] = {row.order.id: row for row in self.rows}
        self._events = sorted((event for row in self.rows for event in _events(row)), key=_seconds)

    def row(self, order_id: str) -> Row | None:
        """Return one order, None when there is none of this id."""
        return self._by_id.get(order_id)

    def zone(self, order_id: str) -> str | None:
        """Return the time zone of one order, None when there is none of this id."""
        row = self._by_id.get(order_id)
        return None if row is None else row.order.timezone

    def states(self, now: datetime) -> Mapping[OrderState, int]:
        """Return how many orders are in each state."""
        counted = Counter(row.state(now) for row in self.rows)
        return {state: counted[state] for state in OrderState}

    def upcoming(self, now: datetime, most: int) -> Sequence[Event]:
        """Return the first `most` events after now."""
        position = bisect_right(self._events, now.timestamp(), key=_seconds)
        return self._events[position : position + most]

    def expiring(self, now: datetime, until: datetime) -> Sequence[Row]:
        """Return the orders in force that end by an instant, the first to end first."""
        found = (row for row in self.rows if row.over <= until and row.state(now) is OrderState.IN_FORCE)
        return sorted(found, key=lambda row: row.over.timestamp())


def events_of(row: Row) -> Sequence[Event]:
    """Return everything that happens to one order, in its order."""
    return sorted(_events(row), key=_seconds)


def _seconds(event: Event) -> float:
    return event.at.timestamp()


def _row(order: Order, holidays: Holidays) -> Row:
    lifted = (calendar.instant(item.at, order.timezone) for item in order.lifted if item.names is None)
    words = (order.id, order.title, order.court, order.case, order.claimant, order.addressee, order.legal_basis)
    return Row(
        order=order,
        starts=calendar.starts_at(order),
        ends=calendar.ends_at(order),
        lifted=min(lifted, default=None),
        deadline=calendar.deadline(order, holidays),
        names=order.size(),
        sought="\n".join(word for word in words if word).casefold(),
    )


def _events(row: Row) -> Iterator[Event]:
    order = row.order
    if row.starts < row.over:
        yield Event(row.starts, Turn.STARTS, order, row.names)
    if row.lifted is not None and row.lifted < row.ends:
        yield Event(row.lifted, Turn.LIFTED, order, row.names)
    else:
        yield Event(row.ends, Turn.ENDS, order, row.names)
    labels = {calendar.instant(window.begins, order.timezone): window.label for window in order.windows}
    for opens, closes in calendar.windows_of(order):  # sorted, and those that touch are one: not as the file has them
        if row.starts < opens < row.over:
            yield Event(opens, Turn.WINDOW_OPENS, order, row.names, labels.get(opens))
        if row.starts < closes < row.over:
            yield Event(closes, Turn.WINDOW_CLOSES, order, row.names, labels.get(opens))
    for addition in order.additions:
        starts = calendar.addition_starts_at(order, addition)
        if row.starts < starts < row.over:
            listed = len(addition.names) + (len(addition.names_file.names) if addition.names_file else 0)
            yield Event(starts, Turn.ADDITION_STARTS, order, listed, addition.notice)
    for lifting in order.lifted:
        at = calendar.instant(lifting.at, order.timezone)
        if lifting.names is not None and at < row.over:
            yield Event(at, Turn.NAMES_LIFTED, order, len(lifting.names), lifting.reason)
