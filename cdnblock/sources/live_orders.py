"""An orders folder while it is being enforced: what changes, what stays, and what is wrong with it.

A change takes effect whole or not at all, per file: a file that becomes invalid keeps its last good version, and a
folder that cannot be listed keeps everything (order-file.md, "The folder and hot reload"). Failing closed means here
that enforcement goes on; nothing is released by an accident.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from cdnblock.errors import ConfigError, OrderError, Problem, Severity
from cdnblock.matching.ruleset import compile_orders
from cdnblock.sources.order_folder import OrderFile, order_files, read_file, refused_for_its_id
from cdnblock.sources.protected_list import PROTECTED_FILE, load_protected

SETTLE_SECONDS: Final = 0.05  # a file written to more recently than this may be half of what its writer means

_Fingerprint: TypeAlias = tuple[tuple[int, ...] | None, ...]


class LiveOrders:
    """The files of one orders folder (or one order file), and the rules that they make.

    `folder` is where the files are, `rules` what is enforced, `kept` the files whose last good version is enforced in place of what they hold now.
    Not thread-safe: one follower calls `refresh`.
    """

    def __init__(self, path: Path | str) -> None:
        """Read everything once.

        Raises:
            OrderError: a file is invalid.
            ConfigError: the path does not exist, or cannot be listed.

        """
        self._path = Path(path)
        self.folder = self._path if self._path.is_dir() else self._path.parent
        self._read: dict[Path, OrderFile] = {}
        self._good: dict[Path, OrderFile] = {}
        self._seen: dict[Path, _Fingerprint] = {}
        self._lost: tuple[Problem, ...] = ()
        members = self._members()
        self._protected_seen = _fingerprint([self.folder / PROTECTED_FILE])
        self._protected, self._general = load_protected(self.folder)
        self._take_in([self._read_one(path) for path in members])
        if any(problem.severity is Severity.ERROR for problem in self.problems):
            raise OrderError(self.problems)
        self.rules = compile_orders(file.order for file in self._good.values() if file.order)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem of the folder as it is now, warnings included."""
        of_files = (problem for _, file in sorted(self._read.items()) for problem in file.problems)
        return (*self._lost, *self._general, *of_files)

    @property
    def kept(self) -> tuple[Path, ...]:
        """The files that are invalid now and whose last good version is enforced."""
        return tuple(path for path, file in sorted(self._read.items()) if file.order is None and path in self._good)

    def refresh(self) -> bool:
        """Read what has changed; return whether anything is different: the rules, or the problems.

        Never raises for what is or is not in the folder.
        """
        before = self.problems
        try:
            members = self._members()
        except ConfigError as error:
            self._lost = (Problem(file=str(self._path), line=1, column=1, key="", message=str(error)),)
            return self.problems != before
        self._lost = ()
        stale = [path for path in members if self._is_stale(path)]
        if self._reload_protected():
            stale = members
        gone = self._read.keys() - set(members)
        if stale or gone:
            for path in gone:
                del self._read[path]
                self._good.pop(path, None)
            self._take_in(self._read_settled(stale))
        rules = compile_orders(file.order for file in self._good.values() if file.order)
        changed = rules.revision != self.rules.revision
        if changed:
            self.rules = rules
        return changed or self.problems != before

    def _members(self) -> list[Path]:
        """Return the order files there are; raise ConfigError when there is no telling."""
        if self._path == self.folder:
            return order_files(self.folder)
        if not self._path.exists():
            raise ConfigError(
                f"{self._path}: no such file or folder; give a folder of *.yaml order files, or one such file"
            )
        return [self._path]

    def _is_stale(self, path: Path) -> bool:
        if path not in self._read:
            return _is_settled(_fingerprint([path]))
        now = _fingerprint([path, *self._read[path].beside])
        return now != self._seen[path] and _is_settled(now)

    def _read_one(self, path: Path) -> OrderFile:
        before = _fingerprint([path])
        file = read_file(path, self._protected)
        self._seen[path] = (*before, *_fingerprint(file.beside))
        return file

    def _read_settled(self, paths: Iterable[Path]) -> Iterator[OrderFile]:
        """Read files, and drop those to which somebody wrote meanwhile: the next refresh reads them again."""
        for path in paths:
            file = self._read_one(path)
            if _fingerprint([path, *file.beside]) == self._seen[path]:
                yield file
            else:
                self._seen[path] = ()

    def _reload_protected(self) -> bool:
        now = _fingerprint([self.folder / PROTECTED_FILE])
        if now == self._protected_seen or not _is_settled(now):
            return False
        self._protected_seen = now
        self._protected, self._general = load_protected(self.folder)
        return True

    def _take_in(self, files: Iterable[OrderFile]) -> None:
        """Let valid files replace their last good version; an id belongs to the file that has it already."""
        self._read |= {file.path: file for file in files}
        good: dict[Path, OrderFile] = {}
        owners: dict[str, Path] = {}
        for path in sorted(self._read, key=lambda path: (not self._keeps_its_id(path), path)):
            file = self._read[path]
            if file.order is not None and file.order.id in owners:
                file = self._read[path] = refused_for_its_id(file, owners[file.order.id])
            enforced = file if file.order is not None else self._good.get(path)
            if enforced is not None and enforced.order is not None and enforced.order.id not in owners:
                owners[enforced.order.id] = path
                good[path] = enforced
        self._good = good

    def _keeps_its_id(self, path: Path) -> bool:
        file, good = self._read[path], self._good.get(path)
        if good is None or good.order is None:
            return False
        return file.order is None or file.order.id == good.order.id


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


def _is_settled(fingerprint: _Fingerprint) -> bool:
    """Tell whether nobody has written for a moment. A time in the future is a clock's mistake, and no reason to wait."""
    now = time.time_ns()
    ages = (now - file[3] for file in fingerprint if file is not None)
    return all(age < 0 or age >= SETTLE_SECONDS * 1e9 for age in ages)
