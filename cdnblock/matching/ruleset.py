"""The compiled rules: every name of every order, and the one question that a server asks of them.

A rule set is immutable and knows its revision. A change of orders is a new rule set, put in the old one's place by a
single assignment, so that no request ever sees half of a change; the memo of hosts goes with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cdnblock.errors import OrderError, Problem
from cdnblock.geo.country import country_code
from cdnblock.matching.claims import Listing, Release, claims_of, in_force, lifted_at
from cdnblock.matching.coverage import Coverage, Held
from cdnblock.matching.decision import Decision
from cdnblock.matching.index import NameIndex
from cdnblock.matching.names import canonical, canonical_query_name
from cdnblock.matching.revision import revision_of
from cdnblock.orders.model import VARIANTS, Measure, Order, Position

_MEMO_SIZE: Final = 65_536  # hosts; about 9 MB when full
_MEMO_MAX_HOST: Final = 300  # longer spellings are looked up anew each time, so that nobody fills memory with them
_MAX_COVERAGES: Final = 4_096  # names that orders cover, each with its decisions; about 8 MB when full


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A host that no order names, with the one decision that there is for it."""

    decision: Decision


class RuleSet:
    """Compiled orders. Pure: the client's country and the instant come in as arguments."""

    def __init__(self, orders: Iterable[Order]) -> None:
        """Compile; `compile_orders` is the public way and checks the orders first."""
        ordered = sorted(orders, key=lambda order: order.id)
        self.orders: Mapping[str, Order] = MappingProxyType({order.id: order for order in ordered})
        self.revision = revision_of(ordered)
        self._names = NameIndex(claim for order in ordered for claim in claims_of(order))
        self._unnamed = Uncovered(Decision(measures=MappingProxyType({}), revision=self.revision))
        self._malformed = Uncovered(Decision(measures=MappingProxyType({}), revision=self.revision, malformed=True))
        self._coverages: dict[tuple[str, bool], Coverage | Uncovered] = {}
        self._hosts: dict[str | bytes, Coverage | Uncovered] = {}
        self._query_names: dict[str, Coverage | Uncovered] = {}
        self._changes = sorted(set(chain.from_iterable(self._each_break())))

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<RuleSet {len(self.orders)} orders, {len(self)} names, {self.revision[:19]}>"

    def decide(
        self, host: str | bytes, *, country: str | None = None, at: datetime, told_by: str | None = None
    ) -> Decision:
        """Return which measures apply to a request for `host` by a client in `country` at the instant `at`.

        `host` in any spelling that a URL or a Host field may have; `country` an ISO 3166-1 alpha-2 code, None when
        it cannot be told; what is no country's code (XX, ZZ, T1) cannot be told either. A naive `at` is taken as UTC. Never raises for any host or country.
        """
        coverage = self.find(host)
        if isinstance(coverage, Uncovered):
            return coverage.decision
        code = country_code(country.upper()) if isinstance(country, str) else None
        return coverage.decide(code, told_by, timestamp(at))

    def find(self, host: str | bytes) -> Coverage | Uncovered:
        """Return what the orders say of a host as a URL or a Host field spells it. Never raises."""
        try:
            return self._hosts[host]
        except KeyError:
            pass
        except TypeError:  # unhashable, so neither str nor bytes
            return self._malformed
        if not isinstance(host, (str, bytes)):
            return self._malformed  # type: ignore[unreachable]  # the types promise it, a caller may not
        return self._remember(self._hosts, host, self._look_up(canonical(host)))

    def find_query_name(self, name: str) -> Coverage | Uncovered:
        """Return what the orders say of a DNS query name (`names.canonical_query_name`). Never raises."""
        found = self._query_names.get(name)
        if found is not None:
            return found
        return self._remember(self._query_names, name, self._look_up(canonical_query_name(name)))

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

    def names_in_force(self, at: datetime) -> Iterator[str]:
        """Yield each listed name that some order holds in force at `at`; between its windows an order is in force."""
        held = self._marks_in_force(at)
        return (name for name, mark in self._names.items() if held[mark])

    def count_in_force(self, at: datetime) -> int:
        """Return how many names `names_in_force` has; at once when all have."""
        held = self._marks_in_force(at)
        return len(self) if all(held.values()) else sum(held[mark] for _, mark in self._names.items())

    def released_by(self, new: RuleSet, at: datetime) -> Iterator[str]:
        """Yield the names that are in force at `at` here and no longer under `new`, not even through a parent.

        What both sets share costs nothing, so this is quick for a small change among a million names.
        """
        had, has = self._marks_in_force(at), new._marks_in_force(at)
        all_hold = all(has.values())
        for mine, theirs in zip(self._names.shards, new._names.shards, strict=True):
            if all_hold:
                gone: Iterable[str] = () if mine is theirs else mine.keys() - theirs.keys()
            else:
                gone = [name for name in mine if name not in theirs or not has[theirs[name]]]
            for name in gone:
                if had[mine[name]] and not new.is_in_force(name, at):
                    yield name

    def is_in_force(self, name: str, at: datetime) -> bool:
        """Tell whether a canonical name is covered by any order in force at `at`, by itself or through a parent."""
        coverage = self._look_up(name)
        return isinstance(coverage, Coverage) and coverage.in_force(timestamp(at))

    def next_change(self, after: datetime) -> datetime | None:
        """Return the first instant later than `after` at which any decision may change, None if there is none."""
        position = bisect_right(self._changes, timestamp(after))
        return datetime.fromtimestamp(self._changes[position], UTC) if position < len(self._changes) else None

    def leaves(self) -> Iterator[dict[Any, Any]]:
        """Yield the dictionaries that are freed with this set; whoever holds them can free them one by one instead."""
        memos: tuple[dict[Any, Any], ...] = (self._hosts, self._query_names, self._coverages)
        yield from (*memos, *self._names.own)

    def _marks_in_force(self, at: datetime) -> dict[object, bool]:
        instant = timestamp(at)
        return {mark: in_force(claims, instant) for mark, claims in self._names.claims.items()}

    def _enforced_somewhere(self, name: str, measure: Measure, at: float, *, exact: bool) -> bool:
        held = self._held(name, exact=exact)
        return any(measure in item.order.measures and item.timeline.why_not(at) is None for item in held)

    def _remember(
        self, memo: dict[Any, Coverage | Uncovered], key: str | bytes, found: Coverage | Uncovered
    ) -> Coverage | Uncovered:
        if len(key) <= _MEMO_MAX_HOST:
            if len(memo) >= _MEMO_SIZE:
                memo.clear()
            memo[key] = found
        return found

    def _look_up(self, name: str | None) -> Coverage | Uncovered:
        if name is None:
            return self._malformed
        suffix = name
        depth = self._names.depth
        if name.count(".") >= depth:  # no listed name is deeper: a hundred labels cost no hundred look-ups
            suffix = ".".join(name.rsplit(".", depth)[1:])
        while suffix := self._names.nearest(suffix):
            if suffix == name or self._reaches_down(suffix):
                return self._coverage(suffix, exact=suffix == name)
            suffix = suffix.partition(".")[2]
        return self._unnamed

    def _reaches_down(self, name: str) -> bool:
        return any(isinstance(item, Release) or item.subdomains for item in self._names[name])

    def _coverage(self, name: str, *, exact: bool) -> Coverage | Uncovered:
        """Return what the orders say of a listed or released name itself (`exact`), or of any host below it."""
        key = (name, exact)
        coverage = self._coverages.get(key)
        if coverage is None:
            if len(self._coverages) >= _MAX_COVERAGES:
                for memo in (self._coverages, self._hosts, self._query_names):
                    memo.clear()
            held = sorted(self._held(name, exact=exact), key=lambda item: item.order.id)  # stable: most specific first
            coverage = self._coverages[key] = Coverage(held, self.revision) if held else self._unnamed
        return coverage

    def _held(self, name: str, *, exact: bool) -> Iterator[Held]:
        releases: list[Release] = []
        for suffix in _suffixes(name):
            claims = self._names[suffix]
            releases += [item for item in claims if isinstance(item, Release)]
            for item in claims:
                if isinstance(item, Listing) and (item.subdomains or (exact and suffix == name)):
                    yield Held(item.order, suffix, item.addition, item.span.timeline(lifted_at(item, releases)))

    def _each_break(self) -> Iterator[tuple[float, ...]]:
        for item in dict.fromkeys(chain.from_iterable(self._names.claims.values())):
            yield item.span.timeline(item.lifted).breaks if isinstance(item, Listing) else (item.at,)


