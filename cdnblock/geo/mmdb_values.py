"""Values of the MaxMind DB format's data section, decoded from untrusted bytes. Pure.

Source: https://maxmind.github.io/MaxMind-DB/, "Output Data Section". Every value costs a step and steps are limited,
so that neither loops of pointers nor values that unfold without end hold anybody up.
"""

from __future__ import annotations

from typing import Final

_MAX_STEPS: Final = 10_000
_MAX_DEPTH: Final = 32
_POINTER, _TEXT, _MAP, _ARRAY, _BOOLEAN = 1, 2, 7, 11, 14
_EXTENDED: Final = 0  # the kind stands in the next octet, less 7
_UNSIGNED: Final = {5, 6, 9, 10}
_OPAQUE: Final = {3, 4, 8, 15}  # double, bytes, int32, float: never a country
_POINTER_BASES: Final = (0, 2048, 526_336, 0)
_LONG_SIZES: Final = {29: (1, 29), 30: (2, 285), 31: (3, 65_821)}  # octets that hold the size, and what to add


def decode(data: bytes, offset: int) -> object:
    """Return the value at an offset; numbers that are not whole, and raw bytes, come out as None.

    Raises ValueError or LookupError for anything that is not well-formed.
    """
    return _Decoder(data).value(offset, 0)[0]


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._steps = _MAX_STEPS

    def value(self, offset: int, depth: int) -> tuple[object, int]:
        """Return the value at an offset and the offset behind it."""
        self._steps -= 1
        if self._steps < 0 or depth > _MAX_DEPTH:
            raise ValueError("a value in it has no end")
        control = self._data[offset]
        kind = control >> 5
        if kind == _POINTER:
            target, behind = self._pointer(control, offset + 1)
            return self.value(target, depth + 1)[0], behind
        if kind == _EXTENDED:
            offset += 1
            kind = self._data[offset] + 7
        size, offset = self._size(control, offset + 1)
        if kind == _MAP:
            return self._map(size, offset, depth)
        if kind == _ARRAY:
            return self._array(size, offset, depth)
        return (bool(size), offset) if kind == _BOOLEAN else (self._plain(kind, offset, size), offset + size)

    def _pointer(self, control: int, offset: int) -> tuple[int, int]:
        size = control >> 3 & 3
        high = 0 if size == 3 else control & 7  # noqa: PLR2004 - four octets need no help
        number = high << 8 * (size + 1) | int.from_bytes(self._octets(offset, size + 1), "big")
        return number + _POINTER_BASES[size], offset + size + 1

    def _size(self, control: int, offset: int) -> tuple[int, int]:
        size = control & 31
        if size not in _LONG_SIZES:
            return size, offset
        octets, base = _LONG_SIZES[size]
        return base + int.from_bytes(self._octets(offset, octets), "big"), offset + octets

    def _map(self, size: int, offset: int, depth: int) -> tuple[dict[str, object], int]:
        found: dict[str, object] = {}
        for _entry in range(size):
            key, offset = self.value(offset, depth + 1)
            if not isinstance(key, str):
                raise ValueError("a map in it has a key that is no text")  # noqa: TRY004 - the data is wrong, not a type
            found[key], offset = self.value(offset, depth + 1)
        return found, offset

    def _array(self, size: int, offset: int, depth: int) -> tuple[list[object], int]:
        found = []
        for _entry in range(size):
            item, offset = self.value(offset, depth + 1)
            found.append(item)
        return found, offset

    def _plain(self, kind: int, offset: int, size: int) -> str | int | None:
        octets = self._octets(offset, size)
        if kind == _TEXT:
            return octets.decode()
        if kind in _UNSIGNED:
            return int.from_bytes(octets, "big")
        if kind not in _OPAQUE:
            raise ValueError("a value in it is of no known type")
        return None

    def _octets(self, offset: int, size: int) -> bytes:
        if offset + size > len(self._data):
            raise ValueError("a value in it is cut")
        return self._data[offset : offset + size]
