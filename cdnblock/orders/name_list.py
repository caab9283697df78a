"""A long list of names, kept twice: as it was written, and in shards by hash, ready to be merged with other lists.

A million names are read beside a server that must not notice. So no step here, taken alone, is long: a list is taken
in piece by piece, and no dictionary grows so large that its growing would hold up everybody else.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate, chain
from operator import eq
from typing import Final, Self, TypeVar, overload

SHARDS: Final = 256
"""Into how many dictionaries names are spread; `hash(name) & SHARD_MASK` tells which one holds a name."""
SHARD_MASK: Final = SHARDS - 1
SHORT: Final = 500
"""How many names a list may have that is not worth being spread: it has no shards."""
PIECE: Final = 2_000  # names that are taken in at once, in about a millisecond

_Names = TypeVar("_Names", bound=Collection[str])
_NO_BOUNDS: Final = (0, 2)  # depth and shallowest of a list without names
_NO_DOTS: Final = bytes(set(range(256)) - set(b".\n"))


class NameList(Sequence[str]):
    """Canonical names in the order in which a file lists them, doubled ones too.

    `shards[hash(name) & SHARD_MASK]` maps each name to `mark`, an object of this list's own, and of those that were made
    of it by `amended`: a dictionary of names that all have one value can be shared by rule sets, and the garbage
    collector has nothing to look at in it. A list of at most `SHORT` names has no shards. `sieve` is for a quick no: see
    `sieve_of`. `digest` is the same for the same names in the same order. No name has more than `depth` labels, none
    fewer than `shallowest`, which is 1 or 2.
    """

    __slots__ = (
        "__weakref__",
        "_ends",
        "depth",
        "digest",
        "distinct",
        "mark",
        "pieces",
        "shallowest",
        "shards",
        "sieve",
    )

    def __init__(self, pieces: Iterable[Sequence[str]], pause: Callable[[], None] | None = None) -> None:
        """Take the names in, piece by piece; a piece should have no more than some thousand names.

        `pause` is called about once a millisecond, for whoever wants to let others run.
        """
        taking = _Taking()
        for piece in pieces:
            taking.take(piece)
            if pause is not None:
                pause()
        self.pieces = tuple(taking.pieces)
        self._ends = list(accumulate(map(len, self.pieces)))
        self.shards = tuple(_with_pauses(taking.shards(), pause)) if len(self) > SHORT else ()
        # In the order in which the names were made, so in memory one after the other: twice as fast as by shards.
        self.sieve = sieve_of(self.pieces if self.shards else (), pause)
        self.distinct = sum(map(len, self.shards)) if self.shards else len(set(self))
        self.mark = taking.mark
        self.digest = taking.digest.hexdigest()
        self.depth, self.shallowest = taking.bounds

    def amended(
        self, start: int, stop: int, names: Sequence[str], pause: Callable[[], None] | None = None
    ) -> Self | None:
        """Return the list with these names in the place of its names from `start` to `stop`.

        It shares with this one what it can. None where a list has to be made anew: too much would be different, a name
        would be there twice, or it is too short. `pause` as for a new list.
        """
        before = self[start:stop]
        gone, new = {*before} - {*names}, {*names} - {*before}
        is_few = len(gone) + len(new) <= SHORT < len(self) + len(names) - len(before)
        if not self.shards or not is_few:
            return None
        if self.distinct < len(self) or len({*names}) < len(names) or any(name in self for name in new):
            return None
        made = type(self).__new__(type(self))
        made.pieces = self._spliced(start, stop, names)
        made._ends = list(accumulate(map(len, made.pieces)))  # noqa: SLF001 (its own, which is being made)
        made.distinct, made.mark = len(made), self.mark
        made.shards = tuple(_with_pauses(self._shards_with(gone, new), pause))
        made.sieve = self._sieve_with(new) if not gone and sieve_size(len(made)) == len(self.sieve) else b""
        made.sieve = made.sieve or sieve_of(made.pieces, pause)
        digest, bounds = hashlib.sha256(), (self.depth, self.shallowest)
        is_open = any(name.count(".") + 1 in (1, self.depth) for name in gone)
        bounds = _widened(_NO_BOUNDS if is_open else bounds, _text(names))
        for piece in _with_pauses(made.pieces, pause):
            text = _text(piece)
            digest.update(text)
            bounds = _widened(bounds, text) if is_open else bounds
        made.digest, (made.depth, made.shallowest) = digest.hexdigest(), bounds
        return made

    def _spliced(self, start: int, stop: int, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Return the pieces with other names from `start` to `stop`; those before and behind are the same."""
        first = min(bisect_right(self._ends, start), len(self.pieces) - 1)
        last = max(first, bisect_left(self._ends, stop))
        offset = self._ends[first - 1] if first else 0
        between = [*chain.from_iterable(self.pieces[first : last + 1])]
        between[start - offset : stop - offset] = names
        return (*self.pieces[:first], *map(tuple, _pieces(between)), *self.pieces[last + 1 :])

    def _shards_with(self, gone: Collection[str], new: Collection[str]) -> Iterator[dict[str, object]]:
        changed: dict[int, dict[str, object]] = {}
        for name in chain(gone, new):
            changed.setdefault(hash(name) & SHARD_MASK, {})[name] = self.mark
        for number, shard in enumerate(self.shards):
            if number in changed:
                names = changed[number]
                yield {name: mark for name, mark in (shard | names).items() if name not in gone}
            else:
                yield shard

    def _sieve_with(self, names: Iterable[str]) -> bytes:
        sieve = bytearray(self.sieve)
        mark_in(sieve, names)
        return bytes(sieve)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.pieces)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return tuple([self[place] for place in range(*index.indices(len(self)))])
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, place)
        return self.pieces[number][place - self._ends[number]]  # counted from the end of the piece

    def __contains__(self, name: object) -> bool:
        if not self.shards:
            return any(name in piece for piece in self.pieces)
        return name in self.shards[hash(name) & SHARD_MASK]

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        """Return the first place of a name; raise ValueError where it has none."""
        if value in self:
            before = 0
            for piece in self.pieces:
                if value in piece:
                    place = before + piece.index(value)
                    if place in range(*slice(start, stop).indices(len(self))):
                        return place
                before += len(piece)
        raise ValueError(value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NameList):
            return self.digest == other.digest and len(self) == len(other)
        return isinstance(other, tuple) and len(other) == len(self) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<NameList of {len(self):,} names>"

    def doubled(self) -> frozenset[str]:
        """Return the names that the list has more than once."""
        if self.distinct == len(self):
            return frozenset()
        seen: list[set[str]] = [set() for _ in range(SHARDS)]
        found = set()
        for name in self:
            shard = seen[hash(name) & SHARD_MASK]
            if name in shard:
                found.add(name)
            shard.add(name)
        return frozenset(found)

    def common(self, other: NameList) -> frozenset[str]:
        """Return the names that are in both lists."""
        if not self.shards or not other.shards:
            return frozenset(self).intersection(other)
        both = zip(self.shards, other.shards, strict=True)
        return frozenset(chain.from_iterable(own.keys() & others.keys() for own, others in both))


