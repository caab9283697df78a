"""What a running instance says of itself: `cdnblock status`, and later the dashboard, show this and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders import calendar
from cdnblock.orders.calendar import Holidays
from cdnblock.orders.life import over_at
from cdnblock.sources.live_orders import LiveOrders

NEAR: Final = timedelta(days=3)  # the shortest delay that orders usually give


@dataclass(frozen=True, slots=True, kw_only=True)
class LastReload:
    """When the folder was last reread with a difference, how long that took, and whether the rules changed."""

    at: datetime
    seconds: float
    changed: bool


def describe(live: LiveOrders, now: datetime, last_reload: LastReload | None, holidays: Holidays) -> dict[str, Any]:
    """Return the state of the orders as JSON has it; times are RFC 3339."""
    rules = live.rules
    change = rules.next_change(now)
    return {
        "revision": rules.revision,
        "report_only": live.report_only,
        "orders": len(rules.orders),
        "orders_reported": len(rules.reported),
        "names": len(rules),
        "names_in_force": rules.count_in_force(now),
        "next_change": change.isoformat() if change else None,
        "last_reload": None
        if last_reload is None
        else {
            "at": last_reload.at.isoformat(),
            "seconds": round(last_reload.seconds, 4),
            "changed": last_reload.changed,
        },
        "files": [
            {
                "file": str(path),
                "state": state.value,
                "order": file.order.id if file.order else None,
                "mode": file.order.mode.value if file.order else None,
                "names": file.order.size() if file.order else None,
                "problems": [problem.as_json() for problem in file.problems],
            }
            for path, (state, file) in live.files.items()
        ],
        "problems": [problem.as_json() for problem in live.problems],
        "held": [
            {"file": str(held.path), "names": held.names, "since": held.since.isoformat()} for held in live.held
        ],
        "deadlines": list(_deadlines(rules, now, holidays)),
        "state_folder_error": live.state_error,
    }  # fmt: skip


def _deadlines(rules: RuleSet, now: datetime, holidays: Holidays) -> Iterator[dict[str, Any]]:
    """Yield the legal deadlines that are near or past, of what the file does not call implemented."""
    for order in rules.orders.values():
        if now >= over_at(order):
            continue
        due: list[tuple[str | None, datetime | None]] = [
            (addition.notice, calendar.addition_deadline(order, addition, holidays)) for addition in order.additions
        ]
        if order.implemented is None:
            due.append((None, calendar.deadline(order, holidays)))
        for notice, deadline in due:
            if deadline is not None and now >= deadline - NEAR and (notice is None or now < deadline):
                overdue = now >= deadline
                yield {"order": order.id, "notice": notice, "deadline": deadline.isoformat(), "overdue": overdue}
