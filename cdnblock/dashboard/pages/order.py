"""One order: everything that its file says and on which line, what was notified and lifted, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any, Final

from cdnblock.audit.reading import Choice
from cdnblock.dashboard.order_source import Source, read_source
from cdnblock.dashboard.pages.trail import shown_record
from cdnblock.dashboard.register import Row, events_of
from cdnblock.dashboard.rendering import Asked, Page
from cdnblock.dashboard.timeline import axis, bar, columns, scale_of
from cdnblock.dashboard.view import View
from cdnblock.dashboard.wordings import life_in_words
from cdnblock.orders import calendar
from cdnblock.orders.calendar import Holidays
from cdnblock.orders.life import next_change
from cdnblock.orders.model import Addition, Moment, Name, Order, Position

_NAMES: Final = 100  # on one page
_LISTED: Final = 50  # names of one addition or lifting
_RECORDS: Final = 20
_DAYS: Final = 30
_EVENTS: Final = 60
_PAST: Final = 10  # of these, at least, when there are more to come


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One key of the order file: its value as people read it, and its line (None where no file says it)."""

    key: str
    value: str
    line: int | None
    link: str | None = None


def order(view: View, asked: Asked, order_id: str) -> Page:
    """Return the page of one order; 404 where there is none of this id."""
    register = view.register()
    row = register.row(order_id)
    if row is None:
        return Page(template="missing.html", values={"what": order_id}, status=404)
    source = read_source(row.order)
    scale = scale_of([row], asked.now)
    return Page(
        template="order.html",
        values={
            "row": row,
            "order": row.order,
            "state": row.state(asked.now),
            "owed": row.owed(asked.now),
            "next": next_change(row.order, asked.now),
            "file_state": _file_state(view, row.order),
            "facts": list(_facts(row, source, asked)),
            "source": source,
            "life": bar(row, scale, life_in_words(row, asked)),
            "axis": axis(scale, asked.wording),
            **_events(row, asked),
            "names": _names(row.order, asked),
            "additions": [_addition(row.order, item, register.holidays) for item in row.order.additions],
            "liftings": [
                {
                    "at": calendar.instant(item.at, row.order.timezone),
                    "lifting": item,
                    "names": (item.names or ())[:_LISTED],
                }
                for item in row.order.lifted
            ],
            **_evidence(view, row.order, asked),
        },
    )


def _events(row: Row, asked: Asked) -> Mapping[str, Any]:
    """Return what happens to the order; of a long list the part around now, and how many are left out."""
    found = events_of(row)
    past = sum(event.at <= asked.now for event in found)
    first = max(0, min(past - _PAST, len(found) - _EVENTS))
    shown = found[first : first + _EVENTS]
    return {"events": shown, "events_left_out": len(found) - len(shown)}


def _facts(row: Row, source: Source | None, asked: Asked) -> Iterator[Fact]:
    """Yield what the file says, key by key, in the order of the order file's description."""
    wording, found = asked.wording, row.order

    def moment(value: Moment | None) -> str | None:
        if value is None:
            return None
        if isinstance(value, datetime):
            return wording.instant(calendar.instant(value, found.timezone), found.timezone)
        return wording.day(value)

    territory = (
        wording("order.world")
        if found.territory.world
        else ", ".join(f"{wording.country(code)} ({code})" for code in sorted(found.territory.countries))
    )
    penalty = found.penalty
    values: Sequence[tuple[str, str | None]] = (
        ("title", found.title),
        ("court", found.court),
        ("case", found.case),
        ("decided", _day(found.decided, wording)),
        ("legal_basis", found.legal_basis),
        ("claimant", found.claimant),
        ("addressee", found.addressee),
        ("mode", wording(f"mode.{found.mode.value}")),
        ("measures", ", ".join(f"{measure.value}: {variant}" for measure, variant in found.measures.items())),
        ("territory", territory),
        ("unknown_location", wording(f"unknown.{found.unknown_location.value}")),
        ("received", moment(found.received)),
        ("acknowledged", moment(found.acknowledged)),
        ("served", moment(found.served)),
        ("comply_within", wording.delay(found.comply_within) if found.comply_within else None),
        ("implemented", moment(found.implemented)),
        ("from", moment(found.begins)),
        ("until", moment(found.until)),
        ("for", wording.delay(found.duration) if found.duration else None),
        ("counted_from", wording(f"anchor.{found.counted_from.value}") if found.counted_from else None),
        ("timezone", found.timezone),
        ("windows", wording.number(len(found.windows)) if found.windows else None),
        ("penalty", f"{wording.number(penalty.amount)} {penalty.currency} {penalty.per or ''}".strip() if penalty else None),
        ("costs", found.costs),
        ("contact", found.contact),
        ("publication", found.publication),
    )  # fmt: skip
    for key, value in values:
        if value is not None:
            line = source.lines_of.get(key) if source else None
            yield Fact(key=key, value=value, line=line, link=value if key == "publication" else None)


