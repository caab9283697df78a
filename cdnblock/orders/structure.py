"""The mistakes of an order file's shape, in our words: unknown and missing keys, wrong types, words not in a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from cdnblock.errors import Problem
from cdnblock.orders.document import Document, Path, Value
from cdnblock.orders.examples import EXAMPLES
from cdnblock.orders.schema import (
    AS_LIST,
    AS_MAPPING,
    AS_TEXT,
    FORMAT_VERSION,
    MAX_TEXT,
    AdditionKeys,
    LiftingKeys,
    MeasuresKeys,
    NameEntry,
    OrderKeys,
    PenaltyKeys,
    WindowKeys,
)
from cdnblock.orders.text_file import cut

MAX_PROBLEMS: Final = 1_000

_TAGS: Final = frozenset({AS_TEXT, AS_LIST, AS_MAPPING})

# Path without numbers -> the keys that a mapping there may have.
_ALLOWED: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    path: tuple(field.alias or name for name, field in keys.model_fields.items())
    for path, keys in (
        ((), OrderKeys),
        (("names",), NameEntry),
        (("measures",), MeasuresKeys),
        (("windows",), WindowKeys),
        (("additions",), AdditionKeys),
        (("additions", "names"), NameEntry),
        (("lifted",), LiftingKeys),
        (("penalty",), PenaltyKeys),
    )
}

# Words that people take for a key, too far from it in letters to be guessed.
_MEANT: Final[Mapping[str, str]] = {
    "version": "cdnblock", "start": "from", "starts": "from", "begin": "from", "begins": "from", "end": "until",
    "ends": "until", "expires": "until", "to": "until", "duration": "for", "domains": "names", "domain": "name",
    "hosts": "names", "host": "name", "country": "territory", "countries": "territory", "date": "decided",
    "plaintiff": "claimant", "defendant": "addressee", "deadline": "comply_within", "docket": "case", "lift": "lifted",
    "url": "publication", "tz": "timezone", "action": "measures", "actions": "measures", "measure": "measures",
    "report_only": "mode", "dry_run": "mode", "enforce": "mode", "enforcement": "mode",
}  # fmt: skip

_KINDS: Final[Mapping[type, str]] = {
    str: "text",
    bool: "true or false",
    int: "a number",
    Decimal: "a number",
    list: "a list",
    dict: "a mapping of keys",
}
# pydantic's type of error -> what the key wants.
_WANTED: Final[Mapping[str, str]] = {
    "list_type": "a list",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "bool_type": "true or false",
    "decimal_type": "a number",
    "is_instance_of": "a number",
}


def structure_problems(document: Document) -> tuple[list[Problem], frozenset[Path]]:
    """Return what is wrong with the shape of an order, and the paths whose values nobody should read on."""
    empty = list(_empty_values(document.value))
    problems = [_empty(document, path) for path in empty[:MAX_PROBLEMS]]
    broken = set(empty)
    try:
        OrderKeys.model_validate(document.value)
    except ValidationError as error:
        for mistake in error.errors(include_url=False, include_input=False):
            path = _path(mistake)
            if path in broken:
                continue
            broken.add(path)
            if len(problems) < MAX_PROBLEMS:
                at_key = mistake["type"] in ("missing", "extra_forbidden")
                problems.append(document.problem(path, _message(document, path, mistake), of_key=at_key))
    return problems, frozenset(broken)


def _empty_values(value: Value) -> Iterator[Path]:
    """Yield the paths of all values that are not there; no order is nested deeply enough to recurse far."""
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*path, key), below) for key, below in value.items()]
        elif isinstance(value, list):
            waiting += [((*path, index), below) for index, below in enumerate(value) if not isinstance(below, str)]
        elif value is None:
            yield path


def _empty(document: Document, path: Path) -> Problem:
    key = path[-1]
    if isinstance(key, int):
        return document.problem(path, "the entry has no value; write one, or remove it")
    advice = f"write for example `{key}: {EXAMPLES[key]}`" if key in EXAMPLES else "remove the key"
    return document.problem(path, f"the key has no value; {advice}")


def _path(mistake: Mapping[str, Any]) -> Path:
    """Return where a mistake is; the ways of writing that pydantic tried are no part of it, an unknown key is."""
    *above, last = mistake["loc"]
    keep_last = last not in _TAGS or mistake["type"] == "extra_forbidden"
    return (*(part for part in above if part not in _TAGS), *([last] if keep_last else []))


def _message(document: Document, path: Path, mistake: Mapping[str, Any]) -> str:
    value, key = _value_at(document.value, path), _key(path)
    match mistake["type"]:
        case "missing":
            return f"`{key}` is missing; write for example `{key}: {EXAMPLES[key]}`"
        case "extra_forbidden":
            return _unknown_key(path)
        case "literal_error" if path == ("cdnblock",):
            return f"format version {_shown(value)} is not known; this program reads `cdnblock: {FORMAT_VERSION}`"
        case "literal_error":
            return _not_in_table(path, value, mistake["ctx"]["expected"])
        case "string_type" | "union_tag_not_found" | "union_tag_invalid":
            return _not_text(key, value)
        case "string_pattern_mismatch":
            return _not_in_pattern(path, str(value))
        case kind:
            return _wrong_value(key, value, kind)


def _wrong_value(key: str, value: Value, kind: str) -> str:
    match kind:
        case "string_too_long":
            return f"the text has {len(str(value)):,} characters; at most {MAX_TEXT:,} are read"
        case "too_short":
            return f"`{key}` is an empty list; write at least one entry, or remove the key"
        case "greater_than_equal" | "less_than_equal":
            return f"{_shown(value)} is out of range; write an amount from 0 to 1,000,000,000,000,000"
        case _ if kind in _WANTED:
            return f"{_shown(value)} is {_kind(value)}, not {_WANTED[kind]}; write `{key}: {EXAMPLES.get(key, '…')}`"
        case _:
            return f"{_shown(value)} is not what this key holds; write `{key}: {EXAMPLES.get(key, '…')}`"


def _unknown_key(path: Path) -> str:
    key, level = str(path[-1]), tuple(part for part in path[:-1] if isinstance(part, str))
    allowed = _ALLOWED.get(level, ())
    if key == "<<":
        return "merge keys (`<<`) are not read; write the keys out"
    lowered = key.lower().replace("-", "_").replace(" ", "_")
    near = [_MEANT[lowered]] if _MEANT.get(lowered) in allowed else get_close_matches(cut(lowered), allowed, n=1)
    if near:
        return f"the key `{cut(key)}` is not known; did you mean `{near[0]}`?"
    here = next((where for where, keys in _ALLOWED.items() if where and key in keys), None)
    if here is not None:
        return f"the key `{cut(key)}` is not known here; it belongs into `{'.'.join(here)}`"
    if level and key in _ALLOWED[()]:
        return f"the key `{cut(key)}` is not known here; it belongs to the order itself, at the left margin"
    return f"the key `{cut(key)}` is not known; the keys here are {', '.join(allowed)}"


def _not_in_table(path: Path, value: Value, expected: str) -> str:
    table = expected.replace("'", "").replace(" or ", ", ").split(", ")
    choices = " or ".join(f"`{entry}`" for entry in table)
    near = get_close_matches(cut(str(value).lower()), table, n=1) if len(table) > 1 else []
    right = f"did you mean `{near[0]}`? It can be {choices}" if near else f"write {choices}"
    what = f" for `{path[-1]}`" if path[:1] == ("measures",) else ""
    return f"{_shown(value)} is not known{what}; {right}"


def _not_text(key: str, value: Value) -> str:
    example = EXAMPLES.get(key, "text")
    if isinstance(value, list | dict):
        return f"there is {_kind(value)} where text should be; write `{key}: {example}`"
    if example[0].isdigit():
        return f"{_shown(value)} is {_kind(value)}; write it like `{example}`"
    if key in ("names", "territory"):
        return f"{_shown(value)} is {_kind(value)}; write text, such as `{example.strip('[]').split(',')[0]}`"
    return f'{_shown(value)} is {_kind(value)}, not text; put it in quotes, "{_plain(value)}"'


def _not_in_pattern(path: Path, value: str) -> str:
    if path == ("id",):
        lowered = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in value.lower())[:64]
        right = f"write `{lowered.lstrip('._-')}`" if lowered.strip("._-") else f"write one like `{EXAMPLES['id']}`"
        return f"`{cut(value)}` is no id, which begins with a-z or 0-9 and has a-z 0-9 . _ - only, at most 64; {right}"
    if path == ("penalty", "currency"):
        return f"`{cut(value)}` is no currency; write its three capital letters, such as `EUR`"
    return "the text is blank; write something, or remove the key"


def _value_at(value: Any, path: Path) -> Value:
    for part in path:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        else:
            return None
    return value  # type: ignore[no-any-return]  # what a document holds is a Value


def _key(path: Path) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "")


def _kind(value: Value) -> str:
    return _KINDS.get(type(value), "nothing")


def _plain(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else cut(str(value))


def _shown(value: Value) -> str:
    return "this" if isinstance(value, list | dict) else f"`{_plain(value)}`"
