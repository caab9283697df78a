"""What a native engine has to know at one instant: host → group, group and place → outcome. Pure.

An engine looks a host up among `exact`, else its longest suffix among `suffixes`, and gets a group; the group and the
client's place give the outcome. That walk answers exactly what `RuleSet.decide` does, for the measures that the engine
carries: parents, liftings and names without their sub-domains are worked into the two tables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cdnblock.matching.decision import Decision, Reason
from cdnblock.orders.model import Measure, Order

OTHER: Final = "other"
"""The place of clients in a country that no order mentions."""
UNKNOWN: Final = "unknown"
"""The place of clients whose country cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a covered client gets. The reasons are those of one host; where names do not matter, they stand for others'.

    `id` depends on nothing but what the outcome tells, so other orders come and go without changing it.
    """

    id: str
    measures: Mapping[Measure, str]
    reasons: tuple[Reason, ...]

    def because(self, measure: Measure) -> tuple[Reason, ...]:
        """Return the reasons of one measure, the strictest variant first."""
        return Decision(measures=self.measures, reasons=self.reasons).because(measure)

    def action(self, told: str) -> str:
        """Return what a proxy does: `close`, `uncached`, or `told` where a notice tells of it."""
        match self.measures.get(Measure.PROXY):
            case "close":
                return "close"
            case "terminate":
                return told
            case _:
                return "uncached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hosts with the same outcome in each place; in a place that is not there they are let through."""

    id: str
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that is enforced at one instant, and until when that is right (None: for ever).

    A name whose group is None is free, below another that is not. `orders` are those that have a part in the plan,
    `countries` all that their territories mention.
    """

    revision: str
    until: datetime | None
    orders: tuple[Order, ...]
    countries: tuple[str, ...]
    exact: Mapping[str, Group | None]
    suffixes: Mapping[str, Group | None]

    @property
    def groups(self) -> tuple[Group, ...]:
        """Every group, by its id."""
        found = {group.id: group for table in (self.exact, self.suffixes) for group in table.values() if group}
        return tuple(found[key] for key in sorted(found))

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Every outcome, by its id."""
        found = {outcome.id: outcome for group in self.groups for outcome in group.outcomes.values()}
        return tuple(found[key] for key in sorted(found))

    @property
    def tells_unknown(self) -> bool:
        """Whether clients of unknown location fare otherwise than those in a country that no order mentions."""
        return any(group.outcomes.get(OTHER) is not group.outcomes.get(UNKNOWN) for group in self.groups)

    def depths(self) -> tuple[int, ...]:
        """Return how many labels the names of `suffixes` have, the most first."""
        return tuple(sorted({name.count(".") + 1 for name in self.suffixes}, reverse=True))

    def longest(self) -> int:
        """Return how many characters the longest name has, 0 if there is none."""
        return max((len(name) for table in (self.exact, self.suffixes) for name in table), default=0)

    def group_of(self, host: str) -> Group | None:
        """Return the group of a canonical host, as an engine finds it."""
        return self.exact[host] if host in self.exact else _nearest(self.suffixes, host)

    def place_of(self, country: str | None) -> str:
        """Return the place of a client in `country`, None where it cannot be told."""
        return UNKNOWN if country is None else country if country in self.countries else OTHER

    def served(self, hosts: Iterable[str]) -> Plan:
        """Return the plan of a server that serves these canonical hosts alone; `*.name` is all hosts below a name."""
        hosts = [*hosts]
        trees = {host.removeprefix("*.") for host in hosts if host.startswith("*.")}
        exact = {name: group for name, group in self.exact.items() if _is_below(name, trees)}
        suffixes = {name: group for name, group in self.suffixes.items() if _is_below(name, trees)}
        for host in hosts:
            if host not in exact and not host.startswith("*.") and (group := self.group_of(host)):
                exact[host] = group
        for tree in trees:
            if tree not in suffixes and (group := _nearest(self.suffixes, tree)):
                suffixes[tree] = group
        return replace(self, exact=dict(sorted(exact.items())), suffixes=dict(sorted(suffixes.items())))

    def seen_from(self, place: str) -> Plan:
        """Return the plan for a server all of whose clients are in one place: there each outcome is everybody's."""
        seen = {group.id: self._only(group, place) for group in self.groups}
        suffixes: dict[str, Group | None] = {}
        for name in sorted(self.suffixes, key=labels):
            group = self.suffixes[name]
            _keep(suffixes, name, seen[group.id] if group else None, _nearest(suffixes, name.partition(".")[2]))
        exact: dict[str, Group | None] = {}
        for name, group in self.exact.items():
            _keep(exact, name, seen[group.id] if group else None, _nearest(suffixes, name))
        return replace(self, countries=(), exact=exact, suffixes=dict(sorted(suffixes.items())))

    def _only(self, group: Group, place: str) -> Group | None:
        outcome = group.outcomes.get(place)
        return None if outcome is None else Group(id=outcome.id, outcomes={OTHER: outcome, UNKNOWN: outcome})


def labels(name: str) -> int:
    """Return how many labels a name has."""
    return name.count(".") + 1


def _nearest(suffixes: Mapping[str, Group | None], host: str) -> Group | None:
    while host:
        if host in suffixes:
            return suffixes[host]
        host = host.partition(".")[2]
    return None


def _keep(table: dict[str, Group | None], name: str, group: Group | None, otherwise: Group | None) -> None:
    """Put a name in a table where it is not what holds of the name without it."""
    if (group and group.id) != (otherwise and otherwise.id):
        table[name] = group


def _is_below(name: str, trees: Collection[str]) -> bool:
    while trees and name:
        name = name.partition(".")[2]
        if name in trees:
            return True
    return False
