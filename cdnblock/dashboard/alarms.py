"""What somebody must look at: alarms, which want a person now, and warnings, which want one in working hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from cdnblock.dashboard.register import Register
from cdnblock.dashboard.trail_view import Verified
from cdnblock.dashboard.view import View
from cdnblock.errors import Severity
from cdnblock.sources.live_orders import FileState

EXPIRES_SOON: Final = timedelta(days=30)

_MOST_OF_A_KIND: Final = 20  # shown one by one; the rest is a number


class Level(StrEnum):
    """How much it presses."""

    ALARM = "alarm"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One thing to look at: `key` names its sentence in the catalogue, `values` go into it; `at` is when it falls due.

    `zone` is that of `at`, `details` are lines to show as they are, `order` the order it is about, `command` what would
    mend it.
    """

    level: Level
    key: str
    values: Mapping[str, Any] = field(default_factory=dict)
    details: tuple[str, ...] = ()
    order: str | None = None
    at: datetime | None = None
    zone: str | None = None
    command: str | None = None


def alarms_of(view: View, now: datetime) -> Sequence[Alarm]:
    """Return everything that somebody must look at, the most pressing first."""
    status, register = view.status(), view.register()
    found = [
        *_silent(view),
        *_held(status),
        *_files(status),
        *_folder(status),
        *_trail(status),
        *_verified(view.trail.verified if view.trail else None),
        *_deadlines(status, register),
        *_engine(status),
        *_expiring(register, now),
        *_report_only(status, register, now),
    ]
    levels = list(Level)
    return sorted(found, key=lambda alarm: levels.index(alarm.level))


def _silent(view: View) -> Iterator[Alarm]:
    """Yield that the instance has said nothing of itself for long: it is stuck, and nobody looks at its files."""
    if (since := view.silent_since) is not None:
        yield Alarm(level=Level.ALARM, key="silent", at=since)


def _held(status: Mapping[str, Any]) -> Iterator[Alarm]:
    for held in status["held"][:_MOST_OF_A_KIND]:
        yield Alarm(
            level=Level.ALARM, key="held", values={"file": held["file"], "n": held["names"]},
            at=datetime.fromisoformat(held["since"]), command="cdnblock reload --accept-release",
        )  # fmt: skip
    yield from _rest(len(status["held"]), "held_more")


def _files(status: Mapping[str, Any]) -> Iterator[Alarm]:
    """Yield the files that are not enforced as they are on the disk, with what is wrong in them."""
    wrong = [file for file in status["files"] if file["state"] in (FileState.KEPT, FileState.NOT_ENFORCED)]
    for file in wrong[:_MOST_OF_A_KIND]:
        key = "file_kept" if file["state"] == FileState.KEPT else "file_not_enforced"
        problems = tuple(line(problem) for problem in file["problems"][:_MOST_OF_A_KIND])
        yield Alarm(level=Level.ALARM, key=key, values={"file": file["file"]}, details=problems, order=file["order"])
    yield from _rest(len(wrong), "files_more")


def _folder(status: Mapping[str, Any]) -> Iterator[Alarm]:
    """Yield what is wrong with the folder itself, with the state folder, and how many warnings there are."""
    of_files = {(p["file"], p["line"], p["message"]) for file in status["files"] for p in file["problems"]}
    for problem in status["problems"]:
        is_of_file = (problem["file"], problem["line"], problem["message"]) in of_files
        if not is_of_file and problem["severity"] == Severity.ERROR:
            yield Alarm(level=Level.ALARM, key="folder", details=(line(problem),))
    if status["state_folder_error"]:
        yield Alarm(level=Level.ALARM, key="state_folder", details=(status["state_folder_error"],))
    warnings = [problem for problem in status["problems"] if problem["severity"] == Severity.WARNING]
    if warnings:
        details = tuple(line(problem) for problem in warnings[:_MOST_OF_A_KIND])
        yield Alarm(level=Level.WARNING, key="warnings", values={"n": len(warnings)}, details=details)


def _trail(status: Mapping[str, Any]) -> Iterator[Alarm]:
    audit = status.get("audit")
    if audit and audit.get("failing"):
        since = audit.get("failing_since")
        at = datetime.fromisoformat(since) if since else None
        yield Alarm(level=Level.ALARM, key="audit", details=(f"{audit['folder']}: {audit['failing']}",), at=at)
    if audit and audit.get("gaps"):
        yield Alarm(level=Level.WARNING, key="gaps", values={"n": audit["gaps"]})


def _verified(verified: Verified | None) -> Iterator[Alarm]:
    """Yield what was found when somebody had the trail verified last."""
    if verified is None or verified.result is None or verified.result.ok:
        return
    details = tuple(f"{finding.file}:{finding.line} {finding.message}" for finding in verified.result.findings)
    yield Alarm(level=Level.ALARM, key="trail_broken", details=details[:_MOST_OF_A_KIND], at=verified.at)


def _deadlines(status: Mapping[str, Any], register: Register) -> Iterator[Alarm]:
    due = sorted(status["deadlines"], key=lambda item: datetime.fromisoformat(item["deadline"]))
    for item in due[:_MOST_OF_A_KIND]:
        yield Alarm(
            level=Level.ALARM if item["overdue"] else Level.WARNING,
            key="overdue" if item["overdue"] else "due_notice" if item["notice"] else "due",
            values={"order": item["order"], "notice": item["notice"]}, order=item["order"],
            at=datetime.fromisoformat(item["deadline"]), zone=register.zone(item["order"]),
        )  # fmt: skip
    yield from _rest(len(due), "due_more")


def _engine(status: Mapping[str, Any]) -> Iterator[Alarm]:
    applied = status.get("apply") or {}
    if failing := applied.get("failing"):
        lines = tuple(failing.splitlines())
        yield Alarm(level=Level.ALARM, key="engine", values={"target": applied["target"]}, details=lines)


def _expiring(register: Register, now: datetime) -> Iterator[Alarm]:
    expiring = register.expiring(now, now + EXPIRES_SOON)
    for row in expiring[:_MOST_OF_A_KIND]:
        yield Alarm(
            level=Level.WARNING, key="expiring", values={"order": row.order.id, "n": row.names}, order=row.order.id,
            at=row.over, zone=row.order.timezone,
        )  # fmt: skip
    yield from _rest(len(expiring), "expiring_more")


def _report_only(status: Mapping[str, Any], register: Register, now: datetime) -> Iterator[Alarm]:
    if status.get("report_only"):
        yield Alarm(level=Level.ALARM, key="report_only")
        return
    reported = [row.order.id for row in register.rows if not row.order.is_enforced and now < row.over]
    if reported:
        yield Alarm(
            level=Level.NOTE,
            key="report_orders",
            values={"n": len(reported)},
            details=tuple(reported[:_MOST_OF_A_KIND]),
        )


def _rest(count: int, key: str) -> Iterator[Alarm]:
    if count > _MOST_OF_A_KIND:
        yield Alarm(level=Level.WARNING, key=key, values={"n": count - _MOST_OF_A_KIND})


def line(problem: Mapping[str, Any]) -> str:
    """Return a problem as `cdnblock check` prints it."""
    where = f"{problem['file']}:{problem['line']}:{problem['column']}"
    return f"{where}: {problem['key'] or 'file'}: {problem['message']}"
