"""Response policy zones, which BIND, Unbound, Knot Resolver and PowerDNS Recursor read alike. Pure.

    for part in parts(plan):
        if part.holds_in("FR"): ... zone_text(part)

A plan falls into parts, each for a set of places. Names that stand above or below each other are in the same part, so of
all parts that hold in a client's place at most one has a say in a name, and the order of zones does not matter.

Engines walk a zone in two ways: by the longest suffix, or as DNS does (RFC 4592), where a name that is there, or that
something below is there, hides the wildcards above it. The records are such that both come to the same.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from cdnblock.exporters._exporter import Missing, Options
from cdnblock.exporters._lists import by_orders
from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Outcome, Plan
from cdnblock.matching.decision import Decision
from cdnblock.measures.dns_refusal import NEGATIVE_TTL, refusal
from cdnblock.orders.model import Measure

PASSTHRU: Final = "rpz-passthru."
"""What a name that is let go below one that is not points to."""
NEGATIVE: Final[Mapping[str, str]] = {"nxdomain": ".", "nodata": "*."}
"""Variant of measure `dns`: what its names point to. RPZ has none for `refuse`."""
LONGEST_NAME: Final = 245
"""Characters that a name may have: with `*.` before it and the zone's name behind, a DNS name has 255 octets at most."""

_TRIGGERS: Final = ("rpz-ip", "rpz-nsip", "rpz-nsdname", "rpz-client-ip")  # last labels that make no name of a name
_DIGITS: Final = 4  # of a part's id
_EDE_HEAD: Final = 6  # octets of the option before EXTRA-TEXT: code, length, INFO-CODE

Sort: TypeAlias = Callable[[Iterable[Outcome]], str]
"""What sort of tree has these outcomes; trees of different sorts are in different parts."""

_Entry: TypeAlias = tuple[str, bool, str | None]  # a name, whether it is meant alone, and its outcome's id
_Key: TypeAlias = tuple[tuple[str, ...], str]  # places and sort
_Table: TypeAlias = dict[str, str | None]  # name: its outcome's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What holds in certain places of certain names, as a plan has it; nothing else holds of these names there.

    `id` depends on places and sort alone, so it stays when names come and go. It is a letter and hexadecimal digits.
    """

    id: str
    sort: str
    places: tuple[str, ...]
    exact: Mapping[str, Outcome | None]
    suffixes: Mapping[str, Outcome | None]

    def holds_in(self, place: str) -> bool:
        """Tell whether the part is for clients in a place."""
        return place in self.places

    def below(self, name: str) -> Outcome | None:
        """Return what holds of all below a name of which nothing else is said."""
        while name:
            if name in self.suffixes:
                return self.suffixes[name]
            name = name.partition(".")[2]
        return None

    def of(self, name: str) -> Outcome | None:
        """Return what holds of a name itself."""
        return self.exact[name] if name in self.exact else self.below(name)

    def records(self) -> Iterator[tuple[str, Outcome | None]]:
        """Yield owner, relative to the zone, and outcome; None where a name is let go. Every owner comes once."""
        listed = self.exact.keys() | self.suffixes.keys()
        for name in sorted({*listed, *(node for item in listed for node in _between(item, listed))}):
            own, below = self.of(name), self.below(name)
            freed = self.below(name.partition(".")[2]) is not None
            if own is not None or freed:
                yield name, own
            if below is not None or freed:
                yield f"*.{name}", below


def _one_sort(_outcomes: Iterable[Outcome]) -> str:
    return ""


def parts(plan: Plan, sort: Sort = _one_sort) -> tuple[Part, ...]:
    """Return the plan in parts, by their ids."""
    below = _below(plan)
    tangled = {*below, *below.values()}
    shares = _Shares({outcome.id: outcome for outcome in plan.outcomes}, sort)
    _share_alone(plan, tangled, shares)
    if tangled:
        _share_trees(plan, below, tangled, shares)
    return shares.parts()


def zone_text(part: Part, points_to: Mapping[str, str] = NEGATIVE) -> str:
    """Return a part as a zone file, its names relative to whatever the zone is called.

    `points_to` is what the names of each variant point to. What cannot be a name in a zone is left out: see
    `no_names_in_zones`.
    """
    lines: list[str] = []
    for owner, outcome in part.records():
        suspect = len(owner) > LONGEST_NAME or "rpz-" in owner
        if not suspect or is_name_in_zone(owner.removeprefix("*.")):
            target = PASSTHRU if outcome is None else points_to[outcome.measures[Measure.DNS]]
            lines.append(f"{owner} CNAME {target}\n")
    records = "".join(lines)
    # The same records have the same serial, others another one.
    soa = soa_data(zlib.crc32(records.encode()))
    return f"$TTL {NEGATIVE_TTL}\n@ SOA {soa}\n@ NS nobody.invalid.\n{records}"


def soa_data(serial: int = 1) -> str:
    """Return what `measures.dns_refusal.SOA_RDATA` holds, as zone files have it."""
    return f"blocked.invalid. nobody.invalid. {serial} 3600 600 604800 {NEGATIVE_TTL}"


def is_name_in_zone(name: str) -> bool:
    """Tell whether a zone can have a name with a wildcard below it, and reads it as a name."""
    return len(name) <= LONGEST_NAME and name.rpartition(".")[2] not in _TRIGGERS


def no_names_in_zones(plan: Plan, _options: Options) -> Iterator[Missing]:
    """Yield the orders with names that no policy zone can have; all the others are in it."""
    names = [name for table in (plan.exact, plan.suffixes) for name in table if not is_name_in_zone(name)]
    why = f"is no name of at most {LONGEST_NAME} characters, as a policy zone wants it: left out"
    return by_orders(plan, names, why)


def extra_text(outcome: Outcome, options: Options) -> str:
    """Return the EXTRA-TEXT of the extended DNS error with which an outcome's names are refused."""
    decision = Decision(measures=outcome.measures, reasons=outcome.reasons)
    refused = refusal(decision, has_opt=True, client_subnet_present=False, contact=options.contact)
    return (refused.ede or b"")[_EDE_HEAD:].decode()


