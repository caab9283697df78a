"""By what a trail was written, and how far the clock of this machine can be believed."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

_UNSYNCHRONISED: Final = 0x40  # STA_UNSYNC of <sys/timex.h>
_ERROR: Final = 5  # TIME_ERROR: the clock is not synchronised


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), the part that is read; the rest is room for what the kernel writes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def circumstances(at: float) -> dict[str, Any]:
    """Return which software writes, on what, and the state of its clock."""
    return {
        "software": software(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "pid": os.getpid(),
        "clock": clock_state(at),
    }


def software() -> str:
    """Return the name and the version of this package."""
    try:
        return f"cdnblock {version('cdnblock')}"
    except PackageNotFoundError:  # runs from a folder that nobody installed
        return "cdnblock unknown"


def clock_state(at: float) -> dict[str, Any]:
    """Return what is known of the clock: UTC, monotonic seconds, time zone, and whether NTP keeps it right.

    `synchronised` is None where the system does not tell; `max_error` is the kernel's bound in seconds.
    """
    synchronised, max_error = _synchronised()
    return {
        "utc": datetime.fromtimestamp(at, UTC).isoformat() if abs(at) < 1e11 else str(at),  # noqa: PLR2004 (the year 5138)
        "monotonic": round(time.monotonic(), 6),
        "timezone": time.tzname[time.localtime().tm_isdst > 0],
        "synchronised": synchronised,
        "max_error": max_error,
    }


def _synchronised() -> tuple[bool | None, float | None]:
    try:
        timex = _Timex()
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError, TypeError):
        return None, None
    if state < 0:
        return None, None
    return state != _ERROR and not timex.status & _UNSYNCHRONISED, timex.maxerror / 1_000_000
