"""Errors, split by who must act on them.

Refusing a client is never an error: it is a `cdnblock.matching.decision.Decision`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Severity(StrEnum):
    """How much a problem weighs: an error keeps the file from loading, a warning stays in every report."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with an order file, at one place of it.

    `line` and `column` count from 1. `key` is the dotted path of the YAML key (`additions.0.names.2`), empty for the
    file as a whole, which is shown as `file`. `message` says what is wrong and, after a semicolon, what would be right.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        """`FILE:LINE:COLUMN: KEY: what; what would be right`, the form that editors jump to."""
        warning = "warning: " if self.severity is Severity.WARNING else ""
        return f"{self.file}:{self.line}:{self.column}: {self.key or 'file'}: {warning}{self.message}"

    def as_json(self) -> dict[str, str | int]:
        """Return the mapping that `cdnblock check --format json` prints."""
        return {**asdict(self), "severity": self.severity.value}


class CdnblockError(Exception):
    """Base of everything this package raises on purpose."""


class OrderError(CdnblockError):
    """The author of an order file must act. `problems` holds every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigError(CdnblockError):
    """The operator must act: a path, an address, a geo table or an option is not usable."""


class UnsupportedError(CdnblockError):
    """A server or protocol cannot carry what an order asks for."""