class _Taking:
    """A list of names that is being made.

    Names are sorted into a list for each shard first: to go from dictionary to dictionary name by name is twice as slow.
    """

    def __init__(self) -> None:
        self.pieces: list[tuple[str, ...]] = []
        self.mark = object()
        self.digest = hashlib.sha256()
        self.bounds = _NO_BOUNDS
        self._spread: list[list[str]] = [[] for _ in range(SHARDS)]
        self._appends = [names.append for names in self._spread]

    def take(self, piece: Sequence[str]) -> None:
        self.pieces.append(tuple(piece))
        text = _text(piece)
        self.digest.update(text)
        self.bounds = _widened(self.bounds, text)
        appends, mask = self._appends, SHARD_MASK
        for name in piece:
            appends[hash(name) & mask](name)

    def shards(self) -> Iterator[dict[str, object]]:
        """Yield the shards; each list is emptied at once, not with all others at the end."""
        for names in self._spread:
            yield dict.fromkeys(names, self.mark)
            names.clear()


def sieve_of(lists: Sequence[Collection[str]], pause: Callable[[], None] | None = None) -> bytes:
    """Return octets of which the one at `hash(name) & (len(sieve) - 1)` is 0 only if no list has the name.

    That is one look into memory where a dictionary takes three or four; nearly all hosts need no more.
    """
    sieve = bytearray(sieve_size(sum(map(len, lists))))
    for names in _with_pauses(lists, pause):
        mark_in(sieve, names)
    return bytes(sieve)


