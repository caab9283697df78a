"""What one trail tells of one order: when it came into force there, what was enforced, and where the trail is silent.

Nothing here judges. A record is taken as it stands; whether the trail was tampered with is told beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from cdnblock.audit.reading import lines, listed, orders_of, read_record
from cdnblock.audit.records import HITS, Kind, instant_of
from cdnblock.reports.trail_values import Absence, Begin, Gap, Hit, Pause, Record, TrailFacts, Turned, instant_in, local

_IN_STEP: Final = ("probed, in step", "in place, nobody asked")  # what `applied` says of a change that went well
_DAYS: Final = 10_000  # minutes of which the day is remembered


def read_trail(
    path: Path,
    orders: Mapping[str, str],
    until: datetime | None = None,
    decided: Mapping[str, datetime] = MappingProxyType({}),
) -> dict[str, TrailFacts]:
    """Return what a trail tells of each of these orders (id -> time zone, whose days its hits are counted by).

    What it tells of after `until` is left aside, and what it tells of an order from before that was `decided`: it is
    of another order that had the id.

    Raises:
        OSError: it cannot be read.

    """
    found = (record for line in lines(path) if (record := read_record(line)) is not None)
    return facts_of(found, path, orders, until, decided)


def facts_of(
    found: Iterable[Record],
    path: Path,
    orders: Mapping[str, str],
    until: datetime | None = None,
    decided: Mapping[str, datetime] = MappingProxyType({}),
) -> dict[str, TrailFacts]:
    """Return what records, in their order, tell of each of these orders."""
    reader = _Reader(path, orders, decided)
    for record in found:
        try:
            at = instant_of(record)
            if until is None or at <= until:
                reader.take(record, at)
        except (ValueError, TypeError, OverflowError):
            reader.not_understood()
    return reader.finish()


class _Reader:
    """What has been read so far: of each order what is its own, and of all of them what is the trail's."""

    def __init__(self, path: Path, orders: Mapping[str, str], decided: Mapping[str, datetime]) -> None:
        self._decided = decided
        self._facts = {order: TrailFacts(path=path, order=order) for order in orders}
        self._zones = {order: ZoneInfo(zone) for order, zone in orders.items()}
        self._before_run: datetime | None = None  # the last record of the run before
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._began = datetime.min.replace(tzinfo=UTC)  # when the run did that
        self._odd = 0
        self._days: dict[tuple[str, datetime], date] = {}
        self._engine = False  # the trail is that of `cdnblock apply`
        self._in_step: list[tuple[int, datetime]] = []
        self._rehearsed: set[str] = set()  # orders that have started in mode report
        self._over: set[str] = set()  # orders that have ended, by the file of then
        self._versions: dict[str, tuple[list[Any], datetime]] = {}  # digests of an order's file, and since when
        self._starting = False  # what is told now was so when this run began
        self._there: set[str] | None = None  # orders that a run began with, while it tells of them

    def take(self, record: Record, at: datetime) -> None:
        kind, own = record.get("kind"), self._facts.get(str(record.get("order")))
        if kind != Kind.LOADED:
            self._miss()
        if own is not None and self._is_of_another(own, at):
            own.left_out["records from before the order was decided, of another one with its id,"] += 1
        elif kind in HITS:
            if own is not None:
                self._hit(own, record, at)
        elif kind == Kind.LOADED:
            self._starting = record.get("before") is None
            if self._starting:
                self._there = (self._there or set()) | orders_of(record)
                self._began = at
            for order in self._facts.keys() & orders_of(record):
                if not self._is_of_another(self._facts[order], at):
                    self._loaded(self._facts[order], record, at)
        elif own is not None:
            self._turn(own, record, at)
        else:
            self._of_the_trail(record, kind, at)
        self._first, self._last = self._first or at, at

    def _loaded(self, facts: TrailFacts, record: Record, at: datetime) -> None:
        facts.keep(facts.files, record, "files")
        items = [item for item in listed(record, "files") if isinstance(item, dict)]
        mine = [item for item in items if item.get("order") == facts.order]
        modes, version = [item.get("mode") for item in mine], [item.get("digest") for item in mine]
        before = self._before_run if self._starting else at
        is_other = bool(mine) and version != self._versions.get(facts.order, (None, at))[0]
        if is_other:
            self._versions[facts.order] = version, at
        if not modes:  # its file is gone
            self._rehearsed.discard(facts.order)
            facts.leave(at)
        elif "report" in modes:
            if facts.in_force is not None:
                self._rehearsed.add(facts.order)
                facts.leave(before or at)
        elif facts.order in self._rehearsed or (facts.is_out and (is_other or facts.order not in self._over)):
            self._rehearsed.discard(facts.order)  # from now on it is carried out
            self._over.discard(facts.order)
            facts.enter(Begin(at=at, not_before=before, record=_number(record)))

    def _miss(self) -> None:
        """Take orders that a run began without as out of force since the one before."""
        there, self._there = self._there, None
        for facts in self._facts.values() if there is not None else ():
            if facts.order not in (there or ()):
                self._rehearsed.discard(facts.order)
                facts.leave(self._before_run or self._began)

    def _is_of_another(self, facts: TrailFacts, at: datetime) -> bool:
        """Tell whether what was told at an instant is not of this order, but of one that had its id before."""
        decided = self._decided.get(facts.order)
        return decided is not None and at < decided

    def not_understood(self) -> None:
        self._odd += 1

    def finish(self) -> dict[str, TrailFacts]:
        """Return what was read, with what holds for the whole trail."""
        self._miss()
        for facts in self._facts.values():
            facts.first_at, facts.last_at = self._first, self._last
            if self._engine:
                self._wait_for_engine(facts)
            if facts.in_force is None and facts.first_enforced is not None:  # the record of its start is retired
                facts.in_force = Begin(at=facts.first_enforced, not_before=None, record=0)
            for notice, first in facts.notices_enforced.items():
                if all(known != notice for known, _ in facts.notices):
                    facts.notices[notice, None] = Begin(at=first, not_before=None, record=0)
            if self._odd:
                facts.left_out["records that cannot be understood"] = self._odd
        return self._facts

    def _wait_for_engine(self, facts: TrailFacts) -> None:
        """Take what happened to the order as in effect when the engine was next brought in step, and not before."""
        if facts.in_force is not None:
            facts.in_force = self._applied_begin(facts.in_force)
        facts.absences = [Absence(since, back and self._applied_begin(back)) for since, back in facts.absences]
        waited = {notice: self._applied_begin(begin) for notice, begin in facts.notices.items()}
        facts.notices = {notice: begin for notice, begin in waited.items() if begin is not None}
        later = ((turned, self._applied_after(turned.record)) for turned in facts.turns)
        facts.turns = [replace(turned, at=at) for turned, at in later if at is not None]

    def _applied_begin(self, begin: Begin) -> Begin | None:
        at = self._applied_after(begin.record)
        if at is None:
            return None
        return replace(begin, at=at, not_before=at if begin.not_before == begin.at else begin.not_before)

    def _applied_after(self, record: int) -> datetime | None:
        return next((at for number, at in self._in_step if number > record), None)

    def _of_the_trail(self, record: Record, kind: object, at: datetime) -> None:
        if kind == Kind.APPLIED:
            self._engine = True
            if record.get("result") in _IN_STEP:
                self._in_step.append((_number(record), at))
            return
        if kind == Kind.TRAIL_OPENED:
            told = record.get("before")  # what the new run itself writes may stand before this record
            self._before_run = instant_in(told.get("at")) if isinstance(told, dict) else None
            self._starting = True
        gap = Gap(since=instant_in(record.get("from")), until=instant_in(record.get("to")), what=_lost(record))
        for facts in self._facts.values():
            if kind == Kind.TRAIL_OPENED:
                facts.keep(facts.runs, record, "runs")
                if self._before_run is not None and self._before_run < at and facts.is_in_force:
                    facts.keep(facts.pauses, Pause(self._before_run, at), "pauses")
            elif kind == Kind.GAP:
                facts.keep(facts.gaps, gap, "gaps")
            elif kind == Kind.CLOCK_STEP:
                facts.keep(facts.clock_steps, record, "clock steps")

    def _turn(self, facts: TrailFacts, record: Record, at: datetime) -> None:
        kind = str(record.get("kind"))
        names = record.get("names")
        turned = Turned(
            kind=kind,
            at=at,
            instant=instant_in(record.get("instant")),
            names=tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else (),
            past=record.get("past") is True,
            record=_number(record),
        )
        facts.keep(facts.turns, turned, "turns")
        if kind == Kind.ORDER_ENDED or (kind == Kind.ORDER_LIFTED and not turned.names):
            self._rehearsed.discard(facts.order)
            if turned.past:
                _over_already(facts, turned)
            facts.leave(at)
            self._over.add(facts.order)
        if record.get("mode") == "report":
            if kind == Kind.ORDER_STARTED:
                self._rehearsed.add(facts.order)
            return
        begin = Begin(
            at=at,
            not_before=self._not_before(turned) if turned.past and self._starting else at,
            record=turned.record,
        )
        if kind == Kind.ORDER_STARTED:
            if (
                facts.in_force and turned.instant and turned.instant > facts.in_force.at
            ):  # its file had it begin earlier
                facts.leave(min(self._versions.get(facts.order, ([], at))[1], turned.instant))
            facts.enter(begin, anew=not turned.past)
        elif kind == Kind.ADDITION_STARTED and isinstance(notice := record.get("notice"), str):
            facts.notices.setdefault((notice, turned.instant), begin)

    def _not_before(self, turned: Turned) -> datetime | None:
        """Return when something that a run began with was not in force yet: at the run before, nor before its start."""
        if self._before_run is None or turned.instant is None:
            return self._before_run
        return max(self._before_run, turned.instant)

    def _hit(self, facts: TrailFacts, record: Record, at: datetime) -> None:
        kind, count = record.get("kind"), record.get("count", 1)
        would = Kind.WOULD in (kind, record.get("of") if kind == Kind.COUNTED else None)
        first = instant_in(record.get("first")) or at
        country, measure = record.get("country"), record.get("measure")
        hit = Hit(
            day=self._day(first, facts.order),
            country=country if isinstance(country, str) else None,
            measure=str(measure),
            would=would,
        )
        facts.hits[hit] += count if isinstance(count, int) and count > 0 else 1
        if would:
            return
        facts.first_enforced = facts.first_enforced or first
        last = instant_in(record.get("last")) or at  # repeats are told of when their minute is over, or later
        facts.last_enforced = max(last, facts.last_enforced or last)
        if isinstance(notice := record.get("notice"), str):
            facts.notices_enforced.setdefault(notice, first)

    def _day(self, at: datetime, order: str) -> date:
        """Return the day of an instant in an order's legal time; in one minute it is the same (millions of hits)."""
        minute = (order, at.replace(second=0, microsecond=0))
        if minute not in self._days:
            if len(self._days) >= _DAYS:
                self._days.clear()
            self._days[minute] = local(at, self._zones[order]).date()
        return self._days[minute]


def _over_already(facts: TrailFacts, turned: Turned) -> None:
    """Take back what was told as past together with its end: it was over before this trail could have it."""
    if facts.in_force is None or turned.instant is None or turned.instant > facts.in_force.at:
        return
    facts.in_force = None
    facts.notices = {notice: begin for notice, begin in facts.notices.items() if begin.at < turned.instant}


def _number(record: Record) -> int:
    seq = record.get("seq")
    return seq if isinstance(seq, int) else 0


def _lost(record: Record) -> str:
    """Return in words what a gap's record says was lost, and why."""
    lost, why = record.get("lost"), record.get("why")
    if isinstance(lost, dict):
        lost = ", ".join(f"{count} {what}" for what, count in lost.items())
    if "lost" in record and lost is None:  # as when a process died that alone knew
        lost = f"nobody knows how many {record.get('of')}"
    said = f"{lost} lost" if lost else "nothing known to be lost"
    return f"{said}: {why}" if why else said
