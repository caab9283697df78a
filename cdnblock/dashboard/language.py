"""English and French: the one catalogue of all words, and how numbers, dates and spans are written.

The catalogue is `catalogue.toml`: a key, its English and its French text; a pair instead of a text has the singular and
the plural, chosen by `n`. French takes the singular for 0 and 1.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from cdnblock.measures.notice.countries import COUNTRY_NAMES
from cdnblock.orders.model import Delay

LANGUAGES: Final = ("en", "fr")
LEGAL_TIME: Final = "Europe/Paris"

_THIN: Final = "\u202f"  # what French puts between thousands, and before : ; ! ?
_MONTHS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "fr": ("janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc."),
}
_YEAR: Final = 365 * 86_400
_UNITS: Final = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))
_COARSE: Final = 2 * 86_400  # seconds; from here on days are enough

Text: TypeAlias = str | list[str]


@cache
def catalogue() -> Mapping[str, tuple[Text, Text]]:
    """Return key → (English, French)."""
    read = tomllib.loads(files("cdnblock.dashboard").joinpath("catalogue.toml").read_text(encoding="utf-8"))
    return {f"{group}.{key}": (both[0], both[1]) for group, keys in read.items() for key, both in keys.items()}


class Wording:
    """One language. Called with a key of the catalogue it returns the words, with the values put in."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._column = LANGUAGES.index(language)

    def __call__(self, key: str, **values: Any) -> str:
        """Return a text of the catalogue; numbers among `values` are written as the language does."""
        text = catalogue()[key][self._column]
        if isinstance(text, list):
            text = text[0] if self._is_singular(values["n"]) else text[1]
        shown = {name: self.number(value) if isinstance(value, int) else value for name, value in values.items()}
        return text.format(**shown) if shown else text

    def has(self, key: str) -> bool:
        """Tell whether the catalogue has a key."""
        return key in catalogue()

    def number(self, number: float | Decimal) -> str:
        """Return `1,234.5` or `1 234,5`."""
        text = f"{number:,}"
        return text if self.language == "en" else text.replace(",", _THIN).replace(".", ",")

    def day(self, day: date) -> str:
        """Return `3 Apr 2025` or `3 avr. 2025`."""
        number = "1er" if self.language == "fr" and day.day == 1 else str(day.day)
        return f"{number} {_MONTHS[self.language][day.month - 1]} {day.year}"

    def month(self, day: date) -> str:
        """Return `Apr 2025` or `avr. 2025`."""
        return f"{_MONTHS[self.language][day.month - 1]} {day.year}"

    def instant(self, instant: datetime, zone: str | None = LEGAL_TIME, *, seconds: bool = False) -> str:
        """Return `3 Apr 2025, 09:00` in a time zone; one that is at the end of all dates comes out in UTC.

        Where the clock is another one than in Paris, or shows this time for the second time, its offset stands there,
        too: `3 Apr 2025, 03:00 UTC-04:00`. What is asked for in UTC has it in its head.
        """
        local, paris = _in_zone(instant, zone or LEGAL_TIME), _in_zone(instant, LEGAL_TIME)
        written = (
            f"{self.day(local.date())}, {local:%H:%M:%S}" if seconds else f"{self.day(local.date())}, {local:%H:%M}"
        )
        is_plain = zone == "UTC" or (local.utcoffset() == paris.utcoffset() and not local.fold)
        return written if is_plain else f"{written} UTC{local.isoformat()[-6:]}"

    def away(self, instant: datetime, now: datetime) -> str:
        """Return how far an instant is: `in 3 days`, `2 h ago`."""
        away = (instant - now) / timedelta(seconds=1)
        if abs(away) < 1:
            return self("time.now")
        if away > 0:
            return self("time.in", span=self.span(int(away)))
        return self("time.ago", span=self.span(int(-away), exact=False))

    def span(self, seconds: int, *, exact: bool = True) -> str:
        """Return a span of time in its largest unit, and below two days, to be exact, in its two largest.

        A year is 365 days here, and counts from the second on.
        """
        if seconds >= 2 * _YEAR:
            return self("time.years", n=seconds // _YEAR)
        at = next((i for i, (_, size) in enumerate(_UNITS) if seconds >= size), len(_UNITS) - 1)
        unit, size = _UNITS[at]
        parts = [self(f"time.{unit}", n=seconds // size)]
        if exact and seconds < _COARSE and at + 1 < len(_UNITS) and (rest := seconds % size // _UNITS[at + 1][1]):
            parts.append(self(f"time.{_UNITS[at + 1][0]}", n=rest))
        return " ".join(parts)

    def delay(self, delay: Delay) -> str:
        """Return `3 days`, `2 working days` as an order gives it."""
        return self(f"delay.{delay.unit.value.replace(' ', '_')}", n=delay.amount)

    def country(self, code: str) -> str:
        """Return the name of a country, its code when there is none."""
        return COUNTRY_NAMES[self.language].get(code, code)

    def _is_singular(self, number: int) -> bool:
        return number == 1 if self.language == "en" else abs(number) <= 1


def _in_zone(instant: datetime, zone: str) -> datetime:
    try:
        return instant.astimezone(ZoneInfo(zone))
    except OverflowError:  # the first and last hours that a datetime can hold
        with suppress(OverflowError):
            return instant.astimezone(UTC)
        return instant
