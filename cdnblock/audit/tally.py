"""What was enforced, counted on the hot path: no I/O, no lock, bounded.

A repeat costs one look-up and one addition. Whoever records takes what came since the last time (`drain`): one `Hit`
per group, order and measure. Nothing is ever lost: what is too much to be kept apart is counted together.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from cdnblock.audit.hits import Hit, What, hits_of, named, names_key, reasons_of, text_of
from cdnblock.matching.decision import Decision
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Measure

MOST_CELLS: Final = 10_000  # that are told apart between two turns; about 10 MB when full
MOST_HOSTS: Final = 16  # of one name, so that random hosts below one name take no room from other names
MOST_FOLDS: Final = 1_000  # of orders and countries, once there is no telling names apart
MOST_NAMES: Final = 20_000  # of which it is remembered whether they were counted already
AT_ONCE: Final = 200  # hits between two pauses: about a millisecond
MANY: Final = "*"  # stands for several countries that were counted together

_LINGER: Final = 2.0  # seconds for which a turn that is over is still looked at

# A cell is a list, because nothing in Python is quicker to count in.
_Cell: TypeAlias = list[Any]
COUNT, _TOLD, _FIRST, _WHAT, _NAMES, _NAMED = range(6)

_NONE: Final = Decision(measures={})  # holds no rules that are over

__all__ = ["COUNT", "Hit", "Series", "Tally"]


class Tally:
    """Counts what adapters enforce. One per process.

    Whoever drains it sets `recording`, `wake`, which is called at the first of each group and returns at once, and
    `rules`, which tell the order's name for a host where the decision is one for all names of which the same is said.
    Before that only totals are kept.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._turn = _Turn(clock())
        self._cells = self._turn.cells
        self._gone: list[_Turn] = []  # turns that are over, in which somebody who just looked may still count
        self._base: Counter[tuple[str, str, str]] = Counter()
        self._turning = threading.Lock()
        self._series: list[Series] = []
        self.recording = False
        self.wake: Callable[[], object] = _nothing
        self.rules: Callable[[], RuleSet | None] = _nothing

    def note(
        self,
        decision: Decision,
        host: str | bytes | None,
        client: str | None,
        *,
        measures: tuple[Measure, ...],
        action: str,
        adapter: str,
    ) -> None:
        """Count that `measures` were enforced on one request. Never blocks, never does I/O, never raises.

        `host` is text or octets as HTTP has them, or a name as it stands in a DNS packet (in lower case); `client` the
        address that was decided for; `measures` those that were acted upon, in a tuple.
        """
        key = (id(decision), host, measures, action, adapter)
        # Nothing is called from here on: between this look and the count no other thread can end the turn.
        try:
            self._cells[key][COUNT] += 1
        except (KeyError, TypeError):
            self._first(decision, host, client, measures, action, adapter)

    def series(self, measures: tuple[Measure, ...], action: str, adapter: str) -> Series:
        """Return what counts one kind of enforcement by itself, for a host that counts nanoseconds."""
        series = Series(self, measures, action, adapter)
        with self._turning:
            self._series.append(series)
        return series

    @property
    def totals(self) -> Mapping[tuple[str, str, str], int]:
        """How often each (adapter, measure, action) was enforced since the start; never falls."""
        with self._turning:
            found = Counter(self._base)
            for turn in (*self._gone, self._turn):
                found.update(turn.totals())
            return found

    def drain(
        self, *, turn: bool = False, only_new: bool = False, pause: Callable[[], object] | None = None
    ) -> list[Hit]:
        """Return what was counted since the last time; with `only_new`, of groups that were never told of.

        With `turn`, every group is new from then on. `pause` is called about once a millisecond, for whoever wants to
        let others run. One at a time calls it.
        """
        with self._turning:
            turns = [*self._gone, self._turn]
            now = time.monotonic()
            for old in self._gone:
                if now - old.over >= _LINGER:
                    self._base.update(old.totals())
            self._gone = [old for old in self._gone if now - old.over < _LINGER]
            if turn:
                self._turn.over = now
                self._gone.append(self._turn)
                self._turn = _Turn(self._clock())
                self._cells = self._turn.cells
                for series in self._series:  # after the tally's own: see `Series.note`
                    series.cells = {}
        found: list[Hit] = []
        for each in turns:
            for hit in each.hits(self._clock(), only_new=only_new):
                found.append(hit)
                if pause is not None and not len(found) % AT_ONCE:
                    pause()
        return found

    def _first(
        self,
        decision: Decision,
        host: str | bytes | None,
        client: str | None,
        measures: tuple[Measure, ...],
        action: str,
        adapter: str,
    ) -> None:
        """Count what there was no cell for, and remember which cell there is now."""
        key = (id(decision), host, measures, action, adapter)
        try:
            recording = self.recording
            rules = self.rules() if recording else None
            example = text_of(host) if recording else ""
            what = What(
                decision, example, client, tuple(measures), str(action), str(adapter), decision.country, example
            )
            with self._turning:
                self._turn.add(key, what, self._clock(), rules, apart=recording)
        except Exception:  # noqa: BLE001 (counting must never be why a request fails)
            self._base[str(adapter), "?", str(action)] += 1
        self.wake()


