"""What the orders say of one host: every listing that covers it, and the decisions that follow.

Decisions are built once per country and stretch of time, and handed out again as long as they hold: a decision knows
nothing of the single request.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from types import MappingProxyType
from typing import ClassVar, Final, TypeAlias
from zoneinfo import ZoneInfo

from cdnblock.matching.decision import NOTHING, Decision, NotApplied, Reason, Why
from cdnblock.matching.timeline import Timeline
from cdnblock.orders.model import VARIANTS, Addition, Measure, Order, UnknownLocation

_Place: TypeAlias = tuple[str | None, str | None]  # country, told by
_MAX_DECISIONS: Final = 4096  # countries x stretches of time; beyond it the oldest are built anew


@dataclass(frozen=True, slots=True)
class Held:
    """One listing that covers the host: which order, by which name and notice, and when."""

    order: Order
    name: str
    addition: Addition | None
    timeline: Timeline


class Coverage:
    """All that orders say of one host; `held` is sorted by order id, then from the most specific name up.

    `current[country, told_by]` is the decision that `decide` returned last, with the instants from which (inclusive)
    and to which (exclusive) it holds.
    """

    decision: ClassVar[None] = None
    """There is no one decision, as there is where nothing covers the host."""

    __slots__ = ("_breaks", "_decisions", "_revision", "current", "enforced", "held")

    def __init__(self, held: Iterable[Held], revision: str) -> None:
        self.held = tuple(held)
        self.enforced = any(item.order.is_enforced for item in self.held)
        """Whether any of the orders is carried out; where all are only reported, nothing may be refused."""
        self._revision = revision
        self._breaks = sorted({instant for item in self.held for instant in item.timeline.breaks})
        self._decisions: dict[tuple[_Place, int], Decision] = {}
        self.current: dict[_Place, tuple[Decision, float, float]] = {}

    def decide(self, country: str | None, told_by: str | None, at: float) -> Decision:
        """Return the decision for a client in `country` (None: unknown) at the instant `at` (seconds since 1970)."""
        place = (country, told_by)
        if (current := self.current.get(place)) is not None and current[1] <= at < current[2]:
            return current[0]
        stretch = bisect_right(self._breaks, at)
        decision = self._decisions.get((place, stretch))
        if decision is None:
            decision = self._build(country, told_by, stretch)
            if len(self._decisions) >= _MAX_DECISIONS:
                self._decisions.clear()
                self.current.clear()
            self._decisions[place, stretch] = decision
        self.current[place] = (decision, *self._ends_of(stretch))
        return decision

    def in_force(self, at: float) -> bool:
        """Tell whether an order that covers this host is in force at the instant `at`, be it between its windows."""
        return any(i.order.is_enforced and i.timeline.why_not(at) in (None, Why.OUTSIDE_WINDOW) for i in self.held)

    def holding(self, at: float) -> tuple[Reason, ...]:
        """Return why each order that is enforced at the instant `at` covers the host, for whomever in its territory."""
        return tuple(
            _reason(item, items, at)
            for items in self._by_order()
            for item, why in (_speaking(items, at),)
            if why is None and item.order.is_enforced
        )

    def _build(self, country: str | None, told_by: str | None, stretch: int) -> Decision:
        reasons: list[Reason] = []
        would: list[Reason] = []
        not_applied: list[NotApplied] = []
        at = self._instant(stretch)
        for items in self._by_order():
            item, why = _foremost(items, country, at)
            if why is None:
                (reasons if item.order.is_enforced else would).append(_reason(item, items, at))
            else:
                not_applied.append(_not_applied(item, why, at))
        return Decision(
            measures=union(reason.order.measures for reason in reasons),
            reasons=tuple(reasons),
            not_applied=tuple(not_applied),
            country=country,
            told_by=told_by,
            changes_at=self._next_change(country, stretch),
            revision=self._revision,
            would=union(reason.order.measures for reason in would),
            would_reasons=tuple(would),
        )

    def _by_order(self) -> Iterator[list[Held]]:
        for order_id in dict.fromkeys(item.order.id for item in self.held):
            yield [item for item in self.held if item.order.id == order_id]

    def _instant(self, stretch: int) -> float:
        """Return an instant inside a stretch; the first one ends where the first break is."""
        return self._breaks[stretch - 1] if stretch else self._breaks[0] - 1

    def _ends_of(self, stretch: int) -> tuple[float, float]:
        since = self._breaks[stretch - 1] if stretch else -inf
        return since, self._breaks[stretch] if stretch < len(self._breaks) else inf

    def _next_change(self, country: str | None, stretch: int) -> datetime | None:
        """Return the first later break at which other orders, or other names of them, apply to the country."""
        reachable = [items for items in self._by_order() if why_not_here(items[0].order, country) is None]
        now = self._applying(reachable, country, stretch)
        for later in range(stretch + 1, len(self._breaks) + 1):
            if self._applying(reachable, country, later) != now:
                instant = self._breaks[later - 1]
                turning = [item for items in reachable for item in items if instant in item.timeline.breaks]
                return _in_zone(instant, turning[0].order)
        return None

    def _applying(self, reachable: list[list[Held]], country: str | None, stretch: int) -> list[Held]:
        at = self._instant(stretch)
        foremost = [_foremost(items, country, at) for items in reachable]
        return [item for item, why in foremost if why is None]


def why_not_here(order: Order, country: str | None) -> Why | None:
    """Return why an order spares clients in `country` (None: unknown), None where it covers them."""
    if order.territory.world:
        return None
    if country is None:
        return None if order.unknown_location is UnknownLocation.ENFORCE else Why.UNKNOWN_LOCATION
    return None if country in order.territory.countries else Why.OUTSIDE_TERRITORY


def union(wanted: Iterable[Mapping[Measure, str]]) -> Mapping[Measure, str]:
    """Return the union of several orders' measures; for one measure the stricter variant."""
    every = [*wanted]
    if not every:
        return NOTHING
    return MappingProxyType(
        {
            measure: min((measures[measure] for measures in every if measure in measures), key=variants.index)
            for measure, variants in VARIANTS.items()
            if any(measure in measures for measures in every)
        }
    )


def _reason(item: Held, items: Iterable[Held], at: float) -> Reason:
    """Return the reason that a listing is; it holds until the last one of its order that is enforced now ends."""
    until = _in_zone(max(i.timeline.until for i in items if i.timeline.why_not(at) is None), item.order)
    return Reason(order=item.order, name=item.name, addition=item.addition, until=until)


def _not_applied(item: Held, why: Why, at: float) -> NotApplied:
    starts = item.timeline.next_enforced(at)
    return NotApplied(
        order=item.order,
        name=item.name,
        addition=item.addition,
        why=why,
        starts=None if starts is None else _in_zone(starts, item.order),
        until=_in_zone(item.timeline.until, item.order),
    )


def _foremost(items: list[Held], country: str | None, at: float) -> tuple[Held, Why | None]:
    """Return of one order's listings the one that speaks for it, and why it does not apply, None when it does."""
    item, why = _speaking(items, at)
    return item, why_not_here(item.order, country) if why is None else why


def _speaking(items: list[Held], at: float) -> tuple[Held, Why | None]:
    """Return the same for clients wherever the order holds."""
    item = next((item for item in items if item.timeline.why_not(at) is None), items[0])
    return item, item.timeline.why_not(at)


def _in_zone(instant: float, order: Order) -> datetime:
    return datetime.fromtimestamp(instant, UTC).astimezone(ZoneInfo(order.timezone))