def compile_orders(orders: Iterable[Order]) -> RuleSet:
    """Compile orders into a rule set.

    Raises:
        OrderError: two orders have one id, an order built in Python has no end or no name, a name is not canonical
            or no host name, or a measure or variant does not exist. Orders that were parsed from files have passed
            all of these already.

    """
    found = list(orders)
    problems = [problem for order in found for problem in _problems(order)]
    problems += _shared_ids(found)
    if problems:
        raise OrderError(problems)
    return RuleSet(found)


def timestamp(at: datetime) -> float:
    """Return an instant as seconds since 1970; a naive one is taken as UTC."""
    return at.timestamp() if at.tzinfo is not None else at.replace(tzinfo=UTC).timestamp()


def _suffixes(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.partition(".")[2]


def _problems(order: Order) -> Iterator[Problem]:
    """Check what the types of an order built in Python do not: the parser has checked the others, and more."""

    def problem(key: str, message: str, position: Position | None = None) -> Problem:
        place = position or order.position or Position(f"order {order.id}", 1)
        return Problem(file=place.file, line=place.line, column=place.column, key=key, message=message)

    if (order.until is None) == (order.duration is None or order.counted_from is None):
        yield problem("until", "no end, no enforcement; give `until`, or `duration` with `counted_from`")
    if not _is_timezone(order.timezone):
        yield problem("timezone", f"{order.timezone!r} is no IANA time zone; Europe/Paris is one")
    if order.size() == 0:
        yield problem("names", "the order lists no name; give `names`, `names_file` or `additions`")
    if not order.measures:
        yield problem("measures", "the order has no measure; give at least one of dns, cdn, proxy")
    for measure, variant in order.measures.items():
        if variant not in VARIANTS.get(measure, ()):
            yield problem(f"measures.{measure}", f"`{variant}` does not exist; one of {', '.join(VARIANTS[measure])}")
    for name in chain(order.names, *(addition.names for addition in order.additions)):
        if canonical(name.name) != name.name:
            right = canonical(name.name)
            message = (
                f"{name.name!r} is not in canonical form; {right!r} is" if right else f"{name.name!r} is no host name"
            )
            yield problem("names", message, name.position)


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return False
    return True


def _shared_ids(orders: Collection[Order]) -> Iterator[Problem]:
    first: dict[str, Order] = {}
    for order in orders:
        other = first.setdefault(order.id, order)
        if other is not order:
            place = order.position or Position(f"order {order.id}", 1)
            where = f" in {other.position.file}" if other.position else ""
            message = f"another order has the id {order.id}{where}; ids are unique in the folder"
            yield Problem(file=place.file, line=place.line, column=place.column, key="id", message=message)
