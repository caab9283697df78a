"""The notices of measure `proxy` as templates: all that a 451 says, but for the name, which the engine fills in.

Header lines and texts are those of `cdnblock.measures.proxy_termination`, for each language and media type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from cdnblock.exporters._exporter import Options
from cdnblock.exporters._plan import Outcome, labels
from cdnblock.matching.decision import Decision
from cdnblock.measures.notice.wording import WORDINGS
from cdnblock.measures.proxy_termination import FORMS, notice

Part: TypeAlias = str | int
"""A piece of text, or how many labels of the host, from the right, the name has that belongs here."""

LANGUAGES: Final = tuple(WORDINGS)
TYPES: Final = tuple(FORMS)

_OF_ONE_PAGE: Final = frozenset({"Content-Type", "Content-Language", "Content-Length"})
_MARK: Final = re.compile(r"x-cdnblock-name-([0-9]+)\.invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One notice in one language and type."""

    outcome: str
    language: str
    media_type: str
    content_type: str
    parts: tuple[Part, ...]


def pages(outcome: Outcome, options: Options) -> Iterator[Page]:
    """Yield the notice of an outcome in each language and type."""
    decision = _with_marks(outcome)
    for language in LANGUAGES:
        for media_type in TYPES:
            answer = notice(
                decision, accept=media_type, accept_language=language,
                operator_url=options.operator_url, contact=options.contact,
            )  # fmt: skip
            yield Page(
                outcome=outcome.id, language=language, media_type=media_type,
                content_type=dict(answer.headers)["Content-Type"], parts=_parts(answer.body.decode()),
            )  # fmt: skip


def headers(outcome: Outcome, options: Options) -> tuple[tuple[str, str], ...]:
    """Return the header lines that all notices have alike."""
    answer = notice(_with_marks(outcome), operator_url=options.operator_url, contact=options.contact)
    return tuple((name, value) for name, value in answer.headers if name not in _OF_ONE_PAGE)


def _with_marks(outcome: Outcome) -> Decision:
    reasons = tuple(
        replace(reason, name=f"x-cdnblock-name-{labels(reason.name)}.invalid") for reason in outcome.reasons
    )
    return Decision(measures=outcome.measures, reasons=reasons)


def _parts(text: str) -> tuple[Part, ...]:
    pieces = _MARK.split(text)
    return tuple(int(piece) if place % 2 else piece for place, piece in enumerate(pieces))
