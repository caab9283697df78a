"""What a decision is: one immutable value that always explains itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from cdnblock.orders.model import Addition, Measure, Mode, Order, Position
from cdnblock.shown import shown

NOTHING: Final[Mapping[Measure, str]] = MappingProxyType({})
"""No measure at all."""


class Why(StrEnum):
    """Why an order that names the host does not apply, in the order in which it is asked."""

    NOT_YET_IN_FORCE = "not-yet-in-force"
    ENDED = "ended"
    LIFTED = "lifted"
    OUTSIDE_WINDOW = "outside-window"
    OUTSIDE_TERRITORY = "outside-territory"
    UNKNOWN_LOCATION = "unknown-location"


_WHY_IN_WORDS: Final[Mapping[Why, str]] = {
    Why.NOT_YET_IN_FORCE: "it is not yet in force",
    Why.ENDED: "it has ended",
    Why.LIFTED: "it was lifted for this name",
    Why.OUTSIDE_WINDOW: "it holds only inside its windows, and none is open now",
    Why.OUTSIDE_TERRITORY: "the client is outside its territory",
    Why.UNKNOWN_LOCATION: "the client's country cannot be told, and the order spares such clients",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """An order that applies, and by which of its names.

    `until` is when it stops covering this host (its end, or a lifting), an aware datetime in the order's time zone.
    """

    order: Order
    name: str
    addition: Addition | None
    until: datetime

    @property
    def id(self) -> str:
        """The order's id."""
        return self.order.id

    @property
    def notice(self) -> str | None:
        """The reference of the notification that added the name, or None for the order's own names."""
        return None if self.addition is None else self.addition.notice

    @property
    def position(self) -> Position | None:
        """Where the file lists the name, or None for an order built without a file."""
        return position_of(self.name, self.addition or self.order)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplied:
    """An order that names the host and still does not apply, and why.

    `starts` is when it will be enforced next, None if never again; `until` is its end, or its lifting for this name.
    Both are aware datetimes in the order's time zone.
    """

    order: Order
    name: str
    addition: Addition | None
    why: Why
    starts: datetime | None
    until: datetime

    @property
    def id(self) -> str:
        """The order's id."""
        return self.order.id

    @property
    def position(self) -> Position | None:
        """Where the file lists the name, or None for an order built without a file."""
        return position_of(self.name, self.addition or self.order)

    def in_words(self) -> str:
        """Return why, with the date that goes with it."""
        return _WHY_IN_WORDS[self.why] + self._date()

    def _date(self) -> str:
        match self.why:
            case Why.NOT_YET_IN_FORCE | Why.OUTSIDE_WINDOW if self.starts is not None:
                return f", from {self.starts.isoformat()}"
            case Why.ENDED | Why.LIFTED:
                return f", at {self.until.isoformat()}"
            case _:
                return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which measures apply to one host, client and instant, and why. True when at least one does.

    `measures` maps each measure that applies to its variant, `{}` when the request is let through. `country` is the
    client's ISO 3166-1 alpha-2 code, None when unknown or never asked for; `told_by` says how it was told.
    `would` and `would_reasons` are the same of orders that are only reported (`mode: report`): nothing is done about them.
    `changes_at` is the instant at which any of this changes next without any file changing, None if never.
    `malformed` means that the host is no host name at all: nothing matches it, and a protocol that has an answer for
    that (HTTP: 400, RFC 9112 §3.2) should give it.
    """

    measures: Mapping[Measure, str]
    reasons: tuple[Reason, ...] = ()
    not_applied: tuple[NotApplied, ...] = ()
    country: str | None = None
    told_by: str | None = None
    changes_at: datetime | None = None
    revision: str = ""
    malformed: bool = False
    would: Mapping[Measure, str] = field(default_factory=lambda: NOTHING)
    would_reasons: tuple[Reason, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.measures)

    @property
    def orders(self) -> tuple[Order, ...]:
        """Every order that names the host: those that apply, those that would, then those that do not."""
        applying = (reason.order for reason in (*self.reasons, *self.would_reasons))
        return (*applying, *(item.order for item in self.not_applied))

    def because(self, measure: Measure) -> tuple[Reason, ...]:
        """Return the reasons of one measure: every applying order that asks for it, the strictest variant first."""
        asking = [reason for reason in self.reasons if measure in reason.order.measures]
        variant = self.measures.get(measure)
        return tuple(sorted(asking, key=lambda reason: reason.order.measures[measure] != variant))

    def explain(self) -> str:
        """Return the sentence that a person reads, on one line and with nothing in it that cannot be seen."""
        return shown(self._in_words())

    def _in_words(self) -> str:
        where = f"a client in {self.country}" if self.country else "a client of unknown location"
        if self.told_by and self.orders:
            where += f" ({self.told_by})"
        if self.malformed:
            return "Let through: this is not a host name, so no order can name it."
        if not self.orders:
            return "Let through: no order names this host."
        said = []
        if self.reasons:
            said.append(f"Enforced {_explain_all(self.measures, where, self.reasons)}")
        elif self.would_reasons:
            said.append(f"Let through for {where}.")
        else:
            said.append(f"Let through for {where}: {'; '.join(map(_explain_not_applied, self.not_applied))}.")
        if self.would_reasons:
            said.append(f"Would enforce (report only) {_explain_all(self.would, where, self.would_reasons)}")
        return " ".join(said)


def _explain_all(measures: Mapping[Measure, str], where: str, reasons: tuple[Reason, ...]) -> str:
    wanted = ", ".join(f"{measure.value}: {variant}" for measure, variant in measures.items())
    return f"({wanted}) for {where}: {'; '.join(map(_explain_reason, reasons))}."


def _explain_reason(reason: Reason) -> str:
    added = f", added by {reason.notice}" if reason.notice else ""
    where = f" ({reason.position})" if reason.position else ""
    return f"{_title(reason.order)} names {reason.name}{added}{where}, until {in_zone(reason.until, reason.order)}"


def _explain_not_applied(item: NotApplied) -> str:
    where = f" ({item.position})" if item.position else ""
    mode = ", report only," if item.order.mode is Mode.REPORT else ""
    return f"{_title(item.order)}{mode} names {item.name}{where}, but {item.in_words()}"


def _title(order: Order) -> str:
    return f"order {order.id} of {order.court}"


def position_of(name: str, listing: Order | Addition) -> Position | None:
    """Return where an order or an addition lists a canonical name.

    Looked up when somebody asks, by a search through the list: a place per name would cost more memory than the names.
    """
    for item in listing.names:
        if item.name == name:
            return item.position
    names_file = listing.names_file
    if names_file is not None and name in names_file.names:
        return Position(names_file.file, names_file.lines[names_file.names.index(name)])
    return None


def in_zone(instant: datetime, order: Order) -> str:
    """Return an instant as RFC 3339 text in the order's time zone."""
    return instant.astimezone(ZoneInfo(order.timezone)).isoformat()
