"""What a reader of an order's report should not overlook. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cdnblock.audit.reading import listed
from cdnblock.audit.records import instant_of
from cdnblock.orders.model import UnknownLocation
from cdnblock.orders.territories import COUNTRIES
from cdnblock.reports.compliance import Source, Verdict
from cdnblock.reports.expiring import left_in_words
from cdnblock.reports.order import OrderReport, TrailReport
from cdnblock.reports.trail_values import local

_MINUTE: Final = timedelta(minutes=1)


def warnings_of(report: OrderReport) -> Iterator[str]:
    """Yield each warning in a sentence."""
    order = report.order
    if not order.is_enforced:
        yield "The order is in mode report: its file says that nothing is to be refused, only counted."
    for remark in report.remarks:
        if remark.overbroad is not None:
            yield f"{remark.name} is an over-broad name that was let through; the file's reason: {remark.overbroad}"
    if order.territory.world:
        yield "The territory is the whole world: clients everywhere are covered, also those of unknown location."
    elif order.unknown_location is UnknownLocation.ENFORCE:
        yield "Clients whose country cannot be told are covered too: the file says `unknown_location: enforce`."
    yield from _about_times(report)
    yield from _about_hits(report)
    if not report.trails:
        yield "No trail was given: nothing here tells what was enforced."
    for trail in report.trails:
        yield from _about_trail(report, trail)


def _about_times(report: OrderReport) -> Iterator[str]:
    order, compliance, zone = report.order, report.compliance, report.order.timezone
    if compliance.verdict is Verdict.LATE:
        yield "Enforcement began after the legal deadline."
    late = [notice.notice for notice in report.notices if notice.compliance.verdict is Verdict.LATE]
    if late:
        yield f"Names of these notices were enforced after their deadlines: {', '.join(late)}."
    if order.comply_within is not None and order.served is None:
        yield "The file gives a time to comply and no date of service: the deadline cannot be counted."
    stated = report.implemented
    if stated is not None and compliance.source is Source.TRAIL and compliance.begun is not None:
        day = local(compliance.begun, ZoneInfo(zone)).date()
        differs = day != stated.written if not isinstance(stated.written, datetime) else compliance.begun > stated.at
        if differs:
            yield (
                f"The order file says that it was implemented {stated.written.isoformat()}; the trail has it in force"
                f" from {_shown(compliance.begun, zone)}."
            )


def outside_of(report: OrderReport) -> Mapping[str, int]:
    """Return how often clients outside of the territory were refused, by country, as the order's file is now.

    What was counted together for many countries cannot be judged, nor where everybody is covered.
    """
    order = report.order
    found: Counter[str] = Counter()
    if order.territory.world:
        return found
    for row in report.hits:
        is_outside = row.country in COUNTRIES and row.country not in order.territory.countries
        if is_outside or (row.country is None and order.unknown_location is UnknownLocation.ALLOW):
            found[row.country or "unknown"] += row.enforced
    return {country: count for country, count in sorted(found.items()) if count}


def out_of_time(report: OrderReport) -> tuple[datetime, ...]:
    """Return the first and last refusals that lie before the order's start or after its end; the end needs a minute.

    A refusal is recorded with its minute, and cutting what runs takes a moment.
    """
    early, late = report.first_enforced, report.last_enforced
    found = (
        early if early is not None and early < report.starts else None,
        late if late is not None and late > report.over + _MINUTE else None,
    )
    return tuple(at for at in found if at is not None)


def _about_hits(report: OrderReport) -> Iterator[str]:
    if outside := outside_of(report):
        told = ", ".join(f"{country}: {count:,}" for country, count in outside.items())
        yield f"Refusals are recorded of clients outside of the territory that the file has now ({told})."
    for at in out_of_time(report):
        yield f"A refusal is recorded at {_shown(at, report.order.timezone)}, outside of the order's time."
    seen = {row.measure for row in report.hits if row.enforced}
    silent = [measure.value for measure in report.order.measures if measure.value not in seen]
    if seen and silent:
        yield f"No trail has a refusal by measure {' or '.join(silent)}: the instances may not carry it out."


def _about_trail(report: OrderReport, trail: TrailReport) -> Iterator[str]:
    facts, zone = trail.facts, report.order.timezone
    if not trail.whole:
        yield f"Trail {facts.path} is not whole: {'; '.join(trail.findings) or 'see `cdnblock audit verify`'}."
    for gap in facts.gaps:
        since, until = (_shown(at, zone) if at else "an unknown time" for at in (gap.since, gap.until))
        yield f"Trail {facts.path} has a gap from {since} to {until}: {gap.what}."
    if pauses := [pause for pause in facts.pauses if pause.since < report.over]:
        total = sum(((pause.until - pause.since) for pause in pauses), timedelta())
        longest = max(pauses, key=lambda pause: pause.until - pause.since)
        yield (
            f"Trail {facts.path} has no record {len(pauses)} times between two runs while the order was in force,"
            f" {left_in_words(total)} in all; the longest from {_shown(longest.since, zone)} to"
            f" {_shown(longest.until, zone)}. Whether it was enforced then is not known from it."
        )
    for gone, back in (absence for absence in facts.absences if absence.since < report.over):
        until = f"until {_shown(back.at, zone)}" if back else "and not again since"
        yield f"Trail {facts.path} has it out of force from {_shown(gone, zone)} {until}: its file was gone, in mode report, or had it over or not yet begun."
    if report.compliance.source is Source.TRAIL and (changed := _changed_after(report, trail)) is not None:
        yield (
            f"Trail {facts.path} had another version of the file in force at the deadline, and the last one only from"
            f" {_shown(changed, zone)}: whether all that it says was in force in time is not told."
        )
    if facts.clock_steps:
        yield f"Trail {facts.path} tells of {len(facts.clock_steps)} steps of the clock; times around them may be off."
    if facts.in_force is None and not facts.hits:
        yield f"Trail {facts.path} tells nothing of this order."
    for what, count in facts.left_out.items():
        yield f"Trail {facts.path} has {count} more {what} than are shown here."


def _changed_after(report: OrderReport, trail: TrailReport) -> datetime | None:
    """Return when a trail has the last version of the file, if that was after the deadline and not the first one."""
    deadline, last, began = report.compliance.deadline, None, None
    versions = 0
    for record in trail.facts.files:
        for item in listed(record, "files"):
            if isinstance(item, dict) and item.get("order") == report.order.id and item.get("digest") != last:
                last, began, versions = item.get("digest"), instant_of(record), versions + 1
    is_late = deadline is not None and began is not None and began >= deadline
    return began if is_late and versions > 1 else None


def _shown(at: datetime, zone: str) -> str:
    return local(at, ZoneInfo(zone)).isoformat(sep=" ", timespec="seconds")
