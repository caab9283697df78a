"""How an enforcer fares, in plain numbers: written by whoever rereads, read by anybody at any moment without a lock."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from cdnblock.errors import Severity
from cdnblock.sources.live_orders import LiveOrders


class Result(StrEnum):
    """What came of rereading a folder in which something was different."""

    CHANGED = "changed"
    """Other rules are in force, and nothing is wrong."""
    UNCHANGED = "unchanged"
    """The same rules are in force: what changed was a warning, or what is held back."""
    INVALID = "invalid"
    """Something in the folder has an error; of each such file the last good version stays in force."""
    FAILED = "failed"
    """It raised; all that was in force before stays so."""


class Vitals:
    """What a running enforcer knows of its own work. Times are seconds since 1970, spans are in seconds.

    `reloads` counts the results; `looked_at` is when the folder was last looked at, with a difference or without,
    `loaded_at` when something was last different, `seconds` how long that took. `errors` is how many files have an
    error now, the folder itself and `protected.txt` among them; `held` how many releases wait for consent, of
    `held_names` names in force; `state_failing` whether the last good orders cannot be kept on disk.
    `decision_failures` counts the decisions that its hosts could not make because something raised.
    """

    __slots__ = (
        "decision_failures", "errors", "held", "held_names", "loaded_at", "looked_at", "reloads", "seconds",
        "state_failing",
    )  # fmt: skip

    def __init__(self) -> None:
        self.reloads = dict.fromkeys(Result, 0)
        self.looked_at = self.loaded_at = self.seconds = 0.0
        self.errors = self.held = self.held_names = self.decision_failures = 0
        self.state_failing = False

    def note_load(self, live: LiveOrders, at: datetime, seconds: float) -> None:
        """Take note of what the folder is like now: of the first load, or of one after which something is different."""
        self.errors = len({problem.file for problem in live.problems if problem.severity is Severity.ERROR})
        self.held, self.held_names = len(live.held), sum(held.names for held in live.held)
        self.loaded_at = at.timestamp()
        self.note_look(live, at)
        self.seconds = seconds

    def note_reload(self, live: LiveOrders, at: datetime, seconds: float, *, changed: bool) -> None:
        """Take note of a reload after which something is different."""
        self.note_load(live, at, seconds)
        result = Result.CHANGED if changed else Result.UNCHANGED
        self.reloads[Result.INVALID if self.errors else result] += 1

    def note_look(self, live: LiveOrders, at: datetime) -> None:
        """Take note of a look at the folder, whatever came of it."""
        self.looked_at = at.timestamp()
        self.state_failing = live.state_error is not None

    def note_failure(self) -> None:
        """Take note of a reload that raised."""
        self.reloads[Result.FAILED] += 1
