"""From orders to a plan: names are worked out kin by kin, since those of an annex are of one or two. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias

from cdnblock.exporters._fares import Fare, Fares
from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Outcome, Plan, labels
from cdnblock.exporters._roll import Roll, roll_of
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


def make_plan(rules: RuleSet, at: datetime, carries: Carries, tells: Tells, roll: Roll | None = None) -> Plan:
    """Return what an engine that carries these measures has to know at an instant.

    `roll` is that of the rules, for whoever has it.
    """
    return _Planner(rules, at, carries, tells).plan(roll or roll_of(rules))


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


class _Shape(NamedTuple):
    """Why orders hold a name itself, and any other host below it."""

    own: tuple[Reason, ...]
    below: tuple[Reason, ...]


class _Planner:
    """Works names out kin by kin: the hundred thousand names of an annex are of one or two."""

    def __init__(self, rules: RuleSet, at: datetime, carries: Carries, tells: Tells) -> None:
        self._rules = rules
        self._at = at
        self._carries = carries
        self._tells = tells
        self._groups: dict[Hashable, Group | None] = {}
        self._outcomes: dict[Hashable, Outcome] = {}
        self._ids: set[str] = set()
        self._countries: tuple[str, ...] = ()

    def plan(self, roll: Roll) -> Plan:
        # By first names, whatever the order in which a rule set yields its names: ids depend on nothing else.
        shapes = {
            kin: _Shape(self._holding(name, exact=True), self._holding(name, exact=False))
            for kin, name in roll.firsts().items()
        }
        orders = {reason.id: reason.order for shape in shapes.values() for reason in (*shape.own, *shape.below)}
        self._countries = tuple(sorted({code for order in orders.values() for code in order.territory.countries}))
        fares = {
            kin: Fare(
                dots=roll.kins[kin].dots,
                upper=roll.kins[kin].upper,
                own=self._group(shape.own),
                below=self._group(shape.below),
            )
            for kin, shape in shapes.items()
        }
        empty = Plan(
            revision=self._rules.revision,
            until=self._rules.next_turn(self._at),
            orders=tuple(orders[key] for key in sorted(orders)),
            countries=self._countries,
        )
        return empty.by(Fares(roll.blocks, fares))

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
