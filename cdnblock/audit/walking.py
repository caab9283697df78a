"""From the first line of a trail to its last: does each record follow from the one before it? Pure.

What does not is a `Finding`. After one, the walk goes on from what the line claims of itself, so that one changed line
is one finding and not the end of all that can be told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from cdnblock.audit.chain import START, TAIL, Line, link, read_line, seq_of
from cdnblock.audit.reading import read_record
from cdnblock.audit.records import Kind
from cdnblock.audit.segments import Head

MOST_FINDINGS: Final = 1_000  # that are kept; of the others only the number is

_READ: Final = tuple(f'{kind}"'.encode() for kind in (Kind.RETIRED, Kind.GAP, Kind.TRAIL_OPENED, Kind.LOADED))
_CLOSED: Final = f'{Kind.TRAIL_CLOSED}"'.encode()


class Wrong(StrEnum):
    """What is wrong with a trail."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    CUT = "cut"
    HEAD = "head"
    EXPECTED = "expected"
    RENAMED = "renamed"
    UNREADABLE = "unreadable"
    ORDER_FILE = "order-file"
    EVIDENCE = "evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong: what, in which file and line, and with which record (or records, `seq` to `until`)."""

    wrong: Wrong
    file: str
    line: int | None
    seq: int | None
    message: str
    until: int | None = None

    def __str__(self) -> str:
        """`FILE:LINE: what`, the form that editors jump to."""
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"

    def as_json(self) -> dict[str, Any]:
        """Return the mapping that `cdnblock audit verify --json` prints."""
        return {**asdict(self), "wrong": str(self.wrong)}


class Walk:
    """The way through a trail so far: `seq` and `chain` of the last record, and what was found.

    `marks` are heads that somebody told elsewhere: numbers, and the chain that there is to be. `listen` is given the
    records that speak of the trail itself, with the file and the line where they stand.
    """

    def __init__(
        self,
        *,
        before: Head | None = None,
        marks: tuple[Head, ...] = (),
        listen: Callable[[str, int, dict[str, Any]], object] | None = None,
    ) -> None:
        self.seq, self.chain = (before.seq, before.chain) if before else (0, START)
        self.first: int | None = None if before is None else before.seq + 1
        self.records = 0
        self.findings: list[Finding | None] = []
        self.more = 0
        self.is_closed = False
        self.beginning: tuple[int, bytes, bytes] | None = None
        """Where the trail begins later than with 1: the first number, the digest of that body, and its chain."""
        self.seen: dict[int, bytes] = {}
        self._listen = listen
        self._marks = {mark.seq for mark in marks}
        self._other: bytes | None = None  # what the chain may be as well, after a line that does not fit
        self._missing: list[_Missing] = []
        if self.seq in self._marks:
            self.seen[self.seq] = self.chain

    def line(self, raw: bytes, file: str, number: int) -> None:
        """Take the next line, without its newline."""
        seq = self.seq + 1
        begin = b'{"seq":%d,"at":"' % seq
        chain = sha256(self.chain + sha256(raw[:-TAIL]).digest()).digest()
        if raw[-TAIL:] == b',"chain":"%b"}' % chain.hex().encode() and raw.startswith(begin):
            self._other = None
            self._accept(raw, seq, chain, (file, number))
        else:
            self._look_closer(raw, file, number)

    def omitted(self, digest: bytes) -> None:
        """Take a record that was left out: the digest of its body."""
        self._other = None
        self.seq, self.chain = self.seq + 1, link(self.chain, digest)
        self.records += 1
        self._mark()

    def add(self, wrong: Wrong, file: str, line: int | None, seq: int | None, message: str) -> None:
        """Keep a finding, unless there are too many already."""
        if len(self.findings) >= MOST_FINDINGS:
            self.more += 1
        else:
            self.findings.append(Finding(wrong=wrong, file=file, line=line, seq=seq, message=message))

    def found(self) -> tuple[Finding, ...]:
        """Return what was found."""
        return tuple(finding for finding in self.findings if finding is not None)

    def _accept(self, raw: bytes, seq: int, chain: bytes, where: tuple[str, int]) -> None:
        self.seq, self.chain = seq, chain
        self.records += 1
        self.first = seq if self.first is None else self.first
        if seq in self._marks:
            self._mark()
        kind = raw.find(b'"kind":"', 0, 96) + 8
        self.is_closed = raw.startswith(_CLOSED, kind)
        if self._listen is not None and raw.startswith(_READ, kind) and (record := read_record(raw)) is not None:
            self._listen(*where, record)

    def _mark(self) -> None:
        if self.seq in self._marks:
            self.seen[self.seq] = self.chain

    def _look_closer(self, raw: bytes, file: str, number: int) -> None:
        line = read_line(raw)
        if line is None:
            about = seq_of(raw)
            named = "" if about is None else f" (it begins like record {about})"
            self.add(Wrong.MALFORMED, file, number, about, f"this line is no record{named}")
        elif line.seq <= self.seq:
            self._again(line, file, number)
        elif line.seq == self.seq + 1:
            self._does_not_fit(line, raw, (file, number))
        else:
            self._after_missing(line, raw, (file, number))

    def _does_not_fit(self, line: Line, raw: bytes, where: tuple[str, int]) -> None:
        digest = sha256(line.body).digest()
        if self._other is not None and link(self._other, digest) == line.chain:
            self._other = None  # only what the line before claimed of the chain was changed
            self._accept(raw, line.seq, line.chain, where)
            return
        self._other = link(self.chain, digest)
        self._accept(raw, line.seq, line.chain, where)
        message = f"record {line.seq} was changed: it does not follow from the record before it"
        self.add(Wrong.CHANGED, *where, line.seq, message)

    def _after_missing(self, line: Line, raw: bytes, where: tuple[str, int]) -> None:
        since, until = self.seq + 1, line.seq - 1
        self._other = None
        if not self.records and self.first is None:
            self.beginning = (line.seq, sha256(line.body).digest(), line.chain)
        else:
            which = f"record {since} is" if since == until else f"records {since} to {until} are"
            self._missing.append(_Missing(since, until, until - since + 1, len(self.findings)))
            self.add(Wrong.MISSING, *where, since, f"{which} missing before record {line.seq}")
        self._accept(raw, line.seq, line.chain, where)

    def _again(self, line: Line, file: str, number: int) -> None:
        """Take a record whose place is further up: it is there already, or is missing there."""
        gap = next((gap for gap in self._missing if gap.since <= line.seq <= gap.until and gap.left), None)
        if gap is None:
            self.add(Wrong.DUPLICATE, file, number, line.seq, f"record {line.seq} stands here again")
            return
        gap.left -= 1
        if not gap.left and gap.finding < len(self.findings):
            self.findings[gap.finding] = None  # all that was missing there was found elsewhere
        message = f"record {line.seq} stands here out of order, after record {self.seq}"
        self.add(Wrong.REORDERED, file, number, line.seq, message)


@dataclass(slots=True)
class _Missing:
    """Records that are missing: how many of them were not found elsewhere, and which finding says so."""

    since: int
    until: int
    left: int
    finding: int
