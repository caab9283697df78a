"""What a native engine has to know at one instant: host → group, group and place → outcome. Pure.

An engine looks a host up among `exact`, else its longest suffix among `suffixes`, and gets a group; the group and the
client's place give the outcome. That walk answers exactly what `RuleSet.decide` does, for the measures that the engine
carries: parents, liftings and names without their sub-domains are worked into the two tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from operator import itemgetter
from typing import Final, TypeAlias

from cdnblock.matching.coverage import union, why_not_here
from cdnblock.matching.decision import Decision, Reason
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Measure, Order

OTHER: Final = "other"
"""The place of clients in a country that no order mentions."""
UNKNOWN: Final = "unknown"
"""The place of clients whose country cannot be told."""

_NOWHERE: Final = ""  # stands for a country that no order mentions
_ID_DIGITS: Final = 10  # of a digest: 40 bits; where two meet all the same, the later one gets a longer id

Carries: TypeAlias = Mapping[tuple[Measure, str], str]
"""Each measure and variant that an engine carries, and the variant that it gives for it."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hosts with the same outcome in each place; in a place that is not there they are let through."""

    id: str
    outcomes: Mapping[str, Outcome]


Tells: TypeAlias = Callable[[Outcome], Hashable]
"""What an engine's answer tells beside the measures: outcomes that tell the same are one."""


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
    def places(self) -> tuple[str, ...]:
        """Every place: the countries that orders mention, all others, and nowhere."""
        return (*self.countries, OTHER, UNKNOWN)

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


def make_plan(rules: RuleSet, at: datetime, carries: Carries, tells: Tells) -> Plan:
    """Return what an engine that carries these measures has to know at an instant."""
    return _Planner(rules, at, carries, tells).plan()


def notice_told(outcome: Outcome) -> Hashable:
    """Return what a notice tells of an outcome; of names how many labels they have: the host has the rest."""
    if outcome.measures.get(Measure.PROXY) != "terminate":
        return ()
    return tuple(
        (
            reason.order.id,
            reason.notice,
            str(reason.addition and reason.addition.notified),
            str(reason.until),
            labels(reason.name),
        )
        for reason in outcome.because(Measure.PROXY)
    )


def orders_told(outcome: Outcome) -> Hashable:
    """Return what an extended DNS error tells of an outcome: the orders."""
    return tuple(reason.id for reason in outcome.because(Measure.DNS))


def nothing_told(_outcome: Outcome) -> Hashable:
    """Return nothing: the engine's answer does not say why."""
    return ()


def labels(name: str) -> int:
    """Return how many labels a name has."""
    return name.count(".") + 1


@dataclass(frozen=True, slots=True)
class _Shape:
    """What holds of a listed name and of all below it: the same for names with the same claims on them and above them."""

    number: int
    own: tuple[Reason, ...]
    below: tuple[Reason, ...]


_NO_SHAPE: Final = _Shape(0, (), ())


class _Planner:
    """Works names out shape by shape: the hundred thousand names of an annex are of one or two."""

    def __init__(self, rules: RuleSet, at: datetime, carries: Carries, tells: Tells) -> None:
        self._rules = rules
        self._at = at
        self._carries = carries
        self._tells = tells
        self._shapes: dict[Hashable, _Shape] = {}
        self._groups: dict[Hashable, Group | None] = {}
        self._outcomes: dict[Hashable, Outcome] = {}
        self._ids: set[str] = set()
        self._countries: tuple[str, ...] = ()

    def plan(self) -> Plan:
        found = {"": _NO_SHAPE}
        listed = self._from_the_top()
        for name, mark, above in listed:
            found[name] = self._shape(name, mark, found[above])
        holding = (reason for shape in self._shapes.values() for reason in (*shape.own, *shape.below))
        orders = {reason.id: reason.order for reason in holding}
        self._countries = tuple(sorted({code for order in orders.values() for code in order.territory.countries}))
        own: dict[int, Group | None] = {0: None}
        below: dict[int, Group | None] = {0: None}
        for shape in self._shapes.values():
            own[shape.number], below[shape.number] = self._group(shape.own), self._group(shape.below)
        exact: dict[str, Group | None] = {}
        suffixes: dict[str, Group | None] = {}
        for name, _mark, above in listed:
            number = found[name].number
            if below[number] is not below[found[above].number]:
                suffixes[name] = below[number]
            if own[number] is not below[number]:
                exact[name] = own[number]
        return Plan(
            revision=self._rules.revision,
            until=self._rules.next_change(self._at),
            orders=tuple(orders[key] for key in sorted(orders)),
            countries=self._countries,
            exact=dict(sorted(exact.items(), key=itemgetter(0))),
            suffixes=dict(sorted(suffixes.items(), key=itemgetter(0))),
        )

    def _from_the_top(self) -> list[tuple[str, object, str]]:
        """Return what is listed; what stands above a name comes before it."""
        listed = [(name.count("."), name, mark, above) for name, mark, above in self._rules.each_listed()]
        return [item[1:] for item in sorted(listed, key=itemgetter(0, 1))]

    def _shape(self, name: str, mark: object, upper: _Shape) -> _Shape:
        key = (mark, name.count("."), upper.number)
        shape = self._shapes.get(key)
        if shape is None:
            own, below = self._holding(name, exact=True), self._holding(name, exact=False)
            shape = self._shapes[key] = _Shape(len(self._shapes) + 1, own, below)
        return shape

    def _holding(self, name: str, *, exact: bool) -> tuple[Reason, ...]:
        holding = self._rules.holding(name, self._at, exact=exact)
        return tuple(reason for reason in holding if self._measures(reason.order))

    def _group(self, reasons: tuple[Reason, ...]) -> Group | None:
        places = {country: country for country in self._countries} | {OTHER: _NOWHERE, UNKNOWN: None}
        outcomes = {place: self._outcome(reasons, country) for place, country in places.items()}
        enforced = {place: outcome for place, outcome in outcomes.items() if outcome is not None}
        key = tuple((place, outcome.id) for place, outcome in enforced.items())
        if key not in self._groups:
            self._groups[key] = Group(id=self._id("g", key), outcomes=enforced) if enforced else None
        return self._groups[key]

    def _outcome(self, holding: tuple[Reason, ...], country: str | None) -> Outcome | None:
        reasons = tuple(reason for reason in holding if why_not_here(reason.order, country) is None)
        if not reasons:
            return None
        measures = union(self._measures(reason.order) for reason in reasons)
        outcome = Outcome(id="", measures=measures, reasons=reasons)
        key = (tuple(measures.items()), self._tells(outcome))
        if key not in self._outcomes:
            self._outcomes[key] = replace(outcome, id=self._id("o", key))
        return self._outcomes[key]

    def _measures(self, order: Order) -> Mapping[Measure, str]:
        given = {measure: self._carries.get((measure, variant)) for measure, variant in order.measures.items()}
        return {measure: variant for measure, variant in given.items() if variant is not None}

    def _id(self, kind: str, key: Hashable) -> str:
        digest = hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()
        digits = next(n for n in range(_ID_DIGITS, len(digest)) if kind + digest[:n] not in self._ids)
        self._ids.add(kind + digest[:digits])
        return kind + digest[:digits]


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
