"""What a transparency report has to say of orders: Regulation (EU) 2022/2065 (Digital Services Act), art. 15(1)(a).

How many orders to act against illegal content came from the authorities of Member States, by type of content and by
Member State, and the median time to confirm their receipt and to give effect to them. The categories are those of
Implementing Regulation (EU) 2024/2835, Annex I, 1.2; medians are in hours, counted from receipt (Annex II, 1.2.1).
Nothing is guessed: an order whose file lacks what a number needs is not in that number, and is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median
from typing import Final
from zoneinfo import ZoneInfo

from cdnblock.orders.calendar import instant
from cdnblock.orders.dsa import CATEGORIES, CATEGORY_OF, MEMBER_STATES, NOT_A_MEMBER_STATE
from cdnblock.orders.model import Moment, Order
from cdnblock.reports.compliance import Source
from cdnblock.reports.trail_values import TrailFacts

TOTAL: Final = "TOTAL"
OTHER: Final = "KEYWORD_OTHER"
NO_KEYWORD: Final = "The order file names the category alone"
"""What stands for the sub-category of an order whose file has none: the sub-categories add up to their category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReceived:
    """One order in the period. `lacks` says what its file or its trails do not tell, and for which number that matters.

    `to_inform` and `to_give_effect` are None where they cannot be told; `scope` is the template's code.
    """

    order: str
    scope: str
    category: str | None
    keyword: str | None
    received: date
    items: int
    to_inform: timedelta | None
    to_give_effect: timedelta | None
    effect_from: Source | None
    lacks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the template: a category, or a sub-category, in one scope (`TOTAL`, or a Member State)."""

    category: str
    scope: str
    description: str
    orders: int
    items: int
    hours_to_inform: float | None
    hours_to_give_effect: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DsaReport:
    """The orders of a period (both days included), and the template's rows.

    `left_out` are the orders that are in no row, each with the reason; `notices` how many notices of authorities came
    under the orders in the period: they are no orders of their own here.
    """

    since: date
    until: date
    made_at: datetime
    software: str
    service: str
    orders: tuple[OrderReceived, ...]
    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, str], ...]
    notices: int


def dsa_report(
    orders: Iterable[Order],
    trails: Sequence[Mapping[str, TrailFacts]],
    *,
    since: date,
    until: date,
    at: datetime,
    software: str,
    service: str,
    lost: Iterable[str] = (),
) -> DsaReport:
    """Return the report on a period; `trails` is what each trail tells of each order.

    `lost` are the ids of orders of which nothing is left but that trails name them.
    """
    found: list[OrderReceived] = []
    left_out = [(order_id, "a trail names it, and its file is not kept any more") for order_id in lost]
    notices = 0
    for order in orders:
        facts = [trail[order.id] for trail in trails if order.id in trail]
        notices += sum(since <= _day(addition.notified, order.timezone) <= until for addition in order.additions)
        if (why := _why_not(order, since, until)) is None:
            found.append(_received(order, facts, until))
        elif why:
            left_out.append((order.id, why))
    return DsaReport(
        since=since,
        until=until,
        made_at=at,
        software=software,
        service=service,
        orders=tuple(found),
        rows=tuple(_rows(found)),
        left_out=tuple(left_out),
        notices=notices,
    )


def _why_not(order: Order, since: date, until: date) -> str | None:
    """Return why an order is in no row, None if it is in one, "" if it came at another time."""
    came = order.received or order.served
    if came is not None and not since <= _day(came, order.timezone) <= until:
        return ""
    if order.member_state == NOT_A_MEMBER_STATE:
        return "of no authority of a Member State"
    if came is None:
        return "neither `received` nor `served` tells when it came"
    return None if order.member_state is not None else "`member_state` is not stated"


def _received(order: Order, facts: Sequence[TrailFacts], until: date) -> OrderReceived:
    came = order.received or order.served
    assert came is not None  # noqa: S101 (`_why_not`)
    lacks: list[str] = []
    start = _precise(came, order.timezone)
    if start is None:
        lacks.append("the time of day of its receipt: no median")
    informed = _precise(order.acknowledged, order.timezone)
    if informed is None:
        lacks.append("when its receipt was confirmed, with the time: not in the median to inform")
    effect, source = _effect(order, facts)
    if effect is None:
        lacks.append("the moment at which it took effect: not in the median to give effect")
    if order.illegal_content is None:
        lacks.append("its type of illegal content: in TOTAL alone")
    elif CATEGORIES.get(order.illegal_content):
        lacks.append("its sub-category")
    return OrderReceived(
        order=order.id,
        scope=MEMBER_STATES[order.member_state or ""],
        category=CATEGORY_OF.get(order.illegal_content or ""),
        keyword=order.illegal_content if order.illegal_content not in CATEGORIES else None,
        received=_day(came, order.timezone),
        items=_items(order, until),
        to_inform=_span(start, informed),
        to_give_effect=_span(start, effect),
        effect_from=source if _span(start, effect) is not None else None,
        lacks=tuple(lacks),
    )


def _effect(order: Order, facts: Sequence[TrailFacts]) -> tuple[datetime | None, Source | None]:
    """Return when an order took effect, where that is known to the moment: by the trails, else by its file.

    An instance that came when another one had it in force already is not waited for.
    """
    begins = [(fact.first_at, fact.in_force) for fact in facts if fact.in_force is not None]
    first = min((begin.at for _, begin in begins), default=None)
    exact = [
        begin.at
        for since, begin in begins
        if begin.not_before == begin.at and first is not None and since is not None and since <= first
    ]
    if exact:
        return max(exact), Source.TRAIL
    implemented = _precise(order.implemented, order.timezone)
    return implemented, None if implemented is None else Source.ORDER_FILE


def _rows(orders: Sequence[OrderReceived]) -> Iterator[Row]:
    """Yield the template's rows in its order: everything, then each Member State that sent an order."""
    for scope in (TOTAL, *sorted({order.scope for order in orders})):
        here = [order for order in orders if scope in (TOTAL, order.scope)]
        yield _row(TOTAL, scope, here)
        for category, keywords in CATEGORIES.items():
            of_it = [order for order in here if order.category == category]
            yield _row(category, scope, of_it)
            for keyword in keywords:
                yield _row(keyword, scope, [order for order in of_it if order.keyword == keyword])
            if keywords and (others := [order for order in of_it if order.keyword is None]):
                yield _row(OTHER, scope, others, NO_KEYWORD)


