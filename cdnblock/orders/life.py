"""Where an order is in its life. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from cdnblock.orders import calendar
from cdnblock.orders.model import Order


class OrderState(StrEnum):
    """Where an order is in its life."""

    PENDING = "pending"
    IN_FORCE = "in force"
    ENDED = "ended"
    LIFTED = "lifted"


def state_of(order: Order, at: datetime) -> OrderState:
    """Return where an order is in its life at an instant. Windows do not matter: between them it is in force."""
    if at < calendar.starts_at(order):
        return OrderState.PENDING
    if at >= calendar.ends_at(order):
        return OrderState.ENDED
    whole = (lifting.at for lifting in order.lifted if lifting.names is None)
    lifted = any(at >= calendar.instant(moment, order.timezone) for moment in whole)
    return OrderState.LIFTED if lifted else OrderState.IN_FORCE


def next_change(order: Order, at: datetime) -> datetime | None:
    """Return the next instant at which anything of the order starts or ends, None if all is over."""
    lifted = min(
        (calendar.instant(lifting.at, order.timezone) for lifting in order.lifted if lifting.names is None),
        default=None,
    )
    instants = [
        calendar.starts_at(order),
        calendar.ends_at(order),
        *(edge for window in calendar.windows_of(order) for edge in window),
        *(calendar.addition_starts_at(order, addition) for addition in order.additions),
        *(calendar.instant(lifting.at, order.timezone) for lifting in order.lifted),
    ]
    last = calendar.ends_at(order) if lifted is None else min(lifted, calendar.ends_at(order))
    return min((instant for instant in instants if at < instant <= last), default=None)
