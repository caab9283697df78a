"""Where a trail goes on that somebody else wrote before: what is there, what is missing, and half a line at its end."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cdnblock.audit.chain import Line, read_line
from cdnblock.audit.folder import Folder
from cdnblock.audit.reading import read_record
from cdnblock.audit.records import MAX_LINE, Kind
from cdnblock.audit.segments import HEAD, SAFELY, TORN, Head, Segment, read_head

_LONGEST_TORN: Final = 3_000  # octets that a record holds of half a line; its digest covers all


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found of a trail.

    `head` is where it goes on; `segment` the file that may be appended to, None where a new one has to begin; `torn`
    the octets of half a line, which are no longer in the segment; `gaps` the fields of the records that tell what is
    wrong; `closed` whether the last run ended as it should, None where there was none.
    """

    head: Head
    segment: Segment | None = None
    gaps: tuple[dict[str, Any], ...] = ()
    closed: bool | None = None
    last_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """The end of the last segment that holds anything."""

    segment: Segment
    line: Line | None
    at: str | None
    kind: str | None
    size: int
    torn: bytes


def recover(folder: Folder) -> Found:
    """Return where the trail goes on. Half a line is moved out of the segment, into the file `torn`.

    Raises:
        OSError: the folder cannot be read, or not be mended.

    """
    segments = folder.segments()
    ends = (end for segment in reversed(segments) if (end := _end_of(folder, segment)) is not None)
    end = next(ends, None)
    if end is not None and end.torn:
        _move_away(folder, end)
        return recover(folder)
    told, torn = read_head(folder.take(HEAD) or b""), _torn_before(folder)
    if end is None:
        return _without_records(told, segments, torn)
    if end.line is None:
        return _after_rubbish(told, end, torn)
    return _after_records(told, end, end.line, torn)


def forget_torn(folder: Folder) -> None:
    """Forget half a line, now that a record tells of it."""
    folder.remove(TORN)


def _gap(since: str | None, why: str, **more: Any) -> dict[str, Any]:
    return {"from": since, "lost": {}, "why": why} | more


def _without_records(told: Head | None, segments: list[Segment], torn: list[dict[str, Any]]) -> Found:
    if told is None or not told.seq:
        return Found(head=Head(), segment=segments[-1] if segments and segments[-1].first == 1 else None)
    why = "no records were there any more when recording began again"
    gap = _gap(None, why, lost={"records": told.seq}, seqs=[1, told.seq])
    return Found(head=told, gaps=(*torn, gap), closed=False)


def _after_records(told: Head | None, end: _End, line: Line, torn: list[dict[str, Any]]) -> Found:
    last, gaps = Head(line.seq, line.chain), [*torn]
    if told is not None and told.seq > last.seq:
        why = "records that had been written were not there any more when recording began again"
        gaps.append(_gap(end.at, why, lost={"records": told.seq - last.seq}, seqs=[last.seq + 1, told.seq]))
        return Found(head=told, gaps=tuple(gaps), closed=False, last_at=end.at)
    if told is None:
        gaps.append(_gap(end.at, "the file head was missing or unreadable: whether the end was cut cannot be told"))
    elif told.seq == last.seq and told.chain != last.chain:
        gaps.append(_gap(end.at, "the last record was not the one that had been written last"))
    closed = end.kind == Kind.TRAIL_CLOSED and not torn
    return Found(head=last, segment=end.segment, gaps=tuple(gaps), closed=closed, last_at=end.at)


def _after_rubbish(told: Head | None, end: _End, torn: list[dict[str, Any]]) -> Found:
    """Go on after a segment whose last line is no record: it stays as it is, and a new one begins."""
    head = told or Head(end.segment.first, bytes(32))
    why = f"the end of {end.segment.name} was no record when recording began again"
    return Found(head=head, gaps=(*torn, _gap(None, why)), closed=False)


def _end_of(folder: Folder, segment: Segment) -> _End | None:
    """Return how a segment ends, None when it is empty."""
    descriptor = os.open(segment.name, os.O_RDONLY | SAFELY, dir_fd=folder.fd)
    try:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, 2 * MAX_LINE, max(0, size - 2 * MAX_LINE))
    finally:
        os.close(descriptor)
    if not tail:
        return None
    whole, newline, torn = tail.rpartition(b"\n")
    last = whole.rpartition(b"\n")[2]
    line = read_line(last) if newline else None
    record = (read_record(last) if line else None) or {}
    # Half of a line is at most a line; what is longer was not left by a killed process, and stays where it is.
    mendable = len(torn) < MAX_LINE and (line is not None or not newline)
    return _End(
        segment=segment,
        line=line,
        at=str(record["at"]) if "at" in record else None,
        kind=str(record["kind"]) if "kind" in record else None,
        size=size,
        torn=torn if mendable else b"",
    )


def _move_away(folder: Folder, end: _End) -> None:
    """Take half a line out of its segment. Killed at any moment, it is in one place or the other."""
    before = folder.take(TORN, MAX_LINE) or b""
    if not before.endswith(end.torn):  # else somebody was killed just here
        folder.put(TORN, before + end.torn)
    descriptor = os.open(end.segment.name, os.O_WRONLY | SAFELY, dir_fd=folder.fd)
    try:
        os.ftruncate(descriptor, end.size - len(end.torn))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _torn_before(folder: Folder) -> list[dict[str, Any]]:
    torn = folder.take(TORN, MAX_LINE)
    if not torn:
        return []
    told = {
        "octets": len(torn),
        "sha256": sha256(torn).hexdigest(),
        "base64": base64.b64encode(torn[:_LONGEST_TORN]).decode(),
    }
    return [_gap(None, "a killed process left half a record; here it is", lost={"records": 1}, torn=told)]