class Series:
    """Counts the enforcements of one adapter, measure and action.

    A repeat has a cell, `series.cells[id(decision), host]`, and is counted by whoever looked there: `cell[COUNT] += 1`.
    What has none is for `note`.
    """

    __slots__ = ("_action", "_adapter", "_measures", "_tally", "cells")

    def __init__(self, tally: Tally, measures: tuple[Measure, ...], action: str, adapter: str) -> None:
        self._tally = tally
        self._measures = measures
        self._action = action
        self._adapter = adapter
        self.cells: dict[tuple[int, str | bytes], list[Any]] = {}

    def note(self, decision: Decision, host: str | bytes, client: str | None, *, keep: bool = True) -> None:
        """Count an enforcement, as `Tally.note` does. Repeats are found in `cells` from now on, if there is room.

        Without `keep` they are not: for whoever has more to tell of each.
        """
        key = (id(decision), host)
        mine, cells = self.cells, self._tally._cells  # noqa: SLF001 (its other half)
        try:
            mine[key][COUNT] += 1
        except (KeyError, TypeError):
            pass
        else:
            return
        # In this order, and the tally turns in the other one: no cell of a turn that is over gets among newer ones.
        self._tally.note(decision, host, client, measures=self._measures, action=self._action, adapter=self._adapter)
        cell = cells.get((id(decision), host, self._measures, self._action, self._adapter))
        if cell is not None and keep:
            if len(mine) >= MOST_CELLS:  # where nobody drains, no turn ends
                mine.clear()
            mine[key] = cell


class _Turn:
    """The cells between two turns, and by what they are found."""

    def __init__(self, since: float) -> None:
        self.cells: dict[Any, _Cell] = {}
        self._all: list[_Cell] = []
        self._new: list[_Cell] = []  # that were never told of
        self._groups: dict[Any, dict[str | None, _Cell]] = {}
        self._folds: dict[Any, _Cell] = {}
        self._names: set[int] = set()
        self._kept: list[Decision] = []  # an `id()` stays its own only as long as its decision is kept
        self._drained = since
        self.over = 0.0  # by the monotonic clock

    def add(self, key: Any, what: What, at: float, rules: RuleSet | None, *, apart: bool) -> None:
        """Count one more, in the cell where it belongs."""
        cell = self._of_group(what, at, rules) if apart else self._of_totals(what, at)
        cell[COUNT] += 1
        # A fold is not found by its key: each new name is to be counted.
        if len(self.cells) < MOST_CELLS and not cell[_WHAT].folded and isinstance(key[1], (str, bytes, type(None))):
            try:
                self.cells[key] = cell
            except TypeError:  # measures that are no tuple
                return
            if apart:  # in totals it is all the same whose decision it was
                self._kept.append(what.decision)

    def totals(self) -> Counter[tuple[str, str, str]]:
        """Return how often each (adapter, measure, action) was counted here."""
        found: Counter[tuple[str, str, str]] = Counter()
        for cell in list(self._all):
            what: What = cell[_WHAT]
            for measure in what.measures:
                found[what.adapter, str(measure), what.action] += cell[COUNT]
        return found

    def hits(self, now: float, *, only_new: bool) -> Iterator[Hit]:
        """Yield what came since the last time.

        Names are looked up in the rules that a cell was made by, once: at a reload there are others, and those are let go.
        """
        new, self._new = self._new, []
        before = self._drained
        if not only_new:
            self._drained = now
        for cell in new if only_new else list(self._all):
            count = cell[COUNT] - cell[_TOLD]
            if count:
                first = max(cell[_FIRST], before) if cell[_TOLD] else cell[_FIRST]
                last = first if cell[COUNT] == 1 else max(first, now)
                if not cell[_TOLD]:
                    cell[_NAMED] = named(cell[_WHAT], cell[_NAMED], last)
                cell[_TOLD] += count
                yield from hits_of(cell[_WHAT], cell[_NAMED], (first, last, count), cell[_NAMES])

    def _of_totals(self, what: What, at: float) -> _Cell:
        key = (what.measures, what.action, what.adapter)
        if key not in self._folds:
            self._folds[key] = self._made(what._replace(client=None, decision=_NONE), at)
        if len(self.cells) >= MOST_CELLS:
            self.cells.clear()
        return self._folds[key]

    def _of_group(self, what: What, at: float, rules: RuleSet | None) -> _Cell:
        group = (names_key(what, rules), what.measures, what.action, what.adapter)
        hosts = self._groups.get(group)
        if hosts is None:
            if len(self._all) >= MOST_CELLS:
                return self._of_fold(what, at)
            hosts = self._groups[group] = {}
        host = what.host if len(hosts) < MOST_HOSTS or what.host in hosts else None
        if host not in hosts:
            hosts[host] = self._made(what._replace(host=host), at, rules)
        return hosts[host]

    def _of_fold(self, what: What, at: float) -> _Cell:
        orders = tuple(reason.order.id for reason in reasons_of(what))
        for country in (what.country, MANY):
            key = (orders, country, what.measures, what.action, what.adapter)
            if key in self._folds or len(self._folds) < MOST_FOLDS or country == MANY:
                break
        if key not in self._folds:
            self._folds[key] = self._made(what._replace(host=None, country=country, folded=True), at)
            self._folds[key][_NAMES] = 0
        cell = self._folds[key]
        name = hash((id(cell), what.example))
        if name not in self._names and len(self._names) < MOST_NAMES:
            self._names.add(name)
            cell[_NAMES] += 1
        return cell

    def _made(self, what: What, at: float, rules: RuleSet | None = None) -> _Cell:
        cell: _Cell = [0, 0, at, what, None, rules]
        self._all.append(cell)
        self._new.append(cell)
        return cell


def _nothing() -> None:
    return None
