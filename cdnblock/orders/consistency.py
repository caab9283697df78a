"""Contradictions inside one order: dates that exclude each other, names twice, liftings of what was never listed.

Each rule looks only at keys that were read whole, so that one mistake is not reported as three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from itertools import chain, islice
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from cdnblock.errors import Problem, Severity
from cdnblock.orders.calendar import (
    LATEST,
    Holidays,
    LegalTime,
    anchor_moment,
    ends_at,
    instant,
    legal_time,
    starts_at,
)
from cdnblock.orders.document import Path, dotted
from cdnblock.orders.model import Addition, Lifting, Moment, Order, Position, Window
from cdnblock.orders.name_list import name_list
from cdnblock.orders.text_file import cut

MAX_FOUND: Final = 1_000  # of one kind: more would not be read

_START_KEYS: Final = frozenset({"from", "served", "decided", "timezone"})
_END_KEYS: Final = frozenset({"until", "for", "counted_from", "implemented", "served", "decided", "timezone"})
_COMPARED: Final = 5_000  # names; longer lists are not gone through one by one
_GUESSES: Final = 5  # for how many names it is


class Found(NamedTuple):
    """What a rule found, at a path of the order file."""

    path: Path
    message: str
    severity: Severity = Severity.ERROR
    of_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An order as far as it could be read. Keys that are missing or broken hold a stand-in, and are named.

    `windows`, `additions` and `liftings` are those that were read whole, each with its path; `moments` is every date
    and time of the file.
    """

    order: Order
    broken_keys: frozenset[str]
    windows: tuple[tuple[Path, Window], ...]
    additions: tuple[tuple[Path, Addition], ...]
    liftings: tuple[tuple[Path, Lifting], ...]
    moments: tuple[tuple[Path, Moment], ...]
    holidays: Holidays

    def has(self, *keys: str) -> bool:
        """Tell whether all of these keys can be relied on."""
        return self.broken_keys.isdisjoint(keys)

    def start(self) -> datetime | None:
        """Return the order's start, or None if it cannot be relied on."""
        return starts_at(self.order) if self.has(*_START_KEYS) else None

    def end(self) -> datetime | None:
        """Return the order's end, or None if it has none that can be relied on."""
        order = self.order
        has_end = order.until is not None or (order.duration is not None and anchor_moment(order) is not None)
        return ends_at(order, self.holidays) if has_end and self.has(*_END_KEYS) else None

    def parts(self) -> list[tuple[Path, Order | Addition]]:
        """Return everything that lists names, each with its path."""
        return [((), self.order), *self.additions]

    def instant(self, moment: Moment, *, end_of_day: bool = False) -> datetime:
        """Return the instant of a moment in the order's zone."""
        return instant(moment, self.order.timezone, end_of_day=end_of_day)

    def shown(self, at: datetime) -> str:
        """Return an instant as the order's zone reads it."""
        return f"{at.astimezone(ZoneInfo(self.order.timezone)):%Y-%m-%d %H:%M}"


def contradictions(draft: Draft) -> Iterator[Found]:
    """Yield everything that contradicts, or deserves a warning, in what could be read of an order."""
    yield from _wrong_end(draft)
    if draft.has("timezone"):
        yield from _dates_of_the_decision(draft)
        yield from _receipt(draft)
        yield from _span(draft)
        yield from _windows(draft)
        yield from _additions(draft)
        yield from _liftings(draft)
        yield from _ambiguous_times(draft)
    if draft.has("names", "names_file", "additions", "lifted"):
        yield from _liftings_of_other_names(draft)


def doubled_names(draft: Draft, file: str) -> Iterator[Problem]:
    """Yield a warning for each name that the order lists again; the first thousand of them."""
    doubled = _doubled_among([part for _, part in draft.parts()])
    if doubled:
        yield from islice(_listed_again(draft, file, doubled), MAX_FOUND)


def _doubled_among(parts: Sequence[Order | Addition]) -> frozenset[str]:
    """Return the names that stand in these parts more than once; if there are none, long lists cost next to nothing."""
    files = [name_list(part.names_file.names) for part in parts if part.names_file is not None]
    long = [names for names in files if len(names) > _COMPARED]
    short = [name.name for part in parts for name in part.names]
    short += chain.from_iterable(names for names in files if len(names) <= _COMPARED)
    found = {name for name, count in Counter(short).items() if count > 1}
    for number, names in enumerate(long):
        found |= names.doubled()
        found.update(name for name in short if name in names)
        for others in long[:number]:
            found |= names.common(others)
    return frozenset(found)


