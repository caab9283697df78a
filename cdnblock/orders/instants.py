"""How people write an instant, on a command line or in a form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

LEGAL_TIME: Final = "Europe/Paris"  # the order file's default time zone, so also that of a time without offset here


def read_instant(text: str) -> datetime:
    """Return the aware datetime that a text names.

    Raises:
        ValueError: it is none; the message says what would be right.

    """
    try:
        at = datetime.fromisoformat(text.strip().upper())
        if at.tzinfo is None:  # by way of UTC, so that an hour which the clocks skip comes out as the one it is
            return at.replace(tzinfo=ZoneInfo(LEGAL_TIME)).astimezone(UTC).astimezone(ZoneInfo(LEGAL_TIME))
        at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time; write it like 2025-05-01T12:00:00+02:00") from None
    return at
