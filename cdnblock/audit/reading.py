"""The records of a trail, one after the other, chosen by order, name, kind, time or country. Streams; checks nothing.

    for record in records("/var/lib/cdnblock/audit", order="tjp-2025-03-28-motogp"):
        print(record["at"], record["kind"])

What is no record is passed over: `cdnblock.audit.verifying` is who tells of it.
"""

from __future__ import annotations

import json
import os
import stat
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from cdnblock.audit.records import MAX_LINE, Kind, rfc3339
from cdnblock.audit.segments import SAFELY, segments_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which records are wanted; None is all of them. `since` is inclusive, `until` exclusive."""

    order: str | None = None
    name: str | None = None
    """An order's name, or a host."""
    country: str | None = None
    kinds: Collection[str] = field(default_factory=frozenset)
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, record: dict[str, Any]) -> bool:
        """Tell whether a record is wanted."""
        at, kind = record.get("at"), record.get("kind")
        if not (isinstance(at, str) and isinstance(kind, str)):
            return False
        return (
            (not self.kinds or kind in self.kinds)
            and (self.since is None or at >= rfc3339(self.since.timestamp()))
            and (self.until is None or at < rfc3339(self.until.timestamp()))
            and (self.order is None or self.order in orders_of(record))
            and (self.country is None or record.get("country") == self.country)
            and (self.name is None or self.name in names_of(record))
        )

    def texts(self) -> tuple[bytes, ...]:
        """Return what stands in the octets of every record that is wanted."""
        wanted = (self.order, self.name, self.country, *(self.kinds if len(self.kinds) == 1 else ()))
        return tuple(json.dumps(text).encode() for text in wanted if text is not None)


def orders_of(record: dict[str, Any]) -> set[str]:
    """Return the ids of the orders that a record tells of."""
    found: set[Any] = {record["order"]} if isinstance(record.get("order"), str) else set()
    if record.get("kind") == Kind.LOADED:
        found |= {
            item["order"]
            for item in listed(record, "files")
            if isinstance(item, dict) and isinstance(item.get("order"), str)
        }
        found |= {item for item in listed(record, "gone") if isinstance(item, str)}
    return found


def listed(record: dict[str, Any], field: str) -> list[Any]:
    """Return the items of a list in a record, none where there is no such list."""
    found = record.get(field)
    return found if isinstance(found, list) else []


def names_of(record: dict[str, Any]) -> set[str]:
    """Return the names and hosts that a record tells of."""
    hosts, names = record.get("hosts"), record.get("names")
    found = [record.get("name"), record.get("host"), *(hosts if isinstance(hosts, dict) else ())]
    return {name for name in (*found, *(names if isinstance(names, list) else ())) if isinstance(name, str)}


def records(folder: Path | str, choice: Choice | None = None, /, **wanted: Any) -> Iterator[dict[str, Any]]:
    """Yield the records of a trail in their order, as mappings; `wanted` as `Choice` has it.

    Raises:
        OSError: the folder, or a segment that is still there, cannot be read.

    """
    return _chosen(lines(folder), choice or Choice(**wanted))


def latest(folder: Path | str, count: int, choice: Choice | None = None, /, **wanted: Any) -> list[dict[str, Any]]:
    """Return the last records of a trail, at most `count`, the oldest first; no more segments are read than need be.

    Raises:
        OSError: the folder, or a segment that is still there, cannot be read.

    """
    choice = choice or Choice(**wanted)
    found: list[dict[str, Any]] = []
    for segment in reversed(segments_of(folder)):
        some = deque(_chosen(_lines_of(Path(folder) / segment.name), choice), maxlen=count - len(found))
        found = [*some, *found]
        if len(found) >= count:
            break
    return found


def read_record(line: bytes) -> dict[str, Any] | None:
    """Return the record that a line holds, None when it holds none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def lines(folder: Path | str) -> Iterator[bytes]:
    """Yield the whole lines of all segments, without what is longer than any record and without a torn end.

    Raises:
        OSError: the folder, or a segment that is still there, cannot be read.

    """
    for segment in segments_of(folder):
        yield from _lines_of(Path(folder) / segment.name)


def _chosen(found: Iterable[bytes], choice: Choice) -> Iterator[dict[str, Any]]:
    texts = choice.texts()
    for line in found:
        if all(text in line for text in texts) and (record := read_record(line)) and choice.takes(record):
            yield record


def _lines_of(path: Path) -> Iterator[bytes]:
    try:
        file = open_segment(path)
    except FileNotFoundError:  # its time was over just now
        return
    with file:
        yield from (line for line, whole in whole_lines(file) if whole)


def open_segment(path: Path) -> BinaryIO:
    """Open a segment for reading.

    Raises:
        OSError: it cannot be opened, or is no regular file.

    """
    descriptor = os.open(path, os.O_RDONLY | SAFELY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "is no regular file", str(path))
    return os.fdopen(descriptor, "rb", buffering=1 << 18)


def whole_lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield each line without its newline, and whether it is whole: ended, and no longer than any record.

    Of a longer one only the beginning is yielded, so that no file fills the memory.
    """
    readline = file.readline
    while line := readline(MAX_LINE + 1):
        if line[-1:] == b"\n":
            yield line[:-1], True
            continue
        yield line, False
        while len(line) > MAX_LINE and line[-1:] != b"\n":
            line = readline(MAX_LINE + 1)
