"""Kinds of places: those that fare alike in everything are one, so an engine compares an address with few lists. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Plan


def kinds(plan: Plan) -> Mapping[str, str]:
    """Return the kind of each place: the first place that fares as it does, `other` before all countries.

    Unknown location is no country's kind: its networks hold tunnels, so those of countries are in them.
    """
    groups = plan.groups
    firsts: dict[tuple[str | None, ...], str] = {}
    found = {place: firsts.setdefault(_fare(groups, place), place) for place in (OTHER, *plan.countries)}
    return found | {UNKNOWN: OTHER if _fare(groups, UNKNOWN) == _fare(groups, OTHER) else UNKNOWN}


def _fare(groups: Iterable[Group], place: str) -> tuple[str | None, ...]:
    outcomes = (group.outcomes.get(place) for group in groups)
    return tuple(outcome.id if outcome else None for outcome in outcomes)
