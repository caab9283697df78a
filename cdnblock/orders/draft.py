"""An order as far as it could be read, and what rules find in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from cdnblock.errors import Severity
from cdnblock.orders.calendar import Holidays, anchor_moment, ends_at, instant, starts_at
from cdnblock.orders.document import Path
from cdnblock.orders.model import Addition, Lifting, Moment, Order, Window

_START_KEYS: Final = frozenset({"from", "served", "decided", "timezone"})
_END_KEYS: Final = frozenset({"until", "for", "counted_from", "implemented", "served", "decided", "timezone"})


class Found(NamedTuple):
    """What a rule found, at a path of the order file."""

    path: Path
    message: str
    severity: Severity = Severity.ERROR
    of_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An order as far as it could be read. Keys that are missing or broken hold a stand-in, and are named.

    `windows`, `additions` and `liftings` are those that were read whole, each with its path; `moments` is every date
    and time of the file.
    """

    order: Order
    broken_keys: frozenset[str]
    windows: tuple[tuple[Path, Window], ...]
    additions: tuple[tuple[Path, Addition], ...]
    liftings: tuple[tuple[Path, Lifting], ...]
    moments: tuple[tuple[Path, Moment], ...]
    holidays: Holidays

    def has(self, *keys: str) -> bool:
        """Tell whether all of these keys can be relied on."""
        return self.broken_keys.isdisjoint(keys)

    def start(self) -> datetime | None:
        """Return the order's start, or None if it cannot be relied on."""
        return starts_at(self.order) if self.has(*_START_KEYS) else None

    def end(self) -> datetime | None:
        """Return the order's end, or None if it has none that can be relied on."""
        order = self.order
        has_end = order.until is not None or (order.duration is not None and anchor_moment(order) is not None)
        return ends_at(order, self.holidays) if has_end and self.has(*_END_KEYS) else None

    def parts(self) -> list[tuple[Path, Order | Addition]]:
        """Return everything that lists names, each with its path."""
        return [((), self.order), *self.additions]

    def instant(self, moment: Moment, *, end_of_day: bool = False) -> datetime:
        """Return the instant of a moment in the order's zone."""
        return instant(moment, self.order.timezone, end_of_day=end_of_day)

    def shown(self, at: datetime) -> str:
        """Return an instant as the order's zone reads it."""
        return f"{at.astimezone(ZoneInfo(self.order.timezone)):%Y-%m-%d %H:%M}"
