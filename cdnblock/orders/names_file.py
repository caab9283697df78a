"""The plain text of a `names_file`: a name a line, `#` comments. Lists of 100,000 names are read in bulk.

A line that is canonical as it stands costs one match; only the others are looked at one by one.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import replace
from typing import Final

from cdnblock.errors import Problem
from cdnblock.matching.names import MAX_NAME
from cdnblock.orders.host_names import CLEAN, host_name
from cdnblock.orders.model import NamesFile
from cdnblock.orders.protected import Protected
from cdnblock.orders.text_file import decode, lines_of

MAX_PROBLEMS: Final = 1_000

_COMMENT: Final = re.compile(r"(?:\A|\s)#.*\Z")
_NO_LONG_FORM: Final = 'list it under `names:` with `overbroad: "reason"` if the order really means it'


def parse_names_file(
    data: bytes, file: str, protected: Protected, *, key: str = "names_file"
) -> tuple[NamesFile | None, tuple[Problem, ...]]:
    """Return the canonical names with their lines, or None; and every problem, the first 1,000 of them.

    `key` is the key of the order file that names this one, `file` is this one.
    """
    text, problems = decode(data, file)
    if text is None:
        return None, tuple(replace(problem, key=key) for problem in problems)
    names, numbers, found = _read(text, file)
    found += _too_broad(names, numbers, file, protected)
    if not names and not found:
        found.append(_problem(file, 1, 1, "the file lists no name; write a name a line, or remove `names_file`"))
    if found:
        return None, tuple(replace(problem, key=key) for problem in sorted(found, key=lambda problem: problem.line))
    return NamesFile(file=file, names=tuple(names), lines=numbers), ()


def _read(text: str, file: str) -> tuple[list[str], array[int], list[Problem]]:
    names: list[str] = []
    numbers = array("L")
    found: list[Problem] = []
    for number, line in enumerate(lines_of(text), start=1):
        if not line:
            continue
        if len(line) <= MAX_NAME and CLEAN.match(line) and "xn--" not in line:
            names.append(line)
            numbers.append(number)
            continue
        entry = _COMMENT.sub("", line).strip()
        if not entry:
            continue
        try:
            names.append(host_name(entry))
            numbers.append(number)
        except ValueError as error:
            found.append(_problem(file, number, line.index(entry) + 1, str(error)))
            if len(found) >= MAX_PROBLEMS:
                found.append(
                    _problem(file, number, 1, "there are too many problems; correct these, the rest is unread")
                )
                break
    return names, numbers, found


def _too_broad(names: list[str], numbers: array[int], file: str, protected: Protected) -> list[Problem]:
    suspects = protected.maybe_too_broad(names)
    if not suspects:
        return []
    why = {name: reason for name in suspects if (reason := protected.too_broad(name))}
    return [
        _problem(file, number, 1, f"{why[name]}; {_NO_LONG_FORM}")
        for name, number in zip(names, numbers, strict=True)
        if name in why
    ][:MAX_PROBLEMS]


def _problem(file: str, line: int, column: int, message: str) -> Problem:
    return Problem(file=file, line=line, column=column, key="", message=message)
