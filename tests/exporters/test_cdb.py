"""The constant database that dnsdist reads, read back as cdb.txt says that it is to be read."""

from __future__ import annotations

import random
from struct import unpack_from

import pytest

from cdnblock.exporters._cdb import database


def look_up(octets, key):
    """Return a key's value, None without it (https://cr.yp.to/cdb/cdb.txt)."""
    number = 5381
    for octet in key:
        number = ((number << 5) + number & 0xFFFFFFFF) ^ octet
    start, count = unpack_from("<LL", octets, number % 256 * 8)
    for step in range(count):
        slot = (number // 256 + step) % count
        held, position = unpack_from("<LL", octets, start + slot * 8)
        if position == 0:
            return None
        if held == number:
            length, size = unpack_from("<LL", octets, position)
            if octets[position + 8 : position + 8 + length] == key:
                return octets[position + 8 + length : position + 8 + length + size]
    return None


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 5_000])
def test_each_key_is_found_and_no_other(count):
    """Keys of any octets and lengths, the empty one too; values as well."""
    dice = random.Random(count)
    records = {dice.randbytes(dice.randint(0, 40)): dice.randbytes(dice.randint(0, 9)) for _ in range(count)}
    octets = database(records.items())
    assert {key: look_up(octets, key) for key in records} == records
    strangers = [key for key in (dice.randbytes(7) for _ in range(500)) if key not in records]
    assert [look_up(octets, key) for key in strangers] == [None] * len(strangers)


def test_keys_with_the_same_hash_are_told_apart():
    """These four pairs of octets meet in one number."""
    records = {b"ab": b"1", b"`C": b"2", b"b\x81": b"3", b"g$": b"4"}
    octets = database(records.items())
    assert {key: look_up(octets, key) for key in records} == records


def test_the_same_records_are_the_same_octets():
    """And what is empty is 256 pairs that point at the end."""
    assert database([(b"a", b"1")]) == database([(b"a", b"1")])
    assert database([]) == b"\x00\x08\0\0\0\0\0\0" * 256
