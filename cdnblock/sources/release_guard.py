"""The release guard: how much a change would release, and whether it must be confirmed first.

An order folder that is half synchronised, mounted empty or emptied by mistake looks like an order that was lifted. So a
change that would release more than a third of all names in force, or every one, waits for somebody to say that it is
meant (order-file.md, "The folder and hot reload").
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders import calendar
from cdnblock.orders.model import Addition, Order

MAX_SHARE: Final = 3  # one name in so many may be released without asking


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRelease:
    """A file whose change, or whose removal, is held back.

    `names` is how many names in force it would release, `since` when it was first seen.
    """

    path: Path
    names: int
    since: datetime


def released(old: RuleSet, new: RuleSet, at: datetime, pause: Callable[[], None] | None = None) -> set[str]:
    """Return the names that are in force at `at` under the old rules and no longer under the new ones.

    Between its windows an order is in force. A name that a parent still covers is not released. `pause` is called
    about once a millisecond, so that others can run.
    """
    return set() if new is old else set(old.released_by(new, at, pause))


def must_be_confirmed(old: RuleSet, new: RuleSet, gone: int, at: datetime, *, pending: int = 0) -> bool:
    """Tell whether releasing `gone` of the names in force is more than a third of them, or nothing is left to enforce.

    `pending` names of orders that are still to start count with those in force. A set of orders that have all ended
    may become empty; one of orders that are still to start may not.
    """
    emptied = not new.enforced and old.next_turn(at) is not None
    return emptied or (gone > 0 and gone * MAX_SHARE > old.count_in_force(at) + pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the guard would say of a change: whether it is held back, and how many names it would release.

    `now` of the `in_force` names that are in force would be released at once; `later` others when an order that is
    still to start does.
    """

    held: bool
    now: int
    later: int
    in_force: int


def judged(old: RuleSet, new: RuleSet, at: datetime, changed: Collection[Order]) -> Verdict:
    """Return what the guard of an instance that enforces `old` would say of `new`.

    `changed` are the orders of `old` whose files are others or gone.
    """
    gone_now = released(old, new, at)
    starts = {start for order in changed if (start := calendar.starts_at(order)) > at}
    gone = gone_now.union(*(released(old, new, start) for start in starts))
    pending = sum(order.size() for order in old.enforced if at < calendar.starts_at(order))
    too_much = must_be_confirmed(old, new, len(gone_now), at) or must_be_confirmed(
        old, new, len(gone), at, pending=pending
    )
    held = too_much and any(_lets_go(order, new, gone, at) for order in changed)
    return Verdict(held=held, now=len(gone_now), later=len(gone - gone_now), in_force=old.count_in_force(at))


def _lets_go(order: Order, new: RuleSet, gone: set[str], at: datetime) -> bool:
    """Tell whether a change takes names of this order out of force, or the order before its time."""
    if not order.is_enforced:
        return False
    kept = new.orders.get(order.id)
    return bool(how_many_listed(order, gone)) or (
        (kept is None or not kept.is_enforced) and at < calendar.ends_at(order)
    )


def how_many_listed(order: Order, names: set[str]) -> int:
    """Return how many of the names an order lists, additions included."""
    if not names:
        return 0
    parts: tuple[Order | Addition, ...] = (order, *order.additions)
    listed = {name.name for part in parts for name in part.names} & names
    for part in parts:
        if part.names_file is not None:  # which is quick to look into, and may be far longer than `names`
            listed.update(name for name in names if name in part.names_file.names)
    return len(listed)
