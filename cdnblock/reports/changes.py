"""What a change of the orders would do before it goes live: values, from two rule sets and an instant.

    changes = changes_between(old, new, at)
    changes.groups       # in total: names for which something becomes otherwise, and what, where and when
    changes.orders       # the same of each order that differs, and what its file says otherwise

All hosts are told by names: a name itself, or what is below it and neither at nor below another name that is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

from cdnblock.matching.comparison import Kin, Outcome, Places, Shift, compare
from cdnblock.matching.coverage import Held
from cdnblock.matching.lives import Variants
from cdnblock.matching.revision import revision_of
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Measure, Order, UnknownLocation
from cdnblock.reports.order_fields import FieldChange, field_changes, goes_on_after, listed_only
from cdnblock.sources.release_guard import Verdict, judged

Tell: TypeAlias = Callable[[int, int], None]


class Scope(StrEnum):
    """Which hosts a name stands for."""

    WHOLE = "the name and everything below it"
    ALONE = "the name alone"
    BELOW = "everything below the name"


class Kind(StrEnum):
    """What becomes otherwise. What is only reported has the same kinds: it would be so."""

    BLOCKS = "blocks"
    PROLONGS = "prolongs"
    ALTERS = "alters"
    SHORTENS = "shortens"
    RELEASES = "releases"


class What(StrEnum):
    """What becomes of an order's file."""

    NEW = "new"
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One thing that becomes otherwise in some places, from `since` on and before `until` (None: for ever).

    `reported` is what is only told, by orders in mode report. `measures` are those of after, or of before where they end;
    `instead_of` has the variants of before where others come.
    """

    kind: Kind
    reported: bool
    measures: Variants
    instead_of: Variants
    places: Places
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Names, sorted, for which the same becomes otherwise; `shifts` are decisions of before and after, whole."""

    scope: Scope
    names: tuple[str, ...]
    shifts: Outcome
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Names that one order lets go, and that stay blocked all the same, by other orders."""

    names: tuple[str, ...]
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChange:
    """One order whose file says something else than before, and what it does otherwise, taken alone.

    `came` and `went` are names that it lists now and did not, and the reverse.
    """

    id: str
    file: str | None
    what: What
    zone: str
    fields: tuple[FieldChange, ...]
    came: tuple[str, ...]
    went: tuple[str, ...]
    groups: tuple[Group, ...]
    stays: tuple[Stay, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Everything that becomes otherwise from `at` on. `spared` stand below names that are told, and fare as before.

    `guard` is what the release guard of a running instance would say.
    """

    at: datetime
    before: str
    after: str
    orders: tuple[OrderChange, ...]
    groups: tuple[Group, ...]
    spared: tuple[tuple[Scope, str], ...]
    guard: Verdict

    def __bool__(self) -> bool:
        """Tell whether any decision becomes otherwise."""
        return bool(self.groups)


def changes_between(old: RuleSet, new: RuleSet, at: datetime, tell: Tell | None = None) -> Changes:
    """Return what is decided otherwise under `new` than under `old` from `at` on.

    `tell` is called now and then with how many names have been looked at, and how many there are.
    """
    kins = compare(old, new, at, tell)
    ids = sorted(id_ for id_ in old.orders.keys() | new.orders.keys() if _differs(old, new, id_))
    return Changes(
        at=at,
        before=old.revision,
        after=new.revision,
        orders=tuple(_order_change(old.orders.get(id_), new.orders.get(id_), kins, at) for id_ in ids),
        groups=_groups((kin, kin.own, kin.below) for kin in kins),
        spared=tuple(sorted(_spared(kins))),
        guard=judged(old, new, at, [old.orders[id_] for id_ in ids if id_ in old.orders]),
    )


def _differs(old: RuleSet, new: RuleSet, order_id: str) -> bool:
    """Tell whether an order says something else; where its file stands makes no difference."""
    before, after = ([rules.orders[order_id]] if order_id in rules.orders else [] for rules in (old, new))
    return revision_of(before) != revision_of(after)


def _order_change(before: Order | None, after: Order | None, kins: Collection[Kin], at: datetime) -> OrderChange:
    order = after or before
    assert order is not None  # noqa: S101 (one of the two has the id)
    mine = [(kin, *kin.orders[order.id]) for kin in kins if order.id in kin.orders]
    # What an order that goes on lists otherwise fares otherwise by it: no need to go through a million names again.
    goes_on = all(each is None or goes_on_after(each, at) for each in (before, after))
    told = [name for kin in kins for name in kin.names] if goes_on else None
    return OrderChange(
        id=order.id,
        file=None if order.position is None else order.position.file,
        what=What.NEW if before is None else What.GONE if after is None else What.CHANGED,
        zone=order.timezone,
        fields=() if before is None or after is None else field_changes(before, after),
        came=tuple(sorted(listed_only(after, before, told))),
        went=tuple(sorted(listed_only(before, after, told))),
        groups=_groups(mine),
        stays=_stays(order.id, mine),
    )