def _row(category: str, scope: str, orders: Sequence[OrderReceived], description: str = "") -> Row:
    return Row(
        category=category,
        scope=scope,
        description=description,
        orders=len(orders),
        items=sum(order.items for order in orders),
        hours_to_inform=_hours(order.to_inform for order in orders),
        hours_to_give_effect=_hours(order.to_give_effect for order in orders),
    )


def _hours(spans: Iterable[timedelta | None]) -> float | None:
    known = [span / timedelta(hours=1) for span in spans if span is not None]
    return round(median(known), 2) if known else None


def _items(order: Order, until: date) -> int:
    """Return how many names an order has listed by the end of a day, those of its notices included."""
    later = (part for part in order.additions if _day(part.notified, order.timezone) > until)
    return order.size() - sum(
        len(part.names) + (len(part.names_file.names) if part.names_file else 0) for part in later
    )


def _precise(moment: Moment | None, zone: str) -> datetime | None:
    """Return the instant of a moment that has a time of day: hours cannot be counted from a bare date."""
    return instant(moment, zone) if isinstance(moment, datetime) else None


def _span(start: datetime | None, end: datetime | None) -> timedelta | None:
    """Return the time between two instants; what was done before the order came took no time."""
    return None if start is None or end is None else max(end - start, timedelta())


def _day(moment: Moment, zone: str) -> date:
    return instant(moment, zone).astimezone(ZoneInfo(zone)).date()
