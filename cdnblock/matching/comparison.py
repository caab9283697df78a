"""Two rule sets, and what is decided otherwise under the second from an instant on: exact, name by name. Pure.

Names with the same claims on them and above them fare alike, so a million names are of a few kinds, and only what
differs is looked at. All hosts are told by the names that orders list: a name itself, and whatever is below it but not
at or below another listed name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, pairwise
from math import inf
from typing import Final, NamedTuple, TypeAlias

from cdnblock.matching.coverage import Held, union, why_not_here
from cdnblock.matching.lives import Numbers, Variants, variants_of
from cdnblock.matching.ruleset import RuleSet, timestamp
from cdnblock.orders.model import Order

_SOMEWHERE: Final = "somewhere else"  # stands for a country that no order mentions
_AT_ONCE: Final = 50_000  # names between two words on progress
_FEW: Final = 40  # names that are sought in the text of all others
_NOTHING: Final[tuple[()]] = ()

Tell: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Places:
    """Where clients are: in `countries`, or (`all_but`) in any country but those; and whether `unknown` counts."""

    countries: frozenset[str]
    all_but: bool = False
    unknown: bool = False

    def have(self, country: str | None) -> bool:
        """Tell whether a client in a country (None: unknown) is in one of these places."""
        return self.unknown if country is None else (country in self.countries) is not self.all_but


class Effect(NamedTuple):
    """What is done about a host, and what would be if nothing were only reported."""

    measures: Variants
    would: Variants


@dataclass(frozen=True, slots=True)
class Shift:
    """In these places, from `since` on and before `until` (seconds since 1970, inf for ever): what is, and what will be.

    `ran` is what is done both before and after the change immediately before `since`: what goes on longer under the new
    rules, or ends earlier, was among it. It is empty where the shift is there from the beginning.
    """

    places: Places
    since: float
    until: float
    before: Effect
    after: Effect
    ran: Effect


Outcome: TypeAlias = tuple[Shift, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Kin:
    """Names that fare alike before and after: what becomes otherwise for them (`own`) and for hosts below (`below`).

    `orders` has the same of each order taken alone, where something becomes otherwise. `held` are the listings that
    cover the names under the new rules, those for hosts below them second.
    """

    names: list[str]
    own: Outcome
    below: Outcome
    orders: Mapping[str, tuple[Outcome, Outcome]]
    held: tuple[tuple[Held, ...], tuple[Held, ...]]


def compare(old: RuleSet, new: RuleSet, at: datetime, tell: Tell | None = None) -> list[Kin]:
    """Return the names that may fare otherwise from `at` on, by kin; all other hosts fare as before, for ever.

    Nothing may become otherwise for some of them all the same: they stand below one for which something does. `tell` is
    called now and then with how many names have been looked at, and how many there are.
    """
    return _Comparison(old, new, timestamp(at), tell or (lambda _done, _all: None)).kins()


def outcome(before: Sequence[Held], after: Sequence[Held], at: float) -> Outcome:
    """Return what becomes otherwise, from `at` on, where other listings cover a host than before."""
    breaks = {instant for item in (*before, *after) for instant in item.timeline.breaks if instant > at}
    instants = sorted({at, *breaks})
    found: dict[tuple[tuple[float, float, Effect, Effect, Effect], ...], set[str | None]] = {}
    orders = {id(item.order): item.order for item in (*before, *after)}
    for clients in _alike(orders.values()):
        country = next(iter(clients))
        sides = [(_effect(before, country, instant), _effect(after, country, instant)) for instant in instants]
        found.setdefault(tuple(_shifts(instants, sides)), set()).update(clients)
    everywhere = set().union(*found.values())
    return tuple(Shift(_places(clients, everywhere), *shift) for shifts, clients in found.items() for shift in shifts)


class _Comparison:
    def __init__(self, old: RuleSet, new: RuleSet, at: float, tell: Tell) -> None:
        self._old, self._new, self._at, self._tell = old, new, at, tell
        numbers: dict[Hashable, int] = {frozenset(): 0}
        self._was, self._is = Numbers(old, self._at, numbers), Numbers(new, self._at, numbers)
        self._kinds: dict[Hashable, Kin] = {}
        self._gone: list[str] = []  # listed before, and no longer
        self._done = 0

    def kins(self) -> list[Kin]:
        """Return the names that differ, and all that stand below them, by kin."""
        differing = {name for pieces in self._each_shard() for name in pieces}
        was, now, mask = self._was, self._is, len(self._old.index.shards) - 1
        old, new = self._old.index.shards, self._new.index.shards
        above: dict[str, Hashable] = {}  # by a name's parent: what stands on the listed names at and above it
        for name in chain(differing, self._below(differing)):
            parent = name.partition(".")[2]
            if parent not in above:
                above[parent] = was.at_and_above(parent), now.at_and_above(parent)
            number = hash(name) & mask
            key = (was[old[number].get(name)], now[new[number].get(name)], above[parent])
            kin = self._kinds.get(key)
            if kin is None:
                kin = self._kinds[key] = self._kin(name)
            kin.names.append(name)
        return [*self._kinds.values()]

    def _each_shard(self) -> Iterator[Iterable[str]]:
        """Yield the listed names on which something else stands than before."""
        was, now = self._was, self._is
        for mine, theirs in zip(self._old.index.shards, self._new.index.shards, strict=True):
            if mine is theirs:
                yield [name for name, mark in theirs.items() if was[mark] != now[mark]]
            else:
                gone = [name for name in mine if name not in theirs]
                self._gone += gone
                yield [name for name in gone if was[mine[name]]]
                yield [name for name in theirs if name not in mine and now[theirs[name]]]
                if len({*map(was.__getitem__, {*mine.values()}), *map(now.__getitem__, {*theirs.values()})}) > 1:
                    yield [name for name, mark in theirs.items() if name in mine and was[mine[name]] != now[mark]]
            self._look(len(theirs))

    def _below(self, names: set[str]) -> Iterator[str]:
        """Yield the other listed names that have one of these above them."""
        endings = [f".{name}\n" for name in names] if len(names) <= _FEW else []
        has_above = {"": False}  # of a name's parent: whether it, or a name above it, is one of these
        for others in (*self._new.index.shards, self._gone) if names else ():
            self._look(len(others))
            if endings:  # a search through one text is ten times as quick as a look at each name
                text = "\n".join((*others, ""))
                if not any(ending in text for ending in endings):
                    continue
            for name in others:
                parent = name.partition(".")[2]
                found = has_above.get(parent)
                if found is None:
                    found = has_above[parent] = _is_at_or_below(parent, names)
                if found and name not in names:
                    yield name

    def _look(self, names: int) -> None:
        if (self._done + names) // _AT_ONCE != self._done // _AT_ONCE:
            self._tell(self._done + names, 2 * len(self._new))
        self._done += names

    def _kin(self, name: str) -> Kin:
        """Return the kin of a name; the others of it fare as this one."""
        outcomes: list[Outcome] = []
        held: list[tuple[Held, ...]] = []
        orders: dict[str, list[Outcome]] = {}
        for exact in (True, False):
            before = _living(self._old.listings(name, exact=exact), self._at)
            after = _living(self._new.listings(name, exact=exact), self._at)
            outcomes.append(outcome(before, after, self._at))
            held.append(after)
            for order_id in sorted({item.order.id for item in (*before, *after)}):
                mine, theirs = _of_order(before, order_id), _of_order(after, order_id)
                orders.setdefault(order_id, [(), ()])[not exact] = outcome(mine, theirs, self._at)
        alone = {order_id: (own, below) for order_id, (own, below) in orders.items() if own or below}
        return Kin([], outcomes[0], outcomes[1], alone, (held[0], held[1]))


def _living(held: Iterable[Held], at: float) -> tuple[Held, ...]:
    return tuple(
        item for item in held if item.timeline.why_not(at) is None or item.timeline.next_enforced(at) is not None
    )


def _of_order(held: Iterable[Held], order_id: str) -> list[Held]:
    return [item for item in held if item.order.id == order_id]


def _is_at_or_below(name: str, names: set[str]) -> bool:
    while name:
        if name in names:
            return True
        name = name.partition(".")[2]
    return False


def _alike(orders: Collection[Order]) -> Iterator[set[str | None]]:
    """Yield clients' countries, together where the same orders concern them; None is unknown."""
    countries = {code for order in orders for code in order.territory.countries}
    found: dict[tuple[bool, ...], set[str | None]] = {}
    for country in (*countries, _SOMEWHERE, None):
        found.setdefault(tuple(why_not_here(order, country) is None for order in orders), set()).add(country)
    yield from found.values()


