"""A constant database as dnsdist reads it (D. J. Bernstein's cdb: https://cr.yp.to/cdb/cdb.txt). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

_PAIR: Final = Struct("<LL")
_TABLES: Final = 256
_HEAD: Final = _TABLES * _PAIR.size
_LARGEST: Final = 1 << 32  # octets of the whole file


def database(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the database of these keys, each once, and their values: the same records, the same octets.

    Raises ValueError where it would be too large for its format.
    """
    tables: list[list[tuple[int, int]]] = [[] for _ in range(_TABLES)]
    parts = [bytes(_HEAD)]
    size = _HEAD
    for key, value in records:
        number = _hash(key)
        tables[number % _TABLES].append((number, size))
        parts += (_PAIR.pack(len(key), len(value)), key, value)
        size += _PAIR.size + len(key) + len(value)
    heads = []
    for table in tables:
        slots = _slots(table)
        heads.append(_PAIR.pack(size, len(slots)))
        parts += slots
        size += len(slots) * _PAIR.size
    if size >= _LARGEST:
        raise ValueError(f"{size:,} octets are too many for a cdb")
    parts[0] = b"".join(heads)
    return b"".join(parts)


def _hash(key: bytes) -> int:
    number = 5381
    for octet in key:
        number = (number * 33 & 0xFFFFFFFF) ^ octet
    return number


def _slots(table: list[tuple[int, int]]) -> list[bytes]:
    """Return a table of twice as many slots as it has entries, each in the first free one from its own on."""
    count = 2 * len(table)
    slots = [_PAIR.pack(0, 0)] * count
    taken = bytearray(count)
    for number, position in table:
        slot = (number >> 8) % count
        while taken[slot]:
            slot = (slot + 1) % count
        taken[slot] = 1
        slots[slot] = _PAIR.pack(number, position)
    return slots
