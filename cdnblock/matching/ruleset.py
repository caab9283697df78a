"""The compiled rules: every name of every order, and the one question that a server asks of them.

A rule set is immutable and knows its revision. A change of orders is a new rule set, put in the old one's place by a
single assignment, so that no request ever sees half of a change; the memo of hosts goes with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from types import MappingProxyType
from typing import Any, Final

from cdnblock.errors import OrderError
from cdnblock.geo.country import country_code
from cdnblock.matching.claims import Claim, Listing, claims_of, in_force
from cdnblock.matching.coverage import Coverage, Held
from cdnblock.matching.decision import Decision, Reason
from cdnblock.matching.index import NameIndex
from cdnblock.matching.lookup import Kind, Lookup, Memo, Uncovered
from cdnblock.matching.revision import revision_of
from cdnblock.matching.soundness import problems_of, shared_ids
from cdnblock.orders.model import Measure, Order

_AT_ONCE: Final = 1_000  # names that are compared between two pauses: each costs some looks into cold memory
_QUICKER: Final = 4  # times as many names are compared at once where nothing is gone

__all__ = ["RuleSet", "Uncovered", "compile_orders", "timestamp"]


class RuleSet:
    """Compiled orders. Pure: the client's country and the instant come in as arguments."""

    def __init__(self, orders: Iterable[Order]) -> None:
        """Compile; `compile_orders` is the public way and checks the orders first."""
        ordered = sorted(orders, key=lambda order: order.id)
        self.orders: Mapping[str, Order] = MappingProxyType({order.id: order for order in ordered})
        self.revision = revision_of(ordered)
        self._names = NameIndex(claim for order in ordered for claim in claims_of(order))
        self._lookup = Lookup(self._names, self.revision)
        self.hosts: Mapping[str | bytes, Coverage | Uncovered] = Memo(self._lookup.of_host, self._lookup)
        """`hosts[host]` is `find(host)` without a call, for whoever counts nanoseconds."""
        self.query_names: Mapping[str | bytes, Coverage | Uncovered] = Memo(self._lookup.of_query_name, self._lookup)
        """`query_names[name]` is `find_query_name(name)` without a call."""
        self._changes = sorted(set(chain.from_iterable(self._each_break(reported=True))))
        self.enforced: tuple[Order, ...] = tuple(order for order in ordered if order.is_enforced)
        """The orders that are carried out; the others are only reported (`mode: report`)."""
        self.reported: tuple[Order, ...] = tuple(order for order in ordered if not order.is_enforced)
        """The orders that are only reported: they refuse nothing."""
        self._turns = (
            sorted(set(chain.from_iterable(self._each_break(reported=False)))) if self.reported else self._changes
        )

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<RuleSet {len(self.orders)} orders, {len(self)} names, {self.revision[:19]}>"

    def decide(
        self, host: str | bytes, *, country: str | None = None, at: datetime, told_by: str | None = None
    ) -> Decision:
        """Return which measures apply to a request for `host` by a client in `country` at the instant `at`.

        `host` in any spelling that a URL or a Host field may have; `country` an ISO 3166-1 alpha-2 code, None when
        it cannot be told; what is no country's code (XX, ZZ, T1) cannot be told either. A naive
        `at` is taken as UTC. Never raises for any host or country.
        """
        coverage = self.find(host)
        if isinstance(coverage, Uncovered):
            return coverage.decision
        code = country_code(country.upper()) if isinstance(country, str) else None
        return coverage.decide(code, told_by, timestamp(at))

    def find(self, host: str | bytes) -> Coverage | Uncovered:
        """Return what the orders say of a host as a URL or a Host field spells it. Never raises."""
        try:
            return self.hosts[host]
        except TypeError:  # unhashable, so neither str nor bytes
            return self._lookup.of_host(host)

    def find_query_name(self, name: str, *, remember: bool = True) -> Coverage | Uncovered:
        """Return what the orders say of a DNS query name (`names.canonical_query_name`). Never raises.

        Whoever remembers names in a form of its own has no use for the memo (`remember=False`).
        """
        return self.query_names[name] if remember else self._lookup.of_query_name(name)

    def kind_of_query_name(self, name: str) -> Kind:
        """Return what all names have in common of which the same is said, but for the names (`Lookup`). Never raises."""
        return self._lookup.kind_of_query_name(name)

    def covered_names(self, measure: Measure, at: datetime) -> frozenset[tuple[str, bool]]:
        """Return each (canonical name, with its sub-domains?) on which a measure is in force somewhere at `at`.

        A name that a lifting will release counts on its own until then. What differs between two answers is what a
        cache owes a purge.
        """
        instant = timestamp(at)
        alone: dict[tuple[object, bool], bool] = {}  # what holds of every name that has no listed name above it

        def is_covered(name: str, mark: object, *, subdomains: bool) -> bool:
            key = (mark, subdomains)
            if self._names.nearest(name.partition(".")[2]):
                return self._enforced_somewhere(name, measure, instant, exact=not subdomains)
            if key not in alone:
                alone[key] = self._enforced_somewhere(name, measure, instant, exact=not subdomains)
            return alone[key]

        kinds = {
            mark: {item.subdomains if isinstance(item, Listing) else True for item in claims}
            for mark, claims in self._names.claims.items()
        }
        return frozenset(
            (name, subdomains)
            for name, mark in self._names.items()
            for subdomains in kinds[mark]
            if is_covered(name, mark, subdomains=subdomains)
        )

    @property
    def index(self) -> NameIndex[Claim]:
        """What stands on each listed name, for whoever compares two rule sets."""
        return self._names

    def each_listed(self) -> Iterator[tuple[str, object, str]]:
        """Yield each name that an order lists or releases, its mark, and the nearest such name above it, `""` if none.

        Names of one mark have the same claims on them, so that with the same above them they have the same life.
        """
        nearest = self._names.nearest
        return ((name, mark, nearest(name.partition(".")[2])) for name, mark in self._names.items())

    def holding(self, name: str, at: datetime, *, exact: bool) -> tuple[Reason, ...]:
        """Return each order that is enforced at `at` on such a name itself (`exact`), or on any other host below it."""
        return self._lookup.coverage_of(self._lookup.held(name, exact=exact)).holding(timestamp(at))

    def listings(self, name: str, *, exact: bool) -> tuple[Held, ...]:
        """Return each listing that covers such a name itself (`exact`), or any other host below it, whenever it holds."""
        return tuple(self._lookup.held(name, exact=exact))

    def names_in_force(self, at: datetime) -> Iterator[str]:
        """Yield each listed name that some order holds in force at `at`; between its windows an order is in force."""
        held = self._marks_in_force(at)
        return (name for name, mark in self._names.items() if held[mark])

    def count_in_force(self, at: datetime) -> int:
        """Return how many names `names_in_force` has; at once when all have."""
        held = self._marks_in_force(at)
        return len(self) if all(held.values()) else sum(held[mark] for _, mark in self._names.items())

    def released_by(self, new: RuleSet, at: datetime, pause: Callable[[], None] | None = None) -> Iterator[str]:
        """Yield the names that are in force at `at` here and no longer under `new`, not even through a parent.

        What both sets share costs nothing, so this is quick for a small change among a million names. `pause` is
        called about once a millisecond, for whoever wants to let others run.
        """
        had, has = self._marks_in_force(at), new._marks_in_force(at)
        all_hold = all(has.values())
        unpaused = 0
        for mine, theirs in zip(self._names.shards, new._names.shards, strict=True):
            if all_hold and mine is theirs:
                continue
            all_there = all_hold and mine.keys() <= theirs.keys()  # as nearly always, and sooner found out
            unpaused += len(mine) // _QUICKER if all_there else 0
            for names in ([],) if all_there else _batches(mine):
                if all_hold:
                    gone = [name for name in names if name not in theirs]
                else:
                    gone = [name for name in names if name not in theirs or not has[theirs[name]]]
                for name in gone:
                    if had[mine[name]] and not new.is_in_force(name, at):
                        yield name
                unpaused += len(names)
                if pause is not None and unpaused >= _AT_ONCE:
                    pause()
                    unpaused = 0

    def is_in_force(self, name: str, at: datetime) -> bool:
        """Tell whether a canonical name is covered by any order in force at `at`, by itself or through a parent."""
        coverage = self._lookup.of_name(name)
        return isinstance(coverage, Coverage) and coverage.in_force(timestamp(at))

    def next_change(self, after: datetime) -> datetime | None:
        """Return the first instant later than `after` at which any decision may change, None if there is none.

        What would be enforced is a part of decisions, too.
        """
        return _first_later(self._changes, after)

    def next_turn(self, after: datetime) -> datetime | None:
        """Return the first instant later than `after` at which anything that is enforced may change, None if none."""
        return _first_later(self._turns, after)

    def leaves(self) -> Iterator[Mapping[Any, Any]]:
        """Yield the dictionaries that are freed with this set; whoever holds them can free them one by one instead."""
        memos: tuple[Mapping[Any, Any], ...] = (self.hosts, self.query_names)
        yield from (*memos, *self._names.own)

    def _marks_in_force(self, at: datetime) -> dict[object, bool]:
        instant = timestamp(at)
        return {mark: in_force(claims, instant) for mark, claims in self._names.claims.items()}

    def _enforced_somewhere(self, name: str, measure: Measure, at: float, *, exact: bool) -> bool:
        held = self._lookup.held(name, exact=exact)
        return any(
            item.order.is_enforced and measure in item.order.measures and item.timeline.why_not(at) is None
            for item in held
        )

    def _each_break(self, *, reported: bool) -> Iterator[tuple[float, ...]]:
        for item in dict.fromkeys(chain.from_iterable(self._names.claims.values())):
            if reported or self.orders[item.order_id].is_enforced:
                yield item.span.timeline(item.lifted).breaks if isinstance(item, Listing) else (item.at,)


def compile_orders(orders: Iterable[Order]) -> RuleSet:
    """Compile orders into a rule set.

    Raises:
        OrderError: two orders have one id, or an order that was built in Python has no end, no name, no territory, a
            name that is not canonical, no host name or a public suffix, or what else `soundness` finds. Orders that
            were parsed from files have passed all of this already.

    """
    found = list(orders)
    problems = [problem for order in found for problem in problems_of(order)]
    problems += shared_ids(found)
    if problems:
        raise OrderError(problems)
    return RuleSet(found)


def _first_later(instants: Sequence[float], after: datetime) -> datetime | None:
    position = bisect_right(instants, timestamp(after))
    return datetime.fromtimestamp(instants[position], UTC) if position < len(instants) else None


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while batch := list(islice(rest, _AT_ONCE)):
        yield batch


def timestamp(at: datetime) -> float:
    """Return an instant as seconds since 1970; a naive one is taken as UTC."""
    return at.timestamp() if at.tzinfo is not None else at.replace(tzinfo=UTC).timestamp()
