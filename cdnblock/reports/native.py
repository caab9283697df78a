"""What configuration that `cdnblock export` or `cdnblock apply` once wrote says of itself: its orders and their ends.

Servers know no calendar: a file that nobody exported again goes on refusing the names of an order that has ended. The
header of each file tells which orders it carries. Which of their names are still in it is found by looking for them as
text, which no compiled table (dnsdist's CDB) shows: no name found proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from cdnblock.errors import ConfigError
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.calendar import instant
from cdnblock.orders.life import OrderState, over_at, state_of
from cdnblock.orders.model import Addition, Order
from cdnblock.sources.order_folder import read_bounded

SHOWN: Final = 20  # names of one leftover that are listed

# What the exporters write behind a comment's mark: see `_header` in cdnblock.exporters.
_COMMENT: Final = rb"^(?:[#;!]|//|--)[ \t]?"
_WRITTEN_BY: Final = re.compile(_COMMENT + rb"Written by `cdnblock export ([a-z0-9-]{1,40})`", re.MULTILINE)
_REVISION: Final = re.compile(_COMMENT + rb"revision (sha256:[0-9a-f]{64})$", re.MULTILINE)
_HOLDS: Final = re.compile(_COMMENT + rb"holds until ([0-9T:.+Z-]{10,40}): export again then$", re.MULTILINE)
_ORDER: Final = re.compile(
    _COMMENT + rb"order ([a-z0-9][a-z0-9._-]{0,63}): .{0,100000}; until ([0-9T:.+Z-]{10,40})$", re.MULTILINE
)
_NAME: Final = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")


class Why(StrEnum):
    """Why an order has no place in a configuration any more."""

    ENDED = "ended"
    LIFTED = "lifted"
    GONE = "not in the orders folder"
    NAMES_LIFTED = "names lifted"
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeFile:
    """One exported file: the target, the revision it was made from, until when it is right, and its orders' ends."""

    path: Path
    target: str
    revision: str | None
    holds_until: datetime | None
    orders: Mapping[str, datetime]
    names: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What is still in a file and should not be: an order, since when, and those of its names that were found in it.

    `names` are the first of `found`; with `Why.OUTDATED` there is no order: the file itself was right until `since`.
    """

    path: Path
    target: str
    why: Why
    since: datetime | None
    order: str | None = None
    names: tuple[str, ...] = ()
    found: int = 0


def read_native(path: Path) -> NativeFile | None:
    """Return what an exported file says of itself; None if `cdnblock export` did not write it.

    Raises:
        OSError: it cannot be read.

    """
    content = read_bounded(path)
    written_by = _WRITTEN_BY.search(content)
    if written_by is None:
        return None
    revision, holds = _REVISION.search(content), _HOLDS.search(content)
    orders = {order[1].decode(): _instant(order[2]) for order in _ORDER.finditer(content)}
    return NativeFile(
        path=path,
        target=written_by[1].decode(),
        revision=revision[1].decode() if revision else None,
        holds_until=_instant(holds[1]) if holds else None,
        orders={order: until for order, until in orders.items() if until is not None},
        names=frozenset(_NAME.findall(content.lower())),
    )


def read_natives(paths: Iterable[Path]) -> Iterator[NativeFile]:
    """Yield the exported files among these files and folders, in name order, with all that is in the folders.

    Raises:
        ConfigError: a path does not exist or cannot be read, or a file that was named was not exported by cdnblock.

    """
    for path in paths:
        try:
            if not path.is_dir():
                if (found := read_native(path)) is None:
                    raise ConfigError(f"{path}: has no header of `cdnblock export`, so it tells nothing of orders")
                yield found
                continue
            below = sorted(item for item in path.rglob("*") if item.is_file())
            yield from (found for item in below if (found := read_native(item)) is not None)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def leftovers(file: NativeFile, rules: RuleSet, at: datetime) -> Iterator[Leftover]:
    """Yield what is in a file and should not be there at `at`, given the orders as they are now."""
    for order_id, until in file.orders.items():
        order = rules.orders.get(order_id)
        if order is None:
            why, since = (Why.ENDED, until) if at >= until else (Why.GONE, None)
            yield Leftover(path=file.path, target=file.target, order=order_id, why=why, since=since)
            continue
        state = state_of(order, at)
        if state in (OrderState.ENDED, OrderState.LIFTED):
            why = Why.ENDED if state is OrderState.ENDED else Why.LIFTED
            yield _leftover(file, order, why, over_at(order), _found(file, order, rules, at))
        elif lifted := _found(file, order, rules, at, only=_lifted_names(order, at)):
            yield _leftover(file, order, Why.NAMES_LIFTED, None, lifted)
    if file.holds_until is not None and at >= file.holds_until:
        yield Leftover(path=file.path, target=file.target, why=Why.OUTDATED, since=file.holds_until)


def _leftover(file: NativeFile, order: Order, why: Why, since: datetime | None, names: list[str]) -> Leftover:
    return Leftover(
        path=file.path,
        target=file.target,
        order=order.id,
        why=why,
        since=since,
        names=tuple(names[:SHOWN]),
        found=len(names),
    )


def _found(
    file: NativeFile, order: Order, rules: RuleSet, at: datetime, only: Collection[str] | None = None
) -> list[str]:
    """Return the order's names that are in the file although nothing holds them, nor any name above them, any more.

    Below a name that is in force, servers are told expressly what was lifted: there a name in the file is right.
    """
    parts: list[Order | Addition] = [order, *order.additions]
    listed = dict.fromkeys(name.name for part in parts for name in part.each_name())
    return [
        name
        for name in listed
        if name.encode() in file.names
        and (only is None or name in only)
        and not any(rules.is_in_force(above, at) for above in _and_above(name))
    ]


def _lifted_names(order: Order, at: datetime) -> frozenset[str]:
    past = (lifting for lifting in order.lifted if instant(lifting.at, order.timezone) <= at)
    return frozenset(name for lifting in past for name in lifting.names or ())


def _and_above(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.partition(".")[2]


def _instant(text: bytes) -> datetime | None:
    try:
        at = datetime.fromisoformat(text.decode())
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
