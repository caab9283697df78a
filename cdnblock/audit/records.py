"""The records of a trail: their kinds, their fields, and their octets.

A record is one line of JSON in ASCII: every control character, every character that could steer a terminal or reorder
a sentence, and every lone surrogate is escaped, so that a trail may be shown by anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

MAX_LINE: Final = 1024 * 1024  # octets; no record is longer, so whoever reads never has to hold more of a line
_LONGEST_TEXT: Final = 4_096  # characters of one value; the rest is cut, and the record says so
_MOST_ITEMS: Final = 512  # of one list or mapping
_DEEPEST: Final = 6  # values inside values
_ROOM: Final = MAX_LINE // 2  # what all values of one record may take

_RESERVED: Final = frozenset({"seq", "at", "kind", "chain"})

Record: TypeAlias = Mapping[str, Any]


class Kind(StrEnum):
    """What a record tells."""

    ENFORCED = "enforced"
    """A measure was enforced: the first of its group in this minute."""
    WOULD = "would"
    """A measure would have been enforced: the order, or the instance, only reports."""
    COUNTED = "counted"
    """The repeats of a group in one minute."""
    TRAIL_OPENED = "trail-opened"
    """Recording began: software, clock, and how the run before ended."""
    TRAIL_CLOSED = "trail-closed"
    """Recording ended as it should."""
    LOADED = "loaded"
    """Orders came into force: revision before and after, files by digest, names added and released."""
    ORDER_STARTED = "order-started"
    """An order came into force."""
    ORDER_EXPIRING = "order-expiring"
    """An order is about to end: 30, 7 or 1 days are left."""
    ORDER_ENDED = "order-ended"
    """An order ended."""
    ORDER_LIFTED = "order-lifted"
    """An order was lifted, wholly or for some names."""
    WINDOW_OPENED = "window-opened"
    """A window of an order opened."""
    WINDOW_CLOSED = "window-closed"
    """A window of an order closed."""
    ADDITION_STARTED = "addition-started"
    """Names that an authority notified came into force."""
    HELD_RELEASE = "held-release"
    """A change would have released too much, and waits for consent."""
    ACCEPTED_RELEASE = "accepted-release"
    """Somebody consented to a release."""
    FILE_ERROR = "file-error"
    """An order file is invalid; which version stays in force."""
    FILE_MENDED = "file-mended"
    """An order file is valid again."""
    GEO_TABLE = "geo-table"
    """The country table in use."""
    CLOCK_STEP = "clock-step"
    """The clock was set, or jumped."""
    GAP = "gap"
    """Something was not recorded: from when to when, how many of what, and why."""
    ROTATED = "rotated"
    """A new segment began; how the one before it ended."""
    RETIRED = "retired"
    """A segment was deleted because its time was over."""
    APPLIED = "applied"
    """An engine was brought in step with the orders, or was not."""
    KEY_ROTATED = "key-rotated"
    """Clients are told apart by another key from here on."""


HITS: Final = frozenset({Kind.ENFORCED, Kind.WOULD, Kind.COUNTED})
"""The kinds that tell of requests; all others tell of the life of orders and of the trail itself."""


def body_of(seq: int, at: float, kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return a record's octets but for the chain: all that is chained. Never raises for any value."""
    head: dict[str, Any] = {"seq": seq, "at": rfc3339(at), "kind": kind}
    own = {key: value for key, value in fields.items() if key not in _RESERVED}
    body = _octets(head | {key: _told(value) for key, value in own.items()})
    if len(body) > _ROOM:
        shorter = {key: _told(value) for key, value in own.items() if isinstance(value, (int, float, type(None)))}
        body = _octets(head | shorter | {"cut": f"{len(body)} octets are too many for one record"})
    return body[:-1]


def rfc3339(at: float) -> str:
    """Return an instant (seconds since 1970) in UTC to the microsecond, always 27 characters."""
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.max.replace(tzinfo=UTC) if at > 0 else datetime.min.replace(tzinfo=UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def instant_of(record: Record) -> datetime:
    """Return when a record says that it happened.

    Raises:
        ValueError: it says nothing of the kind.

    """
    return datetime.fromisoformat(str(record.get("at")))


def bounded(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON can hold it, no longer than a record may be; what is cut off is told in its place."""
    if value is None or isinstance(value, (bool, int)):
        return value if value is None or abs(value) < 1 << 63 else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)  # NaN compares with nothing, and comes out as text
    if isinstance(value, str):
        return str(value) if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}… ({len(value)} characters)"
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        kept = {str(key)[:_LONGEST_TEXT]: bounded(value[key], depth + 1) for key in list(value)[:_MOST_ITEMS]}
        return kept if len(value) <= _MOST_ITEMS else kept | {"…": f"{len(value) - _MOST_ITEMS} more"}
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        items = list(value)
        some = [bounded(item, depth + 1) for item in items[:_MOST_ITEMS]]
        return some if len(items) <= _MOST_ITEMS else [*some, f"… {len(items) - _MOST_ITEMS} more"]
    return bounded(value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else str(value))


def _told(value: Any) -> Any:
    try:
        return bounded(value)
    except Exception as error:  # noqa: BLE001 (whatever a value does, a record must be made)
        return f"cannot be told: {type(error).__name__}"


def _octets(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode("ascii")