def _effect(held: Iterable[Held], country: str | None, at: float) -> Effect:
    applying = {
        id(item.order): item.order
        for item in held
        if item.timeline.why_not(at) is None and why_not_here(item.order, country) is None
    }.values()
    done = union(order.measures for order in applying if order.is_enforced)
    would = union(order.measures for order in applying if not order.is_enforced)
    return Effect(variants_of(done), variants_of(would))


def _shifts(
    instants: Sequence[float], sides: Sequence[tuple[Effect, Effect]]
) -> Iterator[tuple[float, float, Effect, Effect, Effect]]:
    """Yield each span in which both sides differ, with what both had in common just before."""
    starts = [0, *(number for number in range(1, len(sides)) if sides[number] != sides[number - 1]), len(sides)]
    for start, end in pairwise(starts):
        before, after = sides[start]
        if before != after:
            until = instants[end] if end < len(instants) else inf
            ran = _common(*sides[start - 1]) if start else Effect(_NOTHING, _NOTHING)
            yield instants[start], until, before, after, ran


def _common(before: Effect, after: Effect) -> Effect:
    return Effect(
        tuple(pair for pair in before.measures if pair in after.measures),
        tuple(pair for pair in before.would if pair in after.would),
    )


def _places(clients: set[str | None], everywhere: set[str | None]) -> Places:
    unknown = None in clients
    if _SOMEWHERE not in clients:
        return Places(frozenset(code for code in clients if code is not None), unknown=unknown)
    spared = everywhere - clients
    return Places(frozenset(code for code in spared if code is not None), all_but=True, unknown=unknown)
