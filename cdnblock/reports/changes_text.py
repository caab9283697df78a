"""What a change of the orders would do, in words: lines for people, which cannot steer a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from cdnblock.matching.comparison import Places
from cdnblock.matching.lives import Variants
from cdnblock.orders.instants import LEGAL_TIME
from cdnblock.reports.changes import Changes, Group, Kind, OrderChange, Scope, Turn, What
from cdnblock.reports.order_fields import FieldChange
from cdnblock.shown import shown

_LONGEST: Final = 120  # characters of a value in a file that are shown
_DOES: Final = {
    # kind: what is done, and what would be by orders in mode report
    Kind.BLOCKS: ("blocks", "report only: would block"),
    Kind.PROLONGS: ("goes on blocking", "report only: would go on blocking"),
    Kind.ALTERS: ("blocks otherwise", "report only: would block otherwise"),
    Kind.SHORTENS: ("releases earlier", "report only: would release earlier"),
    Kind.RELEASES: ("releases", "report only: would block no more"),
}
_SCOPES: Final = {
    Scope.WHOLE: "",
    Scope.ALONE: " without what is below",
    Scope.BELOW: " only in what is below",
}


def as_text(changes: Changes, most: int | None) -> Iterator[str]:
    """Yield the lines; of each list of names at most `most` are shown, None for all."""
    for order in changes.orders:
        yield from _order(order, changes.at, most)
        yield ""
    zone = _zone(changes)
    if len(changes.orders) == 1 and changes.groups == changes.orders[0].groups:
        yield "in total: the same"
    elif changes.groups:
        yield "in total"
        yield from _groups(changes.groups, changes.at, zone, most)
    if changes.spared:
        yield f"as before, although below names of these: {many(len(changes.spared), 'name')}"
        yield from _names([name for _, name in changes.spared], most, "  ")
    yield from _verdict(changes)


def many(number: int, noun: str) -> str:
    """Return `1 name`, `1,000 names`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def places_in_words(places: Places) -> str:
    """Return where clients are, such as `in FR RE`, `everywhere but in DE`."""
    codes = " ".join(sorted(places.countries))
    if places.all_but:
        unknown = "" if places.unknown else ", not where the country cannot be told"
        return (f"everywhere but in {codes}" if codes else "everywhere") + unknown
    if not codes:
        return "where the country cannot be told" if places.unknown else "nowhere"
    return f"in {codes}" + (" and where the country cannot be told" if places.unknown else "")


def _zone(changes: Changes) -> str:
    zones = {order.zone for order in changes.orders}
    return zones.pop() if len(zones) == 1 else LEGAL_TIME


def _order(order: OrderChange, at: datetime, most: int | None) -> Iterator[str]:
    where = f" ({shown(order.file)})" if order.file else ""
    yield f"order {shown(order.id)}{where}: {_WHAT[order.what]}"
    yield from map(_field, order.fields)
    for sign, names in (("+", order.came), ("-", order.went)):
        if names and order.what is What.CHANGED:
            yield f"  {sign}{many(len(names), 'name')} in its lists"
            yield from _names(names, most, f"    {sign}")
    if order.groups:
        yield from _groups(order.groups, at, order.zone, most)
    else:
        yield "  from now on no decision becomes otherwise by it"
    for stay in order.stays:
        stays = "stays" if len(stay.names) == 1 else "stay"
        yield f"  {many(len(stay.names), 'name')} of those {stays} blocked by {', '.join(map(shown, stay.by))}"
        yield from _names(stay.names, most, "    ")


_WHAT: Final = {What.NEW: "new", What.CHANGED: "changed", What.GONE: "gone"}


def _field(change: FieldChange) -> str:
    before, after = (None if value is None else _cut(shown(value)) for value in (change.before, change.after))
    if before is None:
        return f"  {change.key}: {after} (was not there)"
    return f"  {change.key}: {before} -> {after if after is not None else 'not there any more'}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _groups(groups: Iterable[Group], at: datetime, zone: str, most: int | None) -> Iterator[str]:
    """Yield what becomes otherwise, instant by instant."""
    every = sorted(
        ((turn, group) for group in groups for turn in group.turns),
        key=lambda pair: (pair[0].since, [*Kind].index(pair[0].kind), pair[0].reported, pair[1].names[0]),
    )
    for since, together in groupby(every, key=lambda pair: pair[0].since):
        yield "  now" if since <= at else f"  from {_when(since, zone)}"
        for turn, group in together:
            yield f"    {_turn(turn, group, zone)}"
            yield from _names(group.names, most, "      ")


def _turn(turn: Turn, group: Group, zone: str) -> str:
    measures = _measures(turn.measures)
    if turn.instead_of:
        measures += f" instead of {_measures(turn.instead_of)}"
    until = "for ever" if turn.until is None else f"until {_when(turn.until, zone)}"
    if turn.kind is Kind.RELEASES:
        until = f"so far {until}"
    if turn.kind is Kind.SHORTENS:
        until = f"instead of {until.removeprefix('until ')}"
    names = many(len(group.names), "name") + _SCOPES[group.scope]
    return f"{_DOES[turn.kind][turn.reported]} {names} ({measures}) {places_in_words(turn.places)}, {until}"


def _measures(measures: Variants) -> str:
    return ", ".join(f"{measure.value} {variant}" for measure, variant in measures)


def _names(names: Sequence[str], most: int | None, indent: str) -> Iterator[str]:
    yield from (f"{indent}{name}" for name in (names if most is None else names[:most]))
    if most is not None and len(names) > most:
        yield f"{indent}… and {len(names) - most:,} more (--names all)"


def _when(at: datetime, zone: str) -> str:
    try:
        local = at.astimezone(ZoneInfo(zone))
    except OverflowError:
        local = at
    return local.isoformat(sep=" ", timespec="seconds" if local.second else "minutes")


def _verdict(changes: Changes) -> Iterator[str]:
    """Yield the last lines: what comes of it all."""
    if not changes.orders:
        yield "nothing differs: both say the same"
    elif not changes:
        yield "from now on no decision becomes otherwise"
    guard = changes.guard
    if guard.held:
        later = f", and {guard.later:,} more when their orders start" if guard.later else ""
        yield (
            f"the release guard would hold this back: it releases {guard.now:,} of {many(guard.in_force, 'name')} in force"
            f"{later}; `cdnblock reload --accept-release` where that is meant"
        )
    elif guard.now or guard.later:
        yield (
            f"the release guard would let this pass: it releases {guard.now + guard.later:,} of"
            f" {many(guard.in_force, 'name')} in force"
        )
