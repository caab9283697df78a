"""Bytes of an operator's file -> text, strictly: UTF-8 only, and no character that hides what the text says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cdnblock.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES: Final = 64 * 1024 * 1024

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(r"\r\n?|\n")
_MAX_REPORTED: Final = 20
# C0 without tab and line ends, DEL, C1, the two Unicode line ends that YAML 1.1 takes for line ends and 1.2 does not,
# a byte order mark that is not at the start, and what turns the direction of text around (CVE-2021-42574).
_HIDING: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_HIDING_ASCII: Final = bytes([*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])


def decode(data: bytes, file: str) -> tuple[str | None, tuple[Problem, ...]]:
    """Return the text of a file without its byte order mark, or None and what is wrong with its bytes."""
    if len(data) > MAX_BYTES:
        message = f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} (64 MiB) are read"
        return None, (Problem(file=file, line=1, column=1, key="", message=message),)
    data = data.removeprefix(_BOM)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return None, (_not_utf8(data, error.start, file),)
    if data.isascii() and len(data.translate(None, _HIDING_ASCII)) == len(data):
        return text, ()
    problems = tuple(_hidden(text, file))
    return (None, problems) if problems else (text, ())


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
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _hidden(text: str, file: str) -> Iterator[Problem]:
    for count, found in enumerate(_HIDING.finditer(text)):
        if count == _MAX_REPORTED:
            return
        line, column = _place(text, found.start())
        message = f"there is an invisible character U+{ord(found.group()):04X} here; remove it"
        yield Problem(file=file, line=line, column=column, key="", message=message)


def _not_utf8(data: bytes, start: int, file: str) -> Problem:
    line, column = _place(data[:start].decode(), start)
    message = f"byte 0x{data[start]:02X} is not UTF-8; save the file in the encoding UTF-8"
    return Problem(file=file, line=line, column=column, key="", message=message)


def _place(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, from 1, of an offset in the text."""
    before = text[:offset]
    ends = list(_LINE_END.finditer(before))
    return len(ends) + 1, len(before) - (ends[-1].end() if ends else 0) + 1
