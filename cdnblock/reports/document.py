"""A report as a document of plain values, which Markdown and HTML show alike. No text in it is escaped yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TypeAlias


class Tone(StrEnum):
    """How a sentence is meant: for its colour, never for its meaning alone."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One paragraph."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Link:
    """A web address as it stands in an order; it is linked only where it is http or https."""

    url: str


Cell: TypeAlias = str | int | Link


@dataclass(frozen=True, slots=True)
class Facts:
    """Labels and what stands behind them."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header; `more` is how many rows are not shown."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class Bullets:
    """Sentences of equal weight."""

    items: tuple[str, ...]
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Chart:
    """A number for each day, without holes; for pictures only: a table beside it has the same numbers."""

    title: str
    description: str
    days: tuple[tuple[date, int], ...]


Block: TypeAlias = Sentence | Facts | Table | Bullets | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what is below it."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report; `made` tells by what and when, and stands at its end."""

    title: str
    lead: tuple[Sentence, ...]
    sections: tuple[Section, ...]
    made: str
