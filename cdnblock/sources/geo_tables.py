"""Country tables from files: the one in the wheel, another packed one, or any MMDB.

A file is read into memory once and never mapped: whoever truncates a mapped file kills the processes that look into it
(SIGBUS), and operators do copy new tables over old ones.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, TypeAlias

from cdnblock.errors import ConfigError
from cdnblock.geo.interval_table import FORMAT, IntervalTable, unpack
from cdnblock.geo.mmdb import MmdbTable

DEFAULT_TABLE: Final = "default_table.bin"
MAX_SIZE: Final = 2 * 1024**3

_WANTED: Final = "wanted is a country table in MMDB format, such as GeoLite2-Country.mmdb"
_ATTEMPTS: Final = 3
_CHUNK: Final = 16 * 1024 * 1024

_log: Final = logging.getLogger(__name__)

GeoTable: TypeAlias = IntervalTable | MmdbTable


def open_geo_table(path: Path | str | None) -> GeoTable:
    """Open a country table; None is the one that comes with the package.

    Raises ConfigError, which says what would be right, for anything that is not a readable country table.
    """
    if path is None:
        return _default_table()
    data = _read(Path(path))
    if data.startswith(FORMAT):
        return unpack(data, f"country table {path}")
    # The reason names no address, so that no client's ends up in a log.
    return MmdbTable(
        data,
        str(path),
        on_damage=lambda reason: _log.warning("country table %s: %s; such clients have no country", path, reason),
    )


def digest_of(path: Path | str | None) -> str | None:
    """Return the digest of a country table's file (None: the one in the package), None when it cannot be read."""
    try:
        if path is None:
            data = resources.files("cdnblock.sources").joinpath(DEFAULT_TABLE).read_bytes()
        else:
            data = _read(Path(path))
    except (ConfigError, OSError):
        return None
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@cache
def _default_table() -> IntervalTable:
    return unpack(resources.files("cdnblock.sources").joinpath(DEFAULT_TABLE).read_bytes(), "the default country table")


def _read(path: Path) -> bytes:
    """Return a file's content, all of it of one moment."""
    with _regular_file(path) as file:
        for _attempt in range(_ATTEMPTS):
            before = os.fstat(file)
            data = b"".join(_chunks(file))
            after = os.fstat(file)
            if (
                (before.st_size, before.st_mtime_ns)
                == (after.st_size, after.st_mtime_ns)
                == (len(data), after.st_mtime_ns)
            ):
                return data
    raise ConfigError(f"country table {path}: changes while it is read; replace it by renaming a whole file over it")


@contextmanager
def _regular_file(path: Path) -> Iterator[int]:
    try:
        # Not blocking: opening a FIFO would wait for somebody to write to it.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"country table {path}: cannot be opened ({reason}); {_WANTED}") from error
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"country table {path}: is not a regular file; {_WANTED}")
        if not 0 < status.st_size <= MAX_SIZE:
            size = "is larger than 2 GiB" if status.st_size else "is empty"
            raise ConfigError(f"country table {path}: {size}; {_WANTED}")
        yield file
    finally:
        os.close(file)


def _chunks(file: int) -> Iterator[bytes]:
    offset = 0
    while offset <= MAX_SIZE and (chunk := os.pread(file, _CHUNK, offset)):
        yield chunk
        offset += len(chunk)
