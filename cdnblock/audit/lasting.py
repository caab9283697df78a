"""Recording goes on: what cannot be written is kept or counted, and told as soon as there is a place for it.

Nothing here raises for what becomes of the folder: a full disk, a folder that is read-only, taken away or replaced.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from cdnblock.audit.outage import Complaints, Event, Outage
from cdnblock.audit.records import HITS, Kind
from cdnblock.audit.settings import Fsync
from cdnblock.audit.writing import TakenAwayError, Writer
from cdnblock.errors import ConfigError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TRY_EVERY: Final = 1.0  # seconds

_LOG: Final = logging.getLogger("cdnblock.audit")


class LastingWriter:
    """A writer that goes on. Not thread-safe.

    `pending` tells how many enforcements were counted meanwhile, `counted` gives their records, and `texts` the order files that are in force, for a
    folder in which they are not.
    """

    def __init__(
        self,
        writer: Writer,
        fsync: Fsync,
        complaints: Complaints,
        *,
        pending: Callable[[], int],
        counted: Callable[[], list[Event]],
        texts: Callable[[], Iterable[bytes]],
    ) -> None:
        self.writer = writer
        self.outage: Outage | None = None
        self._fsync = fsync
        self._complaints = complaints
        self._pending = pending
        self._counted = counted
        self._texts = texts
        self._unsynced = self._unsettled = False
        self._next_try = 0.0

    def begin(self, events: list[Event], now: float) -> bool:
        """Write the first events of a run; return whether that was possible, or the disk is full.

        Raises:
            OSError: nothing can be written for another reason.

        """
        try:
            for event in events:
                self.write(event, now)
            self.settle(is_full=True)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.begin_outage(error, now)
            for event in events:
                self._keep(event)
            return False
        return True

    def record(self, events: list[Event], now: float, *, is_full: bool) -> None:
        """Write events; with `is_full`, also do what is done once a second."""
        written = 0
        try:
            if self.outage is not None:
                raise OSError(0, self.outage.why)  # noqa: TRY301 (what cannot be written is kept below)
            if events or is_full:
                self.writer.check()
            for event in events:
                self.write(event, now)
                written += 1
            self.settle(is_full=is_full)
        except (OSError, ConfigError) as error:
            if self.outage is None:
                self.begin_outage(error, now)
            for event in events[written:]:
                self._keep(event)
            if isinstance(error, TakenAwayError):
                self.resume(now, at_once=True)

    def write(self, event: Event, now: float) -> None:
        """Write one event, and keep its octets before it.

        Raises:
            OSError: it could not be written.

        """
        for text in event.texts:
            self.writer.keep(text)
        self.writer.append(event.at, now, event.kind, event.fields)
        self._unsynced |= event.kind not in HITS
        self._unsettled = True

    def settle(self, *, is_full: bool, wrote: bool = False) -> None:
        """Tell the head, and have what was written outlast a loss of power where it is to.

        Raises:
            OSError: that could not be done.

        """
        self._unsynced |= wrote
        if self._unsettled or wrote:
            self.writer.tell_head()
            self._unsettled = False
        match self._fsync:
            case Fsync.RECORD:
                due = True
            case Fsync.SECOND:
                due = is_full
            case Fsync.NEVER:
                due = False
        if due or self._unsynced:
            self.writer.sync()
            self._unsynced = False

    def begin_outage(self, error: OSError | ConfigError, now: float) -> None:
        """Take note that nothing can be written."""
        self._complaints.add(f"{self.writer.folder.path}: nothing can be recorded", error)
        self._next_try = time.monotonic() + _TRY_EVERY
        lost = error.lost if isinstance(error, TakenAwayError) else None
        if self.outage is None:
            self.outage = Outage(since=now, why=str(error), seqs=lost)
        elif lost is not None:
            self.outage.seqs = lost

    def resume(self, now: float, *, at_once: bool = False) -> None:
        """Try to write again: the gap, then what was kept, then what was counted meanwhile."""
        outage = self.outage
        if outage is None or (time.monotonic() < self._next_try and not at_once):
            return
        try:
            self._check_twice(now)
            if outage.seqs is not None:
                for text in self._texts():
                    self.writer.keep(text)
            self.writer.append(now, now, Kind.GAP, outage.gap(now, self._pending()))
            self.settle(is_full=True, wrote=True)
        except (OSError, ConfigError) as error:
            self.begin_outage(error, now)
            return
        _LOG.warning("cdnblock: %s: recording goes on after %.0f s", self.writer.folder.path, now - outage.since)
        self.outage = None
        self.record([*outage.kept, *self._counted()], now, is_full=True)

    def _check_twice(self, now: float) -> None:
        """See that there is a place to write to; what was taken away is told of once, and then begun anew."""
        try:
            self.writer.check()
        except TakenAwayError as error:
            self.begin_outage(error, now)
            self.writer.check()

    def _keep(self, event: Event) -> None:
        if self.outage is not None:
            self.outage.keep(event)
