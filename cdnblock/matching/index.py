"""An immutable map from names to what stands on each: sharded by hash, so that making one is many short steps.

Lists of a million names arrive in shards already (`cdnblock.orders.name_list`). A shard that one list fills alone is
used as it is; only where lists meet is there anything to build. So a small order that changes beside a large one costs
the copies of a few shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, Generic, TypeVar

from cdnblock.orders.name_list import SHARD_MASK, SHARDS, NameList, mark_in, sieve_of, sieve_size

_Claim = TypeVar("_Claim")


class NameIndex(Generic[_Claim]):
    """What stands on each name: a tuple of claims, in the order in which they were given.

    A name maps to a mark, and the mark to the claims, so that the dictionaries of names hold nothing that the garbage
    collector would have to follow, and a list's own dictionaries serve in any index.
    """

    __slots__ = ("__weakref__", "_last", "claims", "depth", "own", "shallowest", "shards", "sieve")

    def __init__(self, given: Iterable[tuple[_Claim, Iterable[str]]]) -> None:
        """Take claims, each with the names on which it stands. A claim stands on a name once, however often given."""
        marks = _Marks[_Claim]()
        lists: dict[str, tuple[NameList, list[int]]] = {}
        singly: list[tuple[int, tuple[str, ...]]] = []
        owners: dict[object, str] = {}  # of marks
        for claim, names in given:
            rank = marks.rank(claim)
            # Two versions of one list may share their mark, which here can stand for one of them alone.
            if (
                isinstance(names, NameList)
                and names.shards
                and owners.setdefault(names.mark, names.digest) == names.digest
            ):
                lists.setdefault(names.digest, (names, []))[1].append(rank)
            else:
                singly.append((rank, tuple(names)))
        for names, ranks in lists.values():
            marks.let_stand_for(names.mark, ranks)
        largest_first = sorted((names for names, _ in lists.values()), key=len, reverse=True)
        merging = _Merging(largest_first, marks)
        depth = max((names.depth for names in largest_first), default=0)
        shallowest = min((names.shallowest for names in largest_first), default=2)
        for rank, each in singly:
            for name in each:
                merging.add(name, rank)
                labels = name.count(".") + 1
                depth, shallowest = max(depth, labels), min(shallowest, labels)
        self.depth: Final = depth
        """How many labels the deepest name has."""
        self.shallowest: Final = shallowest
        """No name has fewer labels."""
        self.shards: Final = tuple(merging.shards)
        """Each name and its mark, in the dictionary number `hash(name) & SHARD_MASK`. Nobody may write to them."""
        self.own: Final = tuple(shard for shard, own in zip(merging.shards, merging.own, strict=True) if own)
        """The shards that no list has a share in: what is freed with this index."""
        self.sieve: Final = _joined_sieve(largest_first, [names for _, names in singly])
        """Like the `sieve` of a `NameList`: nothing where no name of this index has its hash."""
        self._last: Final = len(self.sieve) - 1
        self.claims: Final = marks.claims()
        """Each mark and the claims that it stands for."""

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def __getitem__(self, name: str) -> tuple[_Claim, ...]:
        """Return the claims on a name itself, none if it is not in the index."""
        mark = self.shards[hash(name) & SHARD_MASK].get(name)
        return () if mark is None else self.claims[mark]

    def items(self) -> Iterator[tuple[str, object]]:
        """Yield each name with its mark."""
        return chain.from_iterable(shard.items() for shard in self.shards)

    def nearest(self, name: str) -> str:
        """Return the name itself if it is in the index, else the next one above it that is, `""` if none is."""
        labels = name.count(".") + 1
        if labels > self.depth:  # no name is deeper: a hundred labels cost no hundred look-ups
            labels = self.depth
            name = ".".join(name.rsplit(".", labels)[1:])
        sieve, last, shallowest = self.sieve, self._last, self.shallowest
        while labels >= shallowest:
            number = hash(name)
            if sieve[number & last] and name in self.shards[number & SHARD_MASK]:
                return name
            labels -= 1
            if labels >= shallowest:
                name = name.partition(".")[2]
        return ""


def _joined_sieve(largest_first: Sequence[NameList], singly: Sequence[Sequence[str]]) -> bytes:
    """Return the sieve of all these names; that of the largest list is taken over."""
    if not largest_first:
        return sieve_of(singly)
    largest, *others = largest_first
    extent = sieve_size(sum(map(len, largest_first)) + sum(map(len, singly)))
    if not others and not any(singly):
        return largest.sieve
    sieve = bytearray(largest.sieve * (extent // len(largest.sieve)))  # the longer part of a hash ends with the shorter
    for names in (*others, *singly):
        mark_in(sieve, names)
    return bytes(sieve)


class _Marks(Generic[_Claim]):
    """Which claims a mark stands for; claims are counted in the order in which they were given."""

    def __init__(self) -> None:
        self._given: list[_Claim] = []
        self._ranks: dict[int, int] = {}  # by identity
        self._meaning: dict[object, tuple[int, ...]] = {}
        self._marks: dict[tuple[int, ...], object] = {}
        self._joined: dict[tuple[object, object], object] = {}

    def rank(self, claim: _Claim) -> int:
        rank = self._ranks.setdefault(id(claim), len(self._given))
        if rank == len(self._given):
            self._given.append(claim)
        return rank

    def let_stand_for(self, mark: object, ranks: Iterable[int]) -> None:
        meaning = tuple(sorted(set(ranks)))
        self._meaning[mark] = meaning
        self._marks.setdefault(meaning, mark)

    def of(self, rank: int) -> object:
        """Return the mark of a single claim."""
        return self._of((rank,))

    def joined(self, one: object, other: object) -> object:
        """Return the mark of all claims of two."""
        mark = self._joined.get((one, other))
        if mark is None:
            mark = self._of(tuple(sorted({*self._meaning[one], *self._meaning[other]})))
            self._joined[one, other] = mark
        return mark

    def claims(self) -> dict[object, tuple[_Claim, ...]]:
        return {mark: tuple(self._given[rank] for rank in ranks) for mark, ranks in self._meaning.items()}

    def _of(self, ranks: tuple[int, ...]) -> object:
        mark = self._marks.get(ranks)
        if mark is None:
            mark = self._marks[ranks] = object()
            self._meaning[mark] = ranks
        return mark


class _Merging(Generic[_Claim]):
    """The shards of an index that is being made; those that are `own` may be written to."""

    def __init__(self, lists: Sequence[NameList], marks: _Marks[_Claim]) -> None:
        self._marks = marks
        self.shards: list[dict[str, object]] = []
        self.own = [False] * SHARDS
        for number in range(SHARDS):
            self._merge(number, [names.shards[number] for names in lists if names.shards[number]])

    def _merge(self, number: int, shards: Sequence[dict[str, object]]) -> None:
        self.shards.append(shards[0] if shards else {})
        for shard in shards[1:]:
            merged = self._writable(number)
            if merged.keys().isdisjoint(shard):
                merged.update(shard)
                continue
            for name, mark in shard.items():
                present = merged.setdefault(name, mark)
                if present is not mark:
                    merged[name] = self._marks.joined(present, mark)

    def add(self, name: str, rank: int) -> None:
        shard = self._writable(hash(name) & SHARD_MASK)
        mark = self._marks.of(rank)
        present = shard.setdefault(name, mark)
        if present is not mark:
            shard[name] = self._marks.joined(present, mark)

    def _writable(self, number: int) -> dict[str, object]:
        if not self.own[number]:
            self.shards[number] = self.shards[number].copy()
            self.own[number] = True
        return self.shards[number]
