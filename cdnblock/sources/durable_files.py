"""Files inside a folder that is ours: written whole or not at all, read without being led elsewhere.

Everything goes through the folder's descriptor, so a folder that is moved or replaced meanwhile changes nothing.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final, TypeAlias

from cdnblock.sources.order_folder import MAX_FILE

SAFELY: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no link is followed, no FIFO is waited for
CHUNK: Final = 1024 * 1024  # octets handled at a time

Stamp: TypeAlias = tuple[int, ...]

_TOO_LARGE: Final = f"is larger than {MAX_FILE // 1024**2} MiB"
_NEW: Final = ".new"  # ends the name of what is being written


def put(folder: int, name: str, content: bytes) -> None:
    """Put a file in its place, flushed; the folder itself is flushed by whoever needs that.

    A process killed meanwhile leaves the place as it was.

    Raises:
        OSError: it could not be written, or is larger than `take` would read; the place is as it was.

    """
    if len(content) > MAX_FILE:
        raise OSError(0, _TOO_LARGE)
    new = name + _NEW
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            octets = memoryview(content)
            while octets:
                octets = octets[file.write(octets[:CHUNK]) :]
            os.fsync(descriptor)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(new, dir_fd=folder)
        raise


def take(folder: int, name: str) -> bytes:
    """Return what a regular file holds.

    Raises:
        OSError: it cannot be read, is larger than any file that is kept, or is no regular file.

    """
    with os.fdopen(os.open(name, os.O_RDONLY | SAFELY, dir_fd=folder), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "is no regular file")
        content = bytearray()
        while len(content) <= MAX_FILE and (chunk := file.read(CHUNK)):
            content += chunk
    if len(content) > MAX_FILE:
        raise OSError(0, _TOO_LARGE)
    return bytes(content)


def stamp(folder: int, name: str) -> Stamp:
    """Return what changes when a file does, nothing for one that is not there.

    Raises:
        OSError: there is no telling.

    """
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return ()
    return (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
