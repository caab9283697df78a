"""The folder of a trail: made for this user, owned by one process, and watched for being taken away.

Everything goes through the folder's descriptor, so that a folder that is moved or replaced leads nobody elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from cdnblock.audit.segments import LOCK, SAFELY, Segment, segments_of
from cdnblock.errors import ConfigError

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_LOOKS: Final = 10
_BETWEEN_LOOKS: Final = 0.02  # seconds
_CHUNK: Final = 1024 * 1024
_NEW: Final = ".new"  # ends the name of what is being written


class Folder:
    """A folder of this user's, which is made where there is none, and its lock.

    Raises:
        ConfigError: it cannot be made or written to, is no folder, belongs to another user, others may write to it, or
            another process has it, whose pid the message tells.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"{path}: cannot be the audit folder: {why}; give a folder that this user can make"
            ) from error
        self._lock = -1
        self._lost: ConfigError | None = None
        try:
            self._refuse_others()
            self._lock = self._locked()
        except ConfigError:
            self.close()
            raise

    def is_in_place(self) -> bool:
        """Tell whether the path still leads to this folder."""
        try:
            there, here = self.path.stat(), os.fstat(self.fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def hold(self) -> None:
        """See that the lock is still there; one that somebody removed is taken anew.

        Raises:
            ConfigError: it could not be: another process has it by now, and has gone on with the trail.

        """
        if self._lost is not None:
            raise self._lost
        with suppress(FileNotFoundError):
            there, here = os.stat(LOCK, dir_fd=self.fd, follow_symlinks=False), os.fstat(self._lock)
            if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                return
        try:
            lock = self._locked()
        except ConfigError as error:
            self._lost = error
            raise
        os.close(self._lock)
        self._lock = lock

    def segments(self) -> list[Segment]:
        """Return the segments that are there.

        Raises:
            OSError: the folder cannot be listed.

        """
        return segments_of(self.fd)

    def take(self, name: str, limit: int = _CHUNK) -> bytes | None:
        """Return what a regular file holds, at most `limit` octets of it; None when it is not there.

        Raises:
            OSError: it cannot be read, or is no regular file.

        """
        try:
            descriptor = os.open(name, os.O_RDONLY | SAFELY, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(0, f"{name} is no regular file")
            return file.read(limit) or b""

    def put(self, name: str, content: bytes, *, mode: int = 0o600) -> None:
        """Put a file in its place, whole or not at all, and on the disk.

        Raises:
            OSError: it could not be written; the place is as it was.

        """
        new = name + _NEW
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=self.fd)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, mode, dir_fd=self.fd)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                octets = memoryview(content)
                while octets:
                    octets = octets[file.write(octets[:_CHUNK]) :]
                os.fsync(descriptor)
            os.rename(new, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError:
            self.remove(new)
            raise
        self.sync()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there and that is possible."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.fd)

    def sync(self, below: str = ".") -> None:
        """Have names that were made or removed outlast a loss of power, where the file system can do that."""
        with suppress(OSError):
            folder = os.open(below, os.O_RDONLY | os.O_DIRECTORY | SAFELY, dir_fd=self.fd)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def close(self) -> None:
        """Let go of the folder and of its lock."""
        for descriptor in (self._lock, self.fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self.fd = -1

    def _refuse_others(self) -> None:
        status = os.fstat(self.fd)
        if status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE:
            return
        whose = "others may write to it" if status.st_uid == os.geteuid() else f"the user {status.st_uid} owns it"
        raise ConfigError(f"{self.path}: cannot be the audit folder: {whose}; give one that only this user writes to")

    def _locked(self) -> int:
        try:
            lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | SAFELY, 0o640, dir_fd=self.fd)
        except OSError as error:
            message = f"{self.path}: cannot be written to: {error.strerror}; give a folder that this user may write to"
            raise ConfigError(message) from error
        try:
            why = None if _taken(lock) else f"is in use by {_owner(lock)}; give each process an audit folder of its own"
        except OSError as error:
            why = f"cannot be locked: {error.strerror}; give a folder on a disk of this machine"
        if why is not None:
            os.close(lock)
            raise ConfigError(f"{self.path}: {why}")
        with suppress(OSError):  # the pid is a kindness
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock


def _taken(lock: int) -> bool:
    """Take the lock; whoever only looks whether it is taken (`is_in_use`) has it for a moment."""
    for _ in range(_LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_BETWEEN_LOOKS)
    return False


def is_in_use(path: Path) -> bool:
    """Tell whether a process writes to the trail in a folder."""
    try:
        lock = os.open(path / LOCK, os.O_RDONLY | SAFELY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _owner(lock: int) -> str:
    try:
        return f"the process {int(os.pread(lock, 20, 0))}"
    except (OSError, ValueError):
        return "another process"
