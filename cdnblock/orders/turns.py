"""The instants of an order's life at which something turns: its start, end, liftings, windows and additions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cdnblock.orders import calendar
from cdnblock.orders.model import Order


class Happening(StrEnum):
    """What turns, in the order in which it is told when several turn at one instant."""

    ORDER_STARTED = "order-started"
    WINDOW_OPENED = "window-opened"
    ADDITION_STARTED = "addition-started"
    WINDOW_CLOSED = "window-closed"
    ORDER_LIFTED = "order-lifted"
    ORDER_ENDED = "order-ended"


_RANK = {happening: rank for rank, happening in enumerate(Happening)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One instant (aware, UTC) of one order. `names` are those of a lifting, None for the whole order or its list.

    `count` is how many names turn, None where it is the whole order; `notice` is an addition's, `label` a window's,
    `reason` a lifting's.
    """

    at: datetime
    happening: Happening
    order: str
    names: tuple[str, ...] | None = None
    count: int | None = None
    notice: str | None = None
    label: str | None = None
    reason: str | None = None


def turns_of(order: Order) -> tuple[Turn, ...]:
    """Return every turn of an order, sorted. Nothing turns after its end, or after the lifting of the whole order.

    Windows that touch or overlap are one, as the calendar has them.
    """
    starts, ends = calendar.starts_at(order), calendar.ends_at(order)
    over = min((turn.at for turn in _liftings(order) if turn.names is None), default=ends)
    turns = [
        Turn(at=starts, happening=Happening.ORDER_STARTED, order=order.id, count=_listed(order)),
        *_windows(order),
        *_additions(order),
        *_liftings(order),
        Turn(at=ends, happening=Happening.ORDER_ENDED, order=order.id),
    ]
    last = min(over, ends)
    kept = [turn for turn in turns if turn.at < last or (turn.at == last and _ends(turn, lifted=over < ends))]
    return tuple(sorted(kept, key=lambda turn: (turn.at, _RANK[turn.happening])))


def _ends(turn: Turn, *, lifted: bool) -> bool:
    """Tell whether a turn at the very end of an order's life is its end."""
    if turn.happening is Happening.ORDER_ENDED:
        return not lifted
    return turn.happening is Happening.WINDOW_CLOSED or (
        lifted and turn.happening is Happening.ORDER_LIFTED and turn.names is None
    )


def _listed(order: Order) -> int:
    return len(order.names) + (len(order.names_file.names) if order.names_file else 0)


def _windows(order: Order) -> Iterator[Turn]:
    labels = {calendar.instant(window.begins, order.timezone): window.label for window in order.windows}
    for opens, closes in calendar.windows_of(order):
        label = labels.get(opens)
        yield Turn(at=opens, happening=Happening.WINDOW_OPENED, order=order.id, label=label)
        yield Turn(at=closes, happening=Happening.WINDOW_CLOSED, order=order.id, label=label)


def _additions(order: Order) -> Iterator[Turn]:
    for addition in order.additions:
        count = len(addition.names) + (len(addition.names_file.names) if addition.names_file else 0)
        yield Turn(
            at=calendar.addition_starts_at(order, addition),
            happening=Happening.ADDITION_STARTED,
            order=order.id,
            notice=addition.notice,
            count=count,
        )


def _liftings(order: Order) -> Iterator[Turn]:
    for lifting in order.lifted:
        yield Turn(
            at=calendar.instant(lifting.at, order.timezone),
            happening=Happening.ORDER_LIFTED,
            order=order.id,
            names=lifting.names,
            count=None if lifting.names is None else len(lifting.names),
            reason=lifting.reason,
        )
