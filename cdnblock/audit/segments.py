"""The files of a trail, by name: what a folder holds, and in which order it is read.

trail-000000000001-2026-11-22.jsonl   a segment: the number of its first record, and the day (UTC) it began
head                                  the number and the chain of the last record that was written
lock                                  held by the one process that writes, with its pid
torn                                  half a line that a killed process left, until its record is written
client-keys                           the keys of pseudonyms, where there are such
files/<sha256>                        order files as they were, each once

Only one process writes; any number may read meanwhile.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdnblock.audit.chain import START

HEAD: Final = "head"
LOCK: Final = "lock"
TORN: Final = "torn"
KEYS: Final = "client-keys"
FILES: Final = "files"
SAFELY: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no link is followed, no FIFO is waited for

_HEAD_SIZE: Final = 160  # octets, always, so that a new head lies exactly over the old one
_NAME: Final = re.compile(r"trail-([0-9]{12,18})-([0-9]{4}-[0-9]{2}-[0-9]{2})\.jsonl\Z")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file of a trail: the number of its first record, and the day on which it began."""

    first: int
    day: str

    @property
    def name(self) -> str:
        """Its file's name."""
        return f"trail-{self.first:012}-{self.day}.jsonl"


@dataclass(frozen=True, slots=True)
class Head:
    """Where a trail ends: the number of its last record, and the chain after it."""

    seq: int = 0
    chain: bytes = START

    def octets(self) -> bytes:
        """Return what the head file holds."""
        text = json.dumps({"seq": self.seq, "chain": self.chain.hex()}).encode()
        return text.ljust(_HEAD_SIZE - 1) + b"\n"


def read_head(octets: bytes) -> Head | None:
    """Return the head that a head file tells, None when it tells none."""
    try:
        found = json.loads(octets)
        head = Head(found["seq"], bytes.fromhex(found["chain"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return head if type(head.seq) is int and head.seq >= 0 and len(head.chain) == len(START) else None


def segments_among(names: Iterable[str]) -> list[Segment]:
    """Return the segments among the names of files, in the order in which they are read."""
    found = [(name, Segment(int(match[1]), match[2])) for name in names if (match := _NAME.match(name))]
    return sorted(segment for name, segment in found if segment.name == name)  # not with more zeros than there are


def segments_of(folder: Path | str | int) -> list[Segment]:
    """Return the segments of a folder.

    Raises:
        OSError: it cannot be listed.

    """
    return segments_among(os.listdir(folder))  # noqa: PTH208 (a descriptor, too)
