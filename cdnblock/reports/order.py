"""Everything that a court, or the site that was blocked, asks of one order: the values that a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from cdnblock.orders.life import OrderState
from cdnblock.orders.model import Moment, Order
from cdnblock.reports.compliance import Compliance
from cdnblock.reports.trail_values import TrailFacts

PROVES_NOT: Final = tuple(
    " ".join(text.split())
    for text in """
    That something was refused is proved for this software's own decisions; other resolvers, caches, proxies and
    tunnels, and other instances whose trails were not given, are not in here.

    No hit means that nobody in the territory asked, or that nobody was recorded asking; it does not mean that nothing
    was enforced, nor that the site was out of reach.

    Countries are those of the country table in use, which can be wrong about an address.

    Times are those of the machine's clock, whose state the trail tells.

    A whole trail proves that no record was changed, cut or moved since it was written, to whoever noted its head
    elsewhere; whoever holds the folder, and nobody else's note, could write it anew.

    Times that only the order file tells are statements of whoever wrote it.

    Deadlines are counted as the code de procédure civile, art. 641 and 642, counts them; this is not legal advice.
    """.strip().split("\n\n")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """A time as the order file writes it, and its instant; of a bare date the instant is the day's beginning."""

    written: Moment
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NameGroup:
    """Names (canonical, in the file's order) with the same life, by the order itself or by a notice.

    `lifted` tells that a lifting ends it, and not the order's own end.
    """

    notice: str | None
    subdomains: bool
    since: datetime
    until: datetime
    lifted: bool
    names: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What the file says of one name: a note, or the written reason that lets an over-broad name through."""

    name: str
    note: str | None
    overbroad: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeReport:
    """Names that an authority notified: what it said, from when they are blocked, and whether that was in time."""

    notice: str
    authority: str | None
    notified: Stated
    starts: datetime
    names: int
    compliance: Compliance
    first_enforced: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftingReport:
    """A release: from when, of what (None: of everything), why, and when each trail has it, in the trails' order."""

    at: Stated
    names: tuple[str, ...] | None
    reason: str | None
    took_effect: tuple[datetime | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRow:
    """So many hits on one day (of the order's legal time) from one country by one measure."""

    day: date
    country: str | None
    measure: str
    enforced: int
    would: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailReport:
    """One trail: what it tells of the order, and whether it is whole; `findings` are what is wrong with it."""

    facts: TrailFacts
    whole: bool
    records: int
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    head: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport:
    """One order, from its decision to its end, as of `made_at`. Instants are aware; texts show them in legal time."""

    order: Order
    made_at: datetime
    software: str
    state: OrderState
    territory: Mapping[str, str]
    starts: datetime
    ends: datetime
    over: datetime
    windows: tuple[tuple[datetime, datetime], ...]
    received: Stated | None
    acknowledged: Stated | None
    served: Stated | None
    implemented: Stated | None
    compliance: Compliance
    first_enforced: datetime | None
    last_enforced: datetime | None
    names: tuple[NameGroup, ...]
    remarks: tuple[Remark, ...]
    notices: tuple[NoticeReport, ...]
    liftings: tuple[LiftingReport, ...]
    ended: tuple[datetime | None, ...]
    hits: tuple[DayRow, ...]
    trails: tuple[TrailReport, ...]
    warnings: tuple[str, ...]
