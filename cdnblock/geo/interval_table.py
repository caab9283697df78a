"""All countries as sorted intervals of addresses, and the packed form in which such a table is stored. Pure.

The packed form is one file: a line that names the format, the SHA-256 of what follows, and that, deflated: a header
in JSON and then, for IPv4 and IPv6, the distances between the starts of the intervals (their bytes in planes, lowest
first, which halves the size) and one byte per interval, its position in the header's list of countries.
"""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from itertools import accumulate, chain, pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

from cdnblock.errors import ConfigError
from cdnblock.geo.addresses import IPV4, IPV6
from cdnblock.geo.country import country_code, country_of

FORMAT: Final = b"cdnblock geo table 1\n"
IPV6_SHIFT: Final = 64  # IPv6 is kept by /64, the smallest network that is given out

_DIGEST_SIZE: Final = 32
_MAX_UNPACKED: Final = 64 * 1024 * 1024  # ten times today's Internet; a deflated bomb stops here
_MAX_COUNTRIES: Final = 255  # a position is one byte, and 0 means none
_TYPECODES: Final = {IPV4: "I", IPV6: "Q"}
_SPACE: Final = {IPV4: 1 << 32, IPV6: 1 << 64}


class Interval(NamedTuple):
    """Addresses (IPv4) or /64 networks (IPv6) from `start` up to and without `end`, and their country."""

    start: int
    end: int
    country: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a table comes from. `version` is the source's own; `licence` that of the data, None when unknown."""

    source: str
    built: date
    version: str | None = None
    licence: str | None = None

    def __str__(self) -> str:
        """Return for example `iptoasn of 2026-06-17`."""
        return f"{self.source} of {self.built.isoformat()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Half:
    """One IP version: where each interval starts, the first at 0, and the position of its country."""

    starts: array[int]
    positions: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalTable:
    """A country table in memory: some 400,000 intervals in about 3 MB, 1 µs a look-up. Never changes."""

    origin: Origin
    countries: tuple[str, ...]
    _halves: Mapping[int, _Half]
    _answers: tuple[str | None, ...]

    @property
    def description(self) -> str:
        """Return what the table is and of which date."""
        return str(self.origin)

    def locate(self, address: str) -> str | None:
        """Return the country of an address in text form, None when it cannot be told. Never raises."""
        return country_of(address, self.find)

    def find(self, version: int, number: int) -> str | None:
        """Return the country that the table holds for an address as its number."""
        half = self._halves[version]
        key = number if version == IPV4 else number >> IPV6_SHIFT
        return self._answers[half.positions[bisect(half.starts, key) - 1]]

    def as_intervals(self, progress: Callable[[int, int], object] | None = None) -> IntervalTable:  # noqa: ARG002 - nothing to wait for
        """Return the table itself, as other tables return theirs in this form."""
        return self

    def intervals(self, version: int) -> Iterator[Interval]:
        """Yield every interval in order, without gaps, from the first address to the last."""
        half = self._halves[version]
        ends = chain(half.starts[1:], (_SPACE[version],))
        for start, end, position in zip(half.starts, ends, half.positions, strict=True):
            yield Interval(start, end, self._answers[position])

    def ranges(self, version: int) -> int:
        """How many intervals have a country."""
        positions = self._halves[version].positions
        return len(positions) - positions.count(0)


def build_table(origin: Origin, networks: Iterable[tuple[int, Interval]]) -> IntervalTable:
    """Make a table of (IP version, interval) pairs in any order; neighbours of one country become one interval.

    Raises ConfigError when two of them overlap, or when there are more than 255 countries.
    """
    parts: dict[int, list[Interval]] = {IPV4: [], IPV6: []}
    for version, interval in networks:
        parts[version].append(interval)
    named = {interval.country for part in parts.values() for interval in part} - {None}
    countries = tuple(sorted(country for country in named if country is not None))
    if len(countries) > _MAX_COUNTRIES:
        raise ConfigError(f"{origin.source} names {len(countries)} countries; a table of countries has at most 255")
    positions = {None: 0} | {country: number for number, country in enumerate(countries, 1)}
    halves = {
        version: _half(version, sorted(part, key=itemgetter(0)), positions, origin) for version, part in parts.items()
    }
    return _table(origin, countries, halves)


def pack(table: IntervalTable) -> bytes:
    """Return the packed form of a table: the same table, the same bytes."""
    header = {
        "source": table.origin.source,
        "built": table.origin.built.isoformat(),
        "version": table.origin.version,
        "licence": table.origin.licence,
        "countries": list(table.countries),
        "ipv4": len(table._halves[IPV4].starts),  # noqa: SLF001 - pack and unpack are the table's own other half
        "ipv6": len(table._halves[IPV6].starts),  # noqa: SLF001 - the same
    }
    text = json.dumps(header, sort_keys=True).encode() + b"\n"
    body = text + b"".join(_pack_half(version, half) for version, half in table._halves.items())  # noqa: SLF001 - the same
    packed = zlib.compress(body, 9)
    return FORMAT + sha256(packed).digest() + packed


