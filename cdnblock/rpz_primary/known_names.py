"""Every name that the orders list or that stands between two of them, so that what is below a name is found quickly.

A policy zone is a zone of the DNS, where a wildcard does not reach past a name that is there, nor past one below which
something is there (RFC 4592 §2.2.2). So each name between a listed one and the next listed one above it has to be in
the zone as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from cdnblock.orders.name_list import sieve_size

_SHALLOWEST: Final = 2  # labels of a listed name, at least
_HALF: Final = 32  # bits of a hash


class KnownNames:
    """Names, and what is below each. A name that is known stays so; whoever asks looks what holds of it now."""

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names that there are; a million are a second's work, and a later one is none."""
        listed = [*names]
        self._text = "\n".join(["", *listed, ""]).encode()
        self._sieve = bytearray(2 * sieve_size(len(listed)))
        self._last = len(self._sieve) - 1
        for name in listed:
            if name.count(".") >= _SHALLOWEST:  # otherwise no listed name can be above it
                for above in names_above(name):
                    for place in self._places(above):
                        self._sieve[place] = 1
        self._found: dict[str, tuple[str, ...]] = {}
        self._later: dict[str, dict[str, None]] = {}

    def add(self, name: str) -> None:
        """Know another name."""
        for above in names_above(name):
            self._later.setdefault(above, {})[name] = None

    def below(self, name: str) -> Iterator[str]:
        """Yield the names below a name; one may come twice."""
        if all(self._sieve[place] for place in self._places(name)):
            if name not in self._found:
                self._found[name] = tuple(self._searched(name))
            yield from self._found[name]
        yield from tuple(self._later.get(name, ()))

    def _places(self, name: str) -> tuple[int, int]:
        """Return where a name with names below it has a mark: to search for those takes ten milliseconds in a million."""
        number = hash(name)
        return number & self._last, number >> _HALF & self._last

    def _searched(self, name: str) -> Iterator[str]:
        wanted = b".%b\n" % name.encode()
        place = self._text.find(wanted)
        while place >= 0:
            start = self._text.rfind(b"\n", 0, place) + 1
            yield self._text[start : place + len(wanted) - 1].decode()
            place = self._text.find(wanted, place + len(wanted) - 1)


def names_above(name: str) -> Iterator[str]:
    """Yield the names above a name that may be listed, the nearest first."""
    above = name.partition(".")[2]
    while "." in above:
        yield above
        above = above.partition(".")[2]
