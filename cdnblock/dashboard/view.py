"""What pages read: a running instance, asked seldom and remembered shortly, so that looking at it costs it little."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cdnblock.audit.reading import Choice
from cdnblock.audit.records import HITS
from cdnblock.dashboard.register import Register
from cdnblock.dashboard.trail_view import Hits, TrailView
from cdnblock.enforcer import Enforcer
from cdnblock.matching.ruleset import RuleSet
from cdnblock.sources.protected_list import load_holidays

_REST: Final = 20  # times as long as it took to ask, nobody asks again: at most 5 % of a core goes into looking
_FRESH: Final = 0.5  # seconds
_PATIENCE: Final = 1.0  # seconds that a page waits for what is newer than what it has
SILENT: Final = timedelta(minutes=1)
_HOLIDAYS_SECONDS: Final = 60.0


class View:
    """An enforcer as the pages see it; any number of threads may ask.

    `trail` is the folder of its trail, None where it keeps none. `clock` gives seconds since 1970.
    """

    def __init__(
        self, enforcer: Enforcer, orders: Path, *, trail: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.enforcer = enforcer
        self.trail = None if trail is None else TrailView(trail)
        self.folder = orders if orders.is_dir() else orders.parent
        self._clock = clock
        self._lock = threading.Lock()
        self._status: Mapping[str, Any] = {}
        self._asking: threading.Thread | None = None
        self._rest_until = 0.0
        self._told_at = self.now()
        self._asking_since: float | None = None
        self._register: Register | None = None
        self._registered = 0.0
        self._has_holidays = (self.folder / "holidays.txt").exists()
        enforcer.subscribe(self._changed)

    def now(self) -> datetime:
        """Return the instant that the instance's clock tells."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def status(self) -> Mapping[str, Any]:
        """Return what the instance says of itself, as `cdnblock status` has it; at most some moments old.

        While it rereads a long list it says nothing, and what it said last is returned.
        """
        with self._lock:
            if time.monotonic() >= self._rest_until and (self._asking is None or not self._asking.is_alive()):
                self._asking = threading.Thread(target=self._ask, name="cdnblock-dashboard-status", daemon=True)
                self._asking.start()
            asking = self._asking
        if asking is not None:
            asking.join(_PATIENCE if self._status else None)
        return self._status or self.enforcer.status()

    @property
    def silent_since(self) -> datetime | None:
        """When the instance said last how it is, if it was asked so long ago that no rereading is the reason."""
        asking_since = self._asking_since
        silent = 0.0 if asking_since is None else time.monotonic() - asking_since
        return self._told_at if silent > SILENT / timedelta(seconds=1) else None

    def register(self) -> Register:
        """Return the orders that are enforced now, worked out; anew when they or, at times, the holidays change."""
        rules = self.enforcer.rules
        with self._lock:
            old = time.monotonic() - self._registered > _HOLIDAYS_SECONDS
            if self._register is None or self._register.rules is not rules or (old and self._holidays_changed()):
                holidays, _ = load_holidays(self.folder)
                made = Register(rules, holidays)
                self._registered = time.monotonic()
                self._register = made if self.enforcer.rules is rules else None
                return made
            return self._register

    def hits(self, orders: Sequence[str]) -> Mapping[str, Hits]:
        """Return how often each order was enforced or would have been; empty where no trail tells."""
        return self.trail.hits(orders) if self.trail else {}

    def hits_by_day(self, order: str) -> Mapping[str, int]:
        """Return the same of one order per day."""
        return self.trail.hits_by_day(order) if self.trail else {}

    def latest(self, most: int, **wanted: Any) -> Sequence[Mapping[str, Any]]:
        """Return the last enforcements, the newest first."""
        try:
            return self.trail.last(most, Choice(kinds=HITS, **wanted)).records if self.trail else ()
        except OSError:
            return ()

    def _ask(self) -> None:
        began = time.monotonic()
        self._asking_since = self._asking_since or began
        self._status = self.enforcer.status()
        self._told_at, self._asking_since = self.now(), None
        ended = time.monotonic()
        self._rest_until = ended + max(_FRESH, _REST * (ended - began))

    def _changed(self, old: RuleSet, new: RuleSet) -> None:
        """Let go of rules that are not enforced any more: a million names are not kept for whoever may look again."""
        if old is not new:
            self._register = None

    def _holidays_changed(self) -> bool:
        """Tell whether the folder's own holidays may be others than before."""
        self._registered = time.monotonic()
        had_some, self._has_holidays = self._has_holidays, (self.folder / "holidays.txt").exists()
        return had_some or self._has_holidays
