"""What workers refused, on its way to their supervisor, who alone writes the trail.

A worker tells of the first of a group at once, of repeats once a second, and once a second that it has nothing more
to tell. So one that dies takes at most a second's counts along, and its supervisor records that it did.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

from cdnblock.audit.records import Kind, rfc3339
from cdnblock.audit.tally import Hit, Tally

if TYPE_CHECKING:
    from cdnblock.audit.trail import Trail

_EVERY: Final = 1.0  # seconds
_TURN: Final = 60  # of these: then every group is new
_GATHER: Final = 0.02  # seconds in which first ones are gathered, so that a flood is told in few messages
_LAST: Final = None  # what a worker says that ends as it should
_WAIT: Final = 5.0  # seconds for what is still on its way at the end
_LOG: Final = logging.getLogger("cdnblock.adapters.dns_server")


@contextmanager
def telling(line: Connection | None, tally: Tally) -> Iterator[None]:
    """Tell the supervisor what is counted, from a thread; on leaving, all the rest, and that this is the end."""
    if line is None:
        yield
        return
    woken, ended = threading.Event(), threading.Event()
    tally.wake, tally.recording = woken.set, True

    def tell() -> None:
        with suppress(OSError, ValueError):  # nobody is there to take it: then this worker ends, too
            _tell(line, tally, woken, ended)

    thread = threading.Thread(target=tell, name="cdnblock-hits", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        woken.set()
        thread.join(_WAIT)


def _tell(line: Connection, tally: Tally, woken: threading.Event, ended: threading.Event) -> None:
    ticks, next_tick = 0, time.monotonic() + _EVERY
    while not ended.is_set():
        if woken.wait(max(0.0, next_tick - time.monotonic())) and not ended.is_set():
            ended.wait(_GATHER)
            woken.clear()
            _send(line, tally.drain(only_new=True))
        if time.monotonic() >= next_tick:
            ticks, next_tick = ticks + 1, time.monotonic() + _EVERY
            _send(line, tally.drain(turn=ticks % _TURN == 0), is_due=True)
    _send(line, tally.drain(turn=True))
    _send(line, tally.drain())  # by whom it was just looked up when the turn ended
    line.send(_LAST)


def _send(line: Connection, hits: list[Hit], *, is_due: bool = False) -> None:
    if hits or is_due:
        line.send([tuple(hit) for hit in hits])


class Heard:
    """The supervisor's end of one worker's line: what comes goes to the trail, on a thread of its own."""

    def __init__(self, line: Connection, trail: Trail, pid: Callable[[], int | None]) -> None:
        self._line = line
        self._trail = trail
        self._pid = pid
        self._since = time.time()
        self._thread = threading.Thread(target=self._listen, name="cdnblock-hits", daemon=True)
        self._thread.start()

    def see_it_end(self) -> None:
        """Wait for what is still on its way from a worker that has ended."""
        self._thread.join(_WAIT)

    def _listen(self) -> None:
        is_whole = False
        try:
            while (rows := self._line.recv()) is not _LAST:
                self._since = time.time()
                self._trail.add([Hit(*row) for row in rows])
            is_whole = True
        except (EOFError, OSError):
            pass
        except Exception:  # noqa: BLE001 (logged with its trace; the loss is told below)
            _LOG.exception("cdnblock: what a worker counted cannot be understood")
        self._line.close()
        if not is_whole:
            self._tell_gap()

    def _tell_gap(self) -> None:
        since, until = rfc3339(self._since), rfc3339(time.time())
        why = f"the DNS worker {self._pid()} died before it told what it had refused since"
        self._trail.event(Kind.GAP, **{"from": since, "to": until, "lost": None, "of": "enforced", "why": why})
