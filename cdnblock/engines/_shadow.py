"""A configuration read with another folder in the place of ours: so a checker sees new files before the engine could.

The main file, and whatever it includes that leads to our folder, is copied with the other path in it. Around the copy
lies what lies around the original, as links: paths that are relative to the main file go on to mean what they meant.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path
from typing import Final

from cdnblock.engines._engine import RefusedError, below

_DEEPEST: Final = 20  # includes within each other; engines do not go as far
_COPIES: Final = ".cdnblock-copies"


def shadow(
    main: Path, into: Path, *, live: Iterable[Path], trial: Path, include: re.Pattern[str] | None = None
) -> Path:
    """Return a copy of a main file, in the folder `into`, that says `trial` wherever it said one of `live`.

    `include` matches a whole statement that includes files, the path (or pattern) in its group `path`.

    Raises RefusedError when a file cannot be read, or none says one of `live`: the checker would see nothing new.
    """
    live = tuple(live)
    if not trial.is_dir():
        raise RefusedError(f"{trial} is not to be seen from here; say how the engine checks it: --engine check=COMMAND")
    shutil.rmtree(into, ignore_errors=True)
    copies = into / _COPIES
    copies.mkdir(parents=True)
    try:
        for beside in main.parent.iterdir():
            if beside.name not in (main.name, _COPIES):
                (into / beside.name).symlink_to(beside.resolve())
        copy = into / main.name
        text = _Reading(main.parent.absolute(), copies, live, trial, include).text_of(main, 0)
        copy.write_bytes(text.encode(errors="surrogateescape"))
        if copy.read_bytes() == main.read_bytes():
            raise RefusedError(f"{main} leads nowhere to {' or '.join(map(str, live))}; write there what is written so")
    except OSError as error:
        raise RefusedError(f"the engine's own configuration cannot be read: {error}") from None
    return copy


class _Reading:
    def __init__(
        self, base: Path, copies: Path, live: tuple[Path, ...], trial: Path, include: re.Pattern[str] | None
    ) -> None:
        self._base = base
        self._copies = copies
        self._live = live
        self._trial = trial
        self._include = include
        self._count = 0

    def text_of(self, path: Path, depth: int) -> str:
        text = path.read_bytes().decode(errors="surrogateescape")
        for live in self._live:
            text = re.sub(rf"(?<![\w.-]){re.escape(str(live).rstrip('/'))}(?![\w.-])", str(self._trial), text)
        if self._include is not None and depth < _DEEPEST:
            text = self._include.sub(lambda statement: self._with_copies(statement, depth), text)
        return text

    def _with_copies(self, statement: re.Match[str], depth: int) -> str:
        pattern = str(self._base / statement["path"])
        if below(pattern, self._trial) is not None:
            return statement[0]
        inside = next((rest for live in self._live if (rest := below(pattern, live)) is not None), None)
        if inside is not None:
            return _including(statement, str(self._trial / inside))
        found = sorted(glob(pattern)) if has_magic(pattern) else [pattern]  # noqa: PTH207 (patterns as engines take them)
        places = [self._copied(Path(path), depth) for path in found]
        if places == found:
            return statement[0]
        return "\n".join(_including(statement, place) for place in places)

    def _copied(self, path: Path, depth: int) -> str:
        """Return where a file is read: where it is, or a copy of it if it leads to our folder."""
        try:
            text = self.text_of(path, depth + 1)
            if text.encode(errors="surrogateescape") == path.read_bytes():
                return str(path)
        except OSError:
            return str(path)  # the checker will have a word for it
        self._count += 1
        copy = self._copies / f"{self._count}-{path.name}"
        copy.write_bytes(text.encode(errors="surrogateescape"))
        return str(copy)


def _including(statement: re.Match[str], path: str) -> str:
    start, end = (place - statement.start() for place in statement.span("path"))
    return statement[0][:start] + path + statement[0][end:]


def files_of(main: Path, include: re.Pattern[str]) -> Iterator[Path]:
    """Yield a main file and all that it includes, as far as they can be read."""
    waiting, seen = [main], set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        yield path
        text = path.read_bytes().decode(errors="surrogateescape")
        for statement in include.finditer(text):
            pattern = str(main.parent.absolute() / statement["path"])
            waiting += [Path(found) for found in sorted(glob(pattern))]  # noqa: PTH207 (the same)
