"""The revision of a set of orders: a digest of all that they say, the same for the same orders anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from cdnblock.orders.model import NamesFile, Order
from cdnblock.orders.name_list import name_list

_LATER: Final = ("member_state", "illegal_content", "received", "acknowledged")  # fields that came after the first ones
_LONG: Final = 500  # entries; a longer list stands by its digest, so that no text grows with it


def revision_of(orders: Iterable[Order]) -> str:
    """Return `sha256:` and the digest of all that the orders say; the same orders give the same text anywhere."""
    digest = hashlib.sha256()
    for order in sorted(orders, key=lambda order: order.id):
        digest.update(_json(_plain(order)))
        digest.update(b"\n")
    return f"sha256:{digest.hexdigest()}"


def _plain(value: Any) -> Any:
    """Return a value of an order as JSON has it, without the places in files: they do not change what is enforced."""
    if isinstance(value, NamesFile):
        return name_list(value.names).digest
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in _left_out(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value] if len(value) <= _LONG else _digest_of(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _left_out(value: Any) -> tuple[str, ...]:
    """Return the fields that say nothing, so that an order has the revision that it had before there were such keys."""
    if not isinstance(value, Order):
        return ("position",)
    unsaid = (name for name in _LATER if getattr(value, name) is None)
    return ("position", *unsaid, "mode") if value.is_enforced else ("position", *unsaid)


def _digest_of(values: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(_json(_plain(value)))
        digest.update(b"\n")
    return digest.hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
