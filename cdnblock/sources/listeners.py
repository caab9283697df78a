"""Those who are told of changes: one call at a time, in the order in which things happened, and nobody waits.

Two threads of an enforcer have something to tell, the one that rereads and the one that watches the clock, and so has
whoever calls `reload`. A listener that was told of the older rules last would go on with them.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from cdnblock.matching.ruleset import RuleSet

Listener: TypeAlias = Callable[[RuleSet, RuleSet], None]

_LOG: Final = logging.getLogger("cdnblock.enforcer")


class Listeners:
    """Callbacks, and what they have not been told yet."""

    def __init__(self) -> None:
        self._callbacks: tuple[Listener, ...] = ()
        self._subscribing = threading.Lock()
        self._telling = threading.Lock()
        self._untold: deque[tuple[RuleSet, RuleSet] | None] = deque()

    def subscribe(self, callback: Listener) -> Callable[[], None]:
        """Tell this one as well; return the function that ends it."""
        with self._subscribing:
            self._callbacks = (*self._callbacks, callback)

        def unsubscribe() -> None:
            with self._subscribing:
                left = list(self._callbacks)
                if callback in left:
                    left.remove(callback)
                self._callbacks = tuple(left)

        return unsubscribe

    def note(self, old: RuleSet, new: RuleSet) -> None:
        """Remember a change for the next `tell`; whoever swaps the rules notes it before anybody else swaps them."""
        self._untold.append((old, new))

    def note_instant(self) -> None:
        """Remember that decisions are different from now on, with the rules that are in force when that is told."""
        self._untold.append(None)

    def tell(self, rules: Callable[[], RuleSet]) -> None:
        """Tell everybody all that was noted; `rules` returns those in force.

        When another thread is just telling, it tells this too: nobody waits.
        """
        while self._untold and self._telling.acquire(blocking=False):
            try:
                while self._untold:
                    change = self._untold.popleft()
                    self._tell(*(change or (rules(),) * 2))
                    del change  # what was replaced is to be freed
            finally:
                self._telling.release()

    def until_told(self, rules: Callable[[], RuleSet], seconds: float) -> None:
        """Return when all that was noted before has been told, also by another thread; wait for that one so long.

        Not for listeners: they would wait for themselves.
        """
        if self._telling.acquire(timeout=seconds):
            self._telling.release()
        self.tell(rules)

    def _tell(self, old: RuleSet, new: RuleSet) -> None:
        for callback in self._callbacks:
            try:
                callback(old, new)
            except (Exception, SystemExit):  # noqa: BLE001 (logged with its trace; it must not keep the change from others)
                _LOG.exception("cdnblock: a listener failed")
