"""The notices of measure `proxy` as templates: all that a 451 says, but for the name, which the engine fills in.

Header lines and texts are those of `cdnblock.measures.proxy_termination`, for each language and media type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, TypeAlias

from cdnblock.exporters._exporter import Options
from cdnblock.exporters._plan import Outcome, labels
from cdnblock.matching.decision import Decision, Reason
from cdnblock.measures.notice.wording import WORDINGS
from cdnblock.measures.proxy_termination import FORMS, notice

Part: TypeAlias = str | int
"""A piece of text, or how many labels of the host, from the right, the name has that belongs here."""

LANGUAGES: Final = tuple(WORDINGS)
TYPES: Final = tuple(FORMS)

_OF_ONE_PAGE: Final = frozenset({"Content-Type", "Content-Language", "Content-Length"})
_REMEMBERED: Final = 256  # outcomes whose notices are kept, some 50 kB each: few change from one export to the next
_MARK: Final = re.compile(r"x-cdnblock-name-([0-9]+)\.invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One notice in one language and type."""

    outcome: str
    language: str
    media_type: str
    content_type: str
    parts: tuple[Part, ...]


def pages(outcome: Outcome, options: Options) -> tuple[Page, ...]:
    """Return the notice of an outcome in each language and type; at once where it was asked for not long ago."""
    return _pages(_Told(_with_marks(outcome)), outcome.id, options.operator_url, options.contact)


def headers(outcome: Outcome, options: Options) -> tuple[tuple[str, str], ...]:
    """Return the header lines that all notices have alike."""
    answer = notice(_with_marks(outcome), operator_url=options.operator_url, contact=options.contact)
    return tuple((name, value) for name, value in answer.headers if name not in _OF_ONE_PAGE)


class _Told:
    """A decision that is the same as another one which says the same."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self._said = repr(decision)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Told) and self._said == other._said

    def __hash__(self) -> int:
        return hash(self._said)


@lru_cache(maxsize=_REMEMBERED)
def _pages(told: _Told, outcome: str, operator_url: str | None, contact: str | None) -> tuple[Page, ...]:
    return tuple(_each_page(told.decision, outcome, operator_url, contact))


def _each_page(decision: Decision, outcome: str, operator_url: str | None, contact: str | None) -> Iterator[Page]:
    for language in LANGUAGES:
        for media_type in TYPES:
            answer = notice(
                decision, accept=media_type, accept_language=language, operator_url=operator_url, contact=contact,
            )  # fmt: skip
            yield Page(
                outcome=outcome, language=language, media_type=media_type,
                content_type=dict(answer.headers)["Content-Type"], parts=_parts(answer.body.decode()),
            )  # fmt: skip


def _with_marks(outcome: Outcome) -> Decision:
    """Return the decision of an outcome, without what orders list, which no notice tells, and marks for names."""
    return Decision(measures=outcome.measures, reasons=tuple(map(_with_mark, outcome.reasons)))


def _with_mark(reason: Reason) -> Reason:
    order = replace(reason.order, names=(), names_file=None, additions=(), lifted=())
    addition = None if reason.addition is None else replace(reason.addition, names=(), names_file=None)
    name = f"x-cdnblock-name-{labels(reason.name)}.invalid"
    return replace(reason, order=order, addition=addition, name=name)


def _parts(text: str) -> tuple[Part, ...]:
    pieces = _MARK.split(text)
    return tuple(int(piece) if place % 2 else piece for place, piece in enumerate(pieces))
