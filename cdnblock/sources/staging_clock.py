"""A clock for staging: real code, at another instant.

Orders hold for months; a rehearsal of their start and end cannot wait for them, and must not rewrite them either. So
staging moves the clock: one small text file says what time it is, and every process that is told its path agrees.
Never for production: there is no reason to name such a file there.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Final

from cdnblock.errors import ConfigError

_STOPPED: Final = "@"  # `@1743148800.5`: the clock stands still at this instant
_SHIFTED: Final = "+"  # `+-3600.0`: the clock runs, this many seconds ahead of real time (behind, when negative)


class StagingClock:
    """A `time.time` whose value a file decides: seconds since 1970 (UTC).

    The file is read again at each call (about 10 µs), so a change is seen by the very next decision. A file that
    vanishes or holds nonsense leaves the last good reading in force: a clock never raises.

    Raises `ConfigError` when there is no readable clock file at the start.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        try:
            self._reading = _parse(Path(self._path).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"staging clock {self._path}: not readable ({error}); stop_at() writes one") from error

    def __call__(self) -> float:
        """Return the staged time."""
        try:
            with open(self._path, encoding="ascii") as file:  # noqa: PTH123 - Path.open costs twice as much
                self._reading = _parse(file.read(64))
        except (OSError, ValueError):
            pass
        kind, seconds = self._reading
        return seconds if kind == _STOPPED else time.time() + seconds


def stop_at(path: Path | str, instant: float) -> None:
    """Make the clock in this file stand still at an instant (seconds since 1970)."""
    _write(Path(path), f"{_STOPPED}{instant!r}\n")


def run_from(path: Path | str, instant: float) -> None:
    """Make the clock in this file show an instant (seconds since 1970) now, and run on from there."""
    _write(Path(path), f"{_SHIFTED}{instant - time.time()!r}\n")


def _parse(text: str) -> tuple[str, float]:
    kind, seconds = text[:1], float(text[1:])
    if kind not in (_STOPPED, _SHIFTED) or not math.isfinite(seconds):
        raise ValueError(f"{text!r} is neither @SECONDS nor +SECONDS")
    return kind, seconds


def _write(path: Path, text: str) -> None:
    # Replaced, never rewritten in place: a reader sees the old reading or the new one, whole.
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, encoding="ascii")
    beside.replace(path)
