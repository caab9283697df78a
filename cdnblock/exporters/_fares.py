"""How each kin of listed names fares, and the two tables that follow from it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from cdnblock.exporters._groups import Group, differ
from cdnblock.exporters._roll import Block, Frame

Table: TypeAlias = Mapping[str, Group | None]
FrameOf: TypeAlias = Callable[[Group | None, bool], Frame]
"""What stands around a name in a text, by what the table has for it, and whether the other table has it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fare:
    """What a name itself has, and any other host below it; `upper` is the number of the kin next above it, or 0."""

    dots: int
    upper: int
    own: Group | None
    below: Group | None


@dataclass(frozen=True, slots=True, eq=False)
class Fares:
    """The blocks of a roll, and each kin's fare by the kin's number, those above before those below them."""

    blocks: tuple[Block, ...]
    of: Mapping[int, Fare]

    def in_suffixes(self) -> dict[int, Group | None]:
        """Return the kins whose names stand in the table of suffixes, each with what it has there."""
        return {
            kin: fare.below
            for kin, fare in self.of.items()
            if differ(fare.below, self.of[fare.upper].below if fare.upper else None)
        }

    def in_exact(self) -> dict[int, Group | None]:
        """Return the kins whose names stand in the table of hosts, each with what it has there."""
        return {kin: fare.own for kin, fare in self.of.items() if differ(fare.own, fare.below)}

    def suffixes(self) -> Table:
        """Return the table of suffixes, sorted."""
        return self._table(self.in_suffixes())

    def exact(self) -> Table:
        """Return the table of hosts, sorted."""
        return self._table(self.in_exact())

    def lines(self, frame: FrameOf, *, exact: bool) -> Iterator[str]:
        """Yield a table as texts, each name in its frame."""
        here, there = (self.in_exact(), self.in_suffixes()) if exact else (self.in_suffixes(), self.in_exact())
        frames = {kin: frame(group, kin in there) for kin, group in here.items()}
        return (block.text(frames) for block in self.blocks) if frames else iter(())

    def depths(self) -> set[int]:
        """Return how many labels the names in the table of suffixes have."""
        return {self.of[kin].dots + 1 for kin in self.in_suffixes()}

    def gates(self, count: int, suffixes: Table) -> Iterable[str]:
        """Return the last `count` labels of each name in a table, or all, where these are none of the suffixes."""
        meant = self.in_suffixes()
        kins = {kin for kin in (self.in_exact() | meant) if kin not in meant or self.of[kin].dots >= count}
        found = dict.fromkeys(chain.from_iterable(block.tops(count, kins) for block in self.blocks))
        if any(self.of[kin].upper for kin in kins):  # otherwise nothing that is listed is above these
            return [gate for gate in found if gate not in suffixes]
        return found

    def changed(self, to: Callable[[Group], Group | None]) -> Fares:
        """Return the same with other groups."""
        fares = {
            kin: Fare(dots=fare.dots, upper=fare.upper, own=fare.own and to(fare.own), below=fare.below and to(fare.below))
            for kin, fare in self.of.items()
        }  # fmt: skip
        return Fares(self.blocks, fares)

    def _table(self, held: Mapping[int, Group | None]) -> Table:
        table: dict[str, Group | None] = {}
        for block in self.blocks:
            if block.firsts.keys() <= held.keys():
                table.update(zip(block.names, map(held.__getitem__, block.kins), strict=True))
            elif not held.keys().isdisjoint(block.firsts):
                pairs = zip(block.names, block.kins, strict=True)
                table.update((name, held[kin]) for name, kin in pairs if kin in held)
        return table
