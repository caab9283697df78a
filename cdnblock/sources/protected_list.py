"""The operator's plain text files beside the orders: `protected.txt` and `holidays.txt`."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from cdnblock.errors import Problem
from cdnblock.orders.calendar import Holidays, french_public_holidays
from cdnblock.orders.holidays import parse_holidays
from cdnblock.orders.protected import Protected, parse_protected
from cdnblock.orders.text_file import MAX_BYTES

PROTECTED_FILE: Final = "protected.txt"
HOLIDAYS_FILE: Final = "holidays.txt"


def load_protected(folder: Path) -> tuple[Protected, tuple[Problem, ...]]:
    """Return the shipped protected names and those of the folder's `protected.txt`, and what is wrong with that file.

    A folder without the file is fine. What can be read of a broken one still protects.
    """
    data, problems = _content(folder / PROTECTED_FILE)
    if data is None:
        return shipped_protected(), problems
    own, problems = parse_protected(data, str(folder / PROTECTED_FILE), PROTECTED_FILE)
    return shipped_protected() | own, problems


def load_holidays(folder: Path) -> tuple[Holidays, tuple[Problem, ...]]:
    """Return the French public holidays as the folder's `holidays.txt` changes them, and what is wrong with it."""
    data, problems = _content(folder / HOLIDAYS_FILE)
    if data is None:
        return french_public_holidays, problems
    return parse_holidays(data, str(folder / HOLIDAYS_FILE))


@lru_cache(maxsize=1)
def shipped_protected() -> Protected:
    """Return the short list that comes with the package."""
    data = files("cdnblock.orders").joinpath(PROTECTED_FILE).read_bytes()
    names, problems = parse_protected(data, PROTECTED_FILE, f"cdnblock's {PROTECTED_FILE}")
    if problems:
        raise AssertionError(*problems)
    return names


def _content(path: Path) -> tuple[bytes | None, tuple[Problem, ...]]:
    """Return what a regular file holds, up to one octet over the limit; None where there is none."""
    try:
        if not path.exists():
            return None, ()
        if not path.is_file():
            return None, (_problem(path, "is no regular file; make it one, or remove it"),)
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1), ()
    except OSError as error:
        return None, (_problem(path, f"cannot be read ({error.strerror}); make it readable, or remove it"),)


def _problem(path: Path, what: str) -> Problem:
    return Problem(file=str(path), line=1, column=1, key="", message=f"{path.name} {what}")
