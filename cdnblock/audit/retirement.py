"""Which segments have had their time: all of their records are older than they may become."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from cdnblock.audit.chain import anchor, read_line
from cdnblock.audit.folder import Folder
from cdnblock.audit.reading import read_record
from cdnblock.audit.records import MAX_LINE
from cdnblock.audit.segments import SAFELY, Segment

_LINE: Final = 64 * 1024  # octets in which nearly every last line fits


def each_over(folder: Folder, current: Segment | None, before: str) -> Iterator[tuple[Segment, dict[str, Any]]]:
    """Yield the oldest segments whose last record is from before an instant (RFC 3339, UTC), and what is told of them.

    The first one that is younger ends it: nothing is taken out of the middle.

    Raises:
        OSError: a segment cannot be read.

    """
    for segment, following in pairwise(folder.segments()):
        if segment == current:
            return
        last = _last_line(folder, segment)
        line, record = read_line(last), read_record(last) or {}
        at = record.get("at")
        # What cannot be read is as old as the day on which the next one began.
        if not (at if isinstance(at, str) else following.day) < before:
            return
        seqs = [segment.first, line.seq if line is not None else following.first - 1]
        head = None if line is None else anchor(line.seq, line.chain)
        yield segment, {"segment": segment.name, "seqs": seqs, "head": head}


def _last_line(folder: Folder, segment: Segment) -> bytes:
    descriptor = os.open(segment.name, os.O_RDONLY | SAFELY, dir_fd=folder.fd)
    try:
        size = os.fstat(descriptor).st_size
        for much in (_LINE, 2 * MAX_LINE):
            tail = os.pread(descriptor, much, max(0, size - much)).rstrip(b"\n")
            if b"\n" in tail or much >= size:
                break
    finally:
        os.close(descriptor)
    return tail.rpartition(b"\n")[2]
