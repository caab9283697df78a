"""From an order and what trails tell of it to the report: all that is derived, and nothing that is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TypeAlias

from cdnblock.measures.notice.countries import COUNTRY_NAMES
from cdnblock.orders import calendar
from cdnblock.orders.calendar import Holidays, instant
from cdnblock.orders.life import lifted_at, over_at, state_of
from cdnblock.orders.model import Addition, Moment, Name, NamesFile, Order
from cdnblock.reports.compliance import Witness, claims_of, is_denied, judge, standing
from cdnblock.reports.order import (
    DayRow,
    LiftingReport,
    NameGroup,
    NoticeReport,
    OrderReport,
    Remark,
    Stated,
    TrailReport,
)
from cdnblock.reports.order_warnings import warnings_of
from cdnblock.reports.trail_values import Begin, TrailFacts, Turned

Part: TypeAlias = Order | Addition


def order_report(
    order: Order, trails: Sequence[TrailReport], *, at: datetime, software: str, holidays: Holidays
) -> OrderReport:
    """Return the report on an order, as of the instant `at`, with what the trails tell of it."""
    zone = order.timezone
    facts = [trail.facts for trail in trails]
    deadline = calendar.deadline(order, holidays)
    witnesses = [_witness(trail, trail.facts.in_force, deadline, over_at(order)) for trail in trails]
    claims = claims_of(witnesses, order.implemented, zone)
    denied = order.implemented is not None and is_denied(order.implemented, witnesses, deadline, zone)
    report = OrderReport(
        order=order,
        made_at=at,
        software=software,
        state=state_of(order, at),
        territory={code: COUNTRY_NAMES["en"].get(code, code) for code in sorted(order.territory.countries)},
        starts=calendar.starts_at(order),
        ends=calendar.ends_at(order),
        over=over_at(order),
        windows=calendar.windows_of(order),
        received=_stated(order.received, zone),
        acknowledged=_stated(order.acknowledged, zone),
        served=_stated(order.served, zone),
        implemented=_stated(order.implemented, zone),
        compliance=judge(deadline, claims, at, denied=denied),
        first_enforced=min((fact.first_enforced for fact in facts if fact.first_enforced), default=None),
        last_enforced=max((fact.last_enforced for fact in facts if fact.last_enforced), default=None),
        names=tuple(_groups(order)),
        remarks=tuple(_remarks(order)),
        notices=tuple(_notice(order, addition, trails, at, holidays) for addition in order.additions),
        liftings=tuple(_liftings(order, facts)),
        ended=tuple(_told(fact, "order-ended", calendar.ends_at(order)) for fact in facts),
        hits=tuple(_day_rows(facts)),
        trails=tuple(trails),
        warnings=(),
    )
    return replace(report, warnings=tuple(warnings_of(report)))


def _stated(moment: Moment | None, zone: str) -> Stated | None:
    return None if moment is None else Stated(written=moment, at=instant(moment, zone))


def _notice(
    order: Order, addition: Addition, trails: Sequence[TrailReport], at: datetime, holidays: Holidays
) -> NoticeReport:
    facts, deadline = [trail.facts for trail in trails], calendar.addition_deadline(order, addition, holidays)
    starts = calendar.addition_starts_at(order, addition)
    is_alone = sum(other.notice == addition.notice for other in order.additions) == 1
    begins = [_of_notice(fact, addition.notice, starts, is_alone=is_alone) for fact in facts]
    witnesses = [_witness(trail, begin, deadline, over_at(order)) for trail, begin in zip(trails, begins, strict=True)]
    enforced = [
        fact.notices_enforced[addition.notice]
        for fact in facts
        if is_alone and addition.notice in fact.notices_enforced
    ]
    return NoticeReport(
        notice=addition.notice,
        authority=addition.authority,
        notified=Stated(written=addition.notified, at=instant(addition.notified, order.timezone)),
        starts=starts,
        names=len(addition.names) + (len(addition.names_file.names) if addition.names_file else 0),
        compliance=judge(deadline, claims_of(witnesses, None, order.timezone), at),
        first_enforced=min(enforced, default=None),
    )


def _of_notice(facts: TrailFacts, notice: str, starts: datetime, *, is_alone: bool) -> Begin | None:
    """Return when a notice's names came into force; two notices with one reference are told apart by their start."""
    if (begin := facts.notices.get((notice, starts))) is not None or not is_alone:
        return begin
    others = (begin for (known, _), begin in facts.notices.items() if known == notice)
    return next(others, None)


