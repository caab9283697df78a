"""Zones on disk: a whole version, and behind it a journal of changes, so that serials and history survive.

    NAME.zone       one version: a line for each name, and a last line with the serial, their number and a checksum
    NAME.journal    changes, the oldest first, each with its length and checksum; those before the version are history

A change is flushed to the disk before it is served. A process that is killed while it writes leaves a journal whose
last change is not whole: that one was never served, and goes. A new version is written beside the old one and renamed;
the journal is written anew after that, and until it is, it has the version's own changes once more as history.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from struct import Struct
from typing import Final

from cdnblock.rpz_primary.policies import Policy
from cdnblock.rpz_primary.zones import Change, Version, apply
from cdnblock.sources.durable_files import SAFELY

_LOG: Final = logging.getLogger("cdnblock.rpz")
_MAGIC: Final = b"cdnblock rpz journal 1\n"
_FRAME: Final = Struct("!II")  # length and CRC-32 of what follows
_END: Final = re.compile(rb"= ([0-9]+) ([0-9]+) ([0-9]+)\n\Z")  # serial, names, CRC-32 of all lines before
_LARGEST: Final = 1 << 30  # octets of a change: more is no change of ours
_SMALL: Final = 1 << 20  # octets of a journal that is not worth being written anew
_AT_ONCE: Final = 10_000  # names that are written at once
_MOST_POLICY: Final = 15


class DamagedError(Exception):
    """A file is not as it was written."""


class StoredZone:
    """The files of one zone, in a folder that nobody else writes to. One thread at a time uses it."""

    def __init__(self, folder: int, name: str) -> None:
        """Remember where the files are; `folder` is a descriptor."""
        self._folder = folder
        self._name = name
        self._journal = -1
        self._whole_size = 0
        self._journal_size = 0
        self._sound = False  # what is on disk leads to the version that is served

    def load(self) -> Version | None:
        """Return the last version that was written, None where there is none that can be relied on.

        What of the history is damaged is left out: a secondary that needs it gets the whole zone.
        """
        try:
            serial, policies = self._read_whole()
        except FileNotFoundError:
            return None
        except (DamagedError, OSError) as error:
            _LOG.error("cdnblock: %s.zone: %s; it is made anew from the orders", self._name, error)
            return None
        history: list[Change] = []
        changes = [*self._read_journal()]
        for change in changes:
            if history and history[-1].after != change.before:
                history.clear()
            history.append(change)
        place = next((place for place, change in enumerate(history) if change.before == serial), len(history))
        if place == len(history) and history and history[-1].after != serial:
            history.clear()
            place = 0
        version = Version(serial=serial, policies=policies)
        for number, change in enumerate(history):
            version = version.next(change, apply(version.policies, change) if number >= place else policies)
        self._sound = True
        return version

    def write(self, version: Version) -> None:
        """Write a version whole, with its history. Raises OSError where that fails; what was there is still there."""
        self._sound = False
        self._close()
        self._replace("zone", _lines(version))
        self._replace("journal", self._whole_journal(version.history))
        os.fsync(self._folder)
        self._whole_size = self._size("zone")
        self._journal = self._open_journal()
        self._sound = True

    def append(self, change: Change, after: Version) -> None:
        """Write a change, which leads to the version `after`. It is on the disk when this returns; else OSError."""
        framed = _framed(change)
        if not self._sound or self._journal < 0 or self._journal_size + len(framed) > max(_SMALL, self._whole_size):
            self.write(after)
            return
        self._sound = False
        written = 0
        while written < len(framed):
            written += os.write(self._journal, framed[written:])
        os.fdatasync(self._journal)
        self._journal_size += len(framed)
        self._sound = True

    def is_there(self) -> bool:
        """Tell whether both files are in the folder as they were written last."""
        try:
            journal = os.stat(f"{self._name}.journal", dir_fd=self._folder, follow_symlinks=False)
            own = os.fstat(self._journal) if self._journal >= 0 else None
            return (
                own is not None
                and (journal.st_ino, journal.st_size) == (own.st_ino, self._journal_size)
                and self._size("zone") == self._whole_size
            )
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the files."""
        self._close()

    def _read_whole(self) -> tuple[int, dict[str, Policy]]:
        octets = self._octets("zone")
        end = _END.search(octets, max(0, len(octets) - 100))
        if end is None:
            raise DamagedError("has no end")
        serial, count, checksum = map(int, end.groups())
        text = octets[: end.start()]
        if zlib.crc32(text) != checksum:
            raise DamagedError("its octets have changed")
        policies = dict(map(_entry, text.decode("ascii").splitlines()))
        if len(policies) != count:
            raise DamagedError("has another number of names than it says")
        self._whole_size = len(octets)
        return serial, policies

    def _read_journal(self) -> Iterator[Change]:
        """Yield the changes that are whole, and cut off what follows them."""
        try:
            self._journal = self._open_journal()
            octets = self._octets("journal")
        except OSError:
            return
        place = len(_MAGIC)
        if not octets.startswith(_MAGIC):
            self._close()
            return
        while (change := _change_at(octets, place)) is not None:
            place = change[1]
            yield change[0]
        if place < len(octets):
            _LOG.warning(
                "cdnblock: %s.journal: its last %d octets are no whole change", self._name, len(octets) - place
            )
            with suppress(OSError):
                os.ftruncate(self._journal, place)
        self._journal_size = place

    def _replace(self, kind: str, parts: Iterator[bytes]) -> None:
        new, name = f"{self._name}.{kind}.new", f"{self._name}.{kind}"
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=self._folder)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=self._folder)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(descriptor)
        os.rename(new, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _whole_journal(self, history: tuple[Change, ...]) -> Iterator[bytes]:
        self._journal_size = len(_MAGIC)
        yield _MAGIC
        for change in history:
            framed = _framed(change)
            self._journal_size += len(framed)
            yield framed

    def _octets(self, kind: str) -> bytes:
        with os.fdopen(os.open(f"{self._name}.{kind}", os.O_RDONLY | SAFELY, dir_fd=self._folder), "rb") as file:
            return file.read()

    def _size(self, kind: str) -> int:
        return os.stat(f"{self._name}.{kind}", dir_fd=self._folder, follow_symlinks=False).st_size

    def _open_journal(self) -> int:
        return os.open(f"{self._name}.journal", os.O_WRONLY | os.O_APPEND | SAFELY, dir_fd=self._folder)

    def _close(self) -> None:
        if self._journal >= 0:
            os.close(self._journal)
        self._journal = -1


def _lines(version: Version) -> Iterator[bytes]:
    checksum = 0
    lines: list[str] = []
    for name, of in version.policies.items():
        lines.append(f"{name} {of}\n")
        if len(lines) == _AT_ONCE:
            part = "".join(lines).encode()
            checksum = zlib.crc32(part, checksum)
            yield part
            lines.clear()
    part = "".join(lines).encode()
    checksum = zlib.crc32(part, checksum)
    yield part
    yield b"= %d %d %d\n" % (version.serial, len(version.policies), checksum)


def _entry(line: str) -> tuple[str, Policy]:
    name, _, of = line.partition(" ")
    return name, int(of) & _MOST_POLICY


def _framed(change: Change) -> bytes:
    lines = [f"{change.before} {change.after}\n", *(f"{name} {old} {new}\n" for name, old, new in change.names)]
    content = "".join(lines).encode()
    return _FRAME.pack(len(content), zlib.crc32(content)) + content


def _change_at(octets: bytes, place: int) -> tuple[Change, int] | None:
    """Return the change that starts at a place, and where it ends; None where there is no whole one."""
    start = place + _FRAME.size
    if start > len(octets):
        return None
    length, checksum = _FRAME.unpack_from(octets, place)
    content = octets[start : start + length]
    if length > _LARGEST or len(content) != length or zlib.crc32(content) != checksum:
        return None
    first, *lines = content.decode("ascii").splitlines()
    before, after = map(int, first.split())
    names = tuple((name, int(old) & _MOST_POLICY, int(new) & _MOST_POLICY) for name, old, new in map(str.split, lines))
    return Change(before=before, after=after, names=names), start + length
