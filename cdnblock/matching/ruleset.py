"""The compiled rules: every name of every order, and the one question that a server asks of them.

A rule set is immutable and knows its revision. A change of orders is a new rule set, put in the old one's place by a
single assignment, so that no request ever sees half of a change; the memo of hosts goes with it.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import chain
from math import inf
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cdnblock.errors import OrderError, Problem
from cdnblock.matching.coverage import Coverage, Held
from cdnblock.matching.decision import Decision
from cdnblock.matching.names import canonical, canonical_query_name
from cdnblock.matching.timeline import Span
from cdnblock.orders import calendar
from cdnblock.orders.model import VARIANTS, Addition, Measure, NamesFile, Order, Position

_MEMO_SIZE: Final = 65_536  # hosts; about 9 MB when full
_MEMO_MAX_HOST: Final = 300  # longer spellings are looked up anew each time, so that nobody fills memory with them


@dataclass(frozen=True, slots=True, eq=False)
class _Listing:
    """One order's claim on a name, shared by all its names with the same life."""

    order: Order
    addition: Addition | None
    subdomains: bool
    span: Span
    notified: float  # -inf for the order's own names
    lifted: float  # the whole order's lifting, inf if there is none


@dataclass(frozen=True, slots=True, eq=False)
class _Release:
    """A lifting that names a name: from `at`, the order leaves this name and what is below it alone."""

    order_id: str
    at: float