def _witness(trail: TrailReport, begin: Begin | None, deadline: datetime | None, over: datetime) -> Witness:
    """Return what a trail says of a beginning; that it was out of force after the order was over says nothing."""
    facts = trail.facts
    return Witness(
        begin=standing(begin, [absence for absence in facts.absences if absence.since < over], deadline),
        first_at=facts.first_at,
        last_at=facts.last_at,
        whole=trail.whole,
    )


def _liftings(order: Order, facts: Sequence[TrailFacts]) -> Iterator[LiftingReport]:
    for lifting in order.lifted:
        at = instant(lifting.at, order.timezone)
        yield LiftingReport(
            at=Stated(written=lifting.at, at=at),
            names=lifting.names,
            reason=lifting.reason,
            took_effect=tuple(_told(fact, "order-lifted", at) for fact in facts),
        )


def _told(fact: TrailFacts, kind: str, at: datetime) -> datetime | None:
    """Return when a trail told of a turn that was for the instant `at`; None where it has nothing in force before."""
    turns: Iterator[Turned] = (turn for turn in fact.turns if turn.kind == kind and turn.instant == at)
    told = next(turns, None)
    if told is None or (told.past and (fact.in_force is None or fact.in_force.at > at)):
        return None
    return told.at


def _day_rows(facts: Iterable[TrailFacts]) -> Iterator[DayRow]:
    found: dict[tuple[date, str, str], list[int]] = {}
    for fact in facts:
        for hit, count in fact.hits.items():
            row = found.setdefault((hit.day, hit.country or "", hit.measure), [0, 0])
            row[hit.would] += count
    for (day, country, measure), (enforced, would) in sorted(found.items()):
        yield DayRow(day=day, country=country or None, measure=measure, enforced=enforced, would=would)


def _groups(order: Order) -> Iterator[NameGroup]:
    """Yield the names by their lives, the order's own first; a lifting splits a group."""
    released = [(lifting.names, instant(lifting.at, order.timezone)) for lifting in order.lifted if lifting.names]
    lifted: dict[str, list[datetime]] = {}
    for names, at in released:
        for name in names or ():
            lifted.setdefault(name, []).append(at)
    yield from _groups_of(order, order, calendar.starts_at(order), None, lifted)
    for addition in order.additions:
        notified = instant(addition.notified, order.timezone)
        yield from _groups_of(order, addition, calendar.addition_starts_at(order, addition), notified, lifted)


def _groups_of(
    order: Order, part: Part, since: datetime, notified: datetime | None, lifted: Mapping[str, list[datetime]]
) -> Iterator[NameGroup]:
    over, whole = over_at(order), lifted_at(order)
    groups: dict[tuple[bool, datetime], list[str]] = {}
    for name, subdomains in _listed(part):
        until = _until(name, over, notified, lifted) if lifted else over
        groups.setdefault((subdomains, until), []).append(name)
    for (subdomains, until), names in groups.items():
        yield NameGroup(
            notice=part.notice if isinstance(part, Addition) else None,
            subdomains=subdomains,
            since=since,
            until=until,
            lifted=until < over or until == whole,
            names=tuple(names),
        )


def _until(name: str, over: datetime, notified: datetime | None, lifted: Mapping[str, list[datetime]]) -> datetime:
    """Return when a name is released: a lifting releases it, or a name above it, unless it was notified later."""
    until = over
    above = name
    while above:
        for at in lifted.get(above, ()):
            if notified is None or at >= notified:
                until = min(until, at)
        above = above.partition(".")[2]
    return until


def _listed(part: Part) -> Iterator[tuple[str, bool]]:
    yield from ((name.name, name.subdomains) for name in part.names)
    files: NamesFile | None = part.names_file
    if files is not None:
        yield from ((name, True) for name in files.names)


def _remarks(order: Order) -> Iterator[Remark]:
    parts: list[Part] = [order, *order.additions]
    names: Iterable[Name] = (name for part in parts for name in part.names if name.note or name.overbroad)
    for name in names:
        yield Remark(name=name.name, note=name.note, overbroad=name.overbroad)
