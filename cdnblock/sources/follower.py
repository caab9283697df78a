"""Follow an orders folder from a thread: reread it when it changes, and speak up when the clock changes the answer.

File events are hints only: watchers go blind when a symlinked folder is repointed or a folder is made anew, so the
folder is also swept once a second. The clock is looked at often enough that a step of it is noticed at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import watchfiles

from cdnblock.errors import Problem, Severity
from cdnblock.matching.ruleset import RuleSet
from cdnblock.sources.live_orders import LiveOrders

_TICK: Final = 0.1  # seconds between two looks at the clock
_SWEEP_TICKS: Final = 10
_LOG: Final = logging.getLogger("cdnblock.sources")

Changed = Callable[[RuleSet, RuleSet], None]


class Follower:
    """Two threads: one waits for file events, the other rereads, watches the clock and calls back.

    `changed(old, new)` is called after a new rule set is in force, and with one set twice (old is new) at each
    instant at which an order starts, ends, opens or closes a window. It runs on the follower's thread.
    """

    def __init__(self, live: LiveOrders, clock: Callable[[], float], changed: Changed) -> None:
        """Start following at once."""
        self._live = live
        self._folder = live.folder
        self._clock = clock
        self._changed = changed
        self._stop = threading.Event()
        self._hint = threading.Event()
        self._reported: tuple[Problem, ...] = ()
        self._report()
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
            ticks += 1
            old = self._live.rules
            now = self._now()
            if hinted or ticks % _SWEEP_TICKS == 0:
                self._refresh()
            if self._live.rules is not old or _turned(old, looked_at, now):
                self._call_back(old)
            looked_at = now

    def _until_next_look(self) -> float:
        """Return how long to sleep (seconds): a tick, or less when an order starts or ends before that."""
        now = self._now()
        change = self._live.rules.next_change(now)
        return _TICK if change is None else min(_TICK, max(0.001, (change - now).total_seconds()))

    def _refresh(self) -> None:
        try:
            if self._live.refresh():
                self._report()
        except Exception:  # noqa: BLE001 (logged with its trace)
            # Whatever went wrong, what is enforced stays enforced; the next sweep tries again.
            _LOG.exception("cdnblock: rereading %s failed; the orders read before stay enforced", self._folder)

    def _report(self) -> None:
        for problem in self._live.problems:
            if problem not in self._reported:
                _LOG.log(logging.ERROR if problem.severity is Severity.ERROR else logging.WARNING, "%s", problem)
        for path in self._live.kept:
            _LOG.error("%s: invalid; its last good version stays enforced", path)
        self._reported = self._live.problems

    def _call_back(self, old: RuleSet) -> None:
        try:
            self._changed(old, self._live.rules)
        except Exception:  # noqa: BLE001 (logged with its trace)
            # A listener's mistake must not end the following.
            _LOG.exception("cdnblock: a listener failed")

    def _watch(self) -> None:
        """Turn file events into hints; a watch that breaks is set up again, the sweep bridges the gap."""
        while not self._stop.is_set():
            try:
                for _ in watchfiles.watch(
                    self._folder, stop_event=self._stop, watch_filter=None, recursive=False, debounce=60, step=20,
                    rust_timeout=500, yield_on_timeout=False, raise_interrupt=False,
                ):  # fmt: skip
                    self._hint.set()
                    # A file that has just been written to is not settled yet: look once more when it is.
                    if not self._stop.wait(0.06):
                        self._hint.set()
            except Exception as error:  # noqa: BLE001 (whatever broke the watch, the sweep goes on)
                _LOG.debug("watching %s: %s", self._folder, error)
            self._stop.wait(1)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _turned(rules: RuleSet, before: datetime, now: datetime) -> bool:
    """Tell whether an instant at which decisions change lies between two looks at the clock, in either direction."""
    earlier, later = sorted((before, now))
    change = rules.next_change(earlier)
    return change is not None and change <= later
