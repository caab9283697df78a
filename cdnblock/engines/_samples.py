"""Which names an engine is asked for: some of each kind of change, some of each group, and in turn every name there is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain, islice
from typing import Final

from cdnblock.engines._lines import lines_of_one
from cdnblock.exporters._plan import Group, Plan

_OF_A_KIND: Final = 2  # names asked for of those that changed alike
_MOST_CHANGED: Final = 16
_IN_RESERVE: Final = 64  # more of them, before anything goes back
_MOST_STEADY: Final = 8
_MOST_GONE: Final = 24
_FEW_LINES: Final = 2_000  # that differ: for more it is quicker to compare the plans
_IN_TURN: Final = 1_440  # looks in which each name has had its turn: a day of them, one a minute
_TURNS: Final = (16, 500)  # names in turn at a time: as few and as many as this
_NAME: Final = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")
STRANGER: Final = "nobody.cdnblock.invalid"
"""A host that no order names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Some names: `changed` ones fare otherwise than before, `steady` ones do not, as far as anybody knows.

    `reserve` has more of the changed ones, `gone` what looks like names that were taken out of files.
    """

    changed: tuple[str, ...] = ()
    steady: tuple[str, ...] = ()
    reserve: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Each name once, the changed ones first, and one that nobody names at the end."""
        return [*dict.fromkeys((*self.changed, *self.gone, *self.steady, STRANGER))]


def sample(
    before: Plan | None, after: Plan, *, written: Iterable[str] | None = None, turns: Iterable[str] = ()
) -> Sample:
    """Return some names of each kind of change, then some of each group that stayed, and those whose turn it is.

    `written` are the names in what files say differently, None where that is not known; `before` is None where
    nobody knows what the engine went by.
    """
    changed: dict[tuple[str, str], list[str]] = {}
    reserve: list[str] = []
    for name, old, new in _changes(before, after, written):
        alike = changed.setdefault((old, new), [])
        if len(alike) < _OF_A_KIND and len(changed) * _OF_A_KIND <= _MOST_CHANGED:
            alike.append(name)
        elif len(reserve) < _IN_RESERVE:
            reserve.append(name)
    first = tuple(islice((name for names in changed.values() for name in names), _MOST_CHANGED))
    steady: dict[str, str] = {}
    enough = min(_MOST_STEADY, len(after.groups))
    for name, group in chain(after.exact.items(), after.suffixes.items()):
        if len(steady) >= enough:
            break
        if group is not None and group.id not in steady:
            steady[group.id] = name
    rest = dict.fromkeys((*steady.values(), *turns))
    gone = (name for name in written or () if before is None and not _is_listed(name, after))
    return Sample(
        changed=first,
        steady=tuple(name for name in rest if name not in first),
        reserve=tuple(reserve),
        gone=tuple(islice(gone, _MOST_GONE)),
    )


def in_turn(plan: Plan, start: int) -> tuple[list[str], int]:
    """Return the names whose turn it is, beginning with that of this number, and the number of the next."""
    count = len(plan.exact) + len(plan.suffixes)
    if not count:
        return [], 0
    start, some = start % count, min(count, max(_TURNS[0], min(_TURNS[1], -(-count // _IN_TURN))))
    names = [*islice(chain(plan.exact, plan.suffixes), start, start + some)]
    names += islice(chain(plan.exact, plan.suffixes), some - len(names))
    return names, start + some


def names_written(before: Mapping[str, bytes], after: Mapping[str, bytes], *, some: bool = False) -> list[str] | None:
    """Return what looks like a name in lines that only one of two sets of files has.

    Where too much differs, return None, or the names in `some` of the lines where nobody has plans to compare. Files
    that hold no lines of names tell nothing.
    """
    first: dict[bytes, None] = {}
    others: dict[bytes, None] = {}
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, b""), after.get(name, b"")
        if old == new:
            continue
        taken, put = lines_of_one(old, new)
        if len(taken) + len(put) > _FEW_LINES:
            if not some:
                return None
            taken, put = ({*nsmallest(_FEW_LINES // 2, lines)} for lines in (taken, put))
        alone, among = _named_otherwise(taken, put)
        first |= alone
        others |= among
    return [word.decode() for word in first | others if not word.rpartition(b".")[2].isdigit()]  # no addresses


def _named_otherwise(taken: Iterable[bytes], put: Iterable[bytes]) -> tuple[dict[bytes, None], dict[bytes, None]]:
    """Return the names that lines of only one side are all about, and those that stand among others on one side alone."""
    bare = [{line.rstrip(b", \r") for line in lines} for lines in (put, taken)]  # a line that is the last no longer
    alone: dict[bytes, None] = {}
    sides: list[set[bytes]] = []
    for lines in (bare[0] - bare[1], bare[1] - bare[0]):
        words = [{*_NAME.findall(line)} for line in sorted(lines)]
        sides.append({word for some in words for word in some})
        alone |= dict.fromkeys(word for some in words if len(some) == 1 for word in some)
    return alone, dict.fromkeys(sorted(sides[0] ^ sides[1]))


def _changes(before: Plan | None, after: Plan, written: Iterable[str] | None) -> Iterator[tuple[str, str, str]]:
    """Yield each host of the tables that fares otherwise, with its group of before and of now; those of now first."""
    if before is None:
        for name in written or ():
            if name in after.suffixes or name in after.exact:
                yield name, "?", _id(after.group_of(name))
        return
    listed = [name for name in written or () if _is_listed(name, before, after)]
    for name in listed or _differing(before, after):
        old, new = _id(before.group_of(name)), _id(after.group_of(name))
        if old != new:
            yield name, old, new


def _is_listed(name: str, *plans: Plan) -> bool:
    return any(name in table for plan in plans for table in (plan.exact, plan.suffixes))


def _differing(before: Plan, after: Plan) -> Iterator[str]:
    for tables in ((after.suffixes, before.suffixes), (after.exact, before.exact)):
        for one, other in (tables, tables[::-1]):
            for name, group in one.items():
                if name not in other or _id(other[name]) != _id(group):
                    yield name


def _id(group: Group | None) -> str:
    return group.id if group else ""
