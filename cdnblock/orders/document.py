"""YAML text -> plain values, each with its place in the file.

PyYAML's C loader builds values recursively and kills the process at some depth, and its YAML 1.1 scalars turn `NO` into
False, `20:45` into 1245 and a key written twice into the last one. So only its *events* are used here, walked without
recursion, and plain scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), narrowed:
`017`, `0x1F`, `.inf` and dates stay the text they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeAlias

import yaml

from cdnblock.errors import Problem, Severity
from cdnblock.orders.scalars import plain_scalar
from cdnblock.orders.text_file import cut, decode, hiding_character

Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]
Value: TypeAlias = str | bool | int | Decimal | list[Any] | dict[str, Any] | None

MAX_DEPTH: Final = 32
MAX_VALUES: Final = 120_000
MAX_PROBLEMS: Final = 1_000
MAX_ALIASED: Final = 10_000  # values that all aliases together may stand for

_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,60}\Z")

# What PyYAML says -> what would be right. The first that is contained wins.
_ADVICE: Final = (
    ("mapping values are not allowed", "put a text that holds `: ` in quotes, and start each key on its own line"),
    ("cannot start any token", "indent with spaces, and put a text that starts with @, ` or % in quotes"),
    ("found undefined tag", "remove the tag"),
    ("unexpected end of stream", "close the quote or the bracket"),
    ("',' or ']'", "close the list with `]` and separate its entries by commas"),
    ("',' or '}'", "close the mapping with `}` and separate its entries by commas"),
    ("could not find expected ':'", "write `key: value`, with a space after the colon"),
    ("'-' indicator", "indent all entries of a list alike"),
    ("expected key", "indent the keys of one mapping alike"),
    ("expected <block end>", "indent the entries of one list or mapping alike"),
    ("unknown escape", "double the backslash, or use single quotes"),
)
_DEFAULT_ADVICE: Final = "check the indentation, quotes and brackets of this line and of the one above"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The mapping that a file holds, and where each of its keys and values stands."""

    file: str
    value: dict[str, Value]
    keys: dict[Path, Place] = field(repr=False)
    values: dict[Path, Place] = field(repr=False)

    def place(self, path: Path, *, of_key: bool = False) -> Place:
        """Return line and column (from 1) of a value, or of its key; of the nearest thing above where it has none."""
        while path:
            place = (self.keys.get(path) if of_key else None) or self.values.get(path)
            if place is not None:
                return place
            path = path[:-1]
            of_key = True
        return self.values[()]

    def problem(
        self, path: Path, message: str, *, of_key: bool = False, severity: Severity = Severity.ERROR
    ) -> Problem:
        """Return a problem at a path of this document."""
        line, column = self.place(path, of_key=of_key)
        return Problem(file=self.file, line=line, column=column, key=dotted(path), message=message, severity=severity)


def dotted(path: Path) -> str:
    """`("additions", 0, "names")` -> `additions.0.names`; keys that hold anything odd are quoted, long ones cut."""
    return ".".join(str(part) if isinstance(part, int) else _readable(part) for part in path)


def read_document(data: bytes, file: str) -> tuple[Document | None, tuple[Problem, ...]]:
    """Return the one mapping that a YAML file holds, or None; and every problem met. Never raises."""
    text, problems = decode(data, file)
    if text is None:
        return None, problems
    composer = _Composer(file)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            composer.take(event)
    except _StopReading:
        pass
    except yaml.YAMLError as error:
        composer.give_up(error)
    return composer.document(), (*problems, *composer.problems)


class _StopReading(Exception):  # noqa: N818 - not an error: the problem has been noted
    """There is no sense in reading on."""


@dataclass(slots=True)
class _Frame:
    """A list or mapping whose end has not come yet."""

    value: list[Any] | dict[str, Any]
    path: Path
    place: Place
    anchor: str | None
    size: int = 1  # values in it, with what its aliases stand for
    key: str | None = None
    key_place: Place | None = None
    doubled: bool = False  # the value to come belongs to a key that is already there


