"""What a change of the orders would do, as JSON has it: the same values as the text, for scripts and pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cdnblock.matching.comparison import Places
from cdnblock.reports.changes import Changes, Group, OrderChange, Turn


def as_json(changes: Changes, most: int | None) -> dict[str, Any]:
    """Return everything; lists of names have their length beside them, and at most `most` of them, None for all."""
    return {
        "at": changes.at.isoformat(),
        "before": changes.before,
        "after": changes.after,
        "differs": bool(changes),
        "orders": [_order(order, most) for order in changes.orders],
        "total": [_group(group, most) for group in changes.groups],
        "spared": _names([name for _, name in changes.spared], most),
        "guard": asdict(changes.guard),
    }


def _order(order: OrderChange, most: int | None) -> dict[str, Any]:
    return {
        "id": order.id,
        "file": order.file,
        "what": order.what.value,
        "fields": [{"key": field.key, "before": field.before, "after": field.after} for field in order.fields],
        "came": _names(order.came, most),
        "went": _names(order.went, most),
        "changes": [_group(group, most) for group in order.groups],
        "stays": [{**_names(stay.names, most), "by": [*stay.by]} for stay in order.stays],
    }


def _group(group: Group, most: int | None) -> dict[str, Any]:
    return {"scope": group.scope.name.lower(), **_names(group.names, most), "turns": [*map(_turn, group.turns)]}


def _names(names: Sequence[str], most: int | None) -> dict[str, Any]:
    return {"count": len(names), "names": list(names if most is None else names[:most])}


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "kind": turn.kind.value,
        "mode": "report" if turn.reported else "enforce",
        "measures": {measure.value: variant for measure, variant in turn.measures},
        "instead_of": {measure.value: variant for measure, variant in turn.instead_of},
        "places": _places(turn.places),
        "since": turn.since.isoformat(),
        "until": turn.until.isoformat() if turn.until else None,
    }


def _places(places: Places) -> dict[str, Any]:
    return {"all_but" if places.all_but else "in": sorted(places.countries), "unknown": places.unknown}
