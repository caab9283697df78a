"""A document as Markdown. Every text of an order or a trail is shown as it is: nothing in it becomes markup."""

from __future__ import annotations

from collections.abc import Iterator

from cdnblock.reports.document import Block, Bullets, Cell, Chart, Document, Facts, Link, Sentence, Table
from cdnblock.reports.escaping import markdown


def as_markdown(document: Document) -> str:
    """Return the document's text, with a newline at its end."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Document) -> Iterator[str]:
    yield f"# {markdown(document.title)}"
    for sentence in document.lead:
        yield ""
        yield f"**{markdown(sentence.text)}**"
    for section in document.sections:
        yield ""
        yield f"## {markdown(section.heading)}"
        for block in section.blocks:
            if not isinstance(block, Chart):
                yield ""
                yield from _block(block)
    yield ""
    yield "---"
    yield ""
    yield markdown(document.made)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Sentence():
            yield markdown(block.text)
        case Facts():
            yield from _rows(("", ""), block.rows)
        case Table():
            yield f"{markdown(block.caption)}:"
            yield ""
            yield from _rows(block.header, block.rows)
            if block.more:
                yield ""
                yield f"… and {block.more:,} more rows, which the JSON form has."
        case Bullets():
            yield from (f"- {markdown(item)}" for item in block.items)
        case Chart():
            return


def _rows(header: tuple[str, ...], rows: tuple[tuple[Cell, ...], ...]) -> Iterator[str]:
    yield f"| {' | '.join(map(markdown, header))} |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, int):
        return f"{cell:,}"
    return markdown(cell.url if isinstance(cell, Link) else cell)
