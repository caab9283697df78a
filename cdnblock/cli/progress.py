"""A progress bar for whatever takes longer than two seconds: on a terminal only, and never in the results."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_AFTER: Final = 2.0  # seconds; what is quicker needs no bar
_WIDTH: Final = 30


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give something to tell the progress to, as `done` of `expected`; `what` says what is counted."""
    started = time.monotonic()
    drawn = False

    def draw(done: int, expected: int) -> None:
        nonlocal drawn
        if sys.stderr.isatty() and time.monotonic() - started > _AFTER:
            drawn = True
            filled = min(_WIDTH, done * _WIDTH // max(1, expected))
            sys.stderr.write(f"\r[{'#' * filled:{_WIDTH}}] {done:,} {what} ")
            sys.stderr.flush()

    try:
        yield draw
    finally:
        if drawn:
            sys.stderr.write("\n")
            sys.stderr.flush()
