"""When an order holds: its start, its end, its deadline, its windows, as instants in UTC.

Two clocks run in one order: the deadline counts from service, the duration may count from implementation. Everything
here is an aware datetime in UTC, because Python compares two datetimes of one `ZoneInfo` by their wall clocks, which
is wrong around both switches of daylight saving time. A start is inclusive, an end exclusive. No result lies before
the year 1900 or after the year 2200, however far away an order's dates are, so that nothing here overflows.

Sources: code de procédure civile, art. 641 (how days and months are counted) and 642 (24:00; the move to the next
working day); code du travail, art. L. 3133-1 (the public holidays).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias, assert_never
from zoneinfo import ZoneInfo

from cdnblock.errors import OrderError, Problem
from cdnblock.orders.model import Addition, Anchor, Delay, DelayUnit, Moment, Order

Holidays: TypeAlias = Callable[[int], frozenset[date]]
"""The public holidays of a year."""

EARLIEST: Final = date(1900, 1, 1)
LATEST: Final = date(2200, 1, 1)

_FIXED_HOLIDAYS: Final = ((1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25))
_DAYS_AFTER_EASTER: Final = (1, 39, 50)  # Easter Monday, Ascension, Whit Monday
_SATURDAY: Final = 5
_DAY: Final = timedelta(days=1)


class LegalTime(Enum):
    """Whether a local time names one instant. Twice a year in most zones, an hour of them does not."""

    CLEAR = "clear"
    SKIPPED = "skipped"
    TWICE = "twice"


@lru_cache(maxsize=512)
def french_public_holidays(year: int) -> frozenset[date]:
    """Return the public holidays of France as a whole in that year (code du travail, art. L. 3133-1).

    Those of Alsace-Moselle and of the overseas territories are not among them; `holidays.txt` adds them.
    """
    easter = _easter(year)
    fixed = [date(year, month, day) for month, day in _FIXED_HOLIDAYS]
    return frozenset([*fixed, *(easter + timedelta(days=days) for days in _DAYS_AFTER_EASTER)])


def instant(moment: Moment, zone: str, *, end_of_day: bool = False) -> datetime:
    """Return the instant of a moment, in UTC.

    A bare date is 00:00 of that day in `zone`, or with `end_of_day` its 24:00. A datetime without offset is legal time
    in `zone`: one that the clocks skip is read with the offset before the switch, one that comes twice is the first
    (PEP 495, fold 0).
    """
    if not isinstance(moment, datetime):
        day = _plus_days(moment, 1) if end_of_day else moment
        moment = datetime.combine(_clamped(day), time())
    elif not EARLIEST.year <= moment.year < LATEST.year:
        return _midnight_utc(_clamped(moment.date()))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone), fold=0)
    return moment.astimezone(UTC)


def legal_time(moment: Moment, zone: str) -> LegalTime:
    """Tell whether a datetime without offset names one instant in that zone. Dates and offsets always do."""
    if not isinstance(moment, datetime) or moment.tzinfo is not None:
        return LegalTime.CLEAR
    local = moment.replace(tzinfo=ZoneInfo(zone))
    first, second = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    if first is None or second is None or first == second:
        return LegalTime.CLEAR
    return LegalTime.TWICE if first > second else LegalTime.SKIPPED


def starts_at(order: Order) -> datetime:
    """Return the instant from which the order is enforced: its `from`, else 00:00 of `served`, else of `decided`."""
    if order.begins is not None:
        return instant(order.begins, order.timezone)
    return instant(_local_day(order.served or order.decided, order.timezone), order.timezone)


def ends_at(order: Order, holidays: Holidays = french_public_holidays) -> datetime:
    """Return the instant at which the order is no longer enforced, liftings left aside.

    A duration in days, working days or months ends at 24:00 of its own last day and never moves to a working day: a
    day too long is over-blocking. `holidays` only matters to a duration in working days.

    Raises:
        OrderError: the order has no end, or the anchor of its duration is missing.

    """
    if order.until is not None:
        return instant(order.until, order.timezone, end_of_day=True)
    if order.duration is None:
        raise _no_end(order, "no end, no enforcement; give `until`, or `for` with `counted_from`")
    anchor = anchor_moment(order)
    if anchor is None:
        raise _no_end(order, f"`for` has nothing to count from; give `{order.counted_from or 'counted_from'}`")
    return _after(order.duration, anchor, order.timezone, holidays)


def anchor_moment(order: Order) -> Moment | None:
    """Return the moment from which the order's duration counts, or None when the order does not have it."""
    match order.counted_from:
        case None:
            return None
        case Anchor.DECIDED:
            return order.decided
        case Anchor.SERVED:
            return order.served
        case Anchor.IMPLEMENTED:
            return order.implemented
        case _:
            assert_never(order.counted_from)


def deadline(order: Order, holidays: Holidays = french_public_holidays) -> datetime | None:
    """Return the last lawful instant (exclusive) to start enforcing, or None without `comply_within` or `served`."""
    if order.comply_within is None or order.served is None:
        return None
    return _due(order.comply_within, order.served, order.timezone, holidays)