def mark_in(sieve: bytearray, names: Iterable[str]) -> None:
    """Let names pass a sieve."""
    last = len(sieve) - 1
    for name in names:
        sieve[hash(name) & last] = 1


def sieve_size(names: int) -> int:
    """Return the power of two that makes four out of five hosts that are not listed fall through a sieve, or more."""
    return 1 << (4 * names).bit_length()


def name_list(names: Iterable[str]) -> NameList:
    """Return canonical names as a `NameList`; one that is a list already is returned as it is."""
    return names if isinstance(names, NameList) else NameList(_pieces(tuple(names)))


def _widened(bounds: tuple[int, int], text: bytes) -> tuple[int, int]:
    """Return how many labels the deepest and the shallowest name have, those of a text included."""
    depth, shallowest = bounds
    dots = text.translate(None, _NO_DOTS)
    while b"." * depth in dots:
        depth += 1
    return depth, 1 if dots.startswith(b"\n") or b"\n\n" in dots else shallowest


def _text(piece: Sequence[str]) -> bytes:
    return "\n".join(piece).encode() + b"\n" if piece else b""


def _pieces(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), PIECE):
        yield names[start : start + PIECE]


def _with_pauses(lists: Iterable[_Names], pause: Callable[[], None] | None) -> Iterator[_Names]:
    """Yield lists of names, with a pause each time when they were many."""
    since = 0
    for names in lists:
        yield names
        since += len(names)
        if pause is not None and since >= PIECE:
            pause()
            since = 0


class LineNumbers(Sequence[int]):
    """Line numbers, kept as runs of neighbouring lines: a list of a million names has a handful of them."""

    __slots__ = ("_length", "_places", "_starts")

    def __init__(self) -> None:
        self._places: list[int] = []  # of the first number of each run
        self._starts: list[int] = []  # that number
        self._length = 0

    def add(self, start: int, count: int = 1) -> None:
        """Put `count` (≥ 1) lines from `start` on at the end."""
        if not self._starts or start - self._starts[-1] != self._length - self._places[-1]:
            self._places.append(self._length)
            self._starts.append(start)
        self._length += count

    def amended(self, start: int, stop: int, numbers: LineNumbers, shift: int) -> LineNumbers:
        """Return the numbers with others in the place of those from `start` to `stop`, all behind them shifted."""
        made = LineNumbers()
        for first, count in (
            *self._runs(0, start),
            *numbers._runs(0, len(numbers)),
            *((first + shift, count) for first, count in self._runs(stop, len(self))),
        ):
            made.add(first, count)
        return made

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the runs of the numbers from place `start` to `stop`: the first number of each, and how many there are."""
        for place, end, first in zip(self._places, (*self._places[1:], self._length), self._starts, strict=False):
            inside, behind = max(place, start), min(end, stop)
            if inside < behind:
                yield first + inside - place, behind - inside

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        if isinstance(index, slice):
            return tuple([self[place] for place in range(*index.indices(len(self)))])
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        run = bisect_right(self._places, place) - 1
        return self._starts[run] + place - self._places[run]

    def __iter__(self) -> Iterator[int]:
        ends = (*self._places[1:], self._length)
        runs = zip(self._starts, self._places, ends, strict=False)  # without names there is an end too many
        return chain.from_iterable(range(start, start + end - place) for start, place, end in runs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (LineNumbers, list, tuple, range)):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # it grows
