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