def _wrong_end(draft: Draft) -> Iterator[Found]:
    order = draft.order
    if not draft.has("until", "for"):
        return
    if order.until is None and order.duration is None:
        yield Found(
            ("until",), "no end, no enforcement; write `until: 2025-11-16`, or `for: 12 months` and `counted_from`"
        )
    if order.until is not None and order.duration is not None:
        yield Found(("for",), "`until` and `for` are both given; keep the one that the order states", of_key=True)
    if not draft.has("counted_from"):
        return
    if order.duration is not None and order.counted_from is None:
        right = "write `counted_from: decided`, `served` or `implemented`"
        yield Found(("for",), f"`for` has nothing to count from: `counted_from` is missing; {right}", of_key=True)
    if order.counted_from is not None and order.duration is None:
        yield Found(
            ("counted_from",), "`counted_from` counts nothing without `for`; remove it, or write `for`", of_key=True
        )
    if order.counted_from is not None and draft.has(order.counted_from.value) and anchor_moment(order) is None:
        anchor = order.counted_from.value
        yield Found(("counted_from",), f"`{anchor}` is not in this file; write `{anchor}: 2025-04-02`, the day it was")


def _dates_of_the_decision(draft: Draft) -> Iterator[Found]:
    order = draft.order
    if not draft.has("decided"):
        return
    decided = draft.instant(order.decided)
    since_decided = ("received", order.received), ("served", order.served), ("implemented", order.implemented)
    for key, moment in since_decided:
        if moment is not None and draft.has(key) and draft.instant(moment) < decided:
            yield Found((key,), f"`{key}` lies before the decision of {order.decided}; correct one of the two dates")
    if order.begins is not None and draft.has("from") and draft.instant(order.begins) < decided:
        message = f"enforcement starts before the decision of {order.decided}; is the date right?"
        yield Found(("from",), message, Severity.WARNING)
    if order.comply_within is not None and order.served is None and draft.has("served", "comply_within"):
        message = "there is no deadline without the date of service; add `served` as soon as it is known"
        yield Found(("comply_within",), message, Severity.WARNING, of_key=True)


def _receipt(draft: Draft) -> Iterator[Found]:
    """Nobody confirms what he has not got yet. A bare date may mean any hour of its day."""
    order = draft.order
    if order.acknowledged is None or not draft.has("acknowledged", "received", "decided"):
        return
    confirmed = draft.instant(order.acknowledged, end_of_day=True)
    if order.received is None:
        message = "how long it took to confirm receipt cannot be told without `received`; add when the order came"
        yield Found(("acknowledged",), message, Severity.WARNING, of_key=True)
    elif confirmed < draft.instant(order.received):
        yield Found(("acknowledged",), "receipt was confirmed before the order was `received`; correct one of the two")
    if confirmed < draft.instant(order.decided):
        message = f"`acknowledged` lies before the decision of {order.decided}; correct one of the two dates"
        yield Found(("acknowledged",), message)


def _span(draft: Draft) -> Iterator[Found]:
    start, end = draft.start(), draft.end()
    key = "for" if draft.order.until is None else "until"
    if end is not None and end >= draft.instant(LATEST - timedelta(days=1)):
        yield Found((key,), f"the order would end in {LATEST.year} or later; correct the end")
    elif start is not None and end is not None and end <= start:
        yield Found(
            (key,), f"the order would end at {draft.shown(end)}, not after its start {draft.shown(start)}; correct one"
        )


def _windows(draft: Draft) -> Iterator[Found]:
    start, end = draft.start(), draft.end()
    for path, window in draft.windows:
        begins, until = draft.instant(window.begins), draft.instant(window.until, end_of_day=True)
        if until <= begins:
            yield Found((*path, "until"), "the window ends before it begins; `until` comes after `from`")
        elif start is not None and begins < start:
            message = f"the window begins before the order does, at {draft.shown(start)}; keep it inside of the order"
            yield Found((*path, "from"), message)
        elif end is not None and until > end:
            message = f"the window ends after the order does, at {draft.shown(end)}; keep it inside of the order"
            yield Found((*path, "until"), message)


def _additions(draft: Draft) -> Iterator[Found]:
    end = draft.end()
    lifted = min((draft.instant(lifting.at) for _, lifting in draft.liftings if lifting.names is None), default=None)
    for path, addition in draft.additions:
        notified = draft.instant(addition.notified)
        if end is not None and notified >= end:
            message = f"notified after the order's end, {draft.shown(end)}; an addition needs an order that still runs"
            yield Found((*path, "notified"), message)
        elif lifted is not None and notified >= lifted:
            message = f"notified after the whole order was lifted, {draft.shown(lifted)}; remove the addition"
            yield Found((*path, "notified"), message)
        if addition.begins is not None and end is not None and draft.instant(addition.begins) >= end:
            message = f"starts after the order's end, {draft.shown(end)}; an addition ends with its order"
            yield Found((*path, "from"), message)
        if draft.has("decided") and notified < draft.instant(draft.order.decided):
            message = f"notified before the decision of {draft.order.decided}; is the date right?"
            yield Found((*path, "notified"), message, Severity.WARNING)


