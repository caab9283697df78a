"""What one trail tells of one order: when it came into force there, what was enforced, and where the trail is silent.

Nothing here judges. A record is taken as it stands; whether the trail was tampered with is told beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from cdnblock.audit.reading import lines, orders_of, read_record
from cdnblock.audit.records import HITS, Kind, instant_of
from cdnblock.reports.trail_values import Begin, Gap, Hit, Pause, Record, TrailFacts, Turned, local

_IN_STEP: Final = ("probed, in step", "in place, nobody asked")  # what `applied` says of a change that went well
_DAYS: Final = 10_000  # minutes of which the day is remembered
MOST: Final = 200  # gaps, clock steps, files and runs of one trail that are kept one by one


def read_trail(path: Path, orders: Mapping[str, str], until: datetime | None = None) -> dict[str, TrailFacts]:
    """Return what a trail tells of each of these orders (id -> time zone, whose days its hits are counted by).

    What it tells of after `until` is left aside.

    Raises:
        OSError: it cannot be read.

    """
    found = (record for line in lines(path) if (record := read_record(line)) is not None)
    return facts_of(found, path, orders, until)


def facts_of(
    found: Iterable[Record], path: Path, orders: Mapping[str, str], until: datetime | None = None
) -> dict[str, TrailFacts]:
    """Return what records, in their order, tell of each of these orders."""
    reader = _Reader(path, orders)
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

    def __init__(self, path: Path, orders: Mapping[str, str]) -> None:
        self._facts = {order: TrailFacts(path=path, order=order) for order in orders}
        self._zones = {order: ZoneInfo(zone) for order, zone in orders.items()}
        self._before_run: datetime | None = None  # the last record of the run before
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._odd = 0
        self._days: dict[tuple[str, datetime], date] = {}
        self._engine = False  # the trail is that of `cdnblock apply`
        self._in_step: list[tuple[int, datetime]] = []
        self._rehearsed: set[str] = set()  # orders that have started in mode report
        self._starting = False  # what is told now was so when this run began

    def take(self, record: Record, at: datetime) -> None:
        kind, own = record.get("kind"), self._facts.get(str(record.get("order")))
        if kind in HITS:
            if own is not None:
                self._hit(own, record, at)
        elif kind == Kind.LOADED:
            self._starting = record.get("before") is None
            for order in self._facts.keys() & orders_of(record):
                self._loaded(self._facts[order], record, at)
        elif own is not None:
            self._turn(own, record, at)
        else:
            self._of_the_trail(record, kind, at)
        self._first, self._last = self._first or at, at

    def _loaded(self, facts: TrailFacts, record: Record, at: datetime) -> None:
        _keep(facts, facts.files, record, "files")
        items = (item for item in record["files"] if isinstance(item, dict))
        modes = [item.get("mode") for item in items if item.get("order") == facts.order]
        if facts.order in self._rehearsed and "report" not in modes:  # from now on it is carried out
            self._rehearsed.discard(facts.order)
            before = self._before_run if self._starting else at
            facts.in_force = facts.in_force or Begin(at=at, not_before=before, record=_number(record))

    def not_understood(self) -> None:
        self._odd += 1

    def finish(self) -> dict[str, TrailFacts]:
        """Return what was read, with what holds for the whole trail."""
        for facts in self._facts.values():
            facts.first_at, facts.last_at = self._first, self._last
            if self._engine:
                self._wait_for_engine(facts)
            if facts.in_force is None and facts.first_enforced is not None:  # the record of its start is retired
                facts.in_force = Begin(at=facts.first_enforced, not_before=None, record=0)
            for notice, first in facts.notices_enforced.items():
                facts.notices.setdefault(notice, Begin(at=first, not_before=None, record=0))
            if self._odd:
                facts.left_out["records that cannot be understood"] = self._odd
        return self._facts

    def _wait_for_engine(self, facts: TrailFacts) -> None:
        """Take what happened to the order as in effect when the engine was next brought in step, and not before."""
        if facts.in_force is not None:
            facts.in_force = self._applied_begin(facts.in_force)
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
            self._before_run = _instant(told.get("at")) if isinstance(told, dict) else None
            self._starting = True
        gap = Gap(since=_instant(record.get("from")), until=_instant(record.get("to")), what=_lost(record))
        for facts in self._facts.values():
            if kind == Kind.TRAIL_OPENED:
                _keep(facts, facts.runs, record, "runs")
                if self._before_run is not None and self._before_run < at and facts.in_force is not None:
                    _keep(facts, facts.pauses, Pause(self._before_run, at), "pauses")
            elif kind == Kind.GAP:
                _keep(facts, facts.gaps, gap, "gaps")
            elif kind == Kind.CLOCK_STEP:
                _keep(facts, facts.clock_steps, record, "clock steps")

    def _turn(self, facts: TrailFacts, record: Record, at: datetime) -> None:
        kind = str(record.get("kind"))
        names = record.get("names")
        turned = Turned(
            kind=kind,
            at=at,
            instant=_instant(record.get("instant")),
            names=tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else (),
            past=record.get("past") is True,
            record=_number(record),
        )
        _keep(facts, facts.turns, turned, "turns")
        if kind == Kind.ORDER_ENDED or (kind == Kind.ORDER_LIFTED and not turned.names):
            self._rehearsed.discard(facts.order)
            if turned.past:
                _over_already(facts, turned)
        if record.get("mode") == "report":
            if kind == Kind.ORDER_STARTED:
                self._rehearsed.add(facts.order)
            return
        begin = Begin(
            at=at,
            not_before=self._before_run if turned.past and self._starting else at,
            record=turned.record,
        )
        if kind == Kind.ORDER_STARTED and facts.in_force is None:
            facts.in_force = begin
        elif kind == Kind.ADDITION_STARTED and isinstance(notice := record.get("notice"), str):
            facts.notices.setdefault(notice, begin)

    def _hit(self, facts: TrailFacts, record: Record, at: datetime) -> None:
        kind, count = record.get("kind"), record.get("count", 1)
        would = Kind.WOULD in (kind, record.get("of") if kind == Kind.COUNTED else None)
        first = _instant(record.get("first")) or at
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
        facts.last_enforced = at
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


def _keep(facts: TrailFacts, into: list[Any], item: Any, what: str) -> None:
    if len(into) < MOST:
        into.append(item)
    else:
        facts.left_out[what] += 1


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


def _instant(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
