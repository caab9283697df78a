"""Values of a document -> the values of an order, noting every problem on the way instead of stopping at one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, TypeVar

from cdnblock.errors import Problem, Severity
from cdnblock.orders.document import Document, Path, dotted
from cdnblock.orders.host_names import host_name
from cdnblock.orders.model import Delay, Moment, Name, NamesFile, Position
from cdnblock.orders.moments import read_day, read_delay, read_moment
from cdnblock.orders.names_file import ReadBefore, parse_names_file
from cdnblock.orders.protected import Protected
from cdnblock.orders.text_file import cut

MAX_PROBLEMS: Final = 1_000  # of one list of names

_Read = TypeVar("_Read")


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reads what the structure check found whole; `broken` are the paths that are not, or turned out not to be."""

    document: Document
    broken: set[Path]
    read_beside: Callable[[str], bytes]
    protected: Protected
    problems: list[Problem] = field(default_factory=list)
    moments: list[tuple[Path, Moment]] = field(default_factory=list)
    pause: Callable[[], None] | None = None
    last: Mapping[str, ReadBefore] = field(default_factory=dict)

    def note(self, path: Path, message: str, *, severity: Severity = Severity.ERROR, of_key: bool = False) -> None:
        """Note a problem; an error makes its path broken."""
        self.problems.append(self.document.problem(path, message, severity=severity, of_key=of_key))
        if severity is Severity.ERROR:
            self.broken.add(path)

    def value(self, path: Path) -> Any:
        """Return what stands at a path, or None if nothing does or it is broken."""
        value: Any = self.document.value
        for depth, part in enumerate(path, start=1):
            if path[:depth] in self.broken:
                return None
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def entries(self, path: Path) -> Sequence[Any]:
        """Return the entries of a list, those that are broken included, or none."""
        value = self.value(path)
        return value if isinstance(value, list) else ()

    def position(self, path: Path) -> Position:
        """Return the place of a value."""
        line, column = self.document.place(path)
        return Position(self.document.file, line, column)

    def text(self, path: Path) -> str | None:
        """Return a text, or None."""
        value = self.value(path)
        return value if isinstance(value, str) else None

    def moment(self, path: Path) -> Moment | None:
        """Return a date, or a date and time, or None."""
        moment = self._converted(path, read_moment)
        if moment is not None:
            self.moments.append((path, moment))
        return moment

    def day(self, path: Path) -> date | None:
        """Return a date, or None."""
        return self._converted(path, read_day)

    def delay(self, path: Path) -> Delay | None:
        """Return a span of time, or None."""
        return self._converted(path, read_delay)

    def names(self, path: Path) -> tuple[Name, ...]:
        """Return the names of a list in short and long form; those that nobody should block are noted."""
        found: list[tuple[Path, Name]] = []
        failed = 0
        for index, entry in enumerate(self.entries(path)):
            at = (*path, index)
            long = isinstance(entry, dict)
            name_path = (*at, "name") if long else at
            if at in self.broken or not isinstance(text := self.value(name_path), str):
                continue
            try:
                name = host_name(text)
            except ValueError as error:
                self.note(name_path, str(error))
                failed += 1
                if failed >= MAX_PROBLEMS:
                    self.note(path, "there are too many problems; correct these, the rest is unread", of_key=True)
                    break
                continue
            found.append((at, self._name(name, at) if long else Name(name=name, position=self.position(at))))
        self._note_too_broad(found)
        return tuple(name for _, name in found)

    def plain_names(self, path: Path) -> tuple[str, ...] | None:
        """Return the names of a list in short form only, or None without the list."""
        if self.value(path) is None:
            return None
        at = [(*path, index) for index in range(len(self.entries(path)))]
        return tuple(name for entry in at if (name := self._converted(entry, host_name)) is not None)

    def names_file(self, path: Path) -> NamesFile | None:
        """Return the names of the file that a key names, which stands beside the order file."""
        name = self.text(path)
        if name is None:
            return None
        if "/" in name or "\\" in name or name.startswith(".") or name != name.strip():
            self.note(
                path, f"`{cut(name)}` is not the name of a file beside this one; write the name alone, `annex.txt`"
            )
            return None
        try:
            data = self.read_beside(name)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.note(path, f"`{cut(name)}` cannot be read ({reason}); put the file beside this one")
            return None
        folder, slash, _ = self.document.file.rpartition("/")
        shown = f"{folder}{slash}{name}"
        names, problems = parse_names_file(
            data, shown, self.protected, key=dotted(path), pause=self.pause, last=self.last.get(name)
        )
        self.problems += problems
        if problems:
            self.broken.add(path)
        return names

    def _name(self, name: str, at: Path) -> Name:
        subdomains = self.value((*at, "subdomains"))
        return Name(
            name=name,
            subdomains=subdomains if isinstance(subdomains, bool) else True,
            note=self.text((*at, "note")),
            overbroad=self.text((*at, "overbroad")),
            position=self.position(at),
        )

    def _note_too_broad(self, found: Sequence[tuple[Path, Name]]) -> None:
        suspects = self.protected.maybe_too_broad(name.name for _, name in found)
        noted = 0
        for at, name in found:
            if noted > MAX_PROBLEMS:
                return
            if name.name not in suspects or (why := self.protected.too_broad(name.name)) is None:
                continue
            if name.overbroad is not None:
                message = f"{why}, and is let through: {cut(name.overbroad, 200)}"
                self.note(at, message, severity=Severity.WARNING)
            elif (*at, "overbroad") not in self.broken:
                right = 'name the exact hosts, or give `overbroad: "reason"` in its long form if the order means it'
                self.note(at, f"{why}; {right}")
                noted += 1

    def _converted(self, path: Path, read: Callable[[str], _Read]) -> _Read | None:
        text = self.text(path)
        if text is None:
            return None
        try:
            return read(text)
        except ValueError as error:
            self.note(path, str(error))
            return None
