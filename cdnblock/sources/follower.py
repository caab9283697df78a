"""Follow an orders folder from a thread: have it reread when it changes, and speak up when the clock changes the answer.

File events are hints only: watchers go blind when a symlinked folder is repointed or a folder is made anew, and see
nothing on NFS. So the folder is swept once a second by its files' metadata, and now and then by their content. The
clock is looked at often enough that a step of it is noticed at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import watchfiles

_TICK: Final = 0.1  # seconds between two looks at the clock
_SWEEP_TICKS: Final = 10  # ticks between two sweeps by metadata
_CONTENT_TICKS: Final = 600  # ticks between two sweeps by content
_SETTLED: Final = 0.06  # seconds after which a file that was just written to is settled
_LOG: Final = logging.getLogger("cdnblock.sources")


class Followed(Protocol):
    """What the follower needs of the one whom it serves. Neither method raises."""

    def reread(self, *, by_content: bool) -> None:
        """Read what has changed, put it in force and tell everybody."""

    def instant_passed(self) -> None:
        """Tell everybody that decisions are different now, with no file changed."""

    def next_change(self, after: datetime) -> datetime | None:
        """Return the next instant at which decisions change, None if there is none."""


class Follower:
    """Two threads: one waits for file events, the other has the folder reread and watches the clock."""

    def __init__(self, followed: Followed, folder: Path, now: Callable[[], datetime]) -> None:
        """Start following at once."""
        self._followed = followed
        self._folder = folder
        self._now = now
        self._stop = threading.Event()
        self._hint = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="cdnblock-follower", daemon=True),
            threading.Thread(target=self._watch, name="cdnblock-watcher", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop following; returns when no callback runs any more."""
        self._stop.set()
        self._hint.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=5)

    def _follow(self) -> None:
        looked_at = self._now()
        ticks = 0
        while not self._stop.is_set():
            hinted = self._hint.wait(self._until_next_look())
            self._hint.clear()
            if self._stop.is_set():
                return
            ticks += 1
            now = self._now()
            # First the instants of the rules as they were, so that nobody misses one because a file changed as well.
            if self._turned(looked_at, now):
                self._followed.instant_passed()
            looked_at = now
            if hinted or ticks % _SWEEP_TICKS == 0:
                self._followed.reread(by_content=ticks % _CONTENT_TICKS == 0)

    def _until_next_look(self) -> float:
        """Return how long to sleep (seconds): a tick, or less when an order starts or ends before that."""
        now = self._now()
        change = self._followed.next_change(now)
        return _TICK if change is None else min(_TICK, max(0.001, (change - now).total_seconds()))

    def _turned(self, before: datetime, now: datetime) -> bool:
        """Tell whether an instant at which decisions change lies between two looks at the clock, in either direction."""
        earlier, later = sorted((before, now))
        change = self._followed.next_change(earlier)
        return change is not None and change <= later

    def _watch(self) -> None:
        """Turn file events into hints; a watch that breaks is set up again, the sweep bridges the gap."""
        while not self._stop.is_set():
            try:
                for _ in watchfiles.watch(
                    self._folder, stop_event=self._stop, watch_filter=None, recursive=False, debounce=60, step=20,
                    rust_timeout=500, raise_interrupt=False,
                ):  # fmt: skip
                    self._hint.set()
                    # A file that has just been written to is not settled yet: look once more when it is.
                    if not self._stop.wait(_SETTLED):
                        self._hint.set()
            except Exception as error:  # noqa: BLE001 (whatever broke the watch, the sweep goes on)
                _LOG.debug("watching %s: %s", self._folder, error)
            self._stop.wait(1)
