"""The operator's own list of days on which nobody works, on top of the French public holidays.

Alsace-Moselle and the territories overseas have holidays of their own, and a court elsewhere has others altogether.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from functools import lru_cache
from typing import Final

from cdnblock.errors import Problem
from cdnblock.orders.calendar import Holidays, french_public_holidays
from cdnblock.orders.moments import read_day
from cdnblock.orders.text_file import read_entries

MAX_PROBLEMS: Final = 1_000


def parse_holidays(data: bytes, file: str) -> tuple[Holidays, tuple[Problem, ...]]:
    """Read `holidays.txt`: a date a line adds a day without work, `-date` makes it a working day, `#` comments.

    What is no date is a problem, and the other lines still hold. Where a day is added and removed, the last line wins.
    """
    free: dict[date, bool] = {}

    def take(_line: int, entry: str) -> None:
        free[read_day(entry.removeprefix("-").strip())] = not entry.startswith("-")

    problems = read_entries(data, file, take, most=MAX_PROBLEMS)
    return _with(free), problems


def _with(free: dict[date, bool]) -> Holidays:
    if not free:
        return french_public_holidays
    by_year: dict[int, dict[date, bool]] = defaultdict(dict)
    for day, is_free in free.items():
        by_year[day.year][day] = is_free

    @lru_cache(maxsize=512)
    def holidays(year: int) -> frozenset[date]:
        changed = by_year.get(year, {})
        added = {day for day, is_free in changed.items() if is_free}
        return (french_public_holidays(year) - changed.keys()) | added

    return holidays
