"""An order's report as a document: what is shown of it, and in which words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cdnblock.audit.tally import MANY
from cdnblock.matching.names import to_unicode
from cdnblock.reports.compliance import Compliance, Verdict
from cdnblock.reports.document import Block, Bullets, Cell, Chart, Document, Facts, Link, Section, Sentence, Table, Tone
from cdnblock.reports.expiring import left_in_words
from cdnblock.reports.order import PROVES_NOT, DayRow, NameGroup, OrderReport, Stated
from cdnblock.reports.order_trails import trail_blocks
from cdnblock.reports.order_warnings import out_of_time, outside_of
from cdnblock.reports.trail_values import local

SHOWN: Final = 1_000  # rows of a table; the JSON form has all

_NOT_STATED: Final = "not stated"
_UNKNOWN: Final = "–"
_TONES: Final = {Verdict.MET: Tone.GOOD, Verdict.LATE: Tone.BAD, Verdict.UNKNOWN: Tone.WARNING}
_DOES: Final = {
    "dns": "answers of the name server", "cdn": "storing and serving from the cache", "proxy": "requests to the proxy",
}  # fmt: skip


def order_document(report: OrderReport) -> Document:
    """Return the report as a document."""
    show = _Shown(report)
    sections = [
        Section("Warnings", (Bullets(report.warnings, Tone.WARNING),)) if report.warnings else None,
        Section("The order", (Facts(tuple(show.order())),)),
        Section("When", (Table("From the decision to the end", ("what", "when", "who says so"), tuple(show.times())),)),
        Section("For whom, and by what", tuple(show.coverage())),
        Section("Names", tuple(show.names())),
        Section("Notices", tuple(show.notices())) if report.notices else None,
        Section("Liftings", (show.liftings(),)) if report.liftings else None,
        Section("What was refused", tuple(show.hits())),
        Section("Trails", tuple(trail_blocks(report.trails, show.instant))),
        Section("What this does not prove", (Bullets(PROVES_NOT),)),
    ]
    return Document(
        title=f"Order {report.order.id}",
        lead=tuple(show.lead()),
        sections=tuple(section for section in sections if section is not None),
        made=f"Made by cdnblock {report.software} at {show.instant(report.made_at)}. Times are legal time in"
        f" {report.order.timezone}; what begins at an instant includes it, what ends at one does not.",
    )


class _Shown:
    """What there is to show, in the order's legal time."""

    def __init__(self, report: OrderReport) -> None:
        self._report = report
        self._zone = ZoneInfo(report.order.timezone)

    def instant(self, at: datetime | None) -> str:
        if at is None:
            return _UNKNOWN
        found = local(at, self._zone)
        return found.isoformat(sep=" ", timespec="milliseconds" if found.microsecond else "seconds")

    def lead(self) -> Iterator[Sentence]:
        report, order = self._report, self._report.order
        title = f"{order.title}. " if order.title else ""
        when = (
            f"since {self.instant(report.over)}"
            if report.made_at >= report.over
            else f"until {self.instant(report.over)}"
        )
        yield Sentence(f"{title}{order.court}, {order.decided.isoformat()}. State: {report.state.value}, {when}.")
        said = self.verdict(report.compliance)
        yield Sentence(f"Deadline: {said}.", _TONES.get(report.compliance.verdict, Tone.PLAIN))

    def verdict(self, found: Compliance) -> str:
        """Return the answer to whether a deadline was met, in words."""
        begun = self.instant(found.begun)
        if found.not_before is None and found.begun is not None:
            begun = f"{begun} at the latest"
        elif found.not_before not in (None, found.begun):
            begun = f"between {self.instant(found.not_before)} and {begun}"
        match found.verdict:
            case Verdict.MET:
                return f"met: in force {begun}, before {self.instant(found.deadline)} ({found.because})"
            case Verdict.LATE if found.late_by is not None:
                late = left_in_words(found.late_by)
                return f"late by {late}: due before {self.instant(found.deadline)}, in force {begun} ({found.because})"
            case Verdict.NONE:
                return "none that could be counted" + (f"; in force {begun}" if found.begun else "")
            case verdict:
                known = f", in force {begun}" if found.begun else ""
                return f"{verdict.value}: due before {self.instant(found.deadline)}{known} ({found.because})"

    def order(self) -> Iterator[tuple[str, Cell]]:
        order = self._report.order
        penalty = order.penalty
        per = f" per {penalty.per}" if penalty and penalty.per else ""
        rows: list[tuple[str, Cell | None]] = [
            ("Court", order.court), ("Case", order.case), ("Decided", order.decided.isoformat()),
            ("Legal basis", order.legal_basis), ("Claimant", order.claimant), ("Addressee", order.addressee),
            ("Member State of the authority", order.member_state), ("Type of illegal content", order.illegal_content),
            ("Penalty", f"{penalty.amount} {penalty.currency}{per}" if penalty else None), ("Costs", order.costs),
            ("Published", Link(order.publication) if order.publication else None), ("Contact", order.contact),
            ("File", str(order.position) if order.position else None),
        ]  # fmt: skip
        yield from ((label, value if value is not None else _NOT_STATED) for label, value in rows)

    def times(self) -> Iterator[tuple[Cell, ...]]:
        report, order = self._report, self._report.order
        counted = f"{order.comply_within} from service" if order.comply_within else ""
        yield "received", self.stated(report.received), "order file"
        yield "receipt confirmed", self.stated(report.acknowledged), "order file"
        yield "served", self.stated(report.served), "order file"
        deadline = self.instant(report.compliance.deadline) if report.compliance.deadline else _UNKNOWN
        yield "had to be in force before", deadline, f"counted: {counted}" if counted else "no time to comply stated"
        yield "to be in force from", self.instant(report.starts), "order file"
        yield "implemented", self.stated(report.implemented), "order file"
        for trail in report.trails:
            begin = trail.facts.in_force
            record = f", record {begin.record}" if begin and begin.record else ""
            record += ", at the latest" if begin and begin.not_before is None else ""
            yield "in force", self.instant(begin.at if begin else None), f"trail {trail.facts.path}{record}"
        yield "first refusal", self.instant(report.first_enforced), "trails"
        yield "last refusal", self.instant(report.last_enforced), "trails"
        yield "ends", self.instant(report.ends), "order file"
        for trail, ended in zip(report.trails, report.ended, strict=True):
            if ended is not None:
                yield "end took effect", self.instant(ended), f"trail {trail.facts.path}"

    def stated(self, stated: Stated | None) -> str:
        if stated is None:
            return _NOT_STATED
        return self.instant(stated.at) if isinstance(stated.written, datetime) else stated.written.isoformat()

    def coverage(self) -> Iterator[Block]:
        report, order = self._report, self._report.order
        places = tuple(f"{code} {name}" for code, name in report.territory.items())
        yield Sentence("The whole world." if order.territory.world else f"Clients in: {', '.join(places)}.")
        yield Sentence(f"Clients whose country cannot be told: {order.unknown_location.value}.")
        rows = tuple((measure.value, variant, _DOES[measure.value]) for measure, variant in order.measures.items())
        yield Table("Measures", ("measure", "variant", "concerns"), rows)
        if report.windows:
            rows_of = tuple((self.instant(begins), self.instant(until)) for begins, until in report.windows)
            yield Table("Only inside these windows", ("from", "until"), rows_of)

    def names(self) -> Iterator[Block]:
        groups = self._report.names
        total = sum(len(group.names) for group in groups)
        yield Sentence(f"{total:,} names, each with everything below it unless it says otherwise.")
        remarks = {remark.name: remark.overbroad or remark.note or "" for remark in self._report.remarks}
        rows: list[tuple[Cell, ...]] = []
        for group in groups:
            life, some = self._life(group), group.names[: SHOWN - len(rows)]
            rows.extend((_both_forms(name), *life, remarks.get(name, "")) for name in some)
        header = ("name", "listed by", "from", "until", "remark")
        yield Table("Which names, from when to when", header, tuple(rows), more=total - len(rows))

    def _life(self, group: NameGroup) -> tuple[str, str, str]:
        by = "the order" if group.notice is None else f"notice {group.notice}"
        until = self.instant(group.until) + (" (lifted)" if group.lifted else "")
        return by if group.subdomains else f"{by}; this exact name only", self.instant(group.since), until

    def notices(self) -> Iterator[Block]:
        header = ("notice", "authority", "notified", "names", "to be in force from", "deadline", "first refusal")
        rows = tuple(
            (
                notice.notice, notice.authority or _NOT_STATED, self.stated(notice.notified), notice.names,
                self.instant(notice.starts), self.verdict(notice.compliance), self.instant(notice.first_enforced),
            )
            for notice in self._report.notices[:SHOWN]
        )  # fmt: skip
        more = max(0, len(self._report.notices) - SHOWN)
        yield Table("Names that an authority notified while the order ran", header, rows, more)

    def liftings(self) -> Table:
        rows = tuple(
            (
                self.stated(lifting.at),
                "the whole order" if lifting.names is None else ", ".join(map(_both_forms, lifting.names)),
                lifting.reason or _NOT_STATED,
                ", ".join(map(self.instant, lifting.took_effect)) or _UNKNOWN,
            )
            for lifting in self._report.liftings
        )
        return Table("What was released", ("from", "what", "why", "took effect, by trail"), rows)

    def hits(self) -> Iterator[Block]:
        rows = self._report.hits
        if not rows:
            yield Sentence("No trail tells of any request that was refused under this order.")
            return
        enforced, would = sum(row.enforced for row in rows), sum(row.would for row in rows)
        yield Sentence(f"{enforced:,} times, counted as they are recorded: once for each measure of a request.")
        if would:
            yield Sentence(f"{would:,} times it would have been refused, and was not: it was only reported.")
        if enforced and not outside_of(self._report) and not out_of_time(self._report):
            yield Sentence("None of them is of a client outside of the territory, or outside of the order's time.")
        if (chart := _chart(rows)) is not None:
            yield chart
        yield _summed("By country", "country", rows, by_country=True)
        yield _summed("By measure", "measure", rows, by_country=False)
        shown = tuple(
            (row.day.isoformat(), _place(row.country), row.measure, row.enforced, row.would) for row in rows[:SHOWN]
        )
        header = ("day", "country", "measure", "refused", "would be refused")
        yield Table("By day, country and measure", header, shown, more=max(0, len(rows) - SHOWN))


