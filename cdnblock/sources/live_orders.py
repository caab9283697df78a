"""An orders folder while it is being enforced: what changes, what stays, and what is wrong with it.

A change takes effect whole or not at all, per file: a file that becomes invalid keeps its last good version, a change
that would release too much is held back, and a folder that cannot be listed keeps everything (order-file.md, "The
folder and hot reload"). Failing closed means here that enforcement goes on; nothing is released by an accident.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

from cdnblock.errors import ConfigError, OrderError, Problem, Severity
from cdnblock.matching.ruleset import RuleSet, compile_orders
from cdnblock.orders import calendar
from cdnblock.orders.model import Order
from cdnblock.sources.order_folder import (
    OrderFile,
    as_reported,
    digest_on_disk,
    is_order_file,
    order_files,
    parse_kept,
    read_file,
    refused_for_its_id,
)
from cdnblock.sources.protected_list import PROTECTED_FILE, load_protected
from cdnblock.sources.release_guard import HeldRelease, how_many_listed, must_be_confirmed, released
from cdnblock.sources.slow_release import breathe
from cdnblock.sources.state_folder import KeptFile, StateFolder

SETTLE_SECONDS: Final = 0.05  # a file written to more recently than this may be half of what its writer means

_Fingerprint: TypeAlias = tuple[tuple[int, ...] | None, ...]
_Enforced: TypeAlias = dict[Path, OrderFile]


class FileState(StrEnum):
    """What is enforced of one file."""

    ENFORCED = "enforced"
    REPORTED = "report only"
    KEPT = "last good version kept"
    HELD = "release held"
    NOT_ENFORCED = "not enforced"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What is to be enforced of each file, the files refused for their id, and the rules that this makes."""

    wanted: _Enforced
    refused: dict[Path, OrderFile]
    rules: RuleSet


