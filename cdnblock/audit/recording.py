"""What the thread of a trail does: hits and events become records, outages gaps, and what is due is done."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cdnblock.audit.chain import anchor
from cdnblock.audit.clients import Clients, Keys
from cdnblock.audit.clocks import circumstances
from cdnblock.audit.lasting import LastingWriter
from cdnblock.audit.minutes import Minutes, first_fields
from cdnblock.audit.outage import Complaints, Event
from cdnblock.audit.records import Kind, rfc3339
from cdnblock.audit.recovery import forget_torn
from cdnblock.audit.segments import Head
from cdnblock.audit.settings import ClientForm, Settings
from cdnblock.audit.tally import AT_ONCE, Hit
from cdnblock.audit.writing import TakenAwayError, Writer
from cdnblock.errors import ConfigError

_RECENT: Final = 500
_MINUTE: Final = 60
_HOUR: Final = 3600.0
_BREATH: Final = 0.0001  # seconds
_DAY: Final = 86_400.0
_LEAP: Final = 1.5 * _DAY  # a clock that is set forward by more may be wrong
_LONG_AGO: Final = 40 * _DAY
_CLOCK_STEP: Final = 1.0  # seconds by which a clock may go wrong between two looks without having been set

_LOG: Final = logging.getLogger("cdnblock.audit")


class Recorder:
    """The records of one run. One thread at a time."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        *,
        clock: Callable[[], float],
        file_of: Callable[[str, str], str | None],
        texts: Callable[[], Iterable[bytes]],
        on_error: Complaints,
    ) -> None:
        self._path = path
        self._settings = settings
        self._clock = clock
        self._file_of = file_of
        self._texts = texts
        self._complaints = on_error
        self._minutes = Minutes()
        self._minute = int(clock() // _MINUTE)
        self._overflow: Counter[str] = Counter()
        self._keys: Keys | None = None
        self._looked = (clock(), time.monotonic())
        self._next_retirement = 0.0
        self.recent: deque[dict[str, Any]] = deque(maxlen=_RECENT)
        self.recorded = self.gaps = 0

    @property
    def head(self) -> Head:
        """Where the trail ends."""
        return self._lasting.writer.head

    @property
    def last_before(self) -> datetime | None:
        """When the last record was made that there was before this opening, None where none was."""
        last = self._lasting.writer.found.last_at
        try:
            return None if last is None else datetime.fromisoformat(last)
        except ValueError:
            return None

    @property
    def failing(self) -> str | None:
        """Why nothing can be written at the moment, None when it can."""
        return None if self._lasting.outage is None else self._lasting.outage.why

    def open(self) -> None:
        """Open the folder, and record that, and what was found.

        Raises:
            ConfigError: that is not possible.

        """
        try:
            writer = Writer(self._path, segment_size=self._settings.segment_size, on_record=self._told)
        except OSError as error:
            raise ConfigError(f"{self._path}: the trail in it cannot be gone on with: {error}") from error
        self._lasting = LastingWriter(
            writer, self._settings.fsync, self._complaints,
            pending=lambda: len(self._minutes), counted=self._counted, texts=self._texts,
        )  # fmt: skip
        try:
            self._keys = self._opened_keys(writer)
            self._clients = Clients(self._settings.clients, self._keys)
            self._record_opening(writer)
        except (OSError, ConfigError) as error:
            writer.close()
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{self._path}: cannot be written to: {error}") from error

    def minute_is_over(self) -> bool:
        """Tell whether repeats are to be told now."""
        return int(self._clock() // _MINUTE) != self._minute

    def take(self, hits: Iterable[Hit], waiting: Iterable[Event | Hit], *, turn: bool, is_full: bool) -> None:
        """Record hits and events in the order in which they happened; `turn` ends a minute. Never raises OSError."""
        now = self._clock()
        self._lasting.resume(now)
        events = self._noticed(now) if is_full else []
        events += [item for item in waiting if isinstance(item, Event)]
        tell = self._lasting.outage is None
        for number, hit in enumerate((*hits, *(item for item in waiting if isinstance(item, Hit))), start=1):
            if (first := self._minutes.add(hit, tell=tell)) is not None:
                events.append(self._first(first))
            if not number % AT_ONCE:
                breathe()
        events.sort(key=lambda event: event.at)
        if turn and self._lasting.outage is None:
            events += self._counted()
        if turn:
            self._minute = int(now // _MINUTE)
        self._lasting.record(events, now, is_full=is_full)

    def retry(self) -> None:
        """Try to go on now, where nothing could be written."""
        self._lasting.resume(self._clock(), at_once=True)

    def lose(self, item: Event | Hit) -> None:
        """Count what there was no room for. Any thread."""
        kind, times = (item.kind, 1) if isinstance(item, Event) else ("enforcements", item.times)
        self._overflow[kind] += times

    def status(self) -> dict[str, Any]:
        """Return the state of the trail as JSON has it; `head` is what to write down elsewhere."""
        outage, head = self._lasting.outage, self.head
        return {
            "folder": str(self._path),
            "head": anchor(head.seq, head.chain),
            "segment": self._lasting.writer.segment,
            "recorded": self.recorded,
            "gaps": self.gaps,
            "failing": None if outage is None else outage.why,
            "failing_since": None if outage is None else rfc3339(outage.since),
            "last": self.recent[-1]["at"] if self.recent else None,
            "fsync": str(self._settings.fsync),
            "retention_days": self._settings.retention.total_seconds() / 86_400,
            "clients": str(self._settings.clients),
        }

    def close(self) -> None:
        """Record that this is the end, and let go of the folder."""
        now = self._clock()
        self._lasting.resume(now, at_once=True)
        self._lasting.record([Event(at=now, kind=Kind.TRAIL_CLOSED, fields=circumstances(now))], now, is_full=True)
        self._lasting.writer.close()

    def leave(self) -> None:
        """Let go of the folder without a word: it is another process's."""
        self._lasting.writer.close()

    def _first(self, hit: Hit) -> Event:
        kind, fields = first_fields(hit, self._clients.told(hit.client), self._file_of(hit.revision, hit.order))
        return Event(at=hit.first, kind=kind, fields=fields)

    def _counted(self) -> list[Event]:
        return [
            Event(at=at, kind=Kind.COUNTED, fields=fields | {"file": self._file_of(hit.revision, hit.order)})
            for at, hit, fields in self._minutes.end()
        ]

    def _noticed(self, now: float) -> list[Event]:
        """Return what there is to tell of the clock, of lost events, and of keys; and do what is due in the folder."""
        events = []
        before, self._looked = self._looked, (now, time.monotonic())
        step = (now - before[0]) - (self._looked[1] - before[1])
        if abs(step) > _CLOCK_STEP:
            events.append(Event(at=now, kind=Kind.CLOCK_STEP, fields={"seconds": round(step, 6)}))
        if step > _LEAP:
            self._delete_later("the clock leapt forward")
        if self._overflow:
            lost, self._overflow = dict(self._overflow), Counter()
            fields = {"from": rfc3339(before[0]), "to": rfc3339(now), "lost": lost, "why": "too much came at once"}
            events.append(Event(at=now, kind=Kind.GAP, fields=fields))
        if self._lasting.outage is None:
            events += self._tidied(now)
        return events

    def _tidied(self, now: float) -> list[Event]:
        """Change keys, begin a day's segment, and delete those whose time is over."""
        writer = self._lasting.writer
        try:
            rotated = self._keys.rotate(now) if self._keys is not None else None
            writer.check()
            if writer.rotate_if_due(now):
                self._lasting.settle(is_full=True, wrote=True)
            if time.monotonic() >= self._next_retirement:
                self._next_retirement = time.monotonic() + _HOUR
                for fields in writer.retire(now, self._settings.retention):
                    _LOG.info("cdnblock: %s: %s is over and was deleted", self._path, fields.get("segment"))
        except (OSError, ConfigError) as error:
            self._lasting.begin_outage(error, now)
            if isinstance(error, TakenAwayError):
                self._lasting.resume(now, at_once=True)
            return []
        return [] if rotated is None else [Event(at=now, kind=Kind.KEY_ROTATED, fields=rotated)]

    def _delete_later(self, why: str) -> None:
        """Delete nothing for a day: with a clock that is years ahead everything would be too old."""
        _LOG.warning("cdnblock: %s: %s; no segment is deleted within a day", self._path, why)
        self._next_retirement = time.monotonic() + _DAY

    def _opened_keys(self, writer: Writer) -> Keys | None:
        if self._settings.clients is not ClientForm.PSEUDONYM:
            return None
        return Keys(lambda: writer.folder, self._settings.key_every, self._settings.key_kept)

    def _record_opening(self, writer: Writer) -> None:
        now, found = self._clock(), writer.found
        before = {"at": found.last_at, "closed": found.closed}
        if found.closed is False:
            before["told"] = "it ended without a closing record: up to a minute of repeats may be missing"
        opened = circumstances(now) | {"before": None if found.closed is None else before}
        opened |= {"clients": str(self._settings.clients), "fsync": str(self._settings.fsync)}
        opened |= {"retention_days": self._settings.retention.total_seconds() / 86_400}
        events = [Event(at=now, kind=Kind.TRAIL_OPENED, fields=opened)]
        events += [Event(at=now, kind=Kind.GAP, fields=gap | {"to": rfc3339(now)}) for gap in found.gaps]
        if (last := self.last_before) is not None and now - last.timestamp() > _LONG_AGO:
            self._delete_later("nothing was recorded for a long time, or the clock is wrong")
        if not self._lasting.begin(events, now):
            return  # a full disk is no reason not to enforce
        forget_torn(writer.folder)
        if self._keys is not None and (key := self._keys.rotate(now)) is not None:
            self._lasting.record([Event(at=now, kind=Kind.KEY_ROTATED, fields=key)], now, is_full=True)

    def _told(self, record: dict[str, Any]) -> None:
        self.recent.append(record)
        self.recorded += 1
        self.gaps += record["kind"] == Kind.GAP


def breathe() -> None:
    """Let whoever serves requests have the interpreter: it changes hands only when somebody waits for something."""
    time.sleep(_BREATH)