_Node: TypeAlias = tuple[_Listing | _Release, ...]


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
        self._names = _index(ordered)
        self._depth = max((name.count(".") + 1 for name in self._names), default=0)
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
        it cannot be told. A naive `at` is taken as UTC. Never raises for any host or country.
        """
        coverage = self.find(host)
        if isinstance(coverage, Uncovered):
            return coverage.decision
        return coverage.decide(country.upper() if isinstance(country, str) else None, told_by, timestamp(at))

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
        covered = set()
        for name, node in self._names.items():
            for subdomains in {item.subdomains if isinstance(item, _Listing) else True for item in node}:
                coverage = self._coverage(name, exact=not subdomains)
                if isinstance(coverage, Coverage) and coverage.enforced_somewhere(measure, instant):
                    covered.add((name, subdomains))
        return frozenset(covered)

    def names_in_force(self, at: datetime) -> Iterator[str]:
        """Yield each listed name that some order holds in force at `at`; between its windows an order is in force."""
        instant = timestamp(at)
        known: dict[int, bool] = {}  # names with the same claims share one node
        for name, node in self._names.items():
            held = known.get(id(node))
            if held is None:
                held = known[id(node)] = _is_in_force(node, instant)
            if held:
                yield name

    def is_in_force(self, name: str, at: datetime) -> bool:
        """Tell whether a canonical name is covered by any order in force at `at`, by itself or through a parent."""
        coverage = self._look_up(name)
        return isinstance(coverage, Coverage) and coverage.in_force(timestamp(at))

    def next_change(self, after: datetime) -> datetime | None:
        """Return the first instant later than `after` at which any decision may change, None if there is none."""
        position = bisect_right(self._changes, timestamp(after))
        return datetime.fromtimestamp(self._changes[position], UTC) if position < len(self._changes) else None

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
        if name.count(".") >= self._depth:  # no listed name is deeper: a hundred labels cost no hundred look-ups
            suffix = ".".join(name.rsplit(".", self._depth)[1:])
        names = self._names
        while suffix:
            if suffix in names and (suffix == name or self._reaches_down(suffix)):
                return self._coverage(suffix, exact=suffix == name)
            suffix = suffix.partition(".")[2]
        return self._unnamed

    def _reaches_down(self, name: str) -> bool:
        return any(isinstance(item, _Release) or item.subdomains for item in self._names[name])

    def _coverage(self, name: str, *, exact: bool) -> Coverage | Uncovered:
        """Return what the orders say of a listed or released name itself (`exact`), or of any host below it."""
        key = (name, exact)
        coverage = self._coverages.get(key)
        if coverage is None:
            if len(self._coverages) >= _MEMO_SIZE:
                self._coverages.clear()
            held = sorted(self._held(name, exact=exact), key=lambda item: item.order.id)  # stable: most specific first
            coverage = self._coverages[key] = Coverage(held, self.revision) if held else self._unnamed
        return coverage

    def _held(self, name: str, *, exact: bool) -> Iterator[Held]:
        releases: list[_Release] = []
        for suffix in _suffixes(name):
            node = self._names.get(suffix, ())
            releases += [item for item in node if isinstance(item, _Release)]
            for item in node:
                if isinstance(item, _Listing) and (item.subdomains or (exact and suffix == name)):
                    yield Held(item.order, suffix, item.addition, item.span.timeline(_lifted(item, releases)))

    def _each_break(self) -> Iterator[tuple[float, ...]]:
        for item in {id(item): item for node in self._names.values() for item in node}.values():
            yield item.span.timeline(item.lifted).breaks if isinstance(item, _Listing) else (item.at,)


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


def revision_of(orders: Iterable[Order]) -> str:
    """Return `sha256:` and the digest of all that the orders say; the same orders give the same text anywhere."""
    digest = hashlib.sha256()
    for order in sorted(orders, key=lambda order: order.id):
        digest.update(json.dumps(_plain(order), ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode())
        digest.update(b"\n")
    return f"sha256:{digest.hexdigest()}"


def timestamp(at: datetime) -> float:
    """Return an instant as seconds since 1970; a naive one is taken as UTC."""
    return at.timestamp() if at.tzinfo is not None else at.replace(tzinfo=UTC).timestamp()


def _index(orders: Iterable[Order]) -> dict[str, _Node]:
    """Return every listed or released name with what the orders say of it.

    Names with the same claims share one tuple, so that a million names cost a dictionary and nothing more.
    """
    names: dict[str, _Node] = {}
    shared: dict[_Node, _Node] = {}
    for order in orders:
        claims: Iterator[tuple[str, _Listing | _Release]] = chain(_listings(order), _releases(order))
        for name, item in claims:
            node: _Node = (*names.get(name, ()), item)
            names[name] = shared.setdefault(node, node)
    return names


def _listings(order: Order) -> Iterator[tuple[str, _Listing]]:
    begins, ends = calendar.starts_at(order).timestamp(), calendar.ends_at(order).timestamp()
    windows = tuple((opens.timestamp(), closes.timestamp()) for opens, closes in calendar.windows_of(order))
    lifted = min((_at(order, lifting.at) for lifting in order.lifted if lifting.names is None), default=inf)
    yield from _listed(order, None, Span(begins, ends, windows), lifted, -inf)
    for addition in order.additions:
        added = max(begins, calendar.addition_starts_at(order, addition).timestamp())
        yield from _listed(order, addition, Span(added, ends, windows), lifted, _at(order, addition.notified))


def _listed(
    order: Order, addition: Addition | None, span: Span, lifted: float, notified: float
) -> Iterator[tuple[str, _Listing]]:
    claims = {subdomains: _Listing(order, addition, subdomains, span, notified, lifted) for subdomains in (True, False)}
    seen: set[tuple[str, bool]] = set()
    part = order if addition is None else addition
    for name in part.names:
        if (name.name, name.subdomains) not in seen:
            seen.add((name.name, name.subdomains))
            yield name.name, claims[name.subdomains]
    if part.names_file is not None:
        yield from ((name, claims[True]) for name in dict.fromkeys(part.names_file.names) if (name, True) not in seen)


def _releases(order: Order) -> Iterator[tuple[str, _Release]]:
    for lifting in order.lifted:
        for name in dict.fromkeys(lifting.names or ()):
            yield name, _Release(order.id, _at(order, lifting.at))


def _lifted(listing: _Listing, releases: Iterable[_Release]) -> float:
    """Return when a listing is lifted for a host, given the releases that stand between the host and the listing.

    A lifting releases what was notified before it; a name that is notified again afterwards is blocked again.
    """
    own = (item.at for item in releases if item.order_id == listing.order.id and item.at >= listing.notified)
    return min(chain(own, (listing.lifted,)))


def _is_in_force(node: _Node, at: float) -> bool:
    releases = [item for item in node if isinstance(item, _Release)]
    return any(
        item.span.begins <= at < min(item.span.ends, _lifted(item, releases))
        for item in node
        if isinstance(item, _Listing)
    )


def _suffixes(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.partition(".")[2]


def _at(order: Order, moment: date | datetime) -> float:
    return calendar.instant(moment, order.timezone).timestamp()


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


def _plain(value: Any) -> Any:
    """Return a value of an order as JSON has it, without the places in files: they do not change what is enforced."""
    if isinstance(value, NamesFile):
        return list(value.names)
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name != "position"}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
