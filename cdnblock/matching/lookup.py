"""From the text of a host to what the orders say of it; behind a memo, since the same hosts come again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from cdnblock.matching.claims import Claim, Listing, Release, lifted_at
from cdnblock.matching.coverage import Coverage, Held
from cdnblock.matching.decision import Decision
from cdnblock.matching.index import NameIndex
from cdnblock.matching.names import canonical, canonical_query_name
from cdnblock.orders.name_list import SHARD_MASK

_MEMO_SIZE: Final = 65_536  # hosts; about 7 MB when full
_MEMO_MAX_HOST: Final = 300  # longer spellings are looked up anew each time, so that nobody fills memory with them
_MAX_COVERAGES: Final = 1_024  # what is remembered of covered names, each with its decisions; about 2 MB when full


Kind: TypeAlias = tuple[tuple[object, bool], ...]
"""For each listed name at or above a name, from there up: the mark of its claims, and whether it is the name itself."""


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A host that no order names, with the one decision that there is for it."""

    decision: Decision


class Memo(dict[str | bytes, Coverage | Uncovered]):
    """What was found of hosts as they were spelled. A hit is one look-up in a dictionary, and no call.

    What is neither text nor octets is a TypeError.
    """

    __slots__ = ("_counting", "_look_up", "_until")

    def __init__(self, look_up: Callable[[object], Coverage | Uncovered], counting: Lookup) -> None:
        super().__init__()
        self._look_up = look_up
        self._counting = counting
        self._until = _MAX_COVERAGES

    def __missing__(self, host: str | bytes) -> Coverage | Uncovered:
        found = self._look_up(host)
        if len(host) <= _MEMO_MAX_HOST:
            if len(self) >= _MEMO_SIZE or self._counting.built > self._until:
                self.clear()
                self._until = self._counting.built + _MAX_COVERAGES
            self[host] = found
        return found


class Lookup:
    """The rules of one revision as hosts meet them. It knows no memo that holds it: nothing here goes round in circles."""

    __slots__ = ("_coverages", "_malformed", "_names", "_revision", "_unnamed", "built")

    def __init__(self, names: NameIndex[Claim], revision: str) -> None:
        self._names = names
        self._revision = revision
        self._unnamed = Uncovered(Decision(measures=MappingProxyType({}), revision=revision))
        self._malformed = Uncovered(Decision(measures=MappingProxyType({}), revision=revision, malformed=True))
        self._coverages: dict[tuple[str, bool], Coverage | Uncovered] = {}
        self.built = 0
        """How many coverages have been made so far: a memo that outlived a thousand of them keeps too many alive."""

    def of_host(self, host: object) -> Coverage | Uncovered:
        """Return what the orders say of a host as a URL or a Host field spells it. Never raises."""
        return self.of_name(canonical(host) if isinstance(host, (str, bytes)) else None)

    def of_query_name(self, name: object) -> Coverage | Uncovered:
        """Return what the orders say of a DNS query name (`names.canonical_query_name`). Never raises."""
        return self.of_name(canonical_query_name(name) if isinstance(name, str) else None)

    def of_name(self, name: str | None) -> Coverage | Uncovered:
        """Return what the orders say of a canonical name; None is malformed."""
        if name is None:
            return self._malformed
        suffix = self._names.nearest(name)
        while suffix:
            if suffix == name or self._reaches_down(suffix):
                return self._coverage(suffix, exact=suffix == name)
            suffix = self._names.nearest(suffix.partition(".")[2])
        return self._unnamed

    def kind_of_query_name(self, name: object) -> Kind:
        """Return what names of one kind have in common: the claims on them and above them. Never raises.

        All that is said of two names of one kind is the same, but for the names. The kind of what is in no list is ().
        """
        canonical_name = canonical_query_name(name) if isinstance(name, str) else None
        kind: list[tuple[object, bool]] = []
        suffix = self._names.nearest(canonical_name) if canonical_name is not None else ""
        while suffix:
            kind.append((self._names.shards[hash(suffix) & SHARD_MASK][suffix], suffix == canonical_name))
            suffix = self._names.nearest(suffix.partition(".")[2])
        return tuple(kind)

    def held(self, name: str, *, exact: bool) -> Iterator[Held]:
        """Yield each listing that covers a listed or released name itself (`exact`), or any host below it."""
        releases: list[Release] = []
        suffix = name
        while suffix:
            claims = self._names[suffix]
            releases += [item for item in claims if isinstance(item, Release)]
            for item in claims:
                if isinstance(item, Listing) and (item.subdomains or (exact and suffix == name)):
                    yield Held(item.order, suffix, item.addition, item.span.timeline(lifted_at(item, releases)))
            suffix = suffix.partition(".")[2]

    def _reaches_down(self, name: str) -> bool:
        return any(isinstance(item, Release) or item.subdomains for item in self._names[name])

    def _coverage(self, name: str, *, exact: bool) -> Coverage | Uncovered:
        key = (name, exact)
        coverage = self._coverages.get(key)
        if coverage is None:
            if len(self._coverages) >= _MAX_COVERAGES:
                self._coverages.clear()
            held = [*self.held(name, exact=exact)]
            self.built += 1
            coverage = self._coverages[key] = self.coverage_of(held) if held else self._unnamed
        return coverage

    def coverage_of(self, held: Iterable[Held]) -> Coverage:
        """Return the coverage of listings that come from the most specific name up."""
        return Coverage(sorted(held, key=lambda item: item.order.id), self._revision)  # stable: still so in each order
