"""The text of an order's file, with its lines numbered: the court's words beside what was made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdnblock.orders.document import read_document
from cdnblock.orders.model import Order
from cdnblock.sources.order_folder import read_bounded

_MOST_LINES: Final = 2_000
_LONGEST_LINE: Final = 400  # characters
_LONGEST_READ: Final = 256 * 1024  # octets whose keys are looked for; a longer file has its names in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file as it is on the disk now: its lines, of which the first, how many there are, and where each key stands."""

    file: str
    lines: Sequence[str]
    total: int
    lines_of: Mapping[str, int]


def read_source(order: Order) -> Source | None:
    """Return the text of an order's file, None where there is none that can be read. Never raises."""
    if order.position is None:
        return None
    try:
        octets = read_bounded(Path(order.position.file))
    except OSError:
        return None
    lines = octets.decode("utf-8", "replace").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    document = read_document(octets, order.position.file)[0] if len(octets) <= _LONGEST_READ else None
    keys = document.keys if document else {}
    return Source(
        file=order.position.file,
        lines=[_cut(line.rstrip("\r")) for line in lines[:_MOST_LINES]],
        total=len(lines),
        lines_of={str(path[0]): place[0] for path, place in keys.items() if len(path) == 1},
    )


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