def _both_forms(name: str) -> str:
    unicode = to_unicode(name)
    return name if unicode == name else f"{name} ({unicode})"


def _place(country: str | None) -> str:
    """Return how a country is called in a table; `*` stands for several that were counted together in a flood."""
    return "unknown" if country is None else "several together" if country == MANY else country


def _summed(caption: str, what: str, rows: tuple[DayRow, ...], *, by_country: bool) -> Table:
    enforced: Counter[str] = Counter()
    would: Counter[str] = Counter()
    for row in rows:
        key = _place(row.country) if by_country else row.measure
        enforced[key] += row.enforced
        would[key] += row.would
    keys = sorted(enforced, key=lambda key: (-enforced[key], key))
    return _counted(caption, (what,), [(key, enforced[key], would[key]) for key in keys])


def _counted(caption: str, header: tuple[str, ...], rows: Sequence[tuple[Cell, ...]]) -> Table:
    """Return a table whose last two columns are counts; where nothing would have been refused, there is but one."""
    more = max(0, len(rows) - SHOWN)
    if any(row[-1] for row in rows):
        return Table(caption, (*header, "refused", "would be refused"), tuple(rows[:SHOWN]), more)
    return Table(caption, (*header, "refused"), tuple(row[:-1] for row in rows[:SHOWN]), more)


def _chart(rows: tuple[DayRow, ...]) -> Chart | None:
    counts: Counter[date] = Counter()
    for row in rows:
        counts[row.day] += row.enforced
    first, last = min(counts), max(counts)
    if (last - first).days >= SHOWN or not counts.total():
        return None
    days = tuple((day, counts[day]) for day in (first + timedelta(days=n) for n in range((last - first).days + 1)))
    peak = max(days, key=lambda item: item[1])
    return Chart(
        title="Refusals per day",
        description=f"{len(days)} days from {first.isoformat()} to {last.isoformat()}, {counts.total():,} refusals;"
        f" most on {peak[0].isoformat()}, {peak[1]:,}. The table below has every number.",
        days=days,
    )
