"""What a native engine has to know at one instant: host → group, group and place → outcome. Pure.

An engine looks a host up among `exact`, else its longest suffix among `suffixes`, and gets a group; the group and the
client's place give the outcome. That walk answers exactly what `RuleSet.decide` does, for the measures that the engine
carries: parents, liftings and names without their sub-domains are worked into the two tables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from cdnblock.exporters._fares import Fares, FrameOf, Table
from cdnblock.exporters._groups import OTHER, UNKNOWN, Group, Outcome, differ, labels
from cdnblock.exporters._roll import top_of
from cdnblock.orders.model import Order

__all__ = ["OTHER", "UNKNOWN", "Group", "Outcome", "Plan", "labels"]


@dataclass(frozen=True, kw_only=True)  # without slots: its groups are kept once they are known
class Plan:
    """Everything that is enforced at one instant, and until when that is right (None: for ever).

    A name whose group is None is free, below another that is not. `orders` are those that have a part in the plan,
    `countries` all that their territories mention. `fares` is what the tables were made of: None if they were changed.
    """

    revision: str
    until: datetime | None
    orders: tuple[Order, ...]
    countries: tuple[str, ...]
    exact: Table = field(default_factory=dict)
    suffixes: Table = field(default_factory=dict)
    fares: Fares | None = field(default=None, init=False, compare=False, repr=False)

    def by(self, fares: Fares) -> Plan:
        """Return the plan in which this is how names fare."""
        plan = replace(self, exact={}, suffixes={})
        object.__setattr__(plan, "fares", fares)  # no argument: whoever replaces a table must not keep it
        del plan.__dict__["exact"], plan.__dict__["suffixes"]  # made once somebody asks for them
        return plan

    if not TYPE_CHECKING:  # which takes it for a sign that there is every attribute

        def __getattr__(self, name: str) -> Table:
            """Make a table that nobody has asked for before: what an engine goes by may be made without it."""
            fares = self.__dict__.get("fares")
            if fares is None or name not in ("exact", "suffixes"):
                raise AttributeError(name, name=name, obj=self)
            table = self.__dict__[name] = fares.exact() if name == "exact" else fares.suffixes()
            return table

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Every group, by its id."""
        tables = (
            (self.exact, self.suffixes) if self.fares is None else (self.fares.in_exact(), self.fares.in_suffixes())
        )
        found = {group.id: group for table in tables for group in table.values() if group}
        return tuple(found[key] for key in sorted(found))

    @cached_property
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
        found = {*map(labels, self.suffixes)} if self.fares is None else self.fares.depths()
        return tuple(sorted(found, reverse=True))

    def longest(self) -> int:
        """Return how many characters the longest name has, 0 if there is none."""
        return max(map(len, chain(self.exact, self.suffixes)), default=0)

    def lines(self, frame: FrameOf, *, exact: bool = False) -> Iterator[str]:
        """Yield the table of suffixes, or of hosts, as texts: each name in its frame, in the order of the table."""
        if self.fares is not None:
            yield from self.fares.lines(frame, exact=exact)
            return
        here, there = (self.exact, self.suffixes) if exact else (self.suffixes, self.exact)
        for name, group in here.items():
            yield name.join(frame(group, name in there))

    def gates(self, count: int) -> Iterable[str]:
        """Return the last `count` labels of each name, or all it has, where these are no suffix themselves; each once."""
        if self.fares is not None:
            return self.fares.gates(count, self.suffixes)
        found = dict.fromkeys(top_of(name, count) for name in sorted({*self.exact, *self.suffixes}))
        return [gate for gate in found if gate not in self.suffixes]

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
        if self.fares is not None:
            return replace(self, countries=(), exact={}, suffixes={}).by(
                self.fares.changed(lambda group: self._only(group, place))
            )
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


def _nearest(suffixes: Mapping[str, Group | None], host: str) -> Group | None:
    while host:
        if host in suffixes:
            return suffixes[host]
        host = host.partition(".")[2]
    return None


def _keep(table: dict[str, Group | None], name: str, group: Group | None, otherwise: Group | None) -> None:
    """Put a name in a table where it is not what holds of the name without it."""
    if differ(group, otherwise):
        table[name] = group


def _is_below(name: str, trees: Collection[str]) -> bool:
    while trees and name:
        name = name.partition(".")[2]
        if name in trees:
            return True
    return False
