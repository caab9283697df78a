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
from dataclasses import dataclass
from typing import Final, TypeAlias

from cdnblock.exporters._exporter import Missing, Options
from cdnblock.exporters._lists import by_orders
from cdnblock.exporters._plan import OTHER, UNKNOWN, Outcome, Plan
from cdnblock.matching.decision import Decision
from cdnblock.measures.dns_refusal import NEGATIVE_TTL, refusal
from cdnblock.orders.model import Measure

PASSTHRU: Final = "rpz-passthru."
"""What a name that is let go below one that is not points to."""
NEGATIVE: Final[Mapping[str, str]] = {"nxdomain": ".", "nodata": "*."}
"""Variant of measure `dns`: what its names point to. RPZ has none for `refuse`."""
LONGEST_NAME: Final = 245
"""Characters that a name may have: with `*.` before it and the zone's name behind, a DNS name has 255 octets at most."""

_SOA: Final = "blocked.invalid. nobody.invalid."  # as `measures.dns_refusal.SOA_RDATA`: names that can never exist
_TRIGGERS: Final = ("rpz-ip", "rpz-nsip", "rpz-nsdname", "rpz-client-ip")  # last labels that make no name of a name
_DIGITS: Final = 4  # of a part's id
_EDE_HEAD: Final = 6  # octets of the option before EXTRA-TEXT: code, length, INFO-CODE

Sort: TypeAlias = Callable[[Iterable[Outcome]], str]
"""What sort of tree has these outcomes; trees of different sorts are in different parts."""

_Entry: TypeAlias = tuple[str, bool, str | None]  # a name, whether it is meant alone, and its outcome's id


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
    outcomes = {outcome.id: outcome for outcome in plan.outcomes}
    found: dict[tuple[tuple[str, ...], str], list[_Entry]] = {}
    for seen in _trees(plan).values():
        alike: dict[tuple[_Entry, ...], tuple[str, ...]] = {}
        for places, entries in seen.items():
            alike[tuple(entries)] = (*alike.get(tuple(entries), ()), *places)
        for those, places in alike.items():
            of_sort = sort(outcomes[held] for _, _, held in those if held is not None)
            found.setdefault((tuple(sorted(places)), of_sort), []).extend(those)
    ids = _ids(found)
    made = (_part(ids[key], key, sorted(entries), outcomes) for key, entries in found.items())
    return tuple(sorted(made, key=lambda part: part.id))


def zone_text(part: Part, points_to: Mapping[str, str] = NEGATIVE) -> str:
    """Return a part as a zone file, its names relative to whatever the zone is called.

    `points_to` is what the names of each variant point to. What cannot be a name in a zone is left out: see
    `no_names_in_zones`.
    """
    lines: list[str] = []
    for owner, outcome in part.records():
        if is_name_in_zone(owner.removeprefix("*.")):
            target = PASSTHRU if outcome is None else points_to[outcome.measures[Measure.DNS]]
            lines.append(f"{owner} CNAME {target}\n")
    records = "".join(lines)
    # The same records have the same serial, others another one.
    soa = f"@ SOA {_SOA} {zlib.crc32(records.encode())} 3600 600 604800 {NEGATIVE_TTL}\n"
    return f"$TTL {NEGATIVE_TTL}\n{soa}@ NS nobody.invalid.\n{records}"


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


def _trees(plan: Plan) -> dict[str, dict[tuple[str, ...], list[_Entry]]]:
    """Return for each name that no other stands above what is said of it and below it, in each set of places."""
    listed = plan.exact.keys() | plan.suffixes.keys()
    tops = {name: _top(name, listed) for name in listed}
    found: dict[str, dict[tuple[str, ...], list[_Entry]]] = {}
    for places in _alike(plan):
        seen = plan.seen_from(places[0])
        for alone, table in ((True, seen.exact), (False, seen.suffixes)):
            for name, group in table.items():
                held = None if group is None else group.outcomes[OTHER].id
                found.setdefault(tops[name], {}).setdefault(places, []).append((name, alone, held))
    return found


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


def _part(
    part_id: str, key: tuple[tuple[str, ...], str], entries: list[_Entry], outcomes: Mapping[str, Outcome]
) -> Part:
    places, sort = key
    held: dict[bool, dict[str, Outcome | None]] = {True: {}, False: {}}
    for name, alone, outcome in entries:
        held[alone][name] = None if outcome is None else outcomes[outcome]
    return Part(id=part_id, sort=sort, places=places, exact=held[True], suffixes=held[False])


def _ids(keys: Iterable[tuple[tuple[str, ...], str]]) -> dict[tuple[tuple[str, ...], str], str]:
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for key in sorted(keys):
        digest = hashlib.sha256(" ".join((*key[0], key[1])).encode()).hexdigest()
        starts = (digest[start : start + _DIGITS] for start in range(len(digest)))
        found[next(f"c{start}" for start in starts if f"c{start}" not in found)] = key
    return {key: part_id for part_id, key in found.items()}
