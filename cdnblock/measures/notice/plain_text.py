"""The notice as plain text, for terminals."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import Final

from cdnblock.measures.notice.contents import Contents, Section

_WIDTH: Final = 78  # fits an 80-column terminal


def render(contents: Contents, status: int, reason: str) -> str:
    """Return the text, lines of at most 78 characters where words allow it."""
    wording = contents.wording
    blocks = [
        f"{status} {reason}",
        _wrapped(contents.sentence()),
        *(_section(section) for section in contents.sections),
    ]
    if contents.operator:
        blocks.append(f"{_wrapped(wording.operator + wording.colon)}\n{contents.operator}")
    blocks.append(_wrapped(wording.existence))
    return "\n\n".join(blocks) + "\n"


def _section(section: Section) -> str:
    return "\n".join([*wrap(section.heading, _WIDTH), *_table(section)])


def _table(section: Section) -> Iterator[str]:
    column = max(len(row.label) for row in section.rows) + 4
    for row in section.rows:
        yield _wrapped(row.value, first=f"  {row.label}".ljust(column), others=" " * column)


def _wrapped(text: str, *, first: str = "", others: str = "") -> str:
    lines = wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)
