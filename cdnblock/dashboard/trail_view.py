"""A trail as the pages read it: its last records, how often each order was enforced, and whether it is whole.

Reads the files, as anybody may while they are being written, and never much at once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cdnblock.audit.reading import Choice, open_segment, read_record, whole_lines
from cdnblock.audit.records import HITS, MAX_LINE, Kind
from cdnblock.audit.segments import segments_of
from cdnblock.audit.verifying import Verification, verify

_REACH: Final = 32 * 1024 * 1024  # octets that a search goes back through
_CHUNK: Final = 1024 * 1024
_PATIENCE: Final = 0.3  # seconds
_BREATH: Final = 0.0002  # seconds in which others may have the interpreter
_MOST_KNOWN: Final = 16  # searches that are remembered for as long as nothing is written
_MOST_COUNTED: Final = 1 << 48  # by one record; what is more was never enforced
_AT_ONCE: Final = 100  # lines between two breaths: about half a millisecond


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The last records that were wanted, the newest first; `whole` when the search has come to the trail's beginning."""

    records: Sequence[Mapping[str, Any]]
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """How often an order was enforced and, while it was only reported, would have been; `whole` when all is counted."""

    enforced: int
    would: int
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What came of verifying: `result`, or the `error` for which it could not be done; `at` is when it ended."""

    at: datetime
    seconds: float
    result: Verification | None
    error: str | None


class TrailView:
    """One trail's folder. Any number of threads may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._known: dict[tuple[int, Choice], tuple[tuple[tuple[str, int], ...], Found]] = {}
        self._counting: threading.Thread | None = None
        self._offsets: dict[str, int] = {}
        self._by_day: dict[str, Counter[str]] = {}
        self._would: Counter[str] = Counter()
        self._verifying: threading.Thread | None = None
        self._verified: Verified | None = None

    def last(self, most: int, choice: Choice) -> Found:
        """Return the last records that are wanted.

        Raises:
            OSError: the folder cannot be read.

        """
        segments = segments_of(self.folder)
        state = tuple((segment.name, _size(self.folder / segment.name)) for segment in segments)
        if (known := self._known.get((most, choice))) is not None and known[0] == state:
            return known[1]
        found = self._search([segment.name for segment in segments], most, choice)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[most, choice] = (state, found)
        return found

    def _search(self, segments: Sequence[str], most: int, choice: Choice) -> Found:
        texts, found = choice.texts(), []
        budget = _REACH
        for segment in reversed(segments):
            for lines, octets in _backwards(self.folder / segment):
                for line in reversed(lines):
                    record = read_record(line) if all(text in line for text in texts) else None
                    if record is not None and choice.takes(record):
                        found.append(record)
                        if len(found) >= most:
                            return Found(records=found, whole=False)
                budget -= octets
                if budget <= 0:
                    return Found(records=found, whole=False)
                time.sleep(_BREATH)
        return Found(records=found, whole=True)

    def hits_by_day(self, order: str) -> Mapping[str, int]:
        """Return how often an order was enforced, per day in UTC, as far as it is counted."""
        self._catch_up()
        return dict(self._by_day.get(order, ()))

    def hits(self, orders: Sequence[str]) -> Mapping[str, Hits]:
        """Return how often each order was, in all, and would have been."""
        self._catch_up()
        counting = self._counting is not None and self._counting.is_alive()
        return {
            order: Hits(
                enforced=sum(self._by_day.get(order, Counter()).values()), would=self._would[order], whole=not counting
            )
            for order in orders
        }

    def verify(self) -> None:
        """Begin to verify, on a thread of its own, unless that is being done."""
        if self._verifying is None or not self._verifying.is_alive():
            self._verifying = threading.Thread(target=self._verify, name="cdnblock-dashboard-verify", daemon=True)
            self._verifying.start()

    @property
    def is_verifying(self) -> bool:
        """Whether somebody has asked, and it is not done."""
        return self._verifying is not None and self._verifying.is_alive()

    @property
    def verified(self) -> Verified | None:
        """What came of it last."""
        return self._verified

    def _verify(self) -> None:
        began, result, error = time.monotonic(), None, None
        try:
            result = verify(self.folder)
        except OSError as failure:
            error = str(failure)
        took = time.monotonic() - began
        self._verified = Verified(at=datetime.now(UTC), seconds=took, result=result, error=error)

    def _catch_up(self) -> None:
        """Have what was written since counted, on a thread of its own; wait for it a moment, and not for a long trail."""
        with self._lock:
            if self._counting is None or not self._counting.is_alive():
                self._counting = threading.Thread(target=self._count, name="cdnblock-dashboard-count", daemon=True)
                self._counting.start()
            counting = self._counting
        counting.join(_PATIENCE)

    def _count(self) -> None:
        with suppress(OSError):  # the page of the trail says why it cannot be read
            segments = segments_of(self.folder)
            for segment in segments:
                self._count_in(self.folder / segment.name)
            kept = {segment.name for segment in segments}
            self._offsets = {name: offset for name, offset in self._offsets.items() if name in kept}

    def _count_in(self, path: Path) -> None:
        offset = self._offsets.get(path.name, 0)
        try:
            if path.stat().st_size == offset:
                return
            file = open_segment(path)
        except FileNotFoundError:  # its time was over just now
            return
        with file:
            file.seek(offset)
            for number, (line, whole) in enumerate(whole_lines(file)):
                if not whole:
                    break
                offset += len(line) + 1
                self._note(line)
                if number % _AT_ONCE == 0:
                    time.sleep(_BREATH)
        self._offsets[path.name] = offset

    def _note(self, line: bytes) -> None:
        record = read_record(line) if b'"order":' in line else None
        kind = None if record is None else record.get("kind")
        if record is None or not isinstance(kind, str) or kind not in HITS:
            return
        order, at, count = record.get("order"), record.get("at"), record.get("count", 1)
        if isinstance(order, str) and isinstance(at, str) and type(count) is int and 0 < count <= _MOST_COUNTED:
            if Kind.WOULD in (kind, record.get("of")):
                self._would[order] += count
                return
            self._by_day.setdefault(order, Counter())[at[:10]] += count


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _backwards(path: Path) -> Iterator[tuple[list[bytes], int]]:
    """Yield the whole lines of a segment from its end, some at a time, each lot in its order; and the octets read."""
    try:
        file = open_segment(path)
    except FileNotFoundError:
        return
    with file:
        end, tail = file.seek(0, 2), b""
        while end > 0:
            begin = max(0, end - _CHUNK)
            file.seek(begin)
            lines = (file.read(end - begin) + tail).split(b"\n")
            tail = lines.pop(0)[:MAX_LINE] if begin else b""
            yield lines, end - begin
            end = begin
