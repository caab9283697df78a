"""What the court said: the values an order is made of.

All are frozen and can be built in Python without a file. Moments are kept as they were written: a `date`, a naive
`datetime` (legal time in the order's time zone) or an aware one; `cdnblock.orders.calendar` turns them into instants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias

Moment: TypeAlias = date | datetime


class Measure(StrEnum):
    """The three duties of the Paris ruling of 28 March 2025, each separate from the others."""

    DNS = "dns"
    CDN = "cdn"
    PROXY = "proxy"


VARIANTS: Final[Mapping[Measure, tuple[str, ...]]] = {
    # Strictest first: where several orders cover one request, the earlier variant wins.
    Measure.DNS: ("refuse", "nxdomain", "nodata"),
    Measure.CDN: ("disable",),
    Measure.PROXY: ("close", "terminate"),
}


class UnknownLocation(StrEnum):
    """What an order wants for a client whose country cannot be told."""

    ALLOW = "allow"
    ENFORCE = "enforce"


class Mode(StrEnum):
    """Whether an order is carried out, or only rehearsed: decided, recorded and counted, with nothing refused."""

    ENFORCE = "enforce"
    REPORT = "report"


class Anchor(StrEnum):
    """The event from which a duration is counted."""

    DECIDED = "decided"
    SERVED = "served"
    IMPLEMENTED = "implemented"


class DelayUnit(StrEnum):
    """Units of `comply_within` and `for`."""

    MINUTES = "minutes"
    HOURS = "hours"
    DAYS = "days"
    WORKING_DAYS = "working days"
    MONTHS = "months"


@dataclass(frozen=True, slots=True)
class Delay:
    """`3 days`, `12 months`: an amount (≥ 1) and its unit."""

    amount: int
    unit: DelayUnit

    def __str__(self) -> str:
        unit = self.unit.value
        return f"{self.amount} {unit.removesuffix('s') if self.amount == 1 else unit}"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Territory:
    """For whom an order holds: ISO 3166-1 alpha-2 codes, or the whole world.

    `world` needs no country, so it covers clients of unknown location too.
    """

    countries: frozenset[str] = frozenset()
    world: bool = False

    def __str__(self) -> str:
        return "world" if self.world else " ".join(sorted(self.countries))


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """One name the order lists, in canonical form (`cdnblock.matching.names`), and everything below it.

    `subdomains=False` names this host alone. `overbroad` is the written reason that lets a public suffix or a
    protected name through.
    """

    name: str
    subdomains: bool = True
    note: str | None = None
    overbroad: str | None = None
    position: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesFile:
    """The names of a `names_file`, canonical, with the line (from 1) of each.

    Kept as sequences of equal length, not as `Name` objects: such a file may hold a million names. Read from a file,
    they are a `NameList` and `LineNumbers` (`cdnblock.orders.name_list`).
    """

    file: str
    names: Sequence[str]
    lines: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One span (from, until) inside which the order is enforced, such as a live match."""

    begins: Moment
    until: Moment
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Names that an authority notified while the order runs."""

    notice: str
    notified: Moment
    authority: str | None = None
    comply_within: Delay | None = None
    begins: Moment | None = None
    names: tuple[Name, ...] = ()
    names_file: NamesFile | None = None
    position: Position | None = None

    def each_name(self) -> Iterator[Name]:
        """Every name of this addition, from the list and from the names file."""
        yield from self.names
        yield from _names_of(self.names_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifting:
    """Names (canonical) released before the end; the whole order when `names` is None."""

    at: Moment
    names: tuple[str, ...] | None = None
    reason: str | None = None
    position: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """The periodic penalty payment (astreinte) that stands behind the order."""

    amount: Decimal
    currency: str
    per: str | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Order:
    """One court order, or one decision of an authority that is enforced like one.

    Field by field this is the order file, version 1; `begins` is its `from`, `duration` its `for`. Exactly one of
    `until` and `duration` (with `counted_from`) must be set: no end, no enforcement.
    """

    id: str
    court: str
    decided: date
    legal_basis: str
    claimant: str
    territory: Territory
    measures: Mapping[Measure, str]
    names: tuple[Name, ...] = ()
    names_file: NamesFile | None = None
    title: str | None = None
    case: str | None = None
    addressee: str | None = None
    member_state: str | None = None
    illegal_content: str | None = None
    received: Moment | None = None
    acknowledged: Moment | None = None
    served: Moment | None = None
    comply_within: Delay | None = None
    implemented: Moment | None = None
    begins: Moment | None = None
    until: Moment | None = None
    duration: Delay | None = None
    counted_from: Anchor | None = None
    timezone: str = "Europe/Paris"
    unknown_location: UnknownLocation = UnknownLocation.ALLOW
    mode: Mode = Mode.ENFORCE
    windows: tuple[Window, ...] = ()
    additions: tuple[Addition, ...] = ()
    lifted: tuple[Lifting, ...] = ()
    publication: str | None = None
    penalty: Penalty | None = None
    costs: str | None = None
    contact: str | None = None
    position: Position | None = field(default=None, compare=False)

    @property
    def is_enforced(self) -> bool:
        """Whether the order is carried out, and not only reported."""
        return self.mode is Mode.ENFORCE

    def each_name(self) -> Iterator[Name]:
        """Every name of the order itself, without its additions."""
        yield from self.names
        yield from _names_of(self.names_file)

    def size(self) -> int:
        """How many names the order lists, additions included and duplicates counted."""
        parts: list[Order | Addition] = [self, *self.additions]
        return sum(len(part.names) + (len(part.names_file.names) if part.names_file else 0) for part in parts)


def _names_of(names_file: NamesFile | None) -> Iterator[Name]:
    if names_file is not None:
        for name, line in zip(names_file.names, names_file.lines, strict=True):
            yield Name(name=name, position=Position(names_file.file, line))
