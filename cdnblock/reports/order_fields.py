"""What one order's file says otherwise than before, key by key, each value as a short text. Nothing is escaped yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import chain
from typing import Any, Final
from zoneinfo import ZoneInfo

from cdnblock.orders import calendar
from cdnblock.orders.life import over_at
from cdnblock.orders.model import Addition, Lifting, Order, Penalty
from cdnblock.orders.name_list import name_list


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One key: its value before and after, None where there is none."""

    key: str
    before: str | None
    after: str | None


def field_changes(before: Order, after: Order) -> tuple[FieldChange, ...]:
    """Return the keys that say something else, in the order of the file's keys; lists of names are told elsewhere."""
    old, new = _said(before), _said(after)
    return tuple(
        FieldChange(key=key, before=old.get(key), after=new.get(key))
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    )


def listed_only(one: Order | None, other: Order | None, candidates: Iterable[str] | None) -> set[str]:
    """Return the names that one order lists and the other does not: among the candidates, if there are any."""
    mine, theirs = _lists(one), _lists(other)
    if mine == theirs:  # long lists by their digests
        return set()
    sought = {*chain.from_iterable(mine)} if candidates is None else {*candidates}
    found: set[str] = set()
    for names in mine:
        found.update(filter(names.__contains__, sought))
    for names in theirs:
        found.difference_update([*filter(names.__contains__, found)])
    return found


def goes_on_after(order: Order, at: datetime) -> bool:
    """Tell whether an order is enforced, or told, at any instant from `at` on, for any of its names."""
    windows = calendar.windows_of(order)
    return over_at(order) > at and (not windows or any(closes > at for _, closes in windows))


def _lists(order: Order | None) -> list[Collection[str]]:
    """Return the names of an order and its additions, each collection quick to look into."""
    if order is None:
        return []
    parts: tuple[Order | Addition, ...] = (order, *order.additions)
    files = [part.names_file.names for part in parts if part.names_file is not None]
    return [{item.name for part in parts for item in part.names}, *map(name_list, files)]


def _said(order: Order) -> dict[str, str]:
    """Return every key that has a value, with that value as a text."""
    found = {}
    for field in fields(order):
        if field.name in _LEFT_OUT:
            continue
        key = _KEYS.get(field.name, field.name)
        value = _OF_ORDER[key](order) if key in _OF_ORDER else _text(getattr(order, field.name))
        if value:
            found[key] = value
    return found


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat()
        case Penalty():
            return f"{value.amount} {value.currency}{f' per {value.per}' if value.per else ''}"
        case _:
            return str(value)


def _measures(order: Order) -> str:
    return ", ".join(f"{measure.value} {variant}" for measure, variant in sorted(order.measures.items()))


def _windows(order: Order) -> str:
    return ", ".join(
        f"{_local(opens, order)} to {_local(closes, order)}" for opens, closes in calendar.windows_of(order)
    )


def _additions(order: Order) -> str:
    return "; ".join(map(_addition, order.additions))


def _addition(addition: Addition) -> str:
    size = len(addition.names) + (len(addition.names_file.names) if addition.names_file else 0)
    return f"{addition.notice} ({size:,} name{'' if size == 1 else 's'}, from {addition.begins or addition.notified})"


def _lifted(order: Order) -> str:
    return "; ".join(map(_lifting, order.lifted))


def _lifting(lifting: Lifting) -> str:
    what = "the whole order" if lifting.names is None else _some(lifting.names)
    return f"{what} at {lifting.at}"


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def _scopes(order: Order) -> str:
    """Return the names without their sub-domains: those that the list has with them are the rule."""
    parts: tuple[Order | Addition, ...] = (order, *order.additions)
    return _some(tuple(sorted(name.name for part in parts for name in part.names if not name.subdomains)))


def _local(at: datetime, order: Order) -> str:
    return at.astimezone(ZoneInfo(order.timezone)).isoformat(timespec="minutes")


_SHOWN: Final = 5
_LEFT_OUT: Final = ("id", "position", "names_file", "duration", "counted_from")
_KEYS: Final[Mapping[str, str]] = {"begins": "from", "names": "this exact name only"}
_OF_ORDER: Final[Mapping[str, Callable[[Order], str]]] = {
    "territory": lambda order: str(order.territory),
    "measures": _measures,
    "from": lambda order: _local(calendar.starts_at(order), order),
    "until": lambda order: _local(calendar.ends_at(order), order),
    "windows": _windows,
    "additions": _additions,
    "lifted": _lifted,
    "this exact name only": _scopes,
}
