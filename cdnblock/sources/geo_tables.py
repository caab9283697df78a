"""Country tables: the one in the wheel, another packed one, or any MMDB file.

An MMDB file is never mapped where it lies: whoever truncates a mapped file kills the processes that read it (SIGBUS).
It is copied to memory that nobody else can reach, and that copy is mapped.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice
from pathlib import Path
from typing import IO, Final, TypeAlias

import maxminddb

from cdnblock.errors import ConfigError
from cdnblock.geo.addresses import IPV4, IPV6, Address, has_no_country, tunnel_of
from cdnblock.geo.country import country_code, country_of
from cdnblock.geo.interval_table import FORMAT, IPV6_SHIFT, Interval, IntervalTable, Origin, build_table, unpack

DEFAULT_TABLE: Final = "default_table.bin"
MAX_SIZE: Final = 2 * 1024**3

_WANTED: Final = "wanted is a country table in MMDB format, such as GeoLite2-Country.mmdb"
# Where the tables of the world keep the country: the client's own first. The last two are about whom the network was
# registered to, or stands in for (an embassy, a base): the last resort.
_COUNTRY_PATHS: Final = (
    ("country", "iso_code"),
    ("country_code",),
    ("country",),
    ("registered_country", "iso_code"),
    ("represented_country", "iso_code"),
)
_CHUNK: Final = 1024 * 1024
_ATTEMPTS: Final = 3
# A table none of whose first networks is in a country is one of something else: autonomous systems, connections.
_NETWORKS_TRIED: Final = 100_000
_PROGRESS_STEP: Final = 10_000
_LATEST_BUILD: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()

_log: Final = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int], object]
"""Told now and then how many networks have been read, and about how many there are."""


class MmdbTable:
    """A country table in MaxMind's format, read from a private copy. Safe to share between threads.

    `broken_lookups` counts the look-ups that hit damaged data and therefore told no country.
    """

    def __init__(self, reader: maxminddb.Reader, name: str) -> None:
        metadata = reader.metadata()
        built = datetime.fromtimestamp(min(metadata.build_epoch, _LATEST_BUILD), UTC).date()
        self.origin = Origin(source=metadata.database_type or name, built=built)
        self.description = str(self.origin)
        self.broken_lookups = 0
        self._reader = reader
        self._versions = (IPV4,) if metadata.ip_version == IPV4 else (IPV4, IPV6)

    def locate(self, address: str) -> str | None:
        """Return the country of an address in text form, None when it cannot be told. Never raises."""
        return country_of(address, self.find)

    def find(self, version: int, number: int) -> str | None:
        """Return the country that the table holds for an address as its number, None where its data is damaged."""
        if version not in self._versions:
            return None
        try:
            return _country_in(self._reader.get(_ADDRESS[version](number)))
        except Exception as error:  # noqa: BLE001 - damage deep inside a table must not stop an edge
            if not self.broken_lookups:
                _log.warning("country table %s is damaged: %s; such clients have no country", self.description, error)
            self.broken_lookups += 1
            return None

    def as_intervals(self, progress: Progress | None = None) -> IntervalTable:
        """Return the whole table as intervals: some seconds for one of the whole Internet.

        Tunnels and placeless addresses are left out, as no look-up asks for them. Networks narrower than an IPv6 /64
        count for the whole /64, the first one of each. Raises ConfigError when the data is damaged.
        """
        try:
            return build_table(self.origin, _intervals(self._reader, progress))
        except (maxminddb.InvalidDatabaseError, ValueError) as error:
            raise ConfigError(f"country table {self.description} is damaged ({error}); fetch it again") from error


GeoTable: TypeAlias = IntervalTable | MmdbTable

_ADDRESS: Final[dict[int, type[IPv4Address | IPv6Address]]] = {IPV4: IPv4Address, IPV6: IPv6Address}


def open_geo_table(path: Path | str | None) -> GeoTable:
    """Open a country table; None is the one that comes with the package.

    Raises ConfigError, which says what would be right, for anything that is not a readable country table.
    """
    if path is None:
        return _default_table()
    path = Path(path)
    with _regular_file(path) as file:
        if os.pread(file, len(FORMAT), 0) == FORMAT:
            return unpack(b"".join(_chunks(file)), str(path))
        with _private_copy(path, file) as copy:
            return _open_mmdb(path, copy)


@cache
def _default_table() -> IntervalTable:
    return unpack(resources.files("cdnblock.sources").joinpath(DEFAULT_TABLE).read_bytes(), "the default country table")


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


@contextmanager
def _private_copy(path: Path, file: int) -> Iterator[str]:
    """Give a path under which this process can map a copy of the file; it stands only inside the `with`."""
    for _attempt in range(_ATTEMPTS):
        before = os.fstat(file)
        with _private_file() as (copy, name):
            for chunk in _chunks(file):
                copy.write(chunk)
            copy.flush()
            after = os.fstat(file)
            if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
                yield name
                return
    raise ConfigError(f"country table {path}: changes while it is read; replace it by renaming a whole file over it")


@contextmanager
def _private_file() -> Iterator[tuple[IO[bytes], str]]:
    try:
        memory = os.memfd_create("cdnblock-geo")
    except (AttributeError, OSError):  # not Linux, or forbidden by a seccomp filter
        memory = None
    if memory is not None:
        with open(memory, "wb") as copy:  # noqa: PTH123 - a descriptor has no Path
            name = Path(f"/proc/self/fd/{memory}")
            if name.exists():  # it does not where /proc is not mounted
                yield copy, str(name)
                return
    with tempfile.NamedTemporaryFile(prefix="cdnblock-geo-") as copy:
        yield copy, copy.name


def _open_mmdb(path: Path, copy: str) -> MmdbTable:
    try:
        reader = _reader(path, copy)
        in_a_country = any(_country_in(record) for _network, record in islice(reader, _NETWORKS_TRIED))
        table = MmdbTable(reader, path.name)
    except (maxminddb.InvalidDatabaseError, ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"country table {path}: is no MMDB file, or a damaged one ({error}); {_WANTED}") from error
    if not in_a_country:
        raise ConfigError(f"country table {path}: tells no country ({table.origin.source}); {_WANTED}")
    return table


def _reader(path: Path, copy: str) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(copy, maxminddb.MODE_MMAP_EXT)
    except ValueError:  # what it raises when its C library is missing, and only then
        _log.warning("country table %s: maxminddb has no C library here; look-ups take some 30 times longer", path)
        return maxminddb.open_database(copy, maxminddb.MODE_MMAP)


def _country_in(record: object) -> str | None:
    for keys in _COUNTRY_PATHS:
        value = record
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        code = country_code(value)
        if code is not None:
            return code
    return None


def _intervals(reader: maxminddb.Reader, progress: Progress | None) -> Iterator[tuple[int, Interval]]:
    reached = 0
    expected = reader.metadata().node_count // 2  # of a binary tree's leaves some are empty
    for count, (network, record) in enumerate(reader, 1):
        if progress is not None and count % _PROGRESS_STEP == 0:
            progress(count, expected)
        country = _country_in(record)
        if country is None or not _can_be_asked_for(network):
            continue
        start, end = int(network.network_address), int(network.broadcast_address)
        if network.version == IPV6:
            start, end = max(start >> IPV6_SHIFT, reached), end >> IPV6_SHIFT
            if start > end:
                continue
            reached = end + 1
        yield network.version, Interval(start, end + 1, country)


def _can_be_asked_for(network: IPv4Network | IPv6Network) -> bool:
    first = Address(network.version, int(network.network_address))
    last = Address(network.version, int(network.broadcast_address))
    if network.version == IPV6 and tunnel_of(first) is not None and tunnel_of(last) is not None:
        return False
    return not (has_no_country(first) and has_no_country(last))
