"""Dates, times and delays as an order file writes them.

One way to write each, the one of ISO 8601, because `03/04/2025` is two different days in Paris and in New York.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Final

from cdnblock.orders.model import Delay, DelayUnit, Moment
from cdnblock.orders.text_file import cut

FIRST_YEAR: Final = 1990
LAST_YEAR: Final = 2199
MAX_AMOUNT: Final = 100_000

DAY_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
MOMENT_PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?$"
)
DELAY_PATTERN: Final = r"^[0-9]+ +(minutes?|hours?|days?|working days?|months?)$"

_MOMENT: Final = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:[T ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.](?P<fraction>[0-9]{1,6}))?)?"
    r"(?P<offset>Z|[+-][0-9]{2}:[0-9]{2})?)?\Z"
)
_DAY_FIRST: Final = re.compile(r"([0-9]{1,2})[/. -]([0-9]{1,2})[/. -]([0-9]{4})(?![0-9])")
_YEAR_FIRST: Final = re.compile(r"([0-9]{4})[/. -]?([0-9]{1,2})[/. -]?([0-9]{1,2})(?![0-9])")
_MAX_OFFSET: Final = timedelta(hours=14)  # Pacific/Kiritimati, the farthest legal time there is

_DELAY: Final = re.compile(r"(?P<amount>[0-9]{1,18}) *(?P<unit>[^\W\d_][^\d_]*)\Z")
_UNITS: Final[Mapping[str, DelayUnit]] = {
    **{unit.value: unit for unit in DelayUnit},
    **{unit.value.removesuffix("s"): unit for unit in DelayUnit},
}
# Units that people write -> factor and the unit to write instead.
_OTHER_UNITS: Final[Mapping[str, tuple[int, DelayUnit]]] = {
    "week": (7, DelayUnit.DAYS), "weeks": (7, DelayUnit.DAYS), "year": (12, DelayUnit.MONTHS),
    "years": (12, DelayUnit.MONTHS), "m": (1, DelayUnit.MONTHS), "min": (1, DelayUnit.MINUTES),
    "mins": (1, DelayUnit.MINUTES), "h": (1, DelayUnit.HOURS), "hrs": (1, DelayUnit.HOURS), "d": (1, DelayUnit.DAYS),
    "calendar days": (1, DelayUnit.DAYS), "business days": (1, DelayUnit.WORKING_DAYS),
    "heures": (1, DelayUnit.HOURS), "jour": (1, DelayUnit.DAYS), "jours": (1, DelayUnit.DAYS),
    "jours ouvrés": (1, DelayUnit.WORKING_DAYS), "semaines": (7, DelayUnit.DAYS), "mois": (1, DelayUnit.MONTHS),
    "an": (12, DelayUnit.MONTHS), "ans": (12, DelayUnit.MONTHS), "tage": (1, DelayUnit.DAYS),
    "stunden": (1, DelayUnit.HOURS), "monate": (1, DelayUnit.MONTHS),
}  # fmt: skip


def read_moment(text: str) -> Moment:
    """Return a date, or a datetime with or without its offset. `T24:00` is 00:00 of the next day.

    Raises:
        ValueError: it is neither; the message says what would be right.

    """
    found = _MOMENT.match(text)
    if found is None:
        raise ValueError(_other_format(text))
    day = _day(text, int(found["year"]), int(found["month"]), int(found["day"]))
    if found["hour"] is None:
        return day
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    micro = int((found["fraction"] or "").ljust(6, "0"))
    whole_day = (hour, minute, second, micro) == (24, 0, 0, 0)
    try:
        clock = time() if whole_day else time(hour, minute, second, micro)
    except ValueError:
        raise ValueError(
            f"`{text}` is no time of a day; write hours 00 to 23 (or 24:00), minutes and seconds 00 to 59"
        ) from None
    moment = datetime.combine(day, clock, _offset(text, found["offset"]))
    return moment + timedelta(days=1) if whole_day else moment


def read_day(text: str) -> date:
    """Return a date.

    Raises:
        ValueError: it is none; the message says what would be right.

    """
    moment = read_moment(text)
    if isinstance(moment, datetime):
        raise ValueError(f"`{text}` has a time of day; write the day alone, `{text[:10]}`")  # noqa: TRY004 (not its type)
    return moment


def read_delay(text: str) -> Delay:
    """Return an amount and its unit.

    Raises:
        ValueError: it is no delay; the message says what would be right.

    """
    found = _DELAY.match(text.strip())
    if found is None:
        raise ValueError(
            f"`{cut(text)}` is no span of time; write a number and minutes, hours, days, working days or months"
        )
    amount, unit = int(found["amount"]), " ".join(found["unit"].lower().split())
    if unit not in _UNITS:
        raise ValueError(_other_unit(text, amount, unit))
    if not 1 <= amount <= MAX_AMOUNT:
        raise ValueError(f"`{cut(text)}` is out of range; write an amount from 1 to {MAX_AMOUNT:,}")
    delay = Delay(amount, _UNITS[unit])
    if text not in (str(delay), f"{amount} {delay.unit.value}", f"{amount} {delay.unit.value.removesuffix('s')}"):
        raise ValueError(f"`{cut(text)}` is not written as it should be; write `{delay}`")
    return delay


def _day(text: str, year: int, month: int, day: int) -> date:
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise ValueError(f"`{text}` lies outside the years {FIRST_YEAR} to {LAST_YEAR}; correct the year")
    try:
        return date(year, month, day)
    except ValueError:
        if 1 <= month <= 12:  # noqa: PLR2004 - months of a year
            last = monthrange(year, month)[1]
            raise ValueError(f"`{text}` does not exist; that month ends on {year}-{month:02}-{last}") from None
        raise ValueError(f"`{text}` does not exist; write year-month-day, with a month from 01 to 12") from None


def _offset(text: str, offset: str | None) -> timezone | None:
    if offset is None:
        return None
    if offset == "Z":
        return UTC
    hours, minutes = int(offset[1:3]), int(offset[4:])
    away = timedelta(hours=hours, minutes=minutes)
    if minutes > 59 or away > _MAX_OFFSET:  # noqa: PLR2004 - minutes of an hour
        raise ValueError(f"`{text}` has no possible offset; write it like `+02:00`, at most 14:00")
    return timezone(-away if offset[0] == "-" else away)


def _other_format(text: str) -> str:
    """Say how a date in another format would be written here."""
    wrong = f"`{cut(text)}` is no date as order files write it"
    if (found := _DAY_FIRST.match(text.strip())) is not None:
        first, second, year = found.groups()
        readings = [(second, first), (first, second)]
        likely = [f"{year}-{int(month):02}-{int(day):02}" for month, day in readings if 1 <= int(month) <= 12]  # noqa: PLR2004
        if len(set(likely)) > 1:
            return f"{wrong} and could be two days; write `{likely[0]}` or `{likely[1]}`, the year first"
        return f"{wrong}; write `{likely[0] if likely else '2025-04-03'}`, the year first"
    if (found := _YEAR_FIRST.match(text.strip())) is not None:
        year, month, day = found.groups()
        return f"{wrong}; write `{year}-{int(month):02}-{int(day):02}`, or with a time `{year}-{int(month):02}-{int(day):02}T09:00`"
    return f"{wrong}; write `2025-04-03`, or with a time `2025-04-03T09:00` or `2025-04-03T09:00+02:00`"


def _other_unit(text: str, amount: int, unit: str) -> str:
    factor, instead = _OTHER_UNITS.get(unit, (0, DelayUnit.DAYS))
    wrong = f"`{cut(text)}` has no unit that is known here"
    if factor and amount:
        return f"{wrong}; write `{Delay(amount * factor, instead)}`"
    return f"{wrong}; write minutes, hours, days, working days or months"