class _Composer:
    """Takes events one by one; a stack of frames in place of recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open_anchors: set[str] = set()
        self._documents = 0
        self._root: Any = None
        self._read = self._aliased = 0
        self._unfinished = False

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._document(event)
            case _:
                pass

    def give_up(self, error: yaml.YAMLError) -> None:
        self._unfinished = True
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = str(getattr(error, "problem", None) or error).strip()
        advice = next((right for part, right in _ADVICE if part in said), _DEFAULT_ADVICE)
        self._note((line, column), (), f"this is no YAML ({said}); {advice}")

    def document(self) -> Document | None:
        if self._unfinished:
            return None
        if not isinstance(self._root, dict):
            self._note(self.values.get((), (1, 1)), (), _no_mapping(self._root))
            return None
        return Document(file=self.file, value=self._root, keys=self.keys, values=self.values)

    def _document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop(
                event, "a second YAML document starts here; one file is one order, so write it in a file of its own"
            )
        if event.tags or event.version not in (None, (1, 2)):
            self._note(_place(event), (), "there is a %TAG or %YAML line; remove it, order files are plain YAML 1.2")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        frame = self._stack[-1] if self._stack else None
        self._check(event)
        text: str = event.value
        if event.style == '"' and (hiding := hiding_character(text)) is not None:
            self._note(_place(event), self._path_of_next(), f"there is an invisible character {hiding} here; remove it")
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self._key(frame, text, _place(event))
            return
        self._settle(text if event.style else plain_scalar(text), 1, _place(event), event.anchor)

    def _key(self, frame: _Frame, key: str, place: Place) -> None:
        path = (*frame.path, key)
        frame.key, frame.key_place, frame.doubled = key, place, key in frame.value
        if frame.doubled:
            first = self.keys[path][0]
            self._note(place, path, f"the key is here twice, first on line {first}; keep one of the two")
        else:
            self.keys[path] = place

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self._check(event)
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None:
            self._stop(event, "a key is a list or a mapping; write a plain word before the colon")
        if len(self._stack) >= MAX_DEPTH:
            self._stop(event, f"values are nested more than {MAX_DEPTH} deep; an order needs no more than four levels")
        value: list[Any] | dict[str, Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = self._path_of_next()
        if event.anchor:
            self._open_anchors.add(event.anchor)
        self._stack.append(_Frame(value=value, path=path, place=_place(event), anchor=event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.anchor:
            self._open_anchors.discard(frame.anchor)
        self._settle(frame.value, frame.size, frame.place, frame.anchor)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None:
            self._stop(event, "an alias stands where a key should; write the key out")
        name = event.anchor or ""
        known = self._anchors.get(name)
        if name in self._open_anchors:
            self._stop(event, f"`*{cut(name)}` stands inside of what it repeats; write the values out")
        if known is None:
            self._stop(event, f"`*{cut(name)}` repeats nothing: no `&{cut(name)}` stands above; write the values out")
        value, size = known
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            self._stop(event, f"aliases repeat more than {MAX_ALIASED:,} values; write the values out")
        self._settle(value, size, _place(event), None)

    def _settle(self, value: Value, size: int, place: Place, anchor: str | None) -> None:
        """Give a finished value to the list or mapping around it."""
        if anchor:
            self._anchors[anchor] = (value, size)
        if not self._stack:
            self._root = value
            self.values[()] = place
            return
        frame = self._stack[-1]
        frame.size += size
        if isinstance(frame.value, list):
            self.values[(*frame.path, len(frame.value))] = place
            frame.value.append(value)
            return
        key, frame.key = frame.key or "", None
        if not frame.doubled:
            self.values[(*frame.path, key)] = place
            frame.value[key] = value

    def _check(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        self._read += 1
        if self._read > MAX_VALUES:
            self._stop(event, f"the file holds more than {MAX_VALUES:,} values; put the names into a `names_file`")
        if event.tag is not None:
            self._note(
                _place(event),
                self._path_of_next(),
                f"there is a YAML tag `{cut(event.tag)}`; remove it, and quote what is text",
            )

    def _path_of_next(self) -> Path:
        if not self._stack:
            return ()
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            return (*frame.path, len(frame.value))
        if frame.key is None:
            return frame.path
        # The marks of a key's second value must not replace those of its first.
        return (*frame.path, frame.key, "again") if frame.doubled else (*frame.path, frame.key)

    def _note(self, place: Place, path: Path, message: str) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            self._unfinished = True
            raise _StopReading
        line, column = place
        self.problems.append(Problem(file=self.file, line=line, column=column, key=dotted(path), message=message))

    def _stop(self, event: yaml.Event, message: str) -> NoReturn:
        self._unfinished = True
        self._note(_place(event), self._path_of_next(), message)
        raise _StopReading


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _no_mapping(root: Value) -> str:
    if root is None:
        return "the file is empty; it should hold an order, which begins with `cdnblock: 1`"
    what = "a list" if isinstance(root, list) else "one single value"
    return f"the file holds {what}; an order is a mapping of keys, which begins with `cdnblock: 1`"


def _readable(key: str) -> str:
    return key if _PLAIN_KEY.match(key) else repr(cut(key))
