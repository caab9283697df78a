"""A folder that one process owns: made for this user alone, and locked."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from cdnblock.errors import ConfigError
from cdnblock.sources.durable_files import SAFELY

_LOCK: Final = "lock"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def open_folder(path: Path) -> int:
    """Return the descriptor of a folder of this user's, which is made where there is none.

    The path itself may be a link, as systemd makes one for a state directory.

    Raises:
        ConfigError: it cannot be made, is no folder, belongs to another user, or others may write to it.

    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        message = f"{path}: cannot be the state folder: {why}; give a folder that this user can make"
        raise ConfigError(message) from error
    status = os.fstat(folder)
    if status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE:
        return folder
    os.close(folder)
    whose = "others may write to it" if status.st_uid == os.geteuid() else f"it belongs to the user {status.st_uid}"
    raise ConfigError(f"{path}: cannot be the state folder: {whose}; give one of its own, such as {path / 'cdnblock'}")


def take_lock(folder: int, path: Path) -> int:
    """Return the descriptor that holds the folder's lock until it is closed or the process ends, however it ends.

    Raises:
        ConfigError: another process holds it; the message tells its pid. Or there can be no lock.

    """
    try:
        lock = _open_lock(folder)
    except OSError as error:
        message = f"{path}: cannot be locked: {error.strerror}; give a folder that this user may write to"
        raise ConfigError(message) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        message = f"{path}: is in use by {_owner(lock)}; give each instance a state folder of its own"
        os.close(lock)
        raise ConfigError(message) from error
    with suppress(OSError):  # the pid is a kindness
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _open_lock(folder: int) -> int:
    try:
        return os.open(_LOCK, os.O_RDWR | os.O_CREAT | SAFELY, 0o600, dir_fd=folder)
    except OSError:
        # A disk that has become read-only: what was saved can still be restored.
        return os.open(_LOCK, os.O_RDONLY | SAFELY, dir_fd=folder)


def _owner(lock: int) -> str:
    try:
        return f"the process {int(os.pread(lock, 20, 0))}"
    except (OSError, ValueError):
        return "another process"