def unpack(data: bytes, name: str) -> IntervalTable:
    """Read the packed form. `name` is what messages call the file.

    Raises ConfigError when the data is anything but a whole and consistent table.
    """
    try:
        return _unpack(data)
    except (ValueError, KeyError, TypeError, OverflowError, zlib.error) as error:
        raise ConfigError(
            f"{name} is a damaged country table ({error}); copy it again, or make it again with"
            " `python -m cdnblock.sources.make_default_table TABLE.mmdb`"
        ) from error


def _table(origin: Origin, countries: tuple[str, ...], halves: Mapping[int, _Half]) -> IntervalTable:
    return IntervalTable(origin=origin, countries=countries, _halves=halves, _answers=(None, *countries))


def _half(version: int, part: Sequence[Interval], positions: dict[str | None, int], origin: Origin) -> _Half:
    starts = array(_TYPECODES[version])
    marks = bytearray()
    reached = 0

    def begin(start: int, country: str | None) -> None:
        position = positions[country]
        if start < _SPACE[version] and (not marks or marks[-1] != position):
            starts.append(start)
            marks.append(position)

    for start, end, country in part:
        if start < reached or not start < end <= _SPACE[version]:
            raise ConfigError(f"{origin.source} gives two answers for one IPv{version} address; a table gives one")
        if start > reached:
            begin(reached, None)
        begin(start, country)
        reached = end
    begin(reached, None)
    return _Half(starts=starts, positions=bytes(marks))


def _pack_half(version: int, half: _Half) -> bytes:
    distances = array(_TYPECODES[version], [later - earlier for earlier, later in pairwise(half.starts)])
    return _little_endian(distances) + half.positions


def _little_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    raw = numbers.tobytes()
    return b"".join(raw[plane :: numbers.itemsize] for plane in range(numbers.itemsize))


def _unpack(data: bytes) -> IntervalTable:
    if not data.startswith(FORMAT):
        raise ValueError("it does not begin like one")
    packed = data[len(FORMAT) + _DIGEST_SIZE :]
    if data[len(FORMAT) : len(FORMAT) + _DIGEST_SIZE] != sha256(packed).digest():
        raise ValueError("its checksum does not match")
    inflater = zlib.decompressobj()
    body = inflater.decompress(packed, _MAX_UNPACKED)
    if not inflater.eof or inflater.unused_data:
        raise ValueError("it is cut, or too long")
    text, newline, rest = body.partition(b"\n")
    header = json.loads(text)
    if not newline or not isinstance(header, dict):
        raise ValueError("it has no header")
    countries = header["countries"]
    if not isinstance(countries, list) or len(countries) > _MAX_COUNTRIES or None in map(country_code, countries):
        raise ValueError("its countries are no list of at most 255 codes")
    halves = {}
    for version, count in ((IPV4, header["ipv4"]), (IPV6, header["ipv6"])):
        halves[version], rest = _unpack_half(version, count, len(countries), rest)
    if rest:
        raise ValueError("something follows its last interval")
    return _table(_origin(header), tuple(countries), halves)


def _origin(header: dict[str, Any]) -> Origin:
    version, licence = header["version"], header["licence"]
    return Origin(
        source=str(header["source"]),
        built=date.fromisoformat(header["built"]),
        version=None if version is None else str(version),
        licence=None if licence is None else str(licence),
    )


def _unpack_half(version: int, count: object, countries: int, data: bytes) -> tuple[_Half, bytes]:
    distances = array(_TYPECODES[version])
    if not isinstance(count, int) or count < 1 or len(data) < (count - 1) * distances.itemsize + count:
        raise ValueError(f"it has fewer IPv{version} intervals than its header says")
    size = (count - 1) * distances.itemsize
    raw = bytearray(size)
    for plane in range(distances.itemsize):
        raw[plane :: distances.itemsize] = data[plane * (count - 1) : (plane + 1) * (count - 1)]
    distances.frombytes(raw)
    if sys.byteorder == "big":
        distances.byteswap()
    positions = data[size : size + count]
    if 0 in distances or max(positions) > countries:
        raise ValueError(f"its IPv{version} intervals are out of order, or name a country that it does not list")
    return _Half(starts=array(_TYPECODES[version], accumulate(distances, initial=0)), positions=positions), data[
        size + count :
    ]
