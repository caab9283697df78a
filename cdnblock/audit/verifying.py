"""Is a trail what was written? Every cut, changed, reordered, doubled or missing line and segment is found, and where.

Nothing here needs to be believed but SHA-256 and, where the end itself is in doubt, a head that was written down
elsewhere: whoever can write to the folder can write another trail from any record on, and another `head` file.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cdnblock.audit.chain import anchor, link, read_anchor, seq_of
from cdnblock.audit.folder import is_in_use
from cdnblock.audit.hearing import Hearing
from cdnblock.audit.reading import open_segment, whole_lines
from cdnblock.audit.records import MAX_LINE
from cdnblock.audit.segments import FILES, HEAD, Head, Segment, read_head, segments_of
from cdnblock.audit.walking import Finding, Walk, Wrong

_TOLD_EVERY: Final = 4_096  # lines between two words about the progress
_HEAD_ROOM: Final = 4096
_LOOKS: Final = 10
_BEGINNINGS: Final = 200  # while years of segments are deleted, one after the other
_BETWEEN_BEGINNINGS: Final = 0.05  # seconds
_CHUNK: Final = 1024 * 1024
_NO_FILE: Final = frozenset(
    {errno.ELOOP, errno.ENXIO, errno.EISDIR, 0}
)  # a link, a FIFO, a folder: not what was written

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of it. `ok` when nothing was found; `notes` is what the trail itself says of its gaps and its ends.

    `first` and `head` are where the records begin and end, `more` the findings beyond those that are kept; `omitted`
    the records of which an evidence file holds the digest alone.
    """

    file: str
    records: int
    segments: int
    first: int | None
    head: Head
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    more: int = 0
    in_use: bool = False
    omitted: int = 0

    @property
    def ok(self) -> bool:
        """Whether the trail is what was written, as far as the chain can tell."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Return the mapping that `cdnblock audit verify --json` prints."""
        return {
            "ok": self.ok,
            "file": self.file,
            "records": self.records,
            "omitted": self.omitted,
            "segments": self.segments,
            "first": self.first,
            "last": self.head.seq or None,
            "head": anchor(self.head.seq, self.head.chain),
            "in_use": self.in_use,
            "findings": [finding.as_json() for finding in self.findings],
            "more_findings": self.more,
            "notes": list(self.notes),
        }


def verify(folder: Path | str, *, expect: str | None = None, progress: Progress | None = None) -> Verification:
    """Verify the trail in a folder, also while it is written; `expect` is a head (SEQ:CHAIN) known from elsewhere.

    `progress` is told how many octets of how many were read.

    Raises:
        OSError: the folder or a segment cannot be read.
        ValueError: `expect` is no head.

    """
    folder = Path(folder)
    expected = Head(*read_anchor(expect)) if expect is not None else None
    gone = ""
    for _ in range(_BEGINNINGS):
        try:
            return _verified(folder, expected, progress)
        except _GoneError as error:
            gone = error.args[0]
            time.sleep(_BETWEEN_BEGINNINGS)
    raise OSError(errno.ENOENT, "segments go as fast as they are read", gone)


class _GoneError(Exception):
    """A segment is not there any more: its time was over just now, and what says so may be newer than all that is read."""


def _verified(folder: Path, expected: Head | None, progress: Progress | None) -> Verification:
    in_use = is_in_use(folder)
    told = _head_of(folder)  # before the records: those may go on meanwhile
    segments = segments_of(folder)
    heard = Hearing()
    walk = Walk(marks=tuple(mark for mark in (told, expected) if mark is not None), listen=heard)
    torn = _walk_all(folder, segments, walk, progress)
    notes = [*heard.notes()]
    if torn is not None:
        _judge_torn(torn, notes, in_use=in_use)
    if not in_use and walk.records and not walk.is_closed:
        notes.append("the last run ended without a closing record: up to a minute of repeats may be missing")
    _judge_beginning(walk, heard, segments, expected)
    if not segments and (told is None or not told.seq):
        walk.add(Wrong.MISSING, str(folder), None, None, "there is no trail here")
    if walk.records or told is None or told.seq:
        _judge_head(told, walk, has_segments=bool(segments))
    if expected is not None:
        judge_expected(expected, walk, str(folder))
    _judge_order_files(folder, walk, heard)
    return Verification(
        file=str(folder), records=walk.records, segments=len(segments), first=walk.first,
        head=Head(walk.seq, walk.chain), findings=walk.found(), notes=tuple(notes), more=walk.more, in_use=in_use,
    )  # fmt: skip


def judge_expected(expected: Head, walk: Walk, file: str) -> None:
    """Compare a head that was written down elsewhere with what stands here."""
    seen = walk.seen.get(expected.seq)
    if seen == expected.chain or expected == Head():
        return
    if seen is not None:
        message = f"record {expected.seq} is another one than expected: what was written up to it was written anew"
    elif expected.seq > walk.seq:
        message = f"record {expected.seq} was expected, but record {walk.seq} is the last one: the end was cut"
    else:
        message = f"record {expected.seq} was expected, and is not here"
    walk.add(Wrong.EXPECTED, file, None, expected.seq, message)


