"""Bytes of an operator's file -> text, strictly: UTF-8 only, and no character that hides what the text says.

A long list comes out in pieces of whole lines, so that nobody else waits while it is read.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from cdnblock.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_BYTES: Final = 64 * 1024 * 1024
BOM: Final = b"\xef\xbb\xbf"
MAX_REPORTED: Final = 20  # invisible characters

_PIECE: Final = 32 * 1024  # octets that are read at once, in about a millisecond
_LINE_END: Final = re.compile(r"\r\n?|\n")
_LONE_CR: Final = re.compile(rb"\r(?!\n)")
# C0 without tab and line ends, DEL, C1, the two Unicode line ends that YAML 1.1 takes for line ends and 1.2 does not,
# a byte order mark that is not at the start, and what turns the direction of text around (CVE-2021-42574).
_HIDING: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_HIDING_ASCII: Final = bytes([*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])


def decode(data: bytes, file: str) -> tuple[str | None, tuple[Problem, ...]]:
    """Return the text of a file without its byte order mark, or None; and what is wrong with its bytes.

    Characters that hide are problems, and are left out, so that everything else that is wrong is found as well.
    """
    if too_large := _too_large(data, file):
        return None, too_large
    data = data.removeprefix(BOM)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return None, (_not_utf8(data, error.start, file, 1),)
    problems = _hidden(data, text, file, 1)
    return _HIDING.sub("", text) if problems else text, problems


def decode_by_lines(data: bytes, file: str) -> Iterator[tuple[int, str | None, tuple[Problem, ...]]]:
    """Yield the text of a file piece by piece, each with the number of its first line and its problems, as `decode`.

    A piece is some whole lines, all ended by LF, but for the last one of the file. What stands behind a piece that is
    not UTF-8 is not read.
    """
    if too_large := _too_large(data, file):
        yield 1, None, too_large
        return
    number = 1
    for piece in _whole_lines(data):
        try:
            text = piece.decode()
        except UnicodeDecodeError as error:
            yield number, None, (_not_utf8(piece, error.start, file, number),)
            return
        problems = _hidden(piece, text, file, number)
        if "\r" in text:
            text = _unix(text)
        yield number, _HIDING.sub("", text) if problems else text, problems
        number += text.count("\n")


def hiding_character(text: str) -> str | None:
    """Return the name (`U+202E`) of the first control or direction character in a text, or None."""
    found = _HIDING.search(text)
    return f"U+{ord(found.group()):04X}" if found else None


def cut(text: str, length: int = 60) -> str:
    """Return a text as messages quote it: on one line, not too long, and with nothing hidden in it."""
    words = " ".join(text[: length + 1].split())
    shown = "".join(letter if letter.isprintable() else f"<U+{ord(letter):04X}>" for letter in words)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def lines_of(text: str) -> list[str]:
    """Split at LF, CRLF and CR only; `str.splitlines` also splits where editors show no new line."""
    return _unix(text).split("\n")


def read_entries(data: bytes, file: str, take: Callable[[int, str], None], *, most: int) -> tuple[Problem, ...]:
    """Give `take` each entry of a plain list, an entry a line and `#` before comments, with its line; return what is wrong.

    A ValueError of `take` is a problem of that line, and the other lines still hold. At most `most` are returned.
    """
    text, problems = decode(data, file)
    found = [*problems]
    for number, line in enumerate(lines_of(text or ""), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        try:
            take(number, entry)
        except ValueError as error:
            if len(found) < most:
                column = line.index(entry) + 1
                found.append(Problem(file=file, line=number, column=column, key="", message=str(error)))
    return tuple(found)


def common_start(one: bytes, other: bytes) -> int:
    """Return how many octets two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def common_end(one: bytes, other: bytes) -> int:
    """Return how many octets two texts end with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]:
            low = middle
        else:
            high = middle - 1
    return low


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _whole_lines(data: bytes) -> Iterator[bytes]:
    """Cut after line ends, so never inside of a character."""
    start = len(BOM) if data.startswith(BOM) else 0
    last = data.rfind(b"\n")
    while start < len(data):
        enough = start + _PIECE
        if enough <= last:
            end = data.index(b"\n", enough) + 1
        else:
            alone = _LONE_CR.search(data, enough)
            end = alone.end() if alone else len(data)
        yield data[start:end]
        start = end


def _too_large(data: bytes, file: str) -> tuple[Problem, ...]:
    if len(data) <= MAX_BYTES:
        return ()
    message = f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} (64 MiB) are read"
    return (Problem(file=file, line=1, column=1, key="", message=message),)


def _hidden(data: bytes, text: str, file: str, number: int) -> tuple[Problem, ...]:
    """Return the first invisible characters of a text that begins with line `number`."""
    if data.isascii() and len(data.translate(None, _HIDING_ASCII)) == len(data):
        return ()
    return tuple(
        _problem_of(found.group(), file, *_place(text, found.start(), number))
        for found in islice(_HIDING.finditer(text), MAX_REPORTED)
    )


def _problem_of(hidden: str, file: str, line: int, column: int) -> Problem:
    message = f"there is an invisible character U+{ord(hidden):04X} here; remove it"
    return Problem(file=file, line=line, column=column, key="", message=message)


def _not_utf8(data: bytes, start: int, file: str, number: int) -> Problem:
    line, column = _place(data[:start].decode(), start, number)
    message = f"byte 0x{data[start]:02X} is not UTF-8; save the file in the encoding UTF-8"
    return Problem(file=file, line=line, column=column, key="", message=message)


def _place(text: str, offset: int, number: int) -> tuple[int, int]:
    """Return line and column, from 1, of an offset in a text that begins with line `number`."""
    before = text[:offset]
    ends = list(_LINE_END.finditer(before))
    return len(ends) + number, len(before) - (ends[-1].end() if ends else 0) + 1
