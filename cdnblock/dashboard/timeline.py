"""Dates and counts as small pictures: SVG that a screen reader has words for, without a script or a style of its own.

Everything is placed in per cent of the width, so a picture fits a telephone and a wall. Colours are the style sheet's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from markupsafe import Markup

from cdnblock.dashboard.language import Wording
from cdnblock.dashboard.register import Row
from cdnblock.orders import calendar

_LONGEST: Final = timedelta(days=2 * 365)  # before and after now; what lies beyond is cut off at the edge
_MARGIN: Final = 0.02  # of the whole, so that what starts or ends now is seen
_MOST_WINDOWS: Final = 400
_STEPS: Final = (1, 2, 3, 6, 12, 24)  # months between two ticks
_MOST_TICKS: Final = 4
_EDGE: Final = 8.0  # per cent: nearer to an edge the name of a month would be cut
_LEAST: Final = 0.4  # per cent: the thinnest bar that is seen
_CHART_HEIGHT: Final = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From when to when a picture goes, and where now is."""

    begins: datetime
    ends: datetime
    now: datetime

    def at(self, instant: datetime) -> float:
        """Return where an instant is, in per cent, at most a little outside."""
        where = 100 * ((instant - self.begins) / (self.ends - self.begins))
        return round(min(max(where, -1.0), 101.0), 2)


def scale_of(rows: Iterable[Row], now: datetime) -> Scale:
    """Return the scale that shows these orders and now."""
    instants = [now, *(instant for row in rows for instant in (row.starts, row.over))]
    begins, ends = max(min(instants), now - _LONGEST), min(max(instants), now + _LONGEST)
    margin = max((ends - begins) * _MARGIN, timedelta(days=1))
    return Scale(begins=begins - margin, ends=ends + margin, now=now)


def axis(scale: Scale, wording: Wording) -> Markup:
    """Return the months above the bars; dates are also in the table, so it is hidden from who cannot see it."""
    marks = [
        Markup('<text x="{}%" y="11">{}</text>').format(scale.at(tick), wording.month(tick.date()))
        for tick in _ticks(scale)
        if _EDGE <= scale.at(tick) <= 100 - _EDGE
    ]
    return Markup('<svg class="axis" height="14" aria-hidden="true">{}</svg>').format(Markup("").join(marks))


def bar(row: Row, scale: Scale, words: str) -> Markup:
    """Return one order's life as a bar: from start to end, its windows, additions, liftings, its deadline, and now."""
    state = row.state(scale.now).name.lower().replace("_", "-")
    parts = [_line("tick", scale.at(tick)) for tick in _ticks(scale)]
    parts += _spans(row, scale, state)
    for addition in row.order.additions:
        parts.append(_dot("added", scale.at(calendar.addition_starts_at(row.order, addition))))
    for lifting in row.order.lifted:
        parts.append(_dot("lifted", scale.at(calendar.instant(lifting.at, row.order.timezone))))
    if (owed := row.owed(scale.now)) is not None:
        parts.append(_line("deadline", scale.at(owed)))
    parts.append(_line("now", scale.at(scale.now)))
    return Markup('<svg class="life" height="18" role="img" aria-label="{}">{}</svg>').format(
        words, Markup("").join(parts)
    )


def columns(counts: Sequence[int], words: str, labels: Sequence[str]) -> Markup:
    """Return counts as columns from left to right, each with its label for the pointer; `words` say it all."""
    highest = max(counts, default=0) or 1
    width = 100 / max(len(counts), 1)
    parts = [
        Markup('<rect class="count" x="{}%" width="{}%" y="{}" height="{}"><title>{}</title></rect>').format(
            round(place * width, 2), round(width * 0.8, 2), *_column(count, highest), label
        )
        for place, (count, label) in enumerate(zip(counts, labels, strict=True))
    ]
    return Markup('<svg class="counts" height="{}" role="img" aria-label="{}">{}</svg>').format(
        _CHART_HEIGHT, words, Markup("").join(parts)
    )


def _column(count: int, highest: int) -> tuple[float, float]:
    height = max(round(_CHART_HEIGHT * count / highest, 1), 1.0 if count else 0.0)
    return _CHART_HEIGHT - height, height


def _spans(row: Row, scale: Scale, state: str) -> Iterator[Markup]:
    """Yield when the order is in force; with windows, faintly, and each window in full."""
    windows = calendar.windows_of(row.order)[:_MOST_WINDOWS]
    yield _rect(f"{state} between" if windows else state, scale.at(row.starts), scale.at(row.over))
    for opens, closes in windows:
        yield _rect(state, scale.at(opens), scale.at(closes))


def _rect(kind: str, left: float, right: float) -> Markup:
    width = round(max(right - left, _LEAST), 2)
    return Markup('<rect class="{}" x="{}%" width="{}%" y="5" height="8" rx="2"/>').format(kind, left, width)


def _line(kind: str, at: float) -> Markup:
    return Markup('<line class="{}" x1="{}%" x2="{}%" y1="0" y2="18"/>').format(kind, at, at)


def _dot(kind: str, at: float) -> Markup:
    return Markup('<circle class="{}" cx="{}%" cy="9" r="3"/>').format(kind, at)


def _ticks(scale: Scale) -> Sequence[datetime]:
    """Return first days of months, so many that their names find room."""
    months = _months(scale)
    for step in _STEPS:
        ticks = [month for month in months if (month.month - 1) % min(step, 12) == 0]
        if step > 12:  # noqa: PLR2004 (months of a year)
            ticks = [tick for tick in ticks if tick.year % (step // 12) == 0]
        if len(ticks) <= _MOST_TICKS:
            return ticks
    return []


def _months(scale: Scale) -> list[datetime]:
    found = []
    month = datetime(scale.begins.year, scale.begins.month, 1, tzinfo=UTC)
    while month < scale.ends:
        if month > scale.begins:
            found.append(month)
        month = (month + timedelta(days=32)).replace(day=1)
    return found
