"""Records go to the end of the newest segment, each by one write, and the head is told after them.

Every method that writes raises OSError where it could not, and then nothing of the record is in the segment.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cdnblock.audit.chain import anchor, seal
from cdnblock.audit.folder import Folder
from cdnblock.audit.reading import read_record
from cdnblock.audit.records import Kind, body_of, rfc3339
from cdnblock.audit.recovery import Found, recover
from cdnblock.audit.retirement import each_over
from cdnblock.audit.segments import FILES, HEAD, SAFELY, Head, Segment

_LOG: Final = logging.getLogger("cdnblock.audit")

_MODE: Final = 0o640  # the folder is this user's alone, unless the operator lets a group of auditors in
_DAY: Final = 10  # characters of an instant


class TakenAwayError(OSError):
    """What was written is not where it was any more: `lost` tells which records (their numbers, first and last)."""

    def __init__(self, why: str, lost: tuple[int, int]) -> None:
        super().__init__(0, why)
        self.lost = lost


class Writer:
    """The writing end of a trail's folder. Not thread-safe.

    Raises:
        ConfigError: the folder is not usable, or another process has it.
        OSError: what is in it cannot be read or mended.

    """

    def __init__(self, path: Path, *, segment_size: int, on_record: Callable[[dict[str, Any]], object]) -> None:
        self.folder = Folder(path)
        self._on_record = on_record
        self._missing: tuple[int, int] | None = None
        self._segment_size = segment_size
        self._file = self._head_file = -1
        self._segment: Segment | None = None
        self._size = 0
        self._dirty = False
        try:
            self.found: Found = recover(self.folder)
            self.head = self.found.head
            if self.found.segment is not None:
                self._open(self.found.segment)
            if not self.head.seq:
                with suppress(OSError):  # a full disk; it is told again after each record
                    self.tell_head()  # from the first record on there is a head, whenever somebody is killed
        except OSError:
            self.close()
            raise

    @property
    def segment(self) -> str | None:
        """The name of the file that is appended to, None when the next record begins one."""
        return None if self._segment is None else self._segment.name

    def append(self, at: float, now: float, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Write a record of what happened `at`, and return it; where it is time, a new segment begins before it."""
        if self._file < 0 or self._size >= self._segment_size or self._day_is_over(now):
            self._begin(now)
        return self._write(at, kind, fields)

    def rotate_if_due(self, now: float) -> bool:
        """Begin a new segment when the day is over although nothing is to be written; return whether it was."""
        due = self._file >= 0 and self._day_is_over(now)
        if due:
            self._begin(now)
        return due

    def check(self) -> None:
        """See that the segment is where it was, and as long as it was.

        Raises:
            TakenAwayError: it is not; the next record goes into a new one.
            ConfigError: another process has the folder by now.

        """
        if self.folder.is_in_place():
            self.folder.hold()
        segment = self._segment
        if segment is None:
            if not self.folder.is_in_place():
                self._open_folder_anew((self.head.seq + 1, self.head.seq))
            return
        lost = (segment.first, self.head.seq)
        if not self.folder.is_in_place():
            self._open_folder_anew((1, self.head.seq))
        try:
            there = os.stat(segment.name, dir_fd=self.folder.fd, follow_symlinks=False)
        except OSError as error:
            raise self._gone(f"{segment.name} was taken away: {error.strerror}", lost) from error
        here = os.fstat(self._file)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise self._gone(f"{segment.name} was replaced by another file", lost)
        if here.st_size != self._size:
            why = f"{segment.name} was changed by somebody: {here.st_size} octets are in it, {self._size} were written"
            raise self._gone(why, lost if here.st_size < self._size else (self.head.seq + 1, self.head.seq))

    def sync(self) -> None:
        """Have what was written outlast a loss of power, and the head after it."""
        if self._dirty and self._file >= 0:
            os.fdatasync(self._file)
            if self._head_file >= 0:
                os.fdatasync(self._head_file)
            self._dirty = False

    def tell_head(self) -> None:
        """Write where the trail ends into the file `head`."""
        if self._head_file >= 0 and not os.fstat(self._head_file).st_nlink:
            os.close(self._head_file)
            self._head_file = -1
        if self._head_file < 0:
            flags = os.O_WRONLY | os.O_CREAT | SAFELY
            self._head_file = os.open(HEAD, flags, _MODE, dir_fd=self.folder.fd)
        os.pwrite(self._head_file, self.head.octets(), 0)

    def keep(self, octets: bytes) -> None:
        """Keep an order file as it was, once, under its digest."""
        name = f"{FILES}/{sha256(octets).hexdigest()}"
        try:
            if os.stat(name, dir_fd=self.folder.fd, follow_symlinks=False).st_size == len(octets):
                return
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(FILES, 0o700, dir_fd=self.folder.fd)
        self.folder.put(name, octets, mode=_MODE)
        self.folder.sync(FILES)

    def retire(self, now: float, retention: timedelta) -> Iterator[dict[str, Any]]:
        """Delete the segments whose last record is older than `retention`; yield the record of each.

        The record is on the disk before the segment goes: a trail is never shorter than it says.
        """
        for segment, fields in each_over(self.folder, self._segment, rfc3339(now - retention.total_seconds())):
            yield self.append(now, now, Kind.RETIRED, fields)
            self.tell_head()
            self.sync()
            os.unlink(segment.name, dir_fd=self.folder.fd)
            self.folder.sync()

    def close(self) -> None:
        """Let go of everything."""
        for descriptor in (self._file, self._head_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._head_file = -1
        self._segment = None
        self.folder.close()

    def _write(self, at: float, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        seq = self.head.seq + 1
        line, chain = seal(self.head.chain, body_of(seq, at, kind, fields))
        written = 0
        self._dirty = True
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(28, "No space left for a whole record")  # noqa: TRY301 (what was written of it goes out again)
        except OSError:
            self._take_back(written)
            raise
        self._size += written
        self.head = Head(seq, chain)
        record = read_record(line) or {}
        self._on_record(record)
        return record

    def _take_back(self, written: int) -> None:
        """Take half a line out again; where even that fails, the segment is left and the next open mends it."""
        if written:
            try:
                os.ftruncate(self._file, self._size)
            except OSError:
                self._leave()

    def _begin(self, now: float) -> None:
        """Begin a segment; its first record tells how the one before it ended, and so does the log."""
        before, head = self._segment, self.head
        day = rfc3339(now)[:_DAY]
        self.sync()
        self._leave()
        self._open(Segment(head.seq + 1, day), is_new=True)
        if before is not None:
            self._write(now, Kind.ROTATED, {"before": before.name, "head": anchor(head.seq, head.chain)})
            self.sync()
            _LOG.info("cdnblock: %s: %s ended at %s", self.folder.path, before.name, anchor(head.seq, head.chain))

    def _open(self, segment: Segment, *, is_new: bool = False) -> None:
        flags = os.O_WRONLY | os.O_APPEND | SAFELY | (os.O_CREAT if is_new else 0)
        file = os.open(segment.name, flags, _MODE, dir_fd=self.folder.fd)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or (is_new and status.st_size):
            os.close(file)
            raise OSError(17, f"{segment.name} is there already, and is not ours")
        self._file, self._segment, self._size = file, segment, status.st_size
        self.folder.sync()

    def _leave(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._segment, self._size = -1, None, 0

    def _day_is_over(self, now: float) -> bool:
        return self._segment is not None and rfc3339(now)[:_DAY] > self._segment.day

    def _gone(self, why: str, lost: tuple[int, int]) -> TakenAwayError:
        self._leave()
        return TakenAwayError(why, lost)

    def _open_folder_anew(self, lost: tuple[int, int]) -> None:
        """Go on in whatever is at the path now, where it is usable; the numbers and the chain go on.

        Raises:
            TakenAwayError: always.
            ConfigError: there is no usable folder there.

        """
        self._leave()
        if self._head_file >= 0:
            os.close(self._head_file)
            self._head_file = -1
        self._missing = lost = self._missing or lost
        anew = Folder(self.folder.path)
        self._missing = None
        self.folder.close()
        self.folder = anew
        raise TakenAwayError(f"{anew.path} was taken away, or replaced by another folder", lost)
