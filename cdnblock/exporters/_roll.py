"""Every name that orders list, sorted, in blocks; where few names differ from an earlier roll, all other blocks are its. Pure.

Names of one kin have the same claims on them, as many labels, and the same kin next above them: so they fare alike at
any instant. A roll says nothing of how they fare, so it holds for any instant, and in part for other orders.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from cdnblock.matching.claims import Claim
from cdnblock.matching.index import NameIndex
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.name_list import SHARD_MASK

BLOCK: Final = 400
"""How many names a block has, about: up to twice as many, or less where names are no longer listed."""

_FEW: Final = 200  # names that differ: beyond them, and beyond a tenth of all, a roll is made anew
_SOUGHT: Final = 16  # names that are sought in a block's text; for more it is quicker to look at each name
_REMEMBERED: Final = 4  # texts of one block

Frame: TypeAlias = tuple[str, str]
"""What stands before a name in a text, and what behind it."""


def top_of(name: str, count: int) -> str:
    """Return the last `count` labels of a name, all of them where it has no more."""
    return ".".join(name.rsplit(".", count)[-count:])


class Kin(NamedTuple):
    """What names have in common: their mark in the index, how many dots, and the number of the kin above them, or 0."""

    mark: object
    dots: int
    upper: int


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some names, sorted, with the numbers of their kins. `firsts` has each kin that is here and its first name."""

    names: tuple[str, ...]
    kins: tuple[int, ...]
    firsts: Mapping[int, str]
    _texts: dict[object, str] = field(default_factory=dict, init=False)
    _tops: dict[object, tuple[str, ...]] = field(default_factory=dict, init=False)

    def text(self, frames: Mapping[int, Frame]) -> str:
        """Return the names, each in its kin's frame; those of a kin that has none are left out."""
        key = tuple((kin, frames.get(kin)) for kin in self.firsts)
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) >= _REMEMBERED:
                self._texts.clear()
            framed = zip(self.names, map(frames.get, self.kins), strict=True)
            text = "".join([f"{frame[0]}{name}{frame[1]}" for name, frame in framed if frame is not None])
            self._texts[key] = text
        return text

    def tops(self, count: int, kins: Collection[int]) -> tuple[str, ...]:
        """Return the last `count` labels of each name that is of one of these kins, each once."""
        key = (count, *(kin for kin in self.firsts if kin in kins))
        tops = self._tops.get(key)
        if tops is None:
            if len(self._tops) >= _REMEMBERED:
                self._tops.clear()
            own = zip(self.names, self.kins, strict=True)
            tops = tuple(dict.fromkeys([top_of(name, count) for name, kin in own if kin in kins]))
            self._tops[key] = tops
        return tops


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Roll:
    """The listed names of a rule set, whose index this is."""

    index: NameIndex[Claim]
    kins: Mapping[int, Kin]
    blocks: tuple[Block, ...]

    def firsts(self) -> dict[int, str]:
        """Return the first name of each kin, by its number; what stands above a name comes before it."""
        found: dict[int, str] = {}
        for block in self.blocks:
            for kin, name in block.firsts.items():
                found.setdefault(kin, name)
        kins = self.kins
        return dict(sorted(found.items(), key=lambda item: (kins[item[0]].upper > 0, kins[item[0]].dots, item[1])))

    def kin_of(self, name: str) -> int:
        """Return the number of a listed name's kin."""
        block = self.blocks[bisect_right(self.blocks, name, key=_start) - 1]
        return block.kins[bisect_left(block.names, name)]


def roll_of(rules: RuleSet, last: Roll | None = None) -> Roll:
    """Return the roll of a rule set. An earlier one of any other makes it quick where few names differ."""
    if last is not None and last.index is rules.index:
        return last
    return (last and last.blocks and _amended(last, rules.index)) or _whole(rules)


def _whole(rules: RuleSet) -> Roll:
    kins = _Numbers({})
    kin_of: dict[str, int] = {}
    nested: list[tuple[int, str, object, str]] = []
    tops: dict[tuple[object, int], int] = {}
    for name, mark, above in rules.each_listed():
        dots = name.count(".")
        if above:
            nested.append((dots, name, mark, above))
            continue
        number = tops.get((mark, dots))
        if number is None:
            number = tops[mark, dots] = kins.of(Kin(mark, dots, 0))
        kin_of[name] = number
    for dots, name, mark, above in sorted(nested, key=itemgetter(0, 1)):  # what stands above a name comes before it
        kin_of[name] = kins.of(Kin(mark, dots, kin_of[above]))
    return Roll(index=rules.index, kins=kins.all(), blocks=tuple(_blocks(kin_of)))


