"""A constant database as dnsdist reads it (D. J. Bernstein's cdb: https://cr.yp.to/cdb/cdb.txt). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct, error
from typing import Final

_PAIR: Final = Struct("<LL")
_TABLES: Final = 256
_EMPTY: Final = bytes(_PAIR.size)
_HEAD: Final = _TABLES * _PAIR.size
_ALL: Final = 0xFFFFFFFF  # octets of the largest file, and the bits of a number


def database(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the database of these keys, each once, and their values: the same records, the same octets.

    Raises ValueError where it would be too large for its format.
    """
    tables: list[list[int]] = [[] for _ in range(_TABLES)]
    octets = bytearray(_HEAD)
    for key, value in records:
        number = _hash(key)
        tables[number % _TABLES].append(len(octets) << 32 | number)
        octets += _PAIR.pack(len(key), len(value))
        octets += key
        octets += value
    for place, table in enumerate(tables):
        slots = _slots(table)
        _PAIR.pack_into(octets, place * _PAIR.size, len(octets) & _ALL, len(slots))
        octets += b"".join(slots)
    if len(octets) > _ALL:
        raise ValueError(f"{len(octets):,} octets are too many for a cdb")
    return bytes(octets)


def records(octets: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a database in their order. Raises ValueError where it is none, or was cut short."""
    try:
        place, (end, _) = _HEAD, _PAIR.unpack_from(octets)
        while place < end:
            key_size, size = _PAIR.unpack_from(octets, place)
            value = place + _PAIR.size + key_size
            place = value + size
            yield octets[value - key_size : value], octets[value:place]
    except error as why:
        raise ValueError(f"no cdb: {why}") from None


def _hash(key: bytes) -> int:
    number = 5381
    for octet in key:
        number = (number * 33 & _ALL) ^ octet
    return number


def _slots(table: list[int]) -> list[bytes]:
    """Return a table of twice as many slots as it has entries, each in the first free one from its own on."""
    count = 2 * len(table)
    slots = [_EMPTY] * count
    for entry in table:
        number, position = entry & _ALL, entry >> 32
        slot = (number >> 8) % count
        while slots[slot] is not _EMPTY:
            slot = (slot + 1) % count
        slots[slot] = _PAIR.pack(number, position & _ALL)
    return slots
