"""An immutable map from names to what stands on each: sharded by hash, so that making one is many short steps.

Lists of a million names arrive in shards already (`cdnblock.orders.name_list`). A shard that one list fills alone is
used as it is; only where lists meet is there anything to build. So a small order that changes beside a large one costs
the copies of a few shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, Generic, TypeVar

from cdnblock.orders.name_list import SHARD_MASK, SHARDS, NameList

_Claim = TypeVar("_Claim")


class NameIndex(Generic[_Claim]):
    """What stands on each name: a tuple of claims, in the order in which they were given.

    A name maps to a mark, and the mark to the claims, so that the dictionaries of names hold nothing that the garbage
    collector would have to follow, and a list's own dictionaries serve in any index.
    """

    __slots__ = ("__weakref__", "claims", "depth", "own", "shards")

    def __init__(self, given: Iterable[tuple[_Claim, Iterable[str]]]) -> None:
        """Take claims, each with the names on which it stands. A claim stands on a name once, however often given."""
        marks = _Marks[_Claim]()
        lists: dict[str, tuple[NameList, list[int]]] = {}
        singly: list[tuple[int, Iterable[str]]] = []
        for claim, names in given:
            rank = marks.rank(claim)
            if isinstance(names, NameList) and names.shards:
                lists.setdefault(names.digest, (names, []))[1].append(rank)
            else:
                singly.append((rank, names))
        for names, ranks in lists.values():
            marks.let_stand_for(names.mark, ranks)
        merging = _Merging([names for names, _ in lists.values()], marks)
        depth = max((names.depth for names, _ in lists.values()), default=0)
        for rank, each in singly:
            for name in each:
                merging.add(name, rank)
                depth = max(depth, name.count(".") + 1)
        self.depth: Final = depth
        """How many labels the deepest name has."""
        self.shards: Final = tuple(merging.shards)
        """Each name and its mark, in the dictionary number `hash(name) & SHARD_MASK`. Nobody may write to them."""
        self.own: Final = tuple(shard for shard, own in zip(merging.shards, merging.own, strict=True) if own)
        """The shards that no list has a share in: what is freed with this index."""
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
        shards = self.shards
        while name and name not in shards[hash(name) & SHARD_MASK]:
            name = name.partition(".")[2]
        return name


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
        largest_first = sorted(lists, key=len, reverse=True)
        for number in range(SHARDS):
            self._merge(number, [names.shards[number] for names in largest_first if names.shards[number]])

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