def _amended(last: Roll, index: NameIndex[Claim]) -> Roll | None:
    """Return a roll that shares what it can with the last one; None where too much differs for that to be quick."""
    marks, differing = _compared(last.index, index)
    if len(differing) > max(_FEW, len(index) // 10):
        return None
    touched = differing | {*_below(last.blocks, differing)}
    kins = _Numbers({number: kin._replace(mark=marks.get(kin.mark)) for number, kin in last.kins.items()})
    kin_of: dict[str, int] = {}
    for name in sorted(touched, key=_dots):
        mark = _mark(index, name)
        if mark is not None:
            above = index.nearest(name.partition(".")[2])
            upper = (kin_of.get(above) or last.kin_of(above)) if above else 0
            kin_of[name] = kins.of(Kin(mark, name.count("."), upper))
    blocks = tuple(_with(last.blocks, touched, kin_of))
    there = {number for block in blocks for number in block.firsts}
    return Roll(index=index, kins={number: kin for number, kin in kins.all().items() if number in there}, blocks=blocks)


def _compared(old: NameIndex[Claim], new: NameIndex[Claim]) -> tuple[dict[object, object], set[str]]:
    """Return for each old mark what most of its names have now, and the names that came, went or have another mark.

    What a mark stands for does not matter here: all names of one old mark that have one new mark still fare alike.
    """
    met = [_met(mine, theirs) for mine, theirs in zip(old.shards, new.shards, strict=True)]
    every: Counter[tuple[object, object]] = Counter()
    for pairs in met:
        every.update(pairs)
    marks: dict[object, object] = {}
    for (was, now), _ in every.most_common():
        marks.setdefault(was, now)
    marks[None] = None  # that of names that were not there: no name has it now
    differing: set[str] = set()
    for mine, theirs, pairs in zip(old.shards, new.shards, met, strict=True):
        if any(marks[was] is not now for was, now in pairs):
            differing.update(name for name, now in theirs.items() if marks[mine.get(name)] is not now)
        if sum(number for (was, _), number in pairs.items() if was is not None) < len(mine):
            differing.update(mine.keys() - theirs.keys())
    return marks, differing


def _met(mine: Mapping[str, object], theirs: Mapping[str, object]) -> Counter[tuple[object, object]]:
    """Return which marks names had and have, and of how many names that is so."""
    if mine is theirs:
        return Counter({(mark, mark): number for mark, number in Counter(mine.values()).items()})
    marks = {*mine.values()}, {*theirs.values()}
    if len(marks[0]) == len(marks[1]) == 1 and mine.keys() == theirs.keys():  # nearly always, and sooner found out
        return Counter({(marks[0].pop(), marks[1].pop()): len(mine)})
    return Counter(zip(map(mine.get, theirs), theirs.values(), strict=True))


def _below(blocks: Iterable[Block], names: Collection[str]) -> Iterator[str]:
    """Yield what stands in the blocks below any of the names."""
    ends = [f".{name}\n" for name in names]
    fewest = min((name.count(".") for name in names), default=0)
    for block in blocks:
        text = "\n".join((*block.names, "")) if len(ends) <= _SOUGHT else ""
        if len(ends) > _SOUGHT or any(end in text for end in ends):
            yield from (name for name in block.names if _is_below(name, names, fewest))


def _is_below(name: str, names: Collection[str], fewest: int) -> bool:
    for _ in range(name.count(".") - fewest):
        name = name.partition(".")[2]
        if name in names:
            return True
    return False


def _with(blocks: Iterable[Block], touched: Iterable[str], kin_of: Mapping[str, int]) -> Iterator[Block]:
    """Yield the blocks with the touched names in their places, if they have a kin; those without one are gone."""
    blocks = [*blocks]
    theirs: dict[int, list[str]] = defaultdict(list)
    for name in touched:
        theirs[max(0, bisect_right(blocks, name, key=_start) - 1)].append(name)
    for place, block in enumerate(blocks):
        if place not in theirs:
            yield block
            continue
        changed = dict(zip(block.names, block.kins, strict=True))
        for name in theirs[place]:
            changed.pop(name, None)
            if name in kin_of:
                changed[name] = kin_of[name]
        yield from _blocks(changed)


def _blocks(kin_of: Mapping[str, int]) -> Iterator[Block]:
    """Yield names, each with its kin, in blocks: one if they are not too many for it."""
    names = sorted(kin_of)
    size = BLOCK if len(names) > 2 * BLOCK else 2 * BLOCK
    for start in range(0, len(names), size):
        some = tuple(names[start : start + size])
        kins = tuple([kin_of[name] for name in some])
        yield Block(some, kins, dict(zip(reversed(kins), reversed(some), strict=True)))


class _Numbers:
    """The numbers of kins, of some from before and of new ones."""

    def __init__(self, given: Mapping[int, Kin]) -> None:
        self._given = given
        self._numbers = {kin: number for number, kin in given.items()}
        self._next = count(max(given, default=0) + 1)

    def of(self, kin: Kin) -> int:
        number = self._numbers.get(kin)
        if number is None:
            number = self._numbers[kin] = next(self._next)
        return number

    def all(self) -> dict[int, Kin]:
        return {**self._given, **{number: kin for kin, number in self._numbers.items()}}


def _mark(index: NameIndex[Claim], name: str) -> object | None:
    return index.shards[hash(name) & SHARD_MASK].get(name)


def _start(block: Block) -> str:
    return block.names[0]


def _dots(name: str) -> int:
    return name.count(".")
