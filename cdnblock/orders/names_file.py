"""The plain text of a `names_file`: a name a line, `#` comments. Lists of a million names are read in bulk.

Lines that are canonical as they stand are matched many at once; only the others are looked at one by one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from cdnblock.errors import Problem
from cdnblock.matching.names import MAX_NAME
from cdnblock.orders.host_names import CLEAN, host_name
from cdnblock.orders.model import NamesFile
from cdnblock.orders.name_list import LineNumbers, NameList
from cdnblock.orders.protected import Protected
from cdnblock.orders.text_file import BOM, MAX_BYTES, MAX_REPORTED, common_end, common_start, decode_by_lines

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
_MOST: Final = 64 * 1024  # octets that differ; beyond them a file is read whole
_STEP: Final = 1024 * 1024  # octets that are compared at once, in less than a millisecond
_AT_ONCE: Final = 200  # lines that are looked at one by one, in some milliseconds at worst


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBefore:
    """The octets of a names file as it was, and what was read in them."""

    data: bytes
    names_file: NamesFile


def parse_names_file(
    data: bytes,
    file: str,
    protected: Protected,
    *,
    key: str = "names_file",
    pause: Callable[[], None] | None = None,
    last: ReadBefore | None = None,
) -> tuple[NamesFile | None, tuple[Problem, ...]]:
    """Return the canonical names with their lines, or None; and every problem, the first 1,000 of them.

    `key` is the key of the order file that names this one, `file` is this one. `pause` is called about once a
    millisecond, so that a caller can let others run. `last` is this file as it was read before, by the same protected
    list: where few lines differ, only these are read, and the rest is shared.
    """
    if last is not None and (amended := _amended(data, file, protected, last, pause)) is not None:
        return amended, ()
    reading = _Reading(file, protected)
    names = NameList(reading.pieces(data), pause)
    found = [*reading.undecodable, *reading.no_names, *reading.too_broad[:MAX_PROBLEMS]]
    if not names and not found:
        found = [_problem(file, 1, 1, "the file lists no name; write a name a line, or remove `names_file`")]
    if found:
        return None, tuple(replace(problem, key=key) for problem in sorted(found, key=lambda problem: problem.line))
    return NamesFile(file=file, names=names, lines=reading.lines), ()


def _amended(
    data: bytes, file: str, protected: Protected, last: ReadBefore, pause: Callable[[], None] | None
) -> NamesFile | None:
    """Return what a file says now, of whose lines few are others than before; None where it has to be read whole."""
    names, numbers = last.names_file.names, last.names_file.lines
    if not isinstance(names, NameList) or not isinstance(numbers, LineNumbers) or len(data) > MAX_BYTES:
        return None
    start, end, end_before = _differing(last.data, data, pause)
    some, some_before = data[start:end], last.data[start:end_before]
    if max(len(some), len(some_before)) > _MOST or (start and some.startswith(BOM)):
        return None  # in the middle a mark is a hidden character
    above = _count(data, b"\n", 0, start, pause)
    if b"\r" in some_before or _count(data, b"\r", 0, len(data), pause):
        return None  # alone they end lines, too
    reading = _Reading(file, protected)
    found = [*chain.from_iterable(reading.pieces(some, above))]
    if reading.undecodable or reading.no_names or reading.too_broad:
        return None  # so that problems are told as always
    first = bisect_right(numbers, above)
    is_rest = end_before < len(last.data)
    stop = bisect_right(numbers, above + some_before.count(b"\n")) if is_rest else len(numbers)
    list_now = names.amended(first, stop, found, pause)
    if list_now is None:
        return None
    shift = some.count(b"\n") - some_before.count(b"\n")
    return NamesFile(file=file, names=list_now, lines=numbers.amended(first, stop, reading.lines, shift))


def _differing(before: bytes, after: bytes, pause: Callable[[], None] | None) -> tuple[int, int, int]:
    """Return where the lines that differ begin in two texts, and where they end in `after` and in `before`."""
    start = before.rfind(b"\n", 0, _shared_start(before, after, pause)) + 1
    shared = _shared_end(before, after, min(len(before), len(after)) - start, pause)
    if shared:  # from the end of a line on
        end = before.find(b"\n", len(before) - shared) + 1
        shared = len(before) - end if end else 0
    return start, len(after) - shared, len(before) - shared


def _shared_start(one: bytes, other: bytes, pause: Callable[[], None] | None) -> int:
    """Return how many octets two texts begin with alike."""
    most = min(len(one), len(other))
    for place in _steps(0, most, pause):
        mine, theirs = one[place : place + _STEP], other[place : place + _STEP]
        if mine != theirs:
            return place + common_start(mine, theirs)
    return most


def _shared_end(one: bytes, other: bytes, most: int, pause: Callable[[], None] | None) -> int:
    """Return how many octets two texts end with alike, `most` at most."""
    for done in _steps(0, most, pause):
        size = min(_STEP, most - done)
        mine, theirs = (text[len(text) - done - size : len(text) - done] for text in (one, other))
        if mine != theirs:
            return done + common_end(mine, theirs)
    return most


def _count(data: bytes, octet: bytes, start: int, stop: int, pause: Callable[[], None] | None) -> int:
    return sum(data.count(octet, place, min(stop, place + _STEP)) for place in _steps(start, stop, pause))


def _steps(start: int, stop: int, pause: Callable[[], None] | None) -> Iterator[int]:
    """Yield where the next octets are to be looked at, with a pause before each but the first."""
    for place in range(start, stop, _STEP):
        if place > start and pause is not None:
            pause()
        yield place


class _Reading:
    """Takes the pieces of one file; the problems and the lines of the names gather here."""

    def __init__(self, file: str, protected: Protected) -> None:
        self.lines = LineNumbers()
        self.undecodable: list[Problem] = []
        self.no_names: list[Problem] = []
        self.too_broad: list[Problem] = []
        self._file = file
        self._protected = protected

    def pieces(self, data: bytes, above: int = 0) -> Iterator[list[str]]:
        """Yield the names of each piece of the file, or of a part of it that has some lines above."""
        for number, text, problems in decode_by_lines(data, self._file):
            self.undecodable += problems
            if len(self.undecodable) >= MAX_REPORTED or len(self.no_names) >= MAX_PROBLEMS:
                return
            if text is not None:
                yield from self._lists(text, above + number)

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