class _Shares:
    """Collects what each part holds."""

    def __init__(self, outcomes: Mapping[str, Outcome], sort: Sort) -> None:
        self._outcomes = outcomes
        self._sort = sort
        self._tables: dict[_Key, tuple[_Table, _Table]] = {}

    def of(self, seen: Mapping[tuple[str, ...], tuple[_Entry, ...]]) -> Iterator[tuple[_Entry, _Table]]:
        """Yield what is said of the names of a tree, each with the table that it belongs into.

        `seen` is what is said in each set of places.
        """
        alike: dict[tuple[_Entry, ...], tuple[str, ...]] = {}
        for places, entries in seen.items():
            if entries:
                alike[entries] = (*alike.get(entries, ()), *places)
        for entries, places in alike.items():
            of_sort = self._sort(self._outcomes[held] for _, _, held in entries if held is not None)
            tables = self._tables.setdefault((tuple(sorted(places)), of_sort), ({}, {}))
            for entry in entries:
                yield entry, tables[not entry[1]]

    def parts(self) -> tuple[Part, ...]:
        """Return them, by their ids."""
        ids = _ids(self._tables)
        made = (
            Part(id=ids[key], places=key[0], sort=key[1], exact=self._named(exact), suffixes=self._named(suffixes))
            for key, (exact, suffixes) in self._tables.items()
        )
        return tuple(sorted(made, key=lambda part: part.id))

    def _named(self, table: _Table) -> dict[str, Outcome | None]:
        return {name: None if held is None else self._outcomes[held] for name, held in sorted(table.items())}


def _share_alone(plan: Plan, tangled: Collection[str], shares: _Shares) -> None:
    """Share out the names that stand below no other and above none: nearly all, and of few kinds."""
    places = _alike(plan)
    kinds: dict[tuple[str | None, str | None], list[tuple[_Table, str | None]]] = {}
    for name in (*plan.suffixes, *(name for name in plan.exact if name not in plan.suffixes)):
        if name in tangled:
            continue
        below = plan.suffixes.get(name)
        own = plan.exact.get(name, below)
        kind = (None if own is None else own.id, None if below is None else below.id)
        if kind not in kinds:
            seen = {those: (*_said_of_one(own, below, those[0]),) for those in places}
            kinds[kind] = [(table, held) for (_, _, held), table in shares.of(seen)]
        for table, held in kinds[kind]:
            table[name] = held


def _said_of_one(own: Group | None, below: Group | None, place: str) -> Iterator[_Entry]:
    of_own, of_below = ((group.outcomes.get(place) if group else None) for group in (own, below))
    if of_below is not None:
        yield "", False, of_below.id
    if of_own is not of_below:
        yield "", True, None if of_own is None else of_own.id


def _share_trees(plan: Plan, below: Mapping[str, str], tangled: Collection[str], shares: _Shares) -> None:
    """Share out names that stand below or above others, tree by tree."""
    exact = {name: group for name, group in plan.exact.items() if name in tangled}
    suffixes = {name: group for name, group in plan.suffixes.items() if name in tangled}
    trees: dict[str, dict[tuple[str, ...], list[_Entry]]] = {}
    for places in _alike(plan):
        seen = replace(plan, exact=exact, suffixes=suffixes).seen_from(places[0])
        for alone, table in ((True, seen.exact), (False, seen.suffixes)):
            for name, group in table.items():
                held = None if group is None else group.outcomes[OTHER].id
                trees.setdefault(below.get(name, name), {}).setdefault(places, []).append((name, alone, held))
    for tree in trees.values():
        for (name, _, held), into in shares.of({places: tuple(entries) for places, entries in tree.items()}):
            into[name] = held


def _below(plan: Plan) -> dict[str, str]:
    """Return the names that stand below another, each with the highest of those."""
    listed = {*plan.exact, *plan.suffixes}
    return {name: top for name in listed if (top := _top(name, listed)) != name}


def _alike(plan: Plan) -> list[tuple[str, ...]]:
    """Return the places in sets: in those of one set the same holds of every name."""
    found: dict[tuple[str | None, ...], tuple[str, ...]] = {}
    groups = plan.groups
    for place in (*plan.countries, OTHER, UNKNOWN):
        held = (group.outcomes.get(place) for group in groups)
        outcomes = tuple(None if outcome is None else outcome.id for outcome in held)
        found[outcomes] = (*found.get(outcomes, ()), place)
    return [*found.values()]


def _top(name: str, listed: Collection[str]) -> str:
    top = above = name
    while above := above.partition(".")[2]:
        if above in listed:
            top = above
    return top


def _between(name: str, listed: Collection[str]) -> list[str]:
    """Return the names between a name and the next listed one above it, if there is one."""
    found: list[str] = []
    while name := name.partition(".")[2]:
        if name in listed:
            return found
        found.append(name)
    return []


def _ids(keys: Iterable[_Key]) -> dict[_Key, str]:
    found: dict[str, _Key] = {}
    for key in sorted(keys):
        digest = hashlib.sha256(" ".join((*key[0], key[1])).encode()).hexdigest()
        starts = (digest[start : start + _DIGITS] for start in range(len(digest)))
        found[next(f"c{start}" for start in starts if f"c{start}" not in found)] = key
    return {key: part_id for part_id, key in found.items()}
