"""What must be true of an order before it is compiled.

An order that was parsed from a file has passed all of this, and more, with file and line. One that was built in Python
is checked here, so that a slip of its author neither blocks half of a country's names nor quietly blocks nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from itertools import chain
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cdnblock.errors import OrderError, Problem
from cdnblock.matching.names import canonical
from cdnblock.orders import calendar
from cdnblock.orders.host_names import host_name
from cdnblock.orders.model import VARIANTS, Addition, Lifting, Mode, Name, Order, Position, Territory, Window
from cdnblock.orders.protected import is_public_suffix
from cdnblock.orders.territories import COUNTRIES

_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")  # order-file.md, `id`
_TEXTS: Final = ("court", "legal_basis", "claimant")
_VALUES: Final[Mapping[str, tuple[type, str]]] = {
    "territory": (Territory, "a Territory"),
    "measures": (Mapping, "a mapping from Measure to its variant"),
    "decided": (date, "a date"),
    "mode": (Mode, "a Mode"),
}
_LISTS: Final[Mapping[str, type]] = {"names": Name, "additions": Addition, "lifted": Lifting, "windows": Window}


def problems_of(order: Order) -> Iterator[Problem]:
    """Yield what is wrong with an order that was built in Python; nothing for one that was parsed.

    Over-broad names are found by the public suffix list alone: the list of protected names belongs to a folder, and
    is asked when its files are loaded.
    """
    if order.position is not None:
        return
    wrong = list(_wrong_types(order))
    found = wrong or chain(_identity(order), _dates(order), _territory(order), _measures(order), _names(order))
    for key, message in found:
        yield _problem(order, key, message)


def shared_ids(orders: Collection[Order]) -> Iterator[Problem]:
    """Yield a problem for each order whose id another one has."""
    first: dict[str, Order] = {}
    for order in orders:
        other = first.setdefault(order.id, order)
        if other is not order:
            where = f" in {other.position.file}" if other.position else ""
            yield _problem(order, "id", f"another order has the id {order.id}{where}; ids are unique in the folder")


def _problem(order: Order, key: str, message: str) -> Problem:
    place = order.position or Position(f"order {order.id}", 1)
    return Problem(file=place.file, line=place.line, column=place.column, key=key, message=message)


def _wrong_types(order: Order) -> Iterator[tuple[str, str]]:
    for key, (wanted, right) in _VALUES.items():
        value: Any = getattr(order, key)
        if not isinstance(value, wanted):
            yield key, f"is a {type(value).__name__}; give {right}"
    for key, wanted in _LISTS.items():
        values: Any = getattr(order, key)
        if not isinstance(values, tuple) or not all(isinstance(value, wanted) for value in values):
            yield key, f"is no tuple of {wanted.__name__}; give one, such as ({wanted.__name__}(…),)"


def _identity(order: Order) -> Iterator[tuple[str, str]]:
    if not isinstance(order.id, str) or not _ID.match(order.id):
        yield "id", f"{order.id!r} is no id; give up to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or digit"
    for key in _TEXTS:
        if not getattr(order, key):
            yield key, "is empty; it goes into the notice that a reader gets"


def _dates(order: Order) -> Iterator[tuple[str, str]]:
    if not _is_timezone(order.timezone):
        yield "timezone", f"{order.timezone!r} is no IANA time zone; Europe/Paris is one"
        return
    if order.until is not None and order.duration is not None:
        yield "until", "`until` and `duration` are both given; keep the one that the order states"
        return
    try:
        begins, ends = calendar.starts_at(order), calendar.ends_at(order)
    except OrderError as error:
        yield "until", error.problems[0].message
        return
    if ends <= begins:
        yield "until", "the order ends before it starts; correct `until` or `begins`"
    for number, addition in enumerate(order.additions):
        if calendar.instant(addition.notified, order.timezone) >= ends:
            yield f"additions.{number}.notified", "was notified after the order's end; an addition has the order's end"


def _territory(order: Order) -> Iterator[tuple[str, str]]:
    if not order.territory.world and not order.territory.countries:
        yield "territory", "is empty; give ISO 3166-1 alpha-2 codes, or world=True"
    for code in sorted(set(order.territory.countries) - COUNTRIES):
        yield "territory", f"{code!r} is no ISO 3166-1 alpha-2 code; they are like FR, RE, GB"


def _measures(order: Order) -> Iterator[tuple[str, str]]:
    if not order.measures:
        yield "measures", "the order has no measure; give at least one of dns, cdn, proxy"
    for measure, variant in order.measures.items():
        variants = VARIANTS.get(measure, ())
        if variant not in variants:
            yield (
                f"measures.{measure}",
                f"`{variant}` does not exist; one of {', '.join(variants) or 'dns, cdn, proxy'}",
            )


def _names(order: Order) -> Iterator[tuple[str, str]]:
    if order.size() == 0:
        yield "names", "the order lists no name; give `names`, `names_file` or `additions`"
    parts: list[tuple[str, Order | Addition]] = [("", order)]
    parts += [(f"additions.{number}.", addition) for number, addition in enumerate(order.additions)]
    for key, part in parts:
        for number, name in enumerate(part.each_name()):
            message = _wrong_name(name)
            if message is not None:
                yield f"{key}names.{number}", message
    for number, lifting in enumerate(order.lifted):
        for released in lifting.names or ():
            if canonical(released) != released:
                yield f"lifted.{number}.names", f"{released!r} is not in canonical form; {canonical(released)!r} is"


def _wrong_name(name: Name) -> str | None:
    try:
        right = host_name(name.name)
    except (ValueError, TypeError, AttributeError) as error:
        return str(error)
    if right != name.name:
        return f"{name.name!r} is not in canonical form; {right!r} is"
    if not name.overbroad and is_public_suffix(name.name):
        return (
            f"{name.name!r} is a public suffix, below which anybody has names; give `overbroad` a reason if it is meant"
        )
    return None


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, TypeError, ZoneInfoNotFoundError):
        return False
    return True
