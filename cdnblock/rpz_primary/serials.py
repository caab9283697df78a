"""Serial numbers of zones: they go round (RFC 1982), and never back."""

from __future__ import annotations

from typing import Final

_ROUND: Final = 1 << 32
_HALF: Final = 1 << 31
_LEEWAY: Final = 3_600  # seconds that serials may be ahead of the clock: one for each change of a busy hour


def is_newer(one: int, other: int) -> bool:
    """Tell whether a serial is later than another one (RFC 1982 §3.2)."""
    return 0 < (one - other) % _ROUND < _HALF


def clock_is_behind(last: int, now: float) -> bool:
    """Tell whether the clock is well behind the time at which a serial should have been given."""
    return is_newer((last - _LEEWAY) % _ROUND, int(now) % _ROUND)


def next_serial(last: int | None, now: float) -> int:
    """Return the serial after `last`: the time if that is later, so that one which was lost with a disk is not given again.

    `now` is in seconds since 1970; `last` is None where nothing is known. It is never 0, which some take for none.
    """
    by_clock = int(now) % _ROUND or 1
    if last is None or is_newer(by_clock, last):
        return by_clock
    return (last + 1) % _ROUND or 1