def _liftings(draft: Draft) -> Iterator[Found]:
    end = draft.end()
    for path, lifting in draft.liftings:
        if end is not None and draft.instant(lifting.at) > end:
            message = (
                f"lifted after the order's end, {draft.shown(end)}, when nothing is enforced any more; is it right?"
            )
            yield Found((*path, "at"), message, Severity.WARNING)


def _ambiguous_times(draft: Draft) -> Iterator[Found]:
    zone = draft.order.timezone
    for path, moment in draft.moments:
        kind = legal_time(moment, zone)
        if kind is LegalTime.CLEAR:
            continue
        what = "does not exist" if kind is LegalTime.SKIPPED else "comes twice"
        read = draft.instant(moment).astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")
        which = "the first one, " if kind is LegalTime.TWICE else ""
        message = f"this time {what} in {zone}, where the clocks change; it is read as {which}{read}: write it so"
        yield Found(path, message, Severity.WARNING)


def _liftings_of_other_names(draft: Draft) -> Iterator[Found]:
    lifted = [(path, lifting.names) for path, lifting in draft.liftings if lifting.names]
    if not lifted:
        return
    parts = [part for _, part in draft.parts()]
    files = [part.names_file.names for part in parts if part.names_file is not None]
    long = [names for names in files if len(names) > _COMPARED]
    whole = {name.name for part in parts for name in part.names if name.subdomains}
    whole.update(*(names for names in files if len(names) <= _COMPARED))
    exact = whole.union(name.name for part in parts for name in part.names)

    def is_listed(name: str) -> bool:
        if name in exact or not whole.isdisjoint(_above(name)):
            return True
        return any(other in names for names in long for other in (name, *_above(name)))

    missed = 0
    for path, names in lifted:
        for index, name in enumerate(names):
            if is_listed(name):
                continue
            near = _nearest(name, chain(exact, *long), draft.order.size()) if missed < _GUESSES else None
            missed += 1
            if missed > MAX_FOUND:
                return
            right = f"did you mean `{near}`?" if near else "lift a name that it lists, or one below such a name"
            yield Found((*path, "names", index), f"the order lists neither `{cut(name)}` nor a name above it; {right}")


def _nearest(name: str, names: Iterable[str], count: int) -> str | None:
    likely = {other for other in names if count <= _COMPARED or other[:2] == name[:2]}
    near = get_close_matches(name, sorted(likely)[:_COMPARED], n=1)
    return near[0] if near else None


def _above(name: str) -> Iterator[str]:
    while name := name.partition(".")[2]:
        yield name


def _listed_again(draft: Draft, file: str, doubled: Collection[str]) -> Iterator[Problem]:
    """Yield a warning where a name is listed again to no effect.

    An entry has one when it takes in the sub-domains that the one before left out, or when it notifies anew what was
    lifted in between: without it the name would stay released.
    """
    first: dict[str, Position] = {}
    whole: set[str] = set()
    for key, name, subdomains, position, part in _places(draft, doubled):
        place = position or Position(file, 1)
        before = first.setdefault(name, place)
        widens = subdomains and name not in whole
        if subdomains:
            whole.add(name)
        if before is place or widens or _notified_anew(draft, name, part):
            continue
        where = f"line {before.line}" if before.file == place.file else f"{before}"
        message = f"`{cut(name)}` is listed already, {where}; once is enough"
        yield Problem(
            file=place.file, line=place.line, column=place.column, key=key, message=message, severity=Severity.WARNING
        )


def _notified_anew(draft: Draft, name: str, part: Order | Addition) -> bool:
    """Tell whether an addition lists a name after a lifting that released it."""
    if isinstance(part, Order) or not draft.has("timezone"):
        return False
    notified = draft.instant(part.notified)
    return any(
        draft.instant(lifting.at) <= notified and (lifting.names is None or name in lifting.names)
        for _, lifting in draft.liftings
    )


def _places(draft: Draft, names: Collection[str]) -> Iterator[tuple[str, str, bool, Position | None, Order | Addition]]:
    """Yield each place at which the order or an addition lists one of these names, with the key of its list."""
    for path, part in draft.parts():
        for name in part.names:
            if name.name in names:
                yield dotted((*path, "names")), name.name, name.subdomains, name.position, part
        if (file := part.names_file) is None:
            continue
        for listed, line in zip(file.names, file.lines, strict=True):
            if listed in names:
                yield dotted((*path, "names_file")), listed, True, Position(file.file, line), part
