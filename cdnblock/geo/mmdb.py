"""Country tables in MaxMind's DB format, read from bytes. Pure, and safe against any bytes.

Format: https://maxmind.github.io/MaxMind-DB/, version 2. There is a C library for it, which is what everybody uses;
but on damaged files it crashes the process (version 3.2.0 of its Python binding: about one random octet in a thousand
in a small table), and an edge must survive a bad download. Kept as an array of 32-bit records with the first 16 levels
of the tree flattened, a table is as fast here as there, and the library is the tests' yardstick.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Any, Final, TypeAlias

from cdnblock.errors import ConfigError
from cdnblock.geo.addresses import IPV4, IPV6, Address, has_no_country, tunnel_of
from cdnblock.geo.country import country_code, country_of
from cdnblock.geo.interval_table import IPV6_SHIFT, Interval, IntervalTable, Origin, build_table
from cdnblock.geo.mmdb_values import decode

Progress: TypeAlias = Callable[[int, int], object]
"""Told now and then how many networks have been read, and how many there are at most."""

# Where the tables of the world keep the country: the client's own first. The last two are about whom the network was
# registered to, or stands in for (an embassy, a base): the last resort.
_COUNTRY_PATHS: Final = (
    ("country", "iso_code"),
    ("country_code",),
    ("country",),
    ("registered_country", "iso_code"),
    ("represented_country", "iso_code"),
)

_MARKER: Final = b"\xab\xcd\xefMaxMind.com"
_MAX_METADATA: Final = 128 * 1024
_SEPARATOR: Final = 16  # zeros between tree and data
# For each record size the octets of a node, and where in it the octets of the left and right record are, the lowest
# first. At 28 bits the two share octet 3: the left has its upper half.
_LAYOUTS: Final = {24: (6, (2, 1, 0), (5, 4, 3)), 28: (7, (2, 1, 0), (6, 5, 4)), 32: (8, (3, 2, 1, 0), (7, 6, 5, 4))}
_SHARED: Final = 28
_UPPER_HALF: Final = bytes(octet >> 4 for octet in range(256))
_LOWER_HALF: Final = bytes(octet & 15 for octet in range(256))

_FLAT: Final = 16  # levels of the tree kept as one list
_BITS: Final = {IPV4: 32, IPV6: 128}
_KEPT_BITS: Final = {IPV4: 32, IPV6: 128 - IPV6_SHIFT}  # of an address in an interval
_GLOBAL_UNICAST: Final = (0, 0, 1)  # the first bits of 2000::/3
_CHECKED: Final = 2_000  # records of data read when a table is opened; tables of countries have some hundred
_PROGRESS_STEP: Final = 20_000
_MAX_UNFOLDING: Final = 8  # how often more a tree may branch than it has nodes: writers may share equal branches
_LATEST_BUILD: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


class MmdbTable:
    """A country table in MMDB format. Safe to share between threads.

    `broken_lookups` counts the look-ups that met damage and therefore told no country; `on_damage` is called with the
    reason at the first of them. `name` is what messages call the file.

    Raises ConfigError when the data is no MMDB, is visibly damaged, or tells no country.
    """

    def __init__(self, data: bytes, name: str, on_damage: Callable[[str], object] | None = None) -> None:
        try:
            metadata = _metadata(data)
            self._records, self._data = _sections(data, metadata)
            self._count = metadata["node_count"]
            self._versions = (IPV4,) if metadata["ip_version"] == IPV4 else (IPV4, IPV6)
            self._countries = self._checked()
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigError(
                f"country table {name}: is no MMDB file, or a damaged one ({error});"
                " wanted is a country table in MMDB format, such as GeoLite2-Country.mmdb"
            ) from error
        self.origin = Origin(source=metadata["database_type"] or name, built=_built(metadata))
        self.description = str(self.origin)
        if not any(self._countries.values()):
            raise ConfigError(
                f"country table {name}: tells no country ({self.origin.source});"
                " wanted is a country table in MMDB format, such as GeoLite2-Country.mmdb"
            )
        self.broken_lookups = 0
        self._on_damage = on_damage
        self._ipv4_root = self._descend(0, [0] * 96) if IPV6 in self._versions else 0
        roots = {IPV4: self._ipv4_root, IPV6: 0}
        self._flat = {version: self._flattened(roots[version]) for version in self._versions}

    def locate(self, address: str) -> str | None:
        """Return the country of an address in text form, None when it cannot be told. Never raises."""
        return country_of(address, self.find)

    def find(self, version: int, number: int) -> str | None:
        """Return the country that the table holds for an address as its number, None where its data is damaged."""
        if version not in self._versions:
            return None
        bits = _BITS[version] - _FLAT
        node = self._flat[version][number >> bits]
        records, count = self._records, self._count
        while node < count and bits:
            bits -= 1
            node = records[node * 2 + (number >> bits & 1)]
        if node in self._countries:
            return self._countries[node]
        return self._met(node)

    def as_intervals(self, progress: Progress | None = None) -> IntervalTable:
        """Return the whole table as intervals: a second or two for one of the whole Internet.

        Tunnels and placeless addresses are left out, as no look-up asks for them. Networks narrower than an IPv6 /64
        count for the whole /64, the first one of each. Raises ConfigError when the data is damaged.
        """
        try:
            return build_table(self.origin, self._intervals(progress))
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigError(f"country table {self.description}: is damaged ({error}); fetch it again") from error

    def _checked(self) -> dict[int, str | None]:
        """Read the first of the data, and return the country for each record of the tree that points there."""
        pointers = sorted(record for record in {*self._records} if record > self._count)
        if pointers and pointers[-1] >= self._count + _SEPARATOR + len(self._data):
            raise ValueError("its tree points beyond its data")
        countries: dict[int, str | None] = {pointer: self._country_at(pointer) for pointer in pointers[:_CHECKED]}
        return countries | {self._count: None}

    def _country_at(self, pointer: int) -> str | None:
        offset = pointer - self._count - _SEPARATOR
        if offset < 0:
            raise ValueError("its tree is damaged")
        return _country_in(decode(self._data, offset))

    def _met(self, node: int) -> str | None:
        """Read a record that was not read before, and remember its country."""
        try:
            self._countries[node] = country = self._country_at(node)
        except (ValueError, LookupError, TypeError) as error:
            self.broken_lookups += 1
            if self.broken_lookups == 1 and self._on_damage is not None:
                self._on_damage(str(error))
            return None
        return country

    def _descend(self, node: int, path: Iterable[int]) -> int:
        for bit in path:
            if node < self._count:
                node = self._records[node * 2 + bit]
        return node

    def _flattened(self, root: int) -> list[int]:
        records, count, level = self._records, self._count, [root]
        for _depth in range(_FLAT):
            level = [
                records[node * 2 + bit] if node < count else node
                for node in level
                for bit in (0, 1)
            ]  # fmt: skip
        return level

    def _intervals(self, progress: Progress | None) -> Iterator[tuple[int, Interval]]:
        roots = [(IPV4, self._ipv4_root, 0, 0)]
        if IPV6 in self._versions:
            roots.append((IPV6, self._descend(0, _GLOBAL_UNICAST), 0b001, len(_GLOBAL_UNICAST)))
        for version, root, prefix, depth in roots:
            leaves = self._leaves(root, prefix, depth, _KEPT_BITS[version])
            for number, (node, start, end) in enumerate(leaves):
                if progress is not None and number % _PROGRESS_STEP == 0:
                    progress(number, self._count)
                country = self._first_country(node)
                if country is not None and _can_be_asked_for(version, start, end):
                    yield version, Interval(start, end, country)

    def _leaves(self, root: int, prefix: int, depth: int, bits: int) -> Iterator[tuple[int, int, int]]:
        """Yield in order each leaf below a node that holds data, with the start and end of its addresses.

        `bits` deep the tree is cut: such a node may have leaves below it. Whatever of IPv6 points into the IPv4 part
        is a tunnel, and left out. Raises ValueError where the tree has many more branches than nodes.
        """
        records, count = self._records, self._count
        tunnel = self._ipv4_root if bits == _KEPT_BITS[IPV6] else count
        budget = count * _MAX_UNFOLDING
        stack = [(root, prefix, depth)]
        while stack:
            node, prefix, depth = stack.pop()
            if node < count and depth < bits:
                if node != tunnel:
                    budget -= 1
                    stack.append((records[node * 2 + 1], prefix * 2 + 1, depth + 1))
                    stack.append((records[node * 2], prefix * 2, depth + 1))
            elif node != count:
                yield node, prefix << bits - depth, prefix + 1 << bits - depth
            if budget < 0:
                raise ValueError("its tree is no tree")

    def _first_country(self, node: int) -> str | None:
        """Return the country of a leaf; of a node where the tree was cut, that of the first leaf which has one."""
        if node in self._countries:
            return self._countries[node]
        if node >= self._count:
            return self._country_at(node)
        below = self._leaves(node, 0, 0, _BITS[IPV6] - _KEPT_BITS[IPV6])
        return next(
            filter(None, (self._first_country(leaf) for leaf, _start, _end in below if leaf >= self._count)), None
        )


def _metadata(data: bytes) -> dict[str, Any]:
    marker = data.rfind(_MARKER, max(0, len(data) - _MAX_METADATA))
    if marker < 0:
        raise ValueError("it has no metadata")
    metadata = decode(data[marker + len(_MARKER) :], 0)
    if not isinstance(metadata, dict):
        raise TypeError("its metadata is no map")
    numbers = [metadata[key] for key in ("node_count", "record_size", "ip_version", "build_epoch")]
    if not all(isinstance(number, int) for number in numbers) or not isinstance(metadata["database_type"], str):
        raise TypeError("its metadata has values of wrong types")
    if metadata["record_size"] not in _LAYOUTS or metadata["ip_version"] not in _BITS or metadata["node_count"] < 1:
        raise ValueError("its metadata has impossible values")
    if metadata["binary_format_major_version"] != 2:  # noqa: PLR2004 - what is read here
        raise ValueError("it is of another version of the format")
    return metadata | {"end": marker}


def _sections(data: bytes, metadata: dict[str, Any]) -> tuple[array[int], bytes]:
    """Return the tree's records, left and right of each node in turn, and the data section."""
    size, *sides = _LAYOUTS[metadata["record_size"]]
    tree_size = size * metadata["node_count"]
    if tree_size + _SEPARATOR > metadata["end"]:
        raise ValueError("it is shorter than its tree")
    tree = data[:tree_size]
    raw = bytearray(8 * metadata["node_count"])
    for side, octets in enumerate(sides):
        for place, octet in enumerate(octets):
            raw[side * 4 + place :: 8] = tree[octet::size]
    if metadata["record_size"] == _SHARED:
        raw[3::8] = tree[3::size].translate(_UPPER_HALF)
        raw[7::8] = tree[3::size].translate(_LOWER_HALF)
    records = array("I")
    records.frombytes(raw)
    if sys.byteorder == "big":
        records.byteswap()
    return records, data[tree_size + _SEPARATOR : metadata["end"]]


def _built(metadata: dict[str, Any]) -> date:
    return datetime.fromtimestamp(min(max(metadata["build_epoch"], 0), _LATEST_BUILD), UTC).date()


def _country_in(record: object) -> str | None:
    for keys in _COUNTRY_PATHS:
        value = record
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        code = country_code(value)
        if code is not None:
            return code
    return None


def _can_be_asked_for(version: int, start: int, end: int) -> bool:
    if version == IPV4:
        return not (has_no_country(Address(IPV4, start)) and has_no_country(Address(IPV4, end - 1)))
    first, last = Address(IPV6, start << IPV6_SHIFT), Address(IPV6, (end << IPV6_SHIFT) - 1)
    return tunnel_of(first) is None or tunnel_of(last) is None
