"""Orders whose end is near, and what servers still carry of those that are over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.life import OrderState, ending, ends_within, over_at, state_of
from cdnblock.reports.escaping import plain
from cdnblock.reports.native import SHOWN, Leftover, NativeFile, Why, leftovers


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring:
    """One order that is over at `over_at` (in its own legal time); `mark` is the one of 30, 7 and 1 days reached."""

    order: str
    title: str | None
    state: OrderState
    over_at: datetime
    mark: timedelta | None
    names: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiringReport:
    """What ends within `within` of `at`, the exported files that were read, and what is left in them."""

    at: datetime
    within: timedelta
    expiring: tuple[Expiring, ...]
    files: tuple[NativeFile, ...]
    leftovers: tuple[Leftover, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return {
            "at": self.at.isoformat(),
            "within_days": self.within / timedelta(days=1),
            "expiring": [
                {
                    "order": item.order,
                    "title": item.title,
                    "state": item.state.value,
                    "ends": item.over_at.isoformat(),
                    "days_left": round((item.over_at - self.at) / timedelta(days=1), 2),
                    "mark_days": item.mark.days if item.mark else None,
                    "names": item.names,
                }
                for item in self.expiring
            ],
            "files": [
                {
                    "file": str(file.path),
                    "target": file.target,
                    "revision": file.revision,
                    "holds_until": file.holds_until.isoformat() if file.holds_until else None,
                    "orders": {order: until.isoformat() for order, until in file.orders.items()},
                }
                for file in self.files
            ],
            "leftovers": [
                {
                    "file": str(item.path),
                    "target": item.target,
                    "order": item.order,
                    "why": item.why.value,
                    "since": item.since.isoformat() if item.since else None,
                    "names": list(item.names),
                    "names_found": item.found,
                }
                for item in self.leftovers
            ],
        }

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text for people; nothing in them can steer a terminal."""
        days = self.within / timedelta(days=1)
        if not self.expiring:
            yield f"No order ends within {days:g} days."
        for item in self.expiring:
            mark = f"  {item.mark.days}-day mark" if item.mark else ""
            pending = "  not yet in force" if item.state is OrderState.PENDING else ""
            title = f"  {plain(item.title)}" if item.title else ""
            yield f"{item.order}  ends {_shown(item.over_at)}, in {left_in_words(item.over_at - self.at)}{mark}{pending}  {item.names} names{title}"
        if self.files:
            yield from self._about_files()

    def _about_files(self) -> Iterator[str]:
        orders = {order for file in self.files for order in file.orders}
        yield f"{len(self.files)} exported files, with {len(orders)} orders."
        for item in self.leftovers:
            where = f"{plain(str(item.path))} ({item.target})"
            if item.order is None:
                yield f"{where}: was right until {_shown(item.since)}: export it again"
                continue
            since = f" since {_shown(item.since)}" if item.since else ""
            names = ", ".join(item.names) + (f" and {item.found - SHOWN} more" if item.found > SHOWN else "")
            still = f"; still in it: {names}" if item.names else ""
            yield f"{where}: order {item.order}, {item.why}{since}{still}"
        if not self.leftovers:
            yield "None of them carries an order that is over."


def expiring_report(
    rules: RuleSet, at: datetime, within: timedelta, files: Iterable[NativeFile] = ()
) -> ExpiringReport:
    """Return which orders end within a span of time, the nearest first, and what exported files carry too long."""
    near = [order for order in rules.orders.values() if ends_within(order, at, within)]
    read = tuple(files)
    return ExpiringReport(
        at=at,
        within=within,
        expiring=tuple(
            Expiring(
                order=order.id,
                title=order.title,
                state=state_of(order, at),
                over_at=over_at(order).astimezone(ZoneInfo(order.timezone)),
                mark=reached.mark if (reached := ending(order, at)) else None,
                names=order.size(),
            )
            for order in sorted(near, key=lambda order: (over_at(order), order.id))
        ),
        files=read,
        leftovers=tuple(item for file in read for item in leftovers(file, rules, at)),
    )


def left_in_words(left: timedelta) -> str:
    """Return a span of time in its two largest units: `6 days 23 h`, `5 h 12 min`, `40 s`."""
    seconds = int(left.total_seconds())
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    if days:
        return f"{days} {'day' if days == 1 else 'days'} {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"


def _shown(at: datetime | None) -> str:
    return at.isoformat(sep=" ", timespec="minutes") if at else "an unknown time"


__all__ = ["Expiring", "ExpiringReport", "Why", "expiring_report", "left_in_words"]