class LiveOrders:
    """The files of one orders folder (or one order file), and the rules that they make.

    `rules` is what is enforced, `held` the releases that wait for `refresh(accept_release=True)`, `state_error` why
    the last good set could not be kept on disk, None when it was, `settles_in` the seconds after which what somebody
    had just written to at the last `refresh` can be read, None where nobody had. Not thread-safe: one at a time calls
    `refresh`.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        state: StateFolder | None = None,
        now: datetime | None = None,
        report_only: bool = False,
        keep_texts: bool = False,
        pause: Callable[[], None] = breathe,
    ) -> None:
        """Read everything once; `report_only` reads every order as one in mode report.

        `keep_texts` keeps the octets of the files in force, as a state folder asks for in any case. `pause` is called
        about once a millisecond of what `refresh` does, for those who may be waiting for the interpreter.

        Raises:
            OrderError: a file is invalid, and the state folder has no last good version of it.
            ConfigError: the path does not exist, or cannot be listed, and the state folder has nothing to go on with.

        """
        self._path = Path(path)
        # A single file may be missing when a state folder has what it said last.
        is_single = self._path.is_file() or (not self._path.exists() and is_order_file(self._path.name))
        self.folder = self._path.parent if is_single else self._path
        self._state = state
        self.report_only = report_only
        self._keep_texts = keep_texts or state is not None
        self._read: dict[Path, OrderFile] = {}
        self._refused: dict[Path, OrderFile] = {}
        self._held_until: datetime | None = None
        self._pause: Callable[[], None] | None = None
        self._seen: dict[Path, _Fingerprint] = {}
        self._unlisted: tuple[Problem, ...] = ()
        self.settles_in: float | None = None
        self._of_state: tuple[Problem, ...] = ()
        self._saved: Mapping[Path, tuple[str, str | None]] = {}
        self.state_error: str | None = None
        self.held: tuple[HeldRelease, ...] = ()
        self._protected_seen = _fingerprint([self.folder / PROTECTED_FILE])
        self._protected, self._of_folder = load_protected(self.folder)
        self._enforced: _Enforced = self._last_good()
        self.rules = compile_orders(_orders(self._enforced))
        self._start(now or datetime.now(UTC))
        breathe()
        self._pause = pause  # from now on somebody may be waiting for the interpreter

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem of the folder as it is now, warnings included."""
        of_files = (problem for path in sorted(self._read) for problem in self._as_read(path).problems)
        return (*self._unlisted, *self._of_state, *self._of_folder, *of_files)

    @property
    def files(self) -> Mapping[Path, tuple[FileState, OrderFile]]:
        """For each file that is there, or still enforced, what is enforced of it and what was read last."""
        waiting = {held.path for held in self.held}
        found = {}
        for path in sorted(self._read.keys() | self._enforced.keys()):
            file = self._as_read(path) if path in self._read else self._enforced[path]
            if path in waiting:
                found[path] = (FileState.HELD, file)
            elif path not in self._enforced:
                found[path] = (FileState.NOT_ENFORCED, file)
            else:
                found[path] = (self._state_in_force(path, file), file)
        return found

    @property
    def in_force(self) -> tuple[KeptFile, ...]:
        """The octets of the files that make `rules`; empty where nobody wanted them kept."""
        return tuple(
            KeptFile(name=path.name, text=file.text, beside=file.beside_texts) for path, file in self._enforced.items()
        )

    @property
    def enforced(self) -> tuple[OrderFile, ...]:
        """The files that make `rules`, each in the version that is in force."""
        return tuple(self._enforced.values())

    def _state_in_force(self, path: Path, file: OrderFile) -> FileState:
        if file.order is None or path not in self._read:
            return FileState.KEPT
        return FileState.ENFORCED if file.order.is_enforced else FileState.REPORTED

    def _as_read(self, path: Path) -> OrderFile:
        """Return a file as it is now, invalid also when its id is another file's."""
        return self._refused.get(path) or self._read[path]

    def refresh(self, now: datetime, *, accept_release: bool = False, by_content: bool = False) -> bool:
        """Read what has changed; return whether anything is different: the rules, the problems, what is held.

        `by_content` reads every file for its digest, where the metadata of files cannot be relied on. Never raises for
        what is or is not in the folder.
        """
        before = (self.rules, self.problems, self.held)
        self.settles_in = None
        try:
            members = self._members()
        except ConfigError as error:
            self._unlisted = (Problem(file=str(self._path), line=1, column=1, key="", message=str(error)),)
            return self.problems != before[1]
        self._unlisted = ()
        stale = [path for path in members if self._is_stale(path) or (by_content and self._has_other_content(path))]
        if self._reload_protected():
            stale = members
        gone = self._read.keys() - set(members)
        for path in gone:
            del self._read[path]
        self._read |= {file.path: file for file in self._read_settled(stale)}
        unread = self._enforced.keys() - self._read.keys() - {held.path for held in self.held}  # of the state folder
        turned = self._held_until is not None and now >= self._held_until
        if stale or gone or unread or turned or (accept_release and self.held):
            self._put_in_force(now, accept_release=accept_release)
        elif self.state_error:
            self._keep(self._enforced)
        return (self.rules, self.problems, self.held) != before

    def is_settled(self) -> bool:
        """Tell whether everything on disk has been read: nobody has just written to it."""
        try:
            return not any(self._is_changed(path) for path in self._members())
        except ConfigError:
            return True

    def _start(self, now: datetime) -> None:
        try:
            members = self._members()
        except ConfigError as error:
            if not self._enforced:
                raise
            self._unlisted = (Problem(file=str(self._path), line=1, column=1, key="", message=str(error)),)
            return
        self._read = {path: self._read_one(path) for path in members}
        self._put_in_force(now, accept_release=False)
        for path, file in self._read.items():
            if file.order is None and path not in self._enforced:
                raise OrderError(self.problems)
        if any(problem.severity is Severity.ERROR for problem in self._of_folder):
            raise OrderError(self.problems)

    def _put_in_force(self, now: datetime, *, accept_release: bool) -> None:
        """Let what was read take the place of what is enforced, as far as it may."""
        self.held, chosen = ((), self._choice(())) if accept_release else self._to_hold(now)
        self._refused = chosen.refused
        self._keep(chosen.wanted)  # before it is enforced: what is in force must be on disk when the process is killed
        self._enforced = chosen.wanted
        self.rules = chosen.rules
        self._held_until = chosen.rules.next_change(now) if self.held else None

    def _to_hold(self, now: datetime) -> tuple[tuple[HeldRelease, ...], _Choice]:
        """Return the files that wait for consent, and what is to be enforced meanwhile.

        Once held, a file waits until it releases nothing any more, however many names come into force meanwhile. To
        hold a file may take its id from another one, so what is left is looked at again until it releases no more
        than it may.
        """
        waiting = {held.path: held.since for held in self.held}
        chosen = self._choice(())
        on_disk = {order.id for order in _orders(chosen.wanted)}
        holding: dict[Path, int] = {}
        while True:
            wanted, rules = chosen.wanted, chosen.rules
            gone_now = released(self.rules, rules, now, self._pause)
            gone = gone_now | self._gone_later(rules, wanted, now)
            releasing = [
                path for path in self._enforced if path not in holding and self._releases(path, wanted, gone, now)
            ]
            of_force = must_be_confirmed(self.rules, rules, len(gone_now), now)
            if not of_force and not must_be_confirmed(self.rules, rules, len(gone), now, pending=self._pending(now)):
                releasing = [
                    path for path in releasing if path in waiting or (holding and self._id_of(path) in on_disk)
                ]
            if not releasing:
                held = (
                    HeldRelease(path=path, names=names, since=waiting.get(path, now))
                    for path, names in sorted(holding.items())
                )
                return tuple(held), chosen
            for path in releasing:
                order = self._enforced[path].order
                holding[path] = 0 if order is None else how_many_listed(order, gone)
            chosen = self._choice(holding)

    def _gone_later(self, rules: RuleSet, wanted: _Enforced, now: datetime) -> set[str]:
        """Return the names that would be released when an order that is still to start does.

        A clock that is years behind makes every order one of those.
        """
        changed = (file.order for path, file in self._enforced.items() if wanted.get(path) is not file)
        starts = {start for order in changed if order and (start := calendar.starts_at(order)) > now}
        return set().union(*(released(self.rules, rules, start, self._pause) for start in starts))

    def _pending(self, now: datetime) -> int:
        """Return how many names the orders list that are still to start."""
        orders = (order for order in _orders(self._enforced) if order.is_enforced)
        return sum(order.size() for order in orders if now < calendar.starts_at(order))

    def _id_of(self, path: Path) -> str | None:
        order = self._enforced[path].order
        return None if order is None else order.id

    def _releases(self, path: Path, wanted: _Enforced, gone: set[str], now: datetime) -> bool:
        """Tell whether what is wanted takes names of this file out of force, or the order before its time."""
        order = self._enforced[path].order
        if order is None or not order.is_enforced or wanted.get(path) is self._enforced[path]:
            return False
        if how_many_listed(order, gone):
            return True
        kept = any(other.id == order.id and other.is_enforced for other in _orders(wanted))
        return not kept and now < calendar.ends_at(order)

    def _choice(self, holding: Collection[Path]) -> _Choice:
        """Return what is to be enforced while some files are held, compiled."""
        wanted, refused = self._wanted(holding)
        return _Choice(wanted=wanted, refused=refused, rules=self._compiled(wanted))

    def _wanted(self, holding: Collection[Path]) -> tuple[_Enforced, dict[Path, OrderFile]]:
        """Return what is to be enforced of each file, what was read or its last good version; and the files refused.

        An id belongs to the file that has it already; a file that claims somebody else's is refused, for as long as
        the other one has it.
        """
        wanted: _Enforced = {}
        refused: dict[Path, OrderFile] = {}
        owners: dict[str, Path] = {}
        paths = {*self._read, *holding}
        for path in sorted(paths, key=lambda path: (path not in holding, not self._keeps_its_id(path), path)):
            file = self._read.get(path)
            if path in holding or file is None or file.order is None:
                chosen = self._enforced.get(path)
            elif file.order.id in owners:
                refused[path] = refused_for_its_id(file, owners[file.order.id])
                chosen = self._enforced.get(path)
            else:
                chosen = file
            if chosen is not None and chosen.order is not None and chosen.order.id not in owners:
                owners[chosen.order.id] = path
                wanted[path] = chosen
        return wanted, refused

    def _keeps_its_id(self, path: Path) -> bool:
        file, enforced = self._read.get(path), self._enforced.get(path)
        if enforced is None or enforced.order is None:
            return False
        return file is None or file.order is None or file.order.id == enforced.order.id

    def _compiled(self, wanted: _Enforced) -> RuleSet:
        """Return the rules; those in force when they would be the same, with all that they remember."""
        rules = compile_orders(_orders(wanted))
        return self.rules if rules.revision == self.rules.revision else rules

    def _last_good(self) -> _Enforced:
        """Return the set that the state folder kept, parsed as it was: a name protected since then stays in force."""
        if self._state is None:
            return {}
        kept, self._of_state = self._state.load()
        files = (self._as_meant(parse_kept(self.folder / name, file.text, file.beside)) for name, file in kept.items())
        found = {file.path: file for file in files if file.order is not None}
        since = {path: kept[path.name].held_since for path in found}
        # What waited for consent before a restart waits after it.
        self.held = tuple(
            HeldRelease(path=path, names=0, since=datetime.fromisoformat(held))
            for path, held in sorted(since.items())
            if held is not None
        )
        self._saved = {path: (file.digest, since[path]) for path, file in found.items()}
        return found

    def _keep(self, wanted: _Enforced) -> None:
        """Write the last good set to the state folder, if it is another one; a failing disk is told, not fatal."""
        since = {held.path: held.since.isoformat() for held in self.held}
        to_save = {path: (file.digest, since.get(path)) for path, file in wanted.items()}
        if self._state is None or (to_save == self._saved and self.state_error is None):
            return
        try:
            self._state.save(
                {
                    path.name: KeptFile(
                        name=path.name, text=file.text, beside=file.beside_texts, held_since=since.get(path)
                    )
                    for path, file in wanted.items()
                }
            )
        except OSError as error:
            self.state_error = f"{error.strerror or error}; what is enforced now would not survive a restart"
        else:
            self.state_error = None
            self._of_state = ()
            self._saved = to_save

    def _members(self) -> list[Path]:
        """Return the order files there are; raise ConfigError when there is no telling."""
        if self._path == self.folder:
            return order_files(self.folder)
        if not self._path.exists():
            raise ConfigError(
                f"{self._path}: no such file or folder; what it said last stays enforced until it is back"
            )
        return [self._path]

    def _is_stale(self, path: Path) -> bool:
        now = self._now(path)
        return now != self._seen.get(path) and self._has_settled(now)

    def _has_settled(self, fingerprint: _Fingerprint) -> bool:
        """Tell whether something that has changed is settled; if not, it is to be looked at when it is."""
        left = _unsettled_for(fingerprint)
        if left:
            self.settles_in = left if self.settles_in is None else min(left, self.settles_in)
        return not left

    def _is_changed(self, path: Path) -> bool:
        return self._now(path) != self._seen.get(path)

    def _now(self, path: Path) -> _Fingerprint:
        beside = self._read[path].beside if path in self._read else ()
        return _fingerprint([path, *beside])

    def _read_one(self, path: Path) -> OrderFile:
        """Read a file; one that has just been written to is looked at again, whatever its times say then."""
        before = _fingerprint([path])
        last = self._read.get(path)
        file = self._as_meant(
            read_file(path, self._protected, keep_texts=self._keep_texts, pause=self._pause, last=last)
        )
        fingerprint = (*before, *_fingerprint(file.beside))
        self._seen[path] = () if _unsettled_for(fingerprint) else fingerprint
        return file

    def _as_meant(self, file: OrderFile) -> OrderFile:
        """Return a file as it is to be taken: in a dry run of everything each order is one in mode report."""
        return as_reported(file) if self.report_only else file

    def _read_settled(self, paths: Iterable[Path]) -> Iterator[OrderFile]:
        """Read files, and drop those to which somebody wrote meanwhile: the next refresh reads them again."""
        for path in paths:
            file = self._read_one(path)
            if _fingerprint([path, *file.beside]) == self._seen[path]:
                yield file
            else:
                self._seen[path] = ()
                self.settles_in = SETTLE_SECONDS

    def _has_other_content(self, path: Path) -> bool:
        file = self._read.get(path)
        return file is not None and file.digest != "" and digest_on_disk(file) != file.digest

    def _reload_protected(self) -> bool:
        now = _fingerprint([self.folder / PROTECTED_FILE])
        if now == self._protected_seen or not self._has_settled(now):
            return False
        self._protected_seen = now
        self._protected, self._of_folder = load_protected(self.folder)
        return True


def _orders(files: _Enforced) -> Iterator[Order]:
    return (file.order for file in files.values() if file.order is not None)


def _fingerprint(paths: Iterable[Path]) -> _Fingerprint:
    """Return what tells whether a file is another one or another version, None for one that is not there."""
    found: list[tuple[int, ...] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


def _unsettled_for(fingerprint: _Fingerprint) -> float:
    """Return how long (s) nobody may write until something is settled, 0 where it is.

    A time in the future is a clock's mistake, and no reason to wait.
    """
    now = time.time_ns()
    ages = ((now - file[3]) / 1e9 for file in fingerprint if file is not None)
    return max((SETTLE_SECONDS - age for age in ages if 0 <= age < SETTLE_SECONDS), default=0.0)