def _walk_all(
    folder: Path, segments: list[Segment], walk: Walk, progress: Progress | None
) -> tuple[Segment, int, int] | None:
    """Walk through all segments; return where half a line ends the last one: its segment, line and octets."""
    torn = None
    for segment, number, line, whole in _each_line(folder, segments, walk, progress):
        if torn is not None:
            _complain_of_part(walk, *torn)
        torn = None if whole else (segment, number, len(line))
        if not whole:
            continue
        walk.line(line, segment.name, number)
        if number == 1 and seq_of(line) not in (segment.first, None):
            message = f"the name says that record {segment.first} begins it"
            walk.add(Wrong.RENAMED, segment.name, 1, segment.first, message)
    return torn


def _each_line(
    folder: Path, segments: list[Segment], walk: Walk, progress: Progress | None
) -> Iterator[tuple[Segment, int, bytes, bool]]:
    """Yield each line with its segment and number, and whether it is whole."""
    sizes = [_size(folder / segment.name) for segment in segments]
    for which, segment in enumerate(segments):
        try:
            file = open_segment(folder / segment.name)
        except FileNotFoundError:
            raise _GoneError(segment.name) from None
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            walk.add(Wrong.UNREADABLE, segment.name, None, segment.first, "this is no regular file")
            continue
        with file:
            for number, (line, whole) in enumerate(whole_lines(file), start=1):
                yield segment, number, line, whole
                if progress is not None and not number % _TOLD_EVERY:
                    progress(sum(sizes[:which]) + file.tell(), sum(sizes))


def _complain_of_part(walk: Walk, segment: Segment, line: int, octets: int) -> None:
    what = "is longer than any record" if octets > MAX_LINE else "does not end"
    walk.add(Wrong.MALFORMED, segment.name, line, None, f"this line is no record: it {what}")


def _judge_torn(torn: tuple[Segment, int, int], notes: list[str], *, in_use: bool) -> None:
    segment, line, octets = torn
    why = "it is being written" if in_use else "a process was killed while it wrote it; the next start records it"
    notes.append(f"{segment.name}:{line}: half a record of {octets} octets: {why}")


def _judge_beginning(walk: Walk, heard: Hearing, segments: list[Segment], expected: Head | None) -> None:
    """Tell whether what is missing before the first record was retired, as a record says."""
    if walk.beginning is None:
        return
    first, digest, chain = walk.beginning
    before = heard.retired.get(first - 1)
    if before is None or link(before, digest) != chain:
        which = "record 1 is" if first == 2 else f"records 1 to {first - 1} are"  # noqa: PLR2004 (only one is missing)
        message = f"{which} missing, and no record says that their time was over"
        walk.add(Wrong.MISSING, segments[0].name, 1, 1, message)
    elif expected is not None and expected.seq == first - 1:
        walk.seen[expected.seq] = before


def _judge_head(told: Head | None, walk: Walk, *, has_segments: bool) -> None:
    if told is None:
        if has_segments:
            message = "missing or unreadable: whether the end of the trail was cut cannot be told"
            walk.add(Wrong.HEAD, HEAD, None, None, message)
    elif told.seq > walk.seq:
        which = f"record {walk.seq} is the last one here" if walk.seq else "there is none"
        message = f"record {told.seq} was written, but {which}: the end was cut"
        walk.add(Wrong.CUT, HEAD, None, walk.seq + 1, message)
    elif walk.first is not None and told.seq < walk.first - 1:
        message = f"record {told.seq} is from before the first one here: the head was told after what was deleted"
        walk.add(Wrong.HEAD, HEAD, None, told.seq, message)
    elif (seen := walk.seen.get(told.seq)) is not None and seen != told.chain:
        message = f"record {told.seq} is another one than that which was written"
        walk.add(Wrong.HEAD, HEAD, None, told.seq, message)


def _judge_order_files(folder: Path, walk: Walk, heard: Hearing) -> None:
    """Tell of order files that were kept and are not what they were."""
    for digest, (file, line, seq) in heard.digests.items():
        is_same = _is_same(folder / FILES / digest, digest)
        if not is_same:
            how = "is not here" if is_same is None else "was changed"
            walk.add(Wrong.ORDER_FILE, file, line, seq, f"the order file that it names {how}: {FILES}/{digest}")


def _is_same(path: Path, digest: str) -> bool | None:
    try:
        with open_segment(path) as file:
            octets = sha256()
            while chunk := file.read(_CHUNK):
                octets.update(chunk)
            return octets.hexdigest() == digest
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return False


def _head_of(folder: Path) -> Head | None:
    """Return what the file `head` tells: the same twice, since it may be being written just now."""
    found: bytes | None = None
    for _ in range(_LOOKS):
        try:
            with open_segment(folder / HEAD) as file:
                again = file.read(_HEAD_ROOM)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise
            return None
        if again == found:
            break
        found = again
    return read_head(again)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
