"""Follow an orders folder from a thread, and the clock from another: files and time both change the answer.

File events are hints only: watchers go blind when a symlinked folder is repointed or a folder is made anew, and see
nothing on NFS. So the folder is swept once a second by its files' metadata, and now and then by their content.

The clock has a thread of its own, so that no reload, however long, makes an instant late. It sleeps until the next
instant, and never longer than `LOOK` without looking at the clock: sleeping is measured by another clock, which knows
nothing of a step of the wall clock and stands still while the machine sleeps.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import watchfiles

LOOK: Final = 0.04  # seconds between two looks at the clock, at most: a step over an instant is noticed within that
_NEAREST: Final = 0.001  # seconds; no sleep is shorter
_SWEEP: Final = 1.0  # seconds between two sweeps by metadata
_CONTENT_SWEEP: Final = 60.0  # seconds between two sweeps by content
_AGAIN: Final = 0.06  # seconds between two looks at a folder in which something happens
_LOG: Final = logging.getLogger("cdnblock.sources")


class Followed(Protocol):
    """What the follower needs of the one whom it serves. No method raises."""

    def reread(self, *, by_content: bool) -> float | None:
        """Read what has changed, put it in force and tell everybody.

        Return the seconds after which what has just been written to can be read, None where nothing has.
        """

    def instant_passed(self) -> None:
        """Tell everybody that decisions are different now, with no file changed."""

    def next_change(self, after: datetime) -> datetime | None:
        """Return the next instant at which decisions change, None if there is none."""


class Follower:
    """Three threads: one waits for file events, one has the folder reread, one watches the clock."""

    def __init__(self, followed: Followed, folder: Path, now: Callable[[], datetime]) -> None:
        """Start following at once: no instant after this is missed."""
        self._followed = followed
        self._folder = folder
        self._now = now
        self._stop = threading.Event()
        self._hint = threading.Event()
        self._asleep = threading.Lock()  # held until the end: to wait for it is to sleep, at half an Event's price
        self._asleep.acquire()
        self._looked_at = now()
        self._threads = [
            threading.Thread(target=self._follow, name="cdnblock-follower", daemon=True),
            threading.Thread(target=self._watch_clock, name="cdnblock-clock", daemon=True),
            threading.Thread(target=self._watch_files, name="cdnblock-watcher", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        this = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _left_behind(this()))

    def close(self) -> None:
        """Stop following; returns when no callback runs any more."""
        self._stop.set()
        self._hint.set()
        with suppress(RuntimeError):  # released already: closing twice does no harm
            self._asleep.release()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=5)

    def _follow(self) -> None:
        by_content_at = time.monotonic() + _CONTENT_SWEEP
        pause = _SWEEP
        while not self._stop.is_set():
            self._hint.wait(pause)
            self._hint.clear()
            if self._stop.is_set():
                return
            by_content = time.monotonic() >= by_content_at
            settles_in = self._followed.reread(by_content=by_content)
            pause = _SWEEP if settles_in is None else min(_SWEEP, max(_NEAREST, settles_in))
            if by_content:
                by_content_at = time.monotonic() + _CONTENT_SWEEP

    def _watch_clock(self) -> None:
        while not self._asleep.acquire(timeout=self._until_next_look()):
            pass

    def _until_next_look(self) -> float:
        """Look at the clock; return how long to sleep (seconds): until decisions change, but no longer than `LOOK`."""
        before, now = self._looked_at, self._now()
        change = self._followed.next_change(min(before, now))
        while change is not None and change <= max(before, now):  # between two looks, in either direction
            self._looked_at = now
            self._followed.instant_passed()
            before, now = now, self._now()
            change = self._followed.next_change(min(before, now))
        self._looked_at = now
        return LOOK if change is None else min(LOOK, max(_NEAREST, (change - now).total_seconds()))

    def is_closed(self) -> bool:
        """Tell whether following has ended."""
        return self._stop.is_set()

    def _watch_files(self) -> None:
        """Turn file events into hints; a watch that breaks is set up again, the sweep bridges the gap."""
        while not self._stop.is_set():
            try:
                for _ in watchfiles.watch(
                    self._folder, stop_event=self._stop, watch_filter=None, recursive=False, debounce=60, step=20,
                    rust_timeout=500, raise_interrupt=False,
                ):  # fmt: skip
                    self._hint.set()
                    # What happens meanwhile is told only after another wait: look once more.
                    if not self._stop.wait(_AGAIN):
                        self._hint.set()
            except Exception as error:  # noqa: BLE001 (whatever broke the watch, the sweep goes on)
                _LOG.debug("watching %s: %s", self._folder, error)
            self._stop.wait(1)


def _left_behind(follower: Follower | None) -> None:
    """Say it in a process that was forked off one that follows: threads stay behind."""
    if follower is not None and not follower.is_closed():
        _LOG.warning(
            "cdnblock: process %d was forked from one that follows orders, and does not follow them itself: what it"
            " decides stays as it is. Make the Enforcer in the process that serves, after the fork",
            os.getpid(),
        )
