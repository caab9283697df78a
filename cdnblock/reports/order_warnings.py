"""What a reader of an order's report should not overlook. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cdnblock.orders.model import UnknownLocation
from cdnblock.reports.compliance import Source, Verdict
from cdnblock.reports.expiring import left_in_words
from cdnblock.reports.order import OrderReport, TrailReport
from cdnblock.reports.trail_values import local


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
    if facts.clock_steps:
        yield f"Trail {facts.path} tells of {len(facts.clock_steps)} steps of the clock; times around them may be off."
    if facts.in_force is None and not facts.hits:
        yield f"Trail {facts.path} tells nothing of this order."
    for what, count in facts.left_out.items():
        yield f"Trail {facts.path} has {count} more {what} than are shown here."


def _shown(at: datetime, zone: str) -> str:
    return local(at, ZoneInfo(zone)).isoformat(sep=" ", timespec="seconds")