def _day(day: date, wording: Any) -> str:
    return str(wording.day(day))


def _names(found: Order, asked: Asked) -> Mapping[str, Any]:
    """Return one page of the order's own names; a million of them are counted, and never walked through."""
    query = asked.query.get("names", "1")
    in_file = len(found.names_file.names) if found.names_file else 0
    total = len(found.names) + in_file
    pages = max(1, -(-total // _NAMES))
    page = min(max(int(query) if query.isascii() and query.isdigit() and len(query) < 9 else 1, 1), pages)  # noqa: PLR2004
    first = (page - 1) * _NAMES
    return {
        "total": total,
        "page": page,
        "pages": pages,
        "first": first + 1,
        "rows": list(_slice(found, first, min(first + _NAMES, total))),
    }


def _slice(found: Order, first: int, last: int) -> Iterator[Name]:
    listed = len(found.names)
    yield from found.names[first:last]
    if found.names_file is not None:
        for place in range(max(first - listed, 0), max(last - listed, 0)):
            position = Position(found.names_file.file, found.names_file.lines[place])
            yield Name(name=found.names_file.names[place], position=position)


def _addition(found: Order, item: Addition, holidays: Holidays) -> Mapping[str, Any]:
    listed = len(item.names) + (len(item.names_file.names) if item.names_file else 0)
    return {
        "addition": item,
        "notified": item.notified if isinstance(item.notified, datetime) else None,
        "notified_day": item.notified if not isinstance(item.notified, datetime) else None,
        "starts": calendar.addition_starts_at(found, item),
        "deadline": calendar.addition_deadline(found, item, holidays),
        "total": listed,
        "names": [name.name for name in islice(item.each_name(), _LISTED)],
    }


def _file_state(view: View, found: Order) -> Mapping[str, Any] | None:
    """Return what the instance says of the order's file, None when the order has none."""
    if found.position is None:
        return None
    mine = found.position.file
    return next((file for file in view.status()["files"] if file["file"] == mine), None)


def _evidence(view: View, found: Order, asked: Asked) -> Mapping[str, Any]:
    """Return what the trail has on the order: its last records, and how often it was enforced on each day."""
    if view.trail is None:
        return {"has_trail": False, "records": [], "hits": None}
    try:
        records = view.trail.last(_RECORDS, Choice(order=found.id)).records
    except OSError:
        records = ()
    by_day = view.hits_by_day(found.id)
    days = [(asked.now - timedelta(days=back)).date() for back in range(_DAYS - 1, -1, -1)]
    counts = [by_day.get(day.isoformat(), 0) for day in days]
    wording = asked.wording
    words = wording("order.hits_chart", n=sum(counts), days=_DAYS)
    labels = [f"{wording.day(day)}: {wording.number(count)}" for day, count in zip(days, counts, strict=True)]
    return {
        "has_trail": True,
        "records": [shown_record(record) for record in records],
        "hits": view.hits([found.id])[found.id],
        "chart": columns(counts, words, labels),
        "chart_total": sum(counts),
        "chart_days": _DAYS,
    }
