"""The plain text of a `names_file`: a name a line, `#` comments. Lists of a million names are read in bulk.

Lines that are canonical as they stand are matched many at once; only the others are looked at one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from cdnblock.errors import Problem
from cdnblock.matching.names import MAX_NAME
from cdnblock.orders.host_names import CLEAN, host_name
from cdnblock.orders.model import NamesFile
from cdnblock.orders.name_list import LineNumbers, NameList
from cdnblock.orders.protected import Protected
from cdnblock.orders.text_file import MAX_REPORTED, decode_by_lines

MAX_PROBLEMS: Final = 1_000

_COMMENT: Final = re.compile(r"(?:\A|\s)#.*\Z")
_NO_LONG_FORM: Final = 'list it under `names:` with `overbroad: "reason"` if the order really means it'
# Whole lines, each of which is `CLEAN`, has at most 253 octets and no A-label. Nothing is ever given back (`++`), so
# the time is linear in the text.
_LABEL: Final = r"(?!xn--)[a-z0-9_][a-z0-9_-]{0,62}+"
_CLEAN_LINES: Final = re.compile(
    rf"(?:(?![^\n]{{{MAX_NAME + 1}}})(?:{_LABEL}\.)++(?!xn--)[a-z][a-z0-9_-]{{0,62}}+\n)*+"
)
_MAX_ODD: Final = 40  # lines of one piece between which clean ones are still looked for in bulk
_AT_ONCE: Final = 200  # lines that are looked at one by one, in some milliseconds at worst


def parse_names_file(
    data: bytes,
    file: str,
    protected: Protected,
    *,
    key: str = "names_file",
    pause: Callable[[], None] | None = None,
) -> tuple[NamesFile | None, tuple[Problem, ...]]:
    """Return the canonical names with their lines, or None; and every problem, the first 1,000 of them.

    `key` is the key of the order file that names this one, `file` is this one. `pause` is called about once a
    millisecond, so that a caller can let others run.
    """
    reading = _Reading(file, protected)
    names = NameList(reading.pieces(data), pause)
    found = [*reading.undecodable, *reading.no_names, *reading.too_broad[:MAX_PROBLEMS]]
    if not names and not found:
        found = [_problem(file, 1, 1, "the file lists no name; write a name a line, or remove `names_file`")]
    if found:
        return None, tuple(replace(problem, key=key) for problem in sorted(found, key=lambda problem: problem.line))
    return NamesFile(file=file, names=names, lines=reading.lines), ()


class _Reading:
    """Takes the pieces of one file; the problems and the lines of the names gather here."""

    def __init__(self, file: str, protected: Protected) -> None:
        self.lines = LineNumbers()
        self.undecodable: list[Problem] = []
        self.no_names: list[Problem] = []
        self.too_broad: list[Problem] = []
        self._file = file
        self._protected = protected

    def pieces(self, data: bytes) -> Iterator[list[str]]:
        """Yield the names of each piece of the file."""
        for number, text, problems in decode_by_lines(data, self._file):
            self.undecodable += problems
            if len(self.undecodable) >= MAX_REPORTED or len(self.no_names) >= MAX_PROBLEMS:
                return
            if text is not None:
                yield from self._lists(text, number)

    def _lists(self, text: str, number: int) -> Iterator[list[str]]:
        """Yield the names of some lines, of which line `number` is the first: in one list, or more where many are odd."""
        before, names = len(self.lines), list[str]()
        start = odd = 0
        text += "" if text.endswith("\n") else "\n"
        while start < len(text) and odd < _MAX_ODD:
            found = _CLEAN_LINES.match(text, start)
            end = found.end() if found else start
            if end > start:
                clean = text[start : end - 1].split("\n")
                names += clean
                self.lines.add(number, len(clean))
                number += len(clean)
            start = end
            if start < len(text):
                end = text.index("\n", start)
                self._take(text[start:end], number, names)
                start, number, odd = end + 1, number + 1, odd + 1
        yield self._judged(names, before)
        rest = text[start:].split("\n")
        for first in range(0, len(rest), _AT_ONCE):
            before, names = len(self.lines), []
            for line in rest[first : first + _AT_ONCE]:
                if line:
                    self._take(line, number, names)
                number += 1
            if names:
                yield self._judged(names, before)

    def _take(self, line: str, number: int, names: list[str]) -> None:
        """Take in one line of any kind."""
        entry = line
        if len(line) > MAX_NAME or "xn--" in line or not CLEAN.match(line):
            entry = _COMMENT.sub("", line).strip()
        if not entry or len(self.no_names) > MAX_PROBLEMS:
            return
        try:
            names.append(host_name(entry))
            self.lines.add(number)
        except ValueError as error:
            self.no_names.append(_problem(self._file, number, line.index(entry) + 1, str(error)))
            if len(self.no_names) == MAX_PROBLEMS:
                message = "there are too many problems; correct these, the rest is unread"
                self.no_names.append(_problem(self._file, number, 1, message))

    def _judged(self, names: list[str], before: int) -> list[str]:
        """Note which of some names are too broad, and return them all; `before` names of the file stand in front."""
        suspects = self._protected.maybe_too_broad(names)
        why = {name: reason for name in suspects if (reason := self._protected.too_broad(name))}
        if why and len(self.too_broad) < MAX_PROBLEMS:
            for place, name in enumerate(names, start=before):
                if name in why:
                    self.too_broad.append(_problem(self._file, self.lines[place], 1, f"{why[name]}; {_NO_LONG_FORM}"))
        return names


def _problem(file: str, line: int, column: int, message: str) -> Problem:
    return Problem(file=file, line=line, column=column, key="", message=message)
