"""What was enforced, counted on the hot path: no I/O, no lock, bounded.

A repeat costs one look-up and two assignments. Whoever records takes what came since the last time (`drain`): one
`Hit` per group, order and measure. Nothing is ever lost: what is too much to be kept apart is counted together.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from cdnblock.matching.coverage import Coverage
from cdnblock.matching.decision import Decision, Reason
from cdnblock.matching.names import canonical, canonical_query_name
from cdnblock.matching.ruleset import RuleSet
from cdnblock.measures.dns_message import name_text
from cdnblock.orders.model import Measure

MOST_CELLS: Final = 10_000  # that are told apart between two turns; about 10 MB when full
MOST_HOSTS: Final = 64  # of one name, so that random hosts below one name take no room from other names
MOST_FOLDS: Final = 1_000  # of orders and countries, once there is no telling names apart
MOST_NAMES: Final = 20_000  # of which it is remembered whether they were counted already
MANY: Final = "*"  # stands for several countries that were counted together

_LONGEST_HOST: Final = 300  # characters; longer spellings are no host

# A cell is a list, because nothing in Python is quicker to count in.
_Cell: TypeAlias = list[Any]
_COUNT, _LAST, _TOLD, _FIRST, _WHAT, _NAMES = range(6)


class Hit(NamedTuple):
    """So many enforcements of one order and measure; plain values, which travel between processes as JSON.

    `action` is `refused` (dns), `answer`, `close` or `cut` (proxy), `uncached` (cdn), or `would` where there is only a
    report. `first` and `last` are seconds since 1970 (`first` to the second where the group was told of before),
    `client` is the whole address of the first. `host` is None where many hosts were counted together; `name` is None
    where many names were, and then `names` tells how many at least; `country` is then `*` where several were.
    """

    order: str
    name: str | None
    notice: str | None
    host: str | None
    measure: str
    variant: str | None
    country: str | None
    client: str | None
    adapter: str
    action: str
    revision: str
    first: float
    last: float
    count: int
    names: int | None = None


class _What(NamedTuple):
    """What a cell counts; `folded` when it is all names of some orders."""

    decision: Decision
    host: str | None
    client: str | None
    measures: tuple[Measure, ...]
    action: str
    adapter: str
    country: str | None
    example: str
    """One of the hosts."""
    folded: bool = False


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
        try:
            cell = self._cells[id(decision), host, measures, action, adapter]
        except (KeyError, TypeError):
            self._first(decision, host, client, measures, action, adapter)
            return
        cell[0] += 1
        cell[1] = self._clock()

    @property
    def totals(self) -> Mapping[tuple[str, str, str], int]:
        """How often each (adapter, measure, action) was enforced since the start; never falls."""
        with self._turning:
            found = Counter(self._base)
            for turn in (*self._gone, self._turn):
                found.update(turn.totals())
            return found

    def drain(self, *, turn: bool = False, only_new: bool = False) -> list[Hit]:
        """Return what was counted since the last time; with `only_new`, of groups that were never told of.

        With `turn`, every group is new from then on. One at a time calls it.
        """
        with self._turning:
            over, self._gone = self._gone, []
            for old in over:
                self._base.update(old.totals())
            turns = [*over, self._turn]
            if turn:
                self._gone = [self._turn]
                self._turn = _Turn(self._clock())
                self._cells = self._turn.cells
        rules = self.rules()
        return [hit for each in turns for hit in each.hits(rules, self._clock(), only_new=only_new)]

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
        example = text_of(host)
        try:
            rules = self.rules() if self.recording else None
            what = _What(
                decision, example, client, tuple(measures), str(action), str(adapter), decision.country, example
            )
            with self._turning:
                self._turn.add(key, what, self._clock(), rules, apart=self.recording)
        except Exception:  # noqa: BLE001 (counting must never be why a request fails)
            self._base[str(adapter), "?", str(action)] += 1
        self.wake()


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

    def add(self, key: Any, what: _What, at: float, rules: RuleSet | None, *, apart: bool) -> None:
        """Count one more, in the cell where it belongs."""
        cell = self._of_group(what, at, rules) if apart else self._of_totals(what, at)
        cell[_COUNT] += 1
        cell[_LAST] = at
        # A fold is not found by its key: each new name is to be counted.
        if len(self.cells) < MOST_CELLS and not cell[_WHAT].folded and isinstance(key[1], (str, bytes, type(None))):
            try:
                self.cells[key] = cell
            except TypeError:  # measures that are no tuple
                return
            self._kept.append(what.decision)

    def totals(self) -> Counter[tuple[str, str, str]]:
        """Return how often each (adapter, measure, action) was counted here."""
        found: Counter[tuple[str, str, str]] = Counter()
        for cell in list(self._all):
            what: _What = cell[_WHAT]
            for measure in what.measures:
                found[what.adapter, str(measure), what.action] += cell[_COUNT]
        return found

    def hits(self, rules: RuleSet | None, now: float, *, only_new: bool) -> Iterator[Hit]:
        """Yield what came since the last time."""
        new, self._new = self._new, []
        before = self._drained
        if not only_new:
            self._drained = now
        for cell in new if only_new else list(self._all):
            count, last = cell[_COUNT] - cell[_TOLD], cell[_LAST]
            if count:
                first = max(cell[_FIRST], before) if cell[_TOLD] else cell[_FIRST]
                cell[_TOLD] += count
                yield from _hits(cell[_WHAT], rules, (min(first, last), last, count), cell[_NAMES])

    def _of_totals(self, what: _What, at: float) -> _Cell:
        key = (what.measures, what.action, what.adapter)
        if key not in self._folds:
            self._folds[key] = self._made(what._replace(client=None), at)
        if len(self.cells) >= MOST_CELLS:
            self.cells.clear()
            self._kept.clear()
        return self._folds[key]

    def _of_group(self, what: _What, at: float, rules: RuleSet | None) -> _Cell:
        group = (_names_key(what, rules), what.measures, what.action, what.adapter)
        hosts = self._groups.get(group)
        if hosts is None:
            if len(self._all) >= MOST_CELLS:
                return self._of_fold(what, at)
            hosts = self._groups[group] = {}
        host = what.host if len(hosts) < MOST_HOSTS or what.host in hosts else None
        if host not in hosts:
            hosts[host] = self._made(what._replace(host=host), at)
        return hosts[host]

    def _of_fold(self, what: _What, at: float) -> _Cell:
        orders = tuple(reason.order.id for reason in _reasons(what))
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

    def _made(self, what: _What, at: float) -> _Cell:
        cell: _Cell = [0, at, 0, at, what, None]
        self._all.append(cell)
        self._new.append(cell)
        return cell


def text_of(host: object) -> str:
    """Return the canonical text of a host as an adapter has it; what is none comes out as text all the same."""
    if isinstance(host, bytes):
        on_the_wire = name_text(host) if host.endswith(b"\0") else None
        if on_the_wire is not None:
            return canonical_query_name(on_the_wire) or on_the_wire
        return canonical(host) or host[:_LONGEST_HOST].decode("latin-1")
    if isinstance(host, str):
        return canonical(host) or canonical_query_name(host) or host[:_LONGEST_HOST]
    return ""


def _reasons(what: _What) -> tuple[Reason, ...]:
    return what.decision.would_reasons if what.action == "would" else what.decision.reasons


def _is_of(host: str, name: str) -> bool:
    return host == name or host.endswith("." + name)


def _names_key(what: _What, rules: RuleSet | None) -> Any:
    """Return what hosts with the same names in the same orders have in common.

    A decision tells its names. Where it is one for all names of which the same is said, and this host is not below the
    names that it tells, the nearest listed name stands for them.
    """
    decision, host = what.decision, what.example
    names = tuple((reason.order.id, reason.name) for reason in _reasons(what))
    if all(_is_of(host, name) for _, name in names):
        return names, decision.country, decision.revision
    if rules is None or rules.revision != decision.revision:
        return names, decision.country, decision.revision, host
    nearest = rules.index.nearest(host)
    return names, decision.country, decision.revision, nearest, nearest == host


def _hits(what: _What, rules: RuleSet | None, when: tuple[float, float, int], names: int | None) -> Iterator[Hit]:
    variants = what.decision.would if what.action == "would" else what.decision.measures
    for reason, name, notice in _named(what, rules, when[1]):
        for measure in what.measures:
            if measure in reason.order.measures:
                yield Hit(
                    reason.order.id, name, notice, what.host, str(measure), variants.get(measure), what.country,
                    what.client, what.adapter, what.action, what.decision.revision, *when, names,
                )  # fmt: skip


def _named(what: _What, rules: RuleSet | None, at: float) -> Iterator[tuple[Reason, str | None, str | None]]:
    """Yield the orders that were enforced, by which of their names, and by which notice."""
    reasons = _reasons(what)
    if what.folded:
        yield from ((reason, None, None) for reason in reasons)
    elif all(_is_of(what.example, reason.name) for reason in reasons):
        yield from ((reason, reason.name, reason.notice) for reason in reasons)
    else:
        own = {reason.order.id: reason for reason in _asked_again(what, rules, at)}
        for reason in reasons:
            found = own.get(reason.order.id)
            yield reason, found.name if found else None, found.notice if found else None


def _asked_again(what: _What, rules: RuleSet | None, at: float) -> tuple[Reason, ...]:
    """Return the reasons of the host itself, none when the rules are others by now."""
    decision = what.decision
    if rules is None or rules.revision != decision.revision:
        return ()
    found = rules.find_query_name(what.example, remember=False)
    if not isinstance(found, Coverage):
        return ()
    again = found.decide(decision.country, decision.told_by, at)
    return _reasons(what._replace(decision=again))


def _nothing() -> None:
    return None
