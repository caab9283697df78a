"""What a trail tells of one order, as plain values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

Record: TypeAlias = dict[str, Any]

MOST: Final = 200  # gaps, clock steps, files and runs of one trail that are kept one by one


def local(at: datetime, zone: ZoneInfo) -> datetime:
    """Return an instant in a time zone; the first and last hours that there are stay in their own: clocks go wrong."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at


def instant_in(text: object) -> datetime | None:
    """Return the instant that a record writes, None where it writes none."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The first record by which something is in force: it was so at `at`, and was not yet at `not_before`.

    None: the trail does not reach back to a moment at which it was not in force.
    """

    at: datetime
    not_before: datetime | None
    record: int


class Hit(NamedTuple):
    """What enforcements are counted by. The day is one of the order's legal time."""

    day: date
    country: str | None
    measure: str
    would: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """From when to when something was not recorded, and what, as the trail has it."""

    since: datetime | None
    until: datetime | None
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """Something that happened to the order: the instant it was for, and when the trail told of it."""

    kind: str
    at: datetime
    instant: datetime | None
    names: tuple[str, ...]
    past: bool
    record: int


class Pause(NamedTuple):
    """From the last record of a run to the first of the next: nobody recorded, and perhaps nobody enforced."""

    since: datetime
    until: datetime


class Absence(NamedTuple):
    """Out of force once it had been in force: gone, in mode report, or over by the file of then. `back`: None if not yet."""

    since: datetime
    back: Begin | None


@dataclass(slots=True, kw_only=True)
class TrailFacts:
    """All that one trail tells of one order. `read_trail` fills it."""

    path: Path
    order: str
    first_at: datetime | None = None
    last_at: datetime | None = None
    in_force: Begin | None = None
    notices: dict[tuple[str, datetime | None], Begin] = field(default_factory=dict)
    first_enforced: datetime | None = None
    last_enforced: datetime | None = None
    notices_enforced: dict[str, datetime] = field(default_factory=dict)
    hits: Counter[Hit] = field(default_factory=Counter)
    turns: list[Turned] = field(default_factory=list)
    runs: list[Record] = field(default_factory=list)
    files: list[Record] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    clock_steps: list[Record] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def is_out(self) -> bool:
        """Whether it is out of force again, as far as has been read."""
        return bool(self.absences) and self.absences[-1].back is None

    @property
    def is_in_force(self) -> bool:
        """Whether it has come into force and is not out of force again, as far as has been read."""
        return self.in_force is not None and not self.is_out

    def leave(self, since: datetime) -> None:
        """Take the order as out of force, if it was in force."""
        if self.is_in_force:
            self.keep(self.absences, Absence(since, None), "times out of force")

    def enter(self, begin: Begin, *, anew: bool = False) -> None:
        """Take the order as in force; `anew` also where its file was back before, with a start that was still to come."""
        if self.in_force is None:
            self.in_force = begin
        elif self.absences and (anew or self.is_out):
            self.absences[-1] = self.absences[-1]._replace(back=begin)

    def keep(self, into: list[Any], item: object, what: str) -> None:
        """Keep an item of which there may be many; beyond the most of them only how many there are."""
        if len(into) < MOST:
            into.append(item)
        else:
            self.left_out[what] += 1
