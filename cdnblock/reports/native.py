"""What configuration that `cdnblock export` or `cdnblock apply` once wrote says of itself: its orders and their ends.

Servers know no calendar: a file that nobody exported again goes on refusing the names of an order that has ended. The
header of each file tells which orders it carries. Which of their names are still in it is found by looking for them as
text, which no compiled table (dnsdist's CDB) shows: no name found proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from cdnblock.errors import ConfigError
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.calendar import instant
from cdnblock.orders.life import OrderState, over_at, state_of
from cdnblock.orders.model import Addition, Order

SHOWN: Final = 20  # names of one leftover that are listed

# What the exporters write behind a comment's mark: see `_header` in cdnblock.exporters.
_MARK: Final = rb"(?:[#;!]|//|--)[ \t]?"
_COMMENT: Final = b"^" + _MARK
_WRITTEN_BY: Final = re.compile(
    _MARK + rb"Written by `cdnblock export ([a-z0-9-]{1,40})`"
)  # dnsdist's stands in a table
_REVISION: Final = re.compile(_COMMENT + rb"revision (sha256:[0-9a-f]{64})$", re.MULTILINE)
_HOLDS: Final = re.compile(_COMMENT + rb"holds until ([0-9T:.+Z-]{10,40}): export again then$", re.MULTILINE)
_ORDER: Final = re.compile(
    _COMMENT + rb"order ([a-z0-9][a-z0-9._-]{0,63}): .{0,100000}; until ([0-9T:.+Z-]{10,40})$", re.MULTILINE
)
_OURS: Final = "cdnblock"
_NAME: Final = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")


class Why(StrEnum):
    """Why an order has no place in a configuration any more."""

    ENDED = "ended"
    LIFTED = "lifted"
    GONE = "not in the orders folder"
    NAMES_LIFTED = "names lifted"
    REPORTED = "only reported now"
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeFile:
    """An exported file, or the files of one export in a folder: which orders are in it, and until when it is right.

    `target` is whom it is for, `revision` what it was made from, `names` all that looks like a name in it.
    """

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
    content = _content(path)
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
        names=_names_in(content),
    )


def read_natives(paths: Iterable[Path]) -> Iterator[NativeFile]:
    """Yield the exports among these files and folders, and all that is below the folders.

    Raises:
        ConfigError: a path does not exist or cannot be read, or a file that was named was not exported by cdnblock.

    """
    for path in paths:
        try:
            if path.is_dir():
                yield from _exports_below(path)
            elif (found := read_native(path)) is not None:
                yield found
            else:
                raise ConfigError(f"{path}: has no header of `cdnblock export`, so it tells nothing of orders")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _exports_below(folder: Path) -> Iterator[NativeFile]:
    """Yield what the files of each folder tell, those of one export together.

    Some targets have lists of names beside, which have no header (Squid, Traefik): they are called after cdnblock.
    """
    exports: dict[tuple[Path, str, str], NativeFile] = {}
    beside: dict[Path, frozenset[bytes]] = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        if (file := read_native(path)) is None or file.revision is None:
            if _OURS in path.name.lower():
                beside[path.parent] = beside.get(path.parent, frozenset()) | _names_in(_content(path))
            continue
        key = (path.parent, file.target, file.revision)
        known = exports.get(key)
        if known is not None:
            orders, names = {**known.orders, **file.orders}, known.names | file.names
            file = replace(known, path=path.parent, orders=orders, names=names)
        exports[key] = file
    for (parent, _, _), file in exports.items():
        yield replace(file, names=file.names | beside.get(parent, frozenset()))


def _content(path: Path) -> bytes:
    """Return what is in a file, however large: lists of a million names are what this is for."""
    if not path.is_file():
        raise OSError(0, "is no regular file")
    return path.read_bytes()


def _names_in(content: bytes) -> frozenset[bytes]:
    return frozenset(_NAME.findall(content.lower().replace(b"\\.", b".")))  # in a pattern, dots are escaped


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
        elif not order.is_enforced:
            yield _leftover(file, order, Why.REPORTED, None, _found(file, order, rules, at))
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