def addition_starts_at(order: Order, addition: Addition) -> datetime:
    """Return the instant from which an addition is enforced: its `from`, else `notified`, never before the order's."""
    moment = addition.notified if addition.begins is None else addition.begins
    return max(instant(moment, order.timezone), starts_at(order))


def addition_deadline(order: Order, addition: Addition, holidays: Holidays = french_public_holidays) -> datetime | None:
    """Return the last lawful instant (exclusive) to enforce an addition, or None without its `comply_within`."""
    if addition.comply_within is None:
        return None
    return _due(addition.comply_within, addition.notified, order.timezone, holidays)


def windows_of(order: Order) -> tuple[tuple[datetime, datetime], ...]:
    """Return the order's windows as (from, until) instants, sorted; those that touch or overlap are one."""
    merged: list[tuple[datetime, datetime]] = []
    for begins, until in sorted(
        (instant(window.begins, order.timezone), instant(window.until, order.timezone, end_of_day=True))
        for window in order.windows
    ):
        if merged and begins <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(until, merged[-1][1]))
        else:
            merged.append((begins, until))
    return tuple(merged)


def _due(delay: Delay, since: Moment, zone: str, holidays: Holidays) -> datetime:
    """Art. 642: what would end on a Saturday, a Sunday or a public holiday ends on the next working day."""
    if delay.unit in (DelayUnit.MINUTES, DelayUnit.HOURS):
        return _after(delay, since, zone, holidays)
    day = _last_day(delay, _local_day(since, zone), holidays)
    while not _is_working_day(day, holidays) and day < LATEST:
        day += _DAY
    return instant(day, zone, end_of_day=True)


def _after(delay: Delay, since: Moment, zone: str, holidays: Holidays) -> datetime:
    if delay.unit in (DelayUnit.MINUTES, DelayUnit.HOURS):
        minutes = delay.amount * (60 if delay.unit is DelayUnit.HOURS else 1)
        begun = instant(since, zone)
        left = _midnight_utc(LATEST) - begun
        return begun + (timedelta(minutes=minutes) if minutes < left // timedelta(minutes=1) else left)
    return instant(_last_day(delay, _local_day(since, zone), holidays), zone, end_of_day=True)


def _last_day(delay: Delay, since: date, holidays: Holidays) -> date:
    """Art. 641: the day of the event is not counted; months end on its number, or on the month's last day."""
    match delay.unit:
        case DelayUnit.DAYS:
            return _plus_days(since, delay.amount)
        case DelayUnit.WORKING_DAYS:
            return _plus_working_days(since, delay.amount, holidays)
        case DelayUnit.MONTHS:
            return _plus_months(since, delay.amount)
        case DelayUnit.MINUTES | DelayUnit.HOURS:
            msg = f"{delay.unit} have no last day"
            raise AssertionError(msg)
        case _:
            assert_never(delay.unit)


def _plus_days(day: date, amount: int) -> date:
    return day + timedelta(days=amount) if amount < (LATEST - day).days else LATEST


def _plus_working_days(day: date, amount: int, holidays: Holidays) -> date:
    while amount > 0 and day < LATEST:
        day += _DAY
        amount -= _is_working_day(day, holidays)
    return day


def _plus_months(day: date, amount: int) -> date:
    years, month = divmod(day.year * 12 + day.month - 1 + amount, 12)
    if years >= LATEST.year:
        return LATEST
    following = date(years + (month == 11), (month + 1) % 12 + 1, 1)  # noqa: PLR2004 - December, counted from 0
    return min(date(years, month + 1, 1) + timedelta(days=day.day - 1), following - _DAY)


def _is_working_day(day: date, holidays: Holidays) -> bool:
    return day.weekday() < _SATURDAY and day not in holidays(day.year)


def _local_day(moment: Moment, zone: str) -> date:
    """Return the day of a moment in the order's zone, where deadlines and durations are counted."""
    if not isinstance(moment, datetime):
        return _clamped(moment)
    return instant(moment, zone).astimezone(ZoneInfo(zone)).date()


def _clamped(day: date) -> date:
    return min(max(day, EARLIEST), LATEST)


def _midnight_utc(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (the anonymous algorithm in Meeus, Astronomical Algorithms, ch. 8)."""
    golden = year % 19
    century, of_century = divmod(year, 100)
    leaps, rest = divmod(century, 4)
    moon = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * golden + century - leaps - moon + 15) % 30
    years_leaps, years_rest = divmod(of_century, 4)
    weekday = (32 + 2 * rest + 2 * years_leaps - epact - years_rest) % 7
    late = (golden + 11 * epact + 22 * weekday) // 451
    month, day = divmod(epact + weekday - 7 * late + 114, 31)
    return date(year, month, day + 1)


def _no_end(order: Order, message: str) -> OrderError:
    at = order.position
    where = (at.file, at.line, at.column) if at else (order.id, 0, 0)
    return OrderError([Problem(file=where[0], line=where[1], column=where[2], key="until", message=message)])