def _groups(outcomes: Iterable[tuple[Kin, Outcome, Outcome]]) -> tuple[Group, ...]:
    found: dict[tuple[Outcome, Scope], list[str]] = {}
    for kin, own, below in outcomes:
        if own and own == below:
            found.setdefault((own, Scope.WHOLE), []).extend(kin.names)
        else:
            for scope, of in ((Scope.ALONE, own), (Scope.BELOW, below)):
                if of:
                    found.setdefault((of, scope), []).extend(kin.names)
    groups = (
        Group(scope=scope, names=tuple(sorted(names)), shifts=shifts, turns=tuple(_turns(shifts)))
        for (shifts, scope), names in found.items()
    )
    return tuple(sorted(groups, key=lambda group: (group.shifts[0].since, -len(group.names), group.names)))


def _turns(shifts: Outcome) -> Iterator[Turn]:
    for shift in shifts:
        lanes = (
            (shift.before.measures, shift.after.measures, shift.ran.measures),
            (shift.before.would, shift.after.would, shift.ran.would),
        )
        for reported, (before, after, ran) in enumerate(lanes):
            for kind, measures in _kinds(dict(before), dict(after), ran).items():
                was = tuple((measure, dict(before)[measure]) for measure, _ in measures if kind is Kind.ALTERS)
                yield Turn(
                    kind=kind,
                    reported=bool(reported),
                    measures=measures,
                    instead_of=was,
                    places=shift.places,
                    since=_instant(shift.since),
                    until=_until(shift),
                )


def _kinds(before: Mapping[Measure, str], after: Mapping[Measure, str], ran: Variants) -> dict[Kind, Variants]:
    found: dict[Kind, Variants] = {}
    for measure in Measure:
        old, new = before.get(measure), after.get(measure)
        if old == new:
            continue
        if old is None:
            kind = Kind.PROLONGS if (measure, new) in ran else Kind.BLOCKS
        elif new is None:
            kind = Kind.SHORTENS if (measure, old) in ran else Kind.RELEASES
        else:
            kind = Kind.ALTERS
        found[kind] = (*found.get(kind, ()), (measure, new or old or ""))
    return {kind: found[kind] for kind in Kind if kind in found}


def _spared(kins: Iterable[Kin]) -> Iterator[tuple[Scope, str]]:
    """Yield the names that fare as before below others that do not."""
    every = [*kins]
    if all(kin.own and kin.below for kin in every):
        return
    of = {name: kin for kin in every for name in kin.names}
    for name, kin in of.items():
        if (kin.own and kin.below) or not _falls_under(name, of):
            continue
        scope = Scope.BELOW if kin.own else Scope.ALONE if kin.below else Scope.WHOLE
        yield scope, name


def _falls_under(name: str, of: Mapping[str, Kin]) -> bool:
    """Tell whether the next name above becomes otherwise with all below it."""
    while name := name.partition(".")[2]:
        if name in of:
            return bool(of[name].below)
    return False


def _stays(order_id: str, outcomes: Iterable[tuple[Kin, Outcome, Outcome]]) -> tuple[Stay, ...]:
    found: dict[tuple[str, ...], list[str]] = {}
    for kin, own, _ in outcomes:
        lost = [shift for shift in own if _loses(shift)]
        if not lost or any(map(_loses, kin.own)):
            continue
        others = sorted(
            {
                item.order.id
                for item in kin.held[0]
                if item.order.id != order_id and any(_holds(item, shift) for shift in lost)
            }
        )
        found.setdefault(tuple(others), []).extend(kin.names)
    return tuple(Stay(names=tuple(sorted(names)), by=by) for by, names in sorted(found.items()))


def _loses(shift: Shift) -> bool:
    after = dict(shift.after.measures)
    return any(measure not in after for measure, _ in shift.before.measures)


def _holds(item: Held, shift: Shift) -> bool:
    """Tell whether a listing blocks somebody in a shift's places as it begins."""
    order, places = item.order, shift.places
    if not order.is_enforced or item.timeline.why_not(shift.since) is not None:
        return False
    codes = order.territory.countries
    somebody = bool(codes - places.countries) if places.all_but else bool(codes & places.countries)
    return order.territory.world or somebody or (places.unknown and order.unknown_location is UnknownLocation.ENFORCE)


def _instant(seconds: float) -> datetime:
    """Return an instant."""
    return datetime.fromtimestamp(seconds, UTC)


def _until(shift: Shift) -> datetime | None:
    """Return when a shift is over, None if never."""
    return None if shift.until == float("inf") else _instant(shift.until)
