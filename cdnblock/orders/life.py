"""Where an order is in its life, and how near its end is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cdnblock.orders import calendar
from cdnblock.orders.model import Order

MARKS: Final = (timedelta(days=30), timedelta(days=7), timedelta(days=1))
"""How long before an order's end somebody is told, the longest first."""


class OrderState(StrEnum):
    """Where an order is in its life."""

    PENDING = "pending"
    IN_FORCE = "in force"
    ENDED = "ended"
    LIFTED = "lifted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """An order whose end is near: at which instant it is over, and which of the marks has been reached."""

    order: Order
    over_at: datetime
    mark: timedelta


def state_of(order: Order, at: datetime) -> OrderState:
    """Return where an order is in its life at an instant. Windows do not matter: between them it is in force."""
    if at < calendar.starts_at(order):
        return OrderState.PENDING
    if at >= calendar.ends_at(order):
        return OrderState.ENDED
    lifted = lifted_at(order)
    return OrderState.LIFTED if lifted is not None and at >= lifted else OrderState.IN_FORCE


def next_change(order: Order, at: datetime) -> datetime | None:
    """Return the next instant at which anything of the order starts or ends, None if all is over."""
    instants = [
        calendar.starts_at(order),
        calendar.ends_at(order),
        *(edge for window in calendar.windows_of(order) for edge in window),
        *(calendar.addition_starts_at(order, addition) for addition in order.additions),
        *(calendar.instant(lifting.at, order.timezone) for lifting in order.lifted),
    ]
    return min((instant for instant in instants if at < instant <= over_at(order)), default=None)


def lifted_at(order: Order) -> datetime | None:
    """Return the instant at which the whole order is lifted, None if no lifting says so."""
    whole = (lifting.at for lifting in order.lifted if lifting.names is None)
    return min((calendar.instant(moment, order.timezone) for moment in whole), default=None)


def over_at(order: Order) -> datetime:
    """Return the instant from which nothing of an order is enforced: its end, or its whole lifting before that."""
    lifted, ends = lifted_at(order), calendar.ends_at(order)
    return ends if lifted is None else min(lifted, ends)


def ending(order: Order, at: datetime) -> Ending | None:
    """Return the nearest mark before an order's end that has been reached at `at`; None before the first, and after it.

    Told of an order that has not started yet, too: the end of a short one is near before it begins.
    """
    over = over_at(order)
    left = over - at
    reached = [mark for mark in MARKS if timedelta(0) < left <= mark]
    return Ending(order=order, over_at=over, mark=reached[-1]) if reached else None


def ends_within(order: Order, at: datetime, span: timedelta) -> bool:
    """Tell whether an order that is not over at `at` will be within a span of time, by its end or its lifting."""
    over = over_at(order)
    return at < over and over - at <= span
