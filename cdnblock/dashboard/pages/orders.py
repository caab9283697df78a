"""All orders: filtered, sorted and cut into pages by the query string."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Any, Final

from cdnblock.dashboard.register import Row
from cdnblock.dashboard.rendering import Asked, Page
from cdnblock.dashboard.timeline import axis, bar, scale_of
from cdnblock.dashboard.view import View
from cdnblock.dashboard.wordings import life_in_words
from cdnblock.orders.life import OrderState, next_change
from cdnblock.orders.model import Measure

PER_PAGE: Final = 50
STATES: Final[Mapping[str, OrderState]] = {state.name.lower(): state for state in OrderState}

_NEVER: Final = inf
_LONGEST_SEARCH: Final = 200
_SORTS: Final[Mapping[str, Callable[[Row, datetime], Any]]] = {
    # Column → what it is sorted by; the id settles what is equal. Seconds, not datetimes: ten thousand of those, each
    # with a zone, are compared in one go of a fifth of a second, in which nothing else of this process runs.
    "state": lambda row, now: list(OrderState).index(row.state(now)),
    "id": lambda row, now: row.order.id,  # noqa: ARG005 (all alike)
    "court": lambda row, now: row.order.court.casefold(),  # noqa: ARG005
    "starts": lambda row, now: row.starts.timestamp(),  # noqa: ARG005
    "ends": lambda row, now: row.over.timestamp(),  # noqa: ARG005
    "deadline": lambda row, now: owed.timestamp() if (owed := row.owed(now)) else _NEVER,
    "names": lambda row, now: row.names,  # noqa: ARG005
}
_RUNNING_FIRST: Final = (OrderState.IN_FORCE, OrderState.PENDING, OrderState.LIFTED, OrderState.ENDED)


def orders(view: View, asked: Asked) -> Page:
    """Return the page of the orders."""
    register = view.register()
    found = _sorted([row for row in register.rows if _is_wanted(row, asked)], asked)
    pages = max(1, -(-len(found) // PER_PAGE))
    number = min(max(_whole(asked.query.get("page")), 1), pages)
    rows = found[(number - 1) * PER_PAGE : number * PER_PAGE]
    scale = scale_of(rows, asked.now)
    hits = view.hits([row.order.id for row in rows])
    return Page(
        template="orders.html",
        values={
            "rows": [
                {
                    "row": row,
                    "state": row.state(asked.now),
                    "owed": row.owed(asked.now),
                    "next": next_change(row.order, asked.now),
                    "life": bar(row, scale, life_in_words(row, asked)),
                    "hits": hits.get(row.order.id),
                }
                for row in rows
            ],
            "axis": axis(scale, asked.wording),
            "total": len(found),
            "all": len(register.rows),
            "page": number,
            "pages": pages,
            "states": STATES,
            "sort": _sort_of(asked),
            "knows_hits": view.trail is not None,
            "sorts": tuple(_SORTS),
            "measures": list(Measure),
        },
    )


def _is_wanted(row: Row, asked: Asked) -> bool:
    query = asked.query
    words = query.get("q", "")[:_LONGEST_SEARCH].casefold().split()
    state, country, measure = STATES.get(query.get("state", "")), query.get("country", "").upper(), query.get("measure")
    return (
        all(word in row.sought for word in words)
        and (state is None or row.state(asked.now) is state)
        and (not country or row.order.territory.world or country in row.order.territory.countries)
        and (measure not in list(Measure) or measure in row.order.measures)
    )


def _sort_of(asked: Asked) -> tuple[str, bool]:
    """Return the column to sort by, and whether downwards; without one, what runs comes first."""
    wanted = asked.query.get("sort", "")
    column = wanted.removeprefix("-")
    return (column, wanted.startswith("-")) if column in _SORTS else ("", False)


def _sorted(rows: Sequence[Row], asked: Asked) -> Sequence[Row]:
    column, downwards = _sort_of(asked)
    rows = sorted(rows, key=lambda row: row.order.id)
    if not column:
        return sorted(rows, key=lambda row: (_RUNNING_FIRST.index(row.state(asked.now)), row.over.timestamp()))
    return sorted(rows, key=lambda row: _SORTS[column](row, asked.now), reverse=downwards)


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 1  # noqa: PLR2004 (digits)
