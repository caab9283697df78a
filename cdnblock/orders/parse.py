"""An order file -> an Order, and every problem at once.

Four passes, none of which hides what the next would find elsewhere: the YAML, the shape of keys and types, each value
by itself, and what contradicts itself between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from cdnblock.errors import Problem, Severity
from cdnblock.orders.calendar import Holidays, french_public_holidays
from cdnblock.orders.consistency import contradictions
from cdnblock.orders.document import Path, read_document
from cdnblock.orders.draft import Draft
from cdnblock.orders.dsa import wrong_member_state, wrong_type
from cdnblock.orders.listed_names import doubled_names
from cdnblock.orders.model import (
    VARIANTS,
    Addition,
    Anchor,
    Lifting,
    Measure,
    Mode,
    Order,
    Penalty,
    Territory,
    UnknownLocation,
    Window,
)
from cdnblock.orders.names_file import ReadBefore
from cdnblock.orders.protected import Protected
from cdnblock.orders.reader import Reader
from cdnblock.orders.structure import structure_problems
from cdnblock.orders.territories import WORLD, expanded, wrong_entry
from cdnblock.orders.text_file import cut

_Part = TypeVar("_Part")

MAX_PROBLEMS: Final = 1_000
DEFAULT_ZONE: Final = "Europe/Paris"

_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}\Z")
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})  # files that stand beside the zones
_URL: Final = re.compile(r"https?://[^\s/?#@\"<>\\^`{|}]+(?:[/?#][^\s\"<>\\^`{|}]*)?\Z")
_STAND_IN_DAY: Final = date(2000, 1, 1)


def parse_order(
    text: bytes,
    file: str,
    *,
    read_names_file: Callable[[str], bytes],
    protected: Protected,
    holidays: Holidays = french_public_holidays,
    pause: Callable[[], None] | None = None,
    last: Mapping[str, ReadBefore] | None = None,
) -> tuple[Order | None, tuple[Problem, ...]]:
    """Return the order that a file holds, and everything wrong with it; None if anything of that is an error.

    `file` is how problems and positions call the file. `read_names_file` returns the bytes of a file beside it, by its
    name alone, and may raise OSError. `holidays` matters to a duration in working days. `pause` is called about once a
    millisecond while a names file is read. `last` has names files, by name, as they were read before with the same
    protected list: what they share with what they say now is not read again. Never raises.
    """
    document, problems = read_document(text, file)
    if document is None:
        return None, _sorted(problems, file)
    shape_problems, broken = structure_problems(document)
    reader = Reader(
        document=document,
        broken=set(broken),
        read_beside=read_names_file,
        protected=protected,
        problems=[*problems, *shape_problems],
        pause=pause,
        last=last or {},
    )
    draft = _draft(reader, holidays)
    for found in contradictions(draft):
        reader.note(found.path, found.message, severity=found.severity, of_key=found.of_key)
    reader.problems += doubled_names(draft, file)
    failed = any(problem.severity is Severity.ERROR for problem in reader.problems)
    return None if failed else draft.order, _sorted(reader.problems, file)


def _draft(reader: Reader, holidays: Holidays) -> Draft:
    """Read every key that can be read; what cannot holds a stand-in that never leaves this module."""
    windows = _each(reader, ("windows",), _window)
    additions = _each(reader, ("additions",), _addition)
    liftings = _each(reader, ("lifted",), _lifting)
    order = Order(
        **_texts(reader),
        **_dates(reader),
        member_state=_one_of(reader, "member_state", wrong_member_state),
        illegal_content=_one_of(reader, "illegal_content", wrong_type),
        territory=_territory(reader) or Territory(),
        measures=_measures(reader),
        names=reader.names(("names",)),
        names_file=reader.names_file(("names_file",)),
        unknown_location=UnknownLocation(reader.text(("unknown_location",)) or UnknownLocation.ALLOW),
        mode=Mode(reader.text(("mode",)) or Mode.ENFORCE),
        windows=tuple(window for _, window in windows),
        additions=tuple(addition for _, addition in additions),
        lifted=tuple(lifting for _, lifting in liftings),
        publication=_publication(reader),
        penalty=_penalty(reader),
        position=reader.position(("id",)),
    )
    _note_missing_names(reader, (), ("names", "names_file", "additions"))
    return Draft(
        order=order,
        broken_keys=frozenset(str(path[0]) for path in reader.broken if path),
        windows=windows,
        additions=additions,
        liftings=liftings,
        moments=tuple(reader.moments),
        holidays=holidays,
    )


def _texts(reader: Reader) -> dict[str, Any]:
    required = {key: reader.text((key,)) or "" for key in ("id", "court", "legal_basis", "claimant")}
    optional = {key: reader.text((key,)) for key in ("title", "case", "addressee", "costs", "contact")}
    return {**required, **optional}


def _dates(reader: Reader) -> dict[str, Any]:
    anchor = reader.text(("counted_from",))
    return {
        "decided": reader.day(("decided",)) or _STAND_IN_DAY,
        "received": reader.moment(("received",)),
        "acknowledged": reader.moment(("acknowledged",)),
        "served": reader.moment(("served",)),
        "comply_within": reader.delay(("comply_within",)),
        "implemented": reader.moment(("implemented",)),
        "begins": reader.moment(("from",)),
        "until": reader.moment(("until",)),
        "duration": reader.delay(("for",)),
        "counted_from": Anchor(anchor) if anchor else None,
        "timezone": _timezone(reader),
    }


def _one_of(reader: Reader, key: str, wrong: Callable[[str], str | None]) -> str | None:
    """Return a word of a table; `wrong` says what is wrong with any other."""
    text = reader.text((key,))
    if text is not None and (message := wrong(text)) is not None:
        reader.note((key,), message)
    return text


def _timezone(reader: Reader) -> str:
    path = ("timezone",)
    name = reader.text(path)
    if name is None or _is_zone(name):
        return name or DEFAULT_ZONE
    zones = {zone.lower(): zone for zone in available_timezones()}
    tail = {zone.lower().rpartition("/")[2]: zone for zone in sorted(zones.values())}
    right = zones.get(name.lower()) or tail.get(name.lower().replace(" ", "_"))
    advice = f"did you mean `{right}`?" if right else "write a zone of the IANA database, such as `Europe/Paris`"
    reader.note(path, f"`{cut(name)}` is no time zone; {advice}")
    return DEFAULT_ZONE


def _is_zone(name: str) -> bool:
    if not _ZONE.match(name) or name in _NO_ZONES or name.startswith(("posix/", "right/")):
        return False
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return False
    return True


def _territory(reader: Reader) -> Territory | None:
    path: Path = ("territory",)
    value = reader.value(path)
    if value == WORLD:
        return Territory(world=True)
    places: list[tuple[Path, Any]] = [(path, value)]
    if isinstance(value, list):
        places = [((*path, index), reader.value((*path, index))) for index in range(len(value))]
    entries = [(at, entry) for at, entry in places if isinstance(entry, str)]
    for at, entry in entries:
        if (wrong := wrong_entry(entry, alone=len(entries) == 1 and at == path)) is not None:
            reader.note(at, wrong)
    return Territory(countries=expanded(entry for _, entry in entries))


def _measures(reader: Reader) -> Mapping[Measure, str]:
    path = ("measures",)
    if reader.value(path) == {}:
        table = ", ".join(f"{measure}: {' or '.join(variants)}" for measure, variants in VARIANTS.items())
        reader.note(path, f"no measure is ordered; write at least one of {table}")
    found = {measure: reader.text((*path, measure.value)) for measure in Measure}
    return {measure: variant for measure, variant in found.items() if variant is not None}


def _window(reader: Reader, path: Path) -> Window | None:
    begins, until = reader.moment((*path, "from")), reader.moment((*path, "until"))
    label = reader.text((*path, "label"))
    return None if begins is None or until is None else Window(begins=begins, until=until, label=label)


def _addition(reader: Reader, path: Path) -> Addition | None:
    notified = reader.moment((*path, "notified"))
    addition = Addition(
        notice=reader.text((*path, "notice")) or "",
        notified=notified or _STAND_IN_DAY,
        authority=reader.text((*path, "authority")),
        comply_within=reader.delay((*path, "comply_within")),
        begins=reader.moment((*path, "from")),
        names=reader.names((*path, "names")),
        names_file=reader.names_file((*path, "names_file")),
        position=reader.position(path),
    )
    _note_missing_names(reader, path, ("names", "names_file"))
    return None if notified is None else addition


def _lifting(reader: Reader, path: Path) -> Lifting | None:
    at = reader.moment((*path, "at"))
    names = reader.plain_names((*path, "names"))
    reason = reader.text((*path, "reason"))
    if at is None or (*path, "names") in reader.broken:
        return None
    return Lifting(at=at, names=names, reason=reason, position=reader.position(path))


def _publication(reader: Reader) -> str | None:
    path = ("publication",)
    url = reader.text(path)
    if url is not None and not _URL.match(url):
        reader.note(path, f"`{cut(url)}` is no web address; write one that begins with https:// or http://")
    return url


def _penalty(reader: Reader) -> Penalty | None:
    path = ("penalty",)
    if not isinstance(reader.value(path), dict):
        return None
    amount, currency = reader.value((*path, "amount")), reader.text((*path, "currency"))
    return Penalty(amount=Decimal(amount or 0), currency=currency or "", per=reader.text((*path, "per")))


def _note_missing_names(reader: Reader, path: Path, keys: tuple[str, ...]) -> None:
    below = {**(reader.value(path) or {})} if path else reader.document.value
    if isinstance(below, dict) and not any(key in below for key in keys):
        message = (
            f"no name is listed; write `names:` with at least one, or {' or '.join(f'`{key}`' for key in keys[1:])}"
        )
        reader.note((*path, "names"), message, of_key=True)


def _each(reader: Reader, path: Path, read: Callable[[Reader, Path], _Part | None]) -> tuple[tuple[Path, _Part], ...]:
    """Read the entries of a list that are mappings, each with its path; those that are not whole are left out."""
    paths = [(*path, index) for index in range(len(reader.entries(path)))]
    mappings = [at for at in paths if isinstance(reader.value(at), dict)]
    return tuple((at, part) for at in mappings if (part := read(reader, at)) is not None)


def _sorted(problems: Iterable[Problem], file: str) -> tuple[Problem, ...]:
    """By place, the order file first, then the files beside it. Of very many, the errors come first."""
    unique = list(dict.fromkeys(problems))
    more = len(unique) - MAX_PROBLEMS
    if more > 0:
        unique = sorted(unique, key=lambda problem: problem.severity is not Severity.ERROR)[:MAX_PROBLEMS]
    unique.sort(key=lambda problem: (problem.file != file, problem.file, problem.line, problem.column))
    if more > 0:
        worst = Severity.ERROR if any(p.severity is Severity.ERROR for p in unique) else Severity.WARNING
        message = f"there are {more:,} more problems; correct these first"
        unique.append(replace(unique[-1], key="", message=message, severity=worst))
    return tuple(unique)
