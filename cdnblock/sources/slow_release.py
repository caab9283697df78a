"""Free what a reload replaced, bit by bit.

Whatever holds the interpreter's lock for long holds up every request, and letting go of a million names at once is one
step of a tenth of a second, on whichever thread happens to do it last.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Addition, Name, Order
from cdnblock.orders.name_list import NameList

_BREATH: Final = 0.0002  # seconds: enough for a waiting thread to take the lock
_SLICE: Final = 500  # names of an order that are freed at once
_COUNTING: Final = threading.Lock()
_BY_HAND: Final[list[bool]] = []  # one entry for each who collects by hand: whether the first found it enabled
_ENOUGH: Final = 2_000  # names that are freed between two pauses


def breathe() -> None:
    """Let other threads run."""
    collect_new()
    time.sleep(_BREATH)


def collect_new() -> None:
    """Have the garbage collector look at new lists of names now, while they are few.

    It need not follow texts, but only notices when it has gone through them. This is the pause of those who have nobody
    waiting.
    """
    gc.collect(0)


@contextmanager
def collecting_by_hand() -> Iterator[None]:
    """Keep the garbage collector from going through half-made lists of names by itself; whoever breathes collects."""
    with _COUNTING:
        _BY_HAND.append(_BY_HAND[0] if _BY_HAND else gc.isenabled())
        gc.disable()
    try:
        yield
    finally:
        with _COUNTING:
            found_enabled = _BY_HAND.pop()
            if not _BY_HAND and found_enabled:
                gc.enable()


class SlowRelease:
    """Holds what rule sets are made of until nobody uses them any more, and frees it then.

    Not thread-safe: the thread that rereads gives and frees.
    """

    def __init__(self) -> None:
        self._held: list[tuple[weakref.ref[Any], list[Any]]] = []

    def give(self, old: RuleSet, new: RuleSet) -> None:
        """Take the parts of `old` that `new` does not share; a later `free` frees them once nobody uses `old`."""
        self._hold(old, old.leaves())
        for order in old.orders.values():
            if new.orders.get(order.id) is not order:
                self._hold(order, _slices_of_names(order))
                for names in _long_lists(order):
                    self._hold(names, (*names.pieces, *names.shards))

    def free(self, pause: Callable[[], None] = breathe) -> None:
        """Free what nobody uses any more; `pause` is called about once a millisecond."""
        while unused := [parts for owner, parts in self._held if owner() is None]:
            self._held = [held for held in self._held if held[0]() is not None]
            for parts in unused:  # the last of a rule set lets go of its orders: then they are the next to go
                freed = 0
                while parts:
                    freed += len(parts[-1])
                    parts.pop()
                    if freed >= _ENOUGH:
                        pause()
                        freed = 0

    def _hold(self, owner: Any, parts: Iterable[Any]) -> None:
        listed = list(parts)
        if listed and not any(other() is owner for other, _ in self._held):
            self._held.append((weakref.ref(owner), listed))


def _long_lists(order: Order) -> Iterator[NameList]:
    parts: tuple[Order | Addition, ...] = (order, *order.additions)
    for part in parts:
        if part.names_file is not None and isinstance(part.names_file.names, NameList):
            yield part.names_file.names


def _slices_of_names(order: Order) -> Iterator[Sequence[Name]]:
    parts: tuple[Order | Addition, ...] = (order, *order.additions)
    for part in parts:
        if len(part.names) > _SLICE:
            yield from (part.names[start : start + _SLICE] for start in range(0, len(part.names), _SLICE))
