"""From orders to a plan: names are worked out shape by shape, since those of an annex are of one or two. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from operator import itemgetter
from typing import Final, TypeAlias

from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Outcome, Plan, labels
from cdnblock.matching.coverage import union, why_not_here
from cdnblock.matching.decision import Reason
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Measure, Order

_NOWHERE: Final = ""  # stands for a country that no order mentions
_ID_DIGITS: Final = 10  # of a digest: 40 bits; where two meet all the same, the later one gets a longer id

Carries: TypeAlias = Mapping[tuple[Measure, str], str]
"""Each measure and variant that an engine carries, and the variant that it gives for it."""

Tells: TypeAlias = Callable[[Outcome], Hashable]
"""What an engine's answer tells beside the measures: outcomes that tell the same are one."""


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
        alike = [*self._alike()]
        holding = (reason for shape in self._shapes.values() for reason in (*shape.own, *shape.below))
        orders = {reason.id: reason.order for reason in holding}
        self._countries = tuple(sorted({code for order in orders.values() for code in order.territory.countries}))
        own: dict[int, Group | None] = {0: None}
        below: dict[int, Group | None] = {0: None}
        for shape in self._shapes.values():
            own[shape.number], below[shape.number] = self._group(shape.own), self._group(shape.below)
        exact: dict[str, Group | None] = {}
        suffixes: dict[str, Group | None] = {}
        for shape, upper, names in alike:
            if below[shape.number] is not below[upper.number]:
                suffixes |= dict.fromkeys(names, below[shape.number])
            if own[shape.number] is not below[shape.number]:
                exact |= dict.fromkeys(names, own[shape.number])
        return Plan(
            revision=self._rules.revision,
            until=self._rules.next_change(self._at),
            orders=tuple(orders[key] for key in sorted(orders)),
            countries=self._countries,
            exact={name: exact[name] for name in sorted(exact)},
            suffixes={name: suffixes[name] for name in sorted(suffixes)},
        )

    def _alike(self) -> Iterator[tuple[_Shape, _Shape, list[str]]]:
        """Yield names of one shape with one above them, all together: nearly all have nothing above them."""
        tops: dict[tuple[object, int], list[str]] = {}
        nested: list[tuple[int, str, object, str]] = []
        for name, mark, above in self._rules.each_listed():
            depth = name.count(".")
            if above:
                nested.append((depth, name, mark, above))
            elif (mark, depth) in tops:
                tops[mark, depth].append(name)
            else:
                tops[mark, depth] = [name]
        found: dict[str, _Shape] = {}
        firsts = sorted((depth, min(names), mark) for (mark, depth), names in tops.items())
        for depth, first, mark in firsts:  # whatever the order in which a rule set yields its names
            shape, names = self._shape(first, mark, _NO_SHAPE), tops[mark, depth]
            if nested:
                found |= dict.fromkeys(names, shape)
            yield shape, _NO_SHAPE, names
        for _, name, mark, above in sorted(nested, key=itemgetter(0, 1)):  # what stands above a name comes before it
            found[name] = self._shape(name, mark, found[above])
            yield found[name], found[above], [name]

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
