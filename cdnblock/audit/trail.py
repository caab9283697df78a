"""A trail that is being written: what is told of goes to a thread of its own, which alone touches the folder.

trail = Trail("/var/lib/cdnblock/audit", tally)
tally.note(decision, host, client, measures=(Measure.PROXY,), action="answer", adapter="mine")
trail.event(Kind.ORDER_STARTED, order="tjp-2025-03-28-motogp", names=14)
trail.close()
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from cdnblock.audit.outage import Complaints, Event
from cdnblock.audit.recording import Recorder, breathe
from cdnblock.audit.records import Kind
from cdnblock.audit.segments import Head
from cdnblock.audit.settings import OrderText, Settings
from cdnblock.audit.tally import Hit, Tally
from cdnblock.matching.ruleset import RuleSet

SECOND: Final = 1.0  # between two looks at what was counted
_AT_ONCE: Final = 0.02  # seconds for which what comes at the same time is gathered
_MOST_WAITING: Final = 100_000  # events and hits of other processes that wait for the thread
_MOST_REVISIONS: Final = 4  # of which it is known which files made them
_FILES_OF_A_RECORD: Final = 200  # those beside an order's file as well: more are too long for one record
_PATIENCE: Final = 10.0  # seconds for the thread to end

_LOG: Final = logging.getLogger("cdnblock.audit")


class Trail:
    """The trail in a folder of this process alone, and the thread that writes it.

    The tally counts what is enforced; `rules` tell the order's name for a host where a decision is one for many names.
    Nothing here blocks a caller or raises into it, whatever becomes of the folder: what cannot be written is kept or
    counted, logged once a minute, and told in a `gap` record as soon as there is a place for it.

    Raises:
        ConfigError: the folder is not usable, or another process has it.

    """

    def __init__(
        self,
        folder: Path | str,
        tally: Tally,
        *,
        rules: Callable[[], RuleSet | None] = lambda: None,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tally = tally
        self._clock = clock
        self._complaints = Complaints()
        self._waiting: deque[Event | Hit] = deque()
        self._digests: dict[str, dict[str, str]] = {}
        self._known: dict[str, tuple[OrderText, tuple[str, ...]]] = {}
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._turning = threading.Lock()
        self._recorder = Recorder(
            Path(folder).absolute(),
            settings or Settings(),
            clock=clock,
            file_of=self._file_of,
            texts=self._texts,
            on_error=self._complaints,
        )
        self._recorder.open()
        tally.rules, tally.wake, tally.recording = rules, self._wake, True
        tally.drain(turn=True)
        self._thread = threading.Thread(target=self._run, name="cdnblock-audit", daemon=True)
        self._thread.start()
        _OPEN.add(self)

    @property
    def recent(self) -> deque[dict[str, Any]]:
        """The last records, as mappings, the newest last."""
        return self._recorder.recent

    @property
    def head(self) -> Head:
        """Where the trail ends."""
        return self._recorder.head

    @property
    def last_before(self) -> datetime | None:
        """When the last record was made that there was before this opening, None for a new trail."""
        return self._recorder.last_before

    @property
    def write_errors(self) -> int:
        """How often something could not be written."""
        return self._complaints.count

    def event(self, kind: Kind | str, /, **fields: Any) -> None:
        """Record what happened now. Any thread; never blocks, never raises."""
        self._put(Event(at=self._clock(), kind=str(kind), fields=fields))

    def add(self, hits: Iterable[Hit]) -> None:
        """Count what other processes enforced."""
        for hit in hits:
            self._put(hit)

    def loaded(self, orders: Iterable[OrderText], *, revision: str, before: str | None = None, **fields: Any) -> None:
        """Record that these orders, all of them, are what is in force from now on.

        Their files are kept as they are, each content once; of what is the same as before only the number is told.
        """
        at, digests, changed, texts = self._clock(), {}, [], []
        known = {}
        for order in orders:
            old = self._known.get(order.order)
            if old is not None and old[0] == order:
                known[order.order] = old
            else:
                octets = (order.text, *order.beside.values())
                known[order.order] = (order, tuple(f"sha256:{sha256(each).hexdigest()}" for each in octets))
                changed.append(_file_told(order, known[order.order][1]))
                texts.append(octets)
            digests[order.order] = known[order.order][1][0]
        gone = sorted(self._known.keys() - known.keys())
        self._known = known
        while len(self._digests) >= _MOST_REVISIONS:
            del self._digests[next(iter(self._digests))]
        self._digests = {**self._digests, revision: digests}
        told = {"revision": revision, "before": before, "orders": len(known), "gone": gone} | fields
        for some in _parts([len(octets) for octets in texts]):
            kept = tuple(each for octets in texts[some] for each in octets)
            self._put(Event(at=at, kind=Kind.LOADED, fields=told | {"files": changed[some]}, texts=kept))

    def flush(self, timeout: float = 5.0) -> bool:
        """Write everything that was told of so far, but for repeats that the minute gathers; tell whether it is written."""
        if not self._turning.acquire(timeout=timeout):
            return False
        try:
            self._recorder.retry()
            self._turn(is_full=True)
        finally:
            self._turning.release()
        return self._recorder.failing is None

    def status(self) -> dict[str, Any]:
        """Return the state of the trail as JSON has it."""
        return self._recorder.status() | {"write_errors": self.write_errors, "waiting": len(self._waiting)}

    def close(self) -> None:
        """Write what was counted, the closing record, and let go of the folder. What is counted later is not recorded."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._woken.set()
        self._thread.join(_PATIENCE)
        self._tally.recording, self._tally.wake = False, _nothing
        if self._turning.acquire(timeout=_PATIENCE):
            try:
                for _ in range(2):  # the second time for those who were counting while the first was taken
                    self._turn(is_full=True, turn=True)
                self._recorder.close()
            finally:
                self._turning.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, item: Event | Hit) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self._recorder.lose(item)
            return
        self._waiting.append(item)
        self._wake()

    def _wake(self) -> None:
        if not self._woken.is_set():
            self._woken.set()

    def _run(self) -> None:
        next_full = time.monotonic() + SECOND
        while not self._closing.is_set():
            if self._woken.wait(max(0.0, next_full - time.monotonic())):
                self._closing.wait(_AT_ONCE)
                self._woken.clear()
            is_full = time.monotonic() >= next_full
            if is_full:
                next_full = time.monotonic() + SECOND
            with self._turning:
                self._turn(is_full=is_full)

    def _turn(self, *, is_full: bool, turn: bool = False) -> None:
        """Write what came since the last time."""
        try:
            turn = turn or self._recorder.minute_is_over()
            hits = self._tally.drain(turn=turn, only_new=not is_full and not turn, pause=breathe)
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
            self._recorder.take(hits, waiting, turn=turn, is_full=is_full or turn)
        except Exception as error:  # noqa: BLE001 (the thread goes on, whatever it is; counted and logged)
            self._complaints.add("the audit trail failed", error)
            _LOG.debug("cdnblock: the audit trail failed", exc_info=True)

    def _file_of(self, revision: str, order: str) -> str | None:
        return self._digests.get(revision, {}).get(order)

    def _texts(self) -> Iterator[bytes]:
        for order, _ in self._known.values():
            yield from (order.text, *order.beside.values())

    def _leave_to_parent(self) -> None:
        """In a child made by `os.fork`: hold on to nothing, so that no orphan keeps the next owner out."""
        self._closing.set()
        self._tally.recording, self._tally.wake = False, _nothing
        self._recorder.leave()


def _file_told(order: OrderText, digests: tuple[str, ...]) -> dict[str, Any]:
    beside = [{"file": name, "digest": digest} for name, digest in zip(order.beside, digests[1:], strict=True)]
    return {"order": order.order, "file": order.file, "digest": digests[0], "beside": beside, "mode": order.mode}


def _parts(files: Sequence[int]) -> Iterator[slice]:
    """Yield which orders, with so many files each, are told in one record: all of an order in the same one."""
    start, total = 0, 0
    for number, count in enumerate(files):
        if number > start and total + count > _FILES_OF_A_RECORD:
            yield slice(start, number)
            start, total = number, 0
        total += count
    yield slice(start, len(files))


def _nothing() -> None:
    return None


_OPEN: Final[weakref.WeakSet[Trail]] = weakref.WeakSet()


def _in_child() -> None:
    for trail in list(_OPEN):
        trail._leave_to_parent()  # noqa: SLF001 (its own other half)


def _at_exit() -> None:
    for trail in list(_OPEN):
        trail.close()


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)  # whoever forgets to close a trail has one that is closed all the same
