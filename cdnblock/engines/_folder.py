"""The folder that an engine reads: files are put there all together, and the last ones that were right are kept.

    *.conf, *.map …   what the engine reads
    .cdnblock/        the last files that were right, kept as order files are kept; the lock of the one who writes here
    .cdnblock-orders/ the last good orders, where the operator names no folder for them
    .cdnblock-trial/  the new files, for the checker
    .cdnblock-new/    those on their way, to their places or back

Whatever a swap and the way back need is on the disk before the first file is swapped: a disk that fills up meanwhile
stops neither.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from cdnblock.errors import ConfigError
from cdnblock.sources.state_folder import KeptFile, StateFolder

ORDERS: Final = ".cdnblock-orders"
"""Where the last good orders are kept, so that a release is guarded from one run to the next, if nowhere else."""

_MODE: Final = 0o644  # nothing in the files is secret, and many engines read them as another user
_KEPT: Final = ".cdnblock"
_TRIAL: Final = ".cdnblock-trial"
_NEW: Final = ".cdnblock-new"
_UNCACHED: Final = "uncached names"  # of a kept file that is none of the engine's
_ALL_BELOW: Final = "."

Uncached = frozenset[tuple[str, bool]]


class ConfigFolder:
    """One folder, owned by one process. `right` are the last files that were right, none at first."""

    def __init__(self, path: Path) -> None:
        """Open it, and make it where there is none.

        Raises:
            ConfigError: it cannot be made or written to, or another process keeps it.

        """
        self.path = path
        try:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be made: {error.strerror}; give a folder that can") from error
        self._state = StateFolder(path / _KEPT)
        shutil.rmtree(path / _NEW, ignore_errors=True)  # of one that was killed
        kept, self.problems = self._state.load()
        self.uncached: Uncached | None = _read_uncached(kept.get(_UNCACHED))
        self.right: Mapping[str, bytes] = {name: file.text for name, file in kept.items() if name != _UNCACHED}

    def trial(self, seen_as: Path) -> Path:
        """Return where the checker finds the new files, if it sees this folder as `seen_as`."""
        return seen_as / _TRIAL / "files"

    def read(self, name: str) -> bytes | None:
        """Return what a file holds now, None if it is not there."""
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return None

    def differing(self, files: Mapping[str, bytes]) -> list[str]:
        """Return the files that are not there as they should be."""
        return [name for name, text in files.items() if not _is_there(self.path / name, text)]

    def try_out(self, files: Mapping[str, bytes], seen_as: Path) -> None:
        """Write files for the checker; each path to this folder in them, which engines see as `seen_as`, is the trial's.

        Raises OSError when they cannot be written.
        """
        here, there = self.trial(self.path), self.trial(seen_as)
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir(parents=True)
        for name, text in files.items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(text.replace(f"{seen_as}/".encode(), f"{there}/".encode()))

    def swap(self, files: Mapping[str, bytes], before: Mapping[str, bytes]) -> Swap:
        """Put files in their places, none before all are on the disk; what else is there stays. `before` was right.

        Raises OSError when that fails; everything is then as it was.
        """
        return Swap(self.path, files, before)

    def is_kept(self) -> bool:
        """Tell whether what was right is still kept: somebody may have removed the whole folder."""
        return (self.path / _KEPT).is_dir()

    def keep(self, files: Mapping[str, bytes], uncached: Uncached) -> None:
        """Keep these as the last files that were right.

        Raises:
            OSError: the disk does not take them; then they are kept for as long as this process runs.
            ConfigError: the folder was removed meanwhile, and another process keeps the one that is there now.

        """
        kept = {name: KeptFile(name=name, text=text) for name, text in files.items()}
        lines = sorted(f"{name}{_ALL_BELOW if below else ''}\n" for name, below in uncached)
        for name in self.right.keys() - files.keys():
            _removed(self.path / name)  # the engine does not read it any more
        kept[_UNCACHED] = KeptFile(name=_UNCACHED, text="".join(lines).encode())
        self.right, self.uncached = dict(files), uncached
        try:
            self._state.save(kept)
        except FileNotFoundError:  # somebody removed the folder, and our lock with it
            self._state, lost = StateFolder(self.path / _KEPT), self._state
            lost.close()
            self._state.save(kept)

    def close(self) -> None:
        """Let somebody else keep the folder."""
        self._state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Swap:
    """Files that were put in their places, and the way back."""

    def __init__(self, folder: Path, files: Mapping[str, bytes], before: Mapping[str, bytes]) -> None:
        self._folder = folder
        self._before = before
        self._leftovers = ExitStack()
        self._back: list[tuple[Path, Path]] = []
        self._new: list[Path] = []
        with ExitStack() as stack:
            stack.push(self._leftovers)
            self._put(files)
            stack.pop_all()

    def _put(self, files: Mapping[str, bytes]) -> None:
        changed = [(self._folder / name, text) for name, text in files.items()]
        changed = [(path, text) for path, text in changed if not _is_there(path, text)]
        ready = [(self._written(path, text), path) for path, text in changed]
        for path, _ in changed:
            name = str(path.relative_to(self._folder))
            if name in self._before:
                self._back.append((self._kept(path, self._before[name]), path))
            else:
                self._new.append(path)
        done = []
        try:
            for beside, path in ready:
                _date_after(path, beside)
                beside.replace(path)
                done.append(path)
            _flush(self._folder)
        except OSError:
            self._return(done)
            raise

    def undo(self) -> None:
        """Put back what was right before. Files that there were not before go."""
        self._return([path for _, path in self._back] + self._new)
        self.close()

    def close(self) -> None:
        """Let go of the way back."""
        self._leftovers.close()

    def _return(self, places: Iterable[Path]) -> None:
        places = {*places}
        for beside, path in self._back:
            if path in places:
                _date_after(path, beside)
                beside.replace(path)
        for path in self._new:
            if path in places:
                path.unlink(missing_ok=True)
        with suppress(OSError):
            _flush(self._folder)

    def _kept(self, place: Path, text: bytes) -> Path:
        """Return a file with what was right: what is there under another name, if it is that."""
        if not _is_there(place, text):
            return self._written(place, text)
        beside = self._written(place, b"")
        try:
            beside.unlink()
            os.link(place, beside)
        except OSError:  # a file system without links
            return self._written(place, text)
        return beside

    def _written(self, place: Path, text: bytes) -> Path:
        place.parent.mkdir(parents=True, exist_ok=True)
        (self._folder / _NEW).mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f"{place.name}.", dir=self._folder / _NEW)
        self._leftovers.callback(_removed, Path(name))
        with os.fdopen(descriptor, "wb") as new:
            new.write(text)
            new.flush()
            os.fchmod(descriptor, _MODE)
            os.fsync(descriptor)
        return Path(name)


def _removed(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _date_after(old: Path, new: Path) -> None:
    """Date a file some second later than the one whose place it takes: engines that watch one compare no more."""
    with suppress(OSError):
        before = int(old.stat().st_mtime)
        if int(new.stat().st_mtime) <= before:
            os.utime(new, (before + 1, before + 1))


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_there(path: Path, text: bytes) -> bool:
    try:
        return path.read_bytes() == text
    except OSError:
        return False


def _read_uncached(kept: KeptFile | None) -> Uncached | None:
    """Return the names whose caches were off last, None where that is not known."""
    if kept is None:
        return None
    lines = kept.text.decode(errors="replace").split()
    return frozenset((line.removesuffix(_ALL_BELOW), line.endswith(_ALL_BELOW)) for line in lines)
