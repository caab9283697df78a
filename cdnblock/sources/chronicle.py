"""What happens to the orders of one enforcer, told to its trail: what came into force, what turned, what went wrong.

The trail is told of every instant at which an order turns, also of those that passed while nobody ran, or before the
order's file came: they are told as past, which claims no enforcement.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cdnblock.audit.records import Kind
from cdnblock.audit.settings import OrderText
from cdnblock.errors import Problem, Severity
from cdnblock.geo.country import CountryTable
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders import calendar
from cdnblock.orders.model import Mode, Order
from cdnblock.orders.turns import Happening, Turn, turns_of
from cdnblock.sources.geo_tables import digest_of
from cdnblock.sources.live_orders import LiveOrders
from cdnblock.sources.order_folder import OrderFile
from cdnblock.sources.release_guard import HeldRelease
from cdnblock.sources.slow_release import breathe

if TYPE_CHECKING:
    from cdnblock.audit.trail import Trail

_SHOWN: Final = 20  # problems of a file, and names of an addition, that a record lists
_LOG: Final = logging.getLogger("cdnblock.enforcer")
_FILES: Final = "files"  # of a trail: the octets of order files by their digest


def _told_or_logged(tell: Callable[..., None]) -> Callable[..., None]:
    """Log what telling raises, with its trace."""

    @functools.wraps(tell)
    def guarded(*arguments: Any, **more: Any) -> None:
        try:
            tell(*arguments, **more)
        except Exception:  # noqa: BLE001 (whatever it is, what is enforced does not depend on it)
            _LOG.exception("cdnblock: what happened to the orders could not be told to the trail")

    return guarded


class Chronicle:
    """One trail's teller. `began` comes first; then any thread may tell, one at a time of `put_in_force`.

    After that nothing in it raises: what is enforced does not depend on what is told of it.
    """

    def __init__(self, trail: Trail, folder: Path) -> None:
        self.trail = trail
        self._folder = folder
        self._turning = threading.Lock()
        self._turns: dict[str, tuple[Order, tuple[Turn, ...]]] = {}
        self._told_until: datetime | None = None
        self._wrong: Mapping[str, tuple[str, ...]] = {}
        self._held: tuple[HeldRelease, ...] = ()

    def began(self, live: LiveOrders, now: datetime) -> None:
        """Tell what is in force at the start, and what has turned since the trail was last written to."""
        since = self.trail.last_before
        known = {file.order.id for file in live.enforced if file.order and self._is_known(file)}
        self._tell_loaded(live, None, now)
        with self._turning:
            self._told_until = now
            for order in live.rules.orders.values():
                self._turns[order.id] = order, turns_of(order)
                after = since if order.id in known else None
                self._tell_turns((turn for turn in self._turns[order.id][1] if after is None or turn.at > after), now)
        self._tell_wrong(live)

    def note_geo_table(self, table: CountryTable, source: Path | str | CountryTable | None) -> None:
        """Tell by which country table it is decided; `source` is its file, None for the one in the package."""
        digest = digest_of(source) if source is None or isinstance(source, (str, Path)) else None
        origin = getattr(table, "origin", None)  # an operator's own table may have none
        build = None if origin is None else origin.built.isoformat()
        self.trail.event(Kind.GEO_TABLE, table=table.description, build=build, digest=digest)

    @_told_or_logged
    def put_in_force(self, live: LiveOrders, old: RuleSet, now: datetime, *, accepted: bool) -> None:
        """Tell what a rereading came to, before its rules are decided by."""
        new = live.rules
        if accepted and self._held and not live.held:
            names = sum(held.names for held in self._held)
            self.trail.event(Kind.ACCEPTED_RELEASE, file=[held.path.name for held in self._held], names=names)
        if new is not old:
            self._tell_loaded(live, old, now)
            with self._turning:
                self._take_turns(new, now)
        self._tell_wrong(live)

    @_told_or_logged
    def instant_passed(self, now: datetime) -> None:
        """Tell what has turned since it was last asked."""
        with self._turning:
            until = self._told_until
            if until is None or now <= until:  # a clock that was set back passes instants a second time
                return
            self._told_until = now
            turns = [turn for _, turns in self._turns.values() for turn in turns if until < turn.at <= now]
            for turn in sorted(turns, key=lambda turn: turn.at):
                self._tell_turn(turn)

    def _tell_loaded(self, live: LiveOrders, old: RuleSet | None, now: datetime) -> None:
        new = live.rules
        added = new.count_in_force(now) if old is None else sum(1 for _ in new.released_by(old, now, breathe))
        released = 0 if old is None else sum(1 for _ in old.released_by(new, now, breathe))
        texts = [
            OrderText(
                order=file.order.id,
                file=file.path.name,
                text=file.text,
                beside=file.beside_texts,
                mode=file.order.mode.value,
            )
            for file in live.enforced
            if file.order is not None
        ]
        before = None if old is None else old.revision
        self.trail.loaded(
            texts, revision=new.revision, before=before, names=len(new), added=added, released=released
        )  # fmt: skip

    def _take_turns(self, new: RuleSet, now: datetime) -> None:
        """Follow other orders from now on; what of them has turned already, and was not told, is told as past."""
        had, self._turns = self._turns, {}
        for order in new.orders.values():
            before = had.get(order.id)
            if before is not None and before[0] is order:
                self._turns[order.id] = before
                continue
            turns = turns_of(order)
            self._turns[order.id] = order, turns
            told = set() if before is None else set(map(_what, before[1]))
            self._tell_turns((turn for turn in turns if _what(turn) not in told), now)

    def _tell_turns(self, turns: Iterable[Turn], now: datetime) -> None:
        for turn in turns:
            if turn.at <= now:
                self._tell_turn(turn, past=True)

    def _tell_turn(self, turn: Turn, **more: object) -> None:
        order = self._turns[turn.order][0]
        if order.mode is Mode.REPORT:
            more["mode"] = order.mode.value
        self.trail.event(
            Kind(turn.happening.value), order=turn.order, instant=_text(turn.at), **_said(turn, order), **more
        )

    def _tell_wrong(self, live: LiveOrders) -> None:
        """Tell which files became invalid, or valid again, and which releases began to wait for consent."""
        wrong = _errors(live.problems)
        kept = {str(file.path) for file in live.enforced}
        for file, problems in wrong.items():
            if problems != self._wrong.get(file):
                self.trail.event(
                    Kind.FILE_ERROR, file=Path(file).name, problems=list(problems[:_SHOWN]), count=len(problems),
                    kept=file in kept,
                )  # fmt: skip
        for file in self._wrong.keys() - wrong.keys():
            self.trail.event(Kind.FILE_MENDED, file=Path(file).name, gone=not Path(file).exists())
        waiting = {(held.path, held.since) for held in self._held}
        for held in live.held:
            if (held.path, held.since) not in waiting:
                self.trail.event(
                    Kind.HELD_RELEASE, file=held.path.name, names=held.names, since=_text(held.since)
                )  # fmt: skip
        self._wrong, self._held = wrong, live.held

    def _is_known(self, file: OrderFile) -> bool:
        """Tell whether the trail has seen this version of a file before."""
        return (self._folder / _FILES / hashlib.sha256(file.text).hexdigest()).exists()


def _what(turn: Turn) -> tuple[object, ...]:
    """Return what makes a turn of an order's new version another one: not how many names are listed meanwhile."""
    return turn.happening, turn.at, turn.names, turn.notice


def _said(turn: Turn, order: Order) -> dict[str, Any]:
    """Return what a record says of a turn besides the order and the instant."""
    match turn.happening:
        case Happening.ORDER_STARTED:
            return {"names": turn.count}
        case Happening.ORDER_LIFTED:
            return {"names": list(turn.names or ()), "reason": turn.reason}
        case Happening.WINDOW_OPENED | Happening.WINDOW_CLOSED:
            begins, until = next(
                ((opens, closes) for opens, closes in calendar.windows_of(order) if turn.at in (opens, closes)),
                (turn.at, turn.at),
            )
            return {"label": turn.label, "begins": _text(begins), "until": _text(until)}
        case Happening.ADDITION_STARTED:
            names = [
                name.name for addition in order.additions if addition.notice == turn.notice for name in addition.names
            ]
            return {"notice": turn.notice, "names": names[:_SHOWN], "count": turn.count}
        case _:
            return {}


def _errors(problems: Iterable[Problem]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for problem in problems:
        if problem.severity is Severity.ERROR:
            found.setdefault(problem.file, []).append(str(problem))
    return {file: tuple(texts) for file, texts in found.items()}


def _text(instant: datetime) -> str:
    return instant.isoformat()
