"""Text from outside on its way to a terminal, a log or a script: what cannot be seen comes out escaped.

Pages and DNS answers leave such characters out instead (`measures.printable`): they are for readers who do not debug.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from typing import Any, Final, TextIO

_INDENT: Final = "  "
_COLOUR: Final = re.compile(r"(\x1b\[[0-9;]*m)")
_UNSEEN: Final = re.compile(r"[^\n -~]")  # candidates: what is ASCII and printable needs no look


def shown(text: object) -> str:
    r"""Return a text on one line that steers nobody's terminal and reorders no line.

    Control characters, line ends, directions, what has no width, lone surrogates and what Unicode has not assigned come
    out as Python writes them (`\x1b`, `\u202e`); letters of all scripts and all spaces stay.
    """
    return _escaped(str(text)).replace("\n", "\\n")


def shown_lines(text: object) -> str:
    """Return a text of several lines in the same way; those after the first are indented, so that none passes for ours."""
    return f"\n{_INDENT}".join(map(shown, str(text).split("\n")))


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""Return a value as JSON that people can read in a terminal: letters as they are, what cannot be seen as `\u202e`."""
    return _UNSEEN.sub(_json_escape, json.dumps(value, ensure_ascii=False, indent=indent))


class LogLines(logging.Formatter):
    """One record, one line, whatever is in its message; the lines of a trace are indented."""

    def __init__(self, layout: str = "%(asctime)s %(levelname)s %(message)s") -> None:
        super().__init__(layout)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the formatter's method)
        """Return the line without its trace."""
        return shown(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the formatter's method)
        """Return a trace, whose last line may hold anything."""
        return _INDENT + shown_lines(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 (the formatter's method)
        """Return a stack in the same way."""
        return _INDENT + shown_lines(stack_info)


class ShownRecord(logging.LogRecord):
    """What is logged where the handlers are somebody else's: `logging.setLogRecordFactory(ShownRecord)`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        if self.exc_info:
            self.exc_text = LogLines().formatException(self.exc_info)  # formatters take what is there

    def getMessage(self) -> str:  # noqa: N802 (the record's method)
        """Return the message with its arguments."""
        return shown_lines(super().getMessage())


class ShownStream:
    """A stream for what somebody else's program prints: it steers no terminal, but for the colours that it has."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text of any number of lines."""
        parts = _COLOUR.split(text)
        parts[::2] = ["\n".join(map(shown, part.split("\n"))) for part in parts[::2]]
        return self._stream.write("".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Have everything that is logged come out on stderr, unless somebody has said already where to."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogLines())
    logging.basicConfig(level=level, handlers=[handler])


def _escaped(text: str) -> str:
    return text if text.isascii() and text.isprintable() else _UNSEEN.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def _json_escape(found: re.Match[str]) -> str:
    character = found.group()
    return character if _escape(found) == character else json.dumps(character)[1:-1]
