"""What Unbound's remote control has to be told when nothing but names in views has changed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from cdnblock.engines._engine import Change

MOST: Final = 200
"""Commands that are cheaper than a reload, while which no client gets an answer."""
READ_BY_ITSELF: Final = frozenset({"cdnblock-ede.names"})
"""Files that the module for extended errors reads again every second."""

_VIEW: Final = re.compile(r"(cdnblock-v[0-9a-f]+)\.conf")
_ZONE: Final = re.compile(rb'local-zone: "([^"]+)" (\S+)')
_DATA: Final = re.compile(rb'local-data: "(([^ "]+) [^"]+)"')

Command = list[str]


def commands(change: Change) -> list[Command] | None:
    """Return what makes a running Unbound go by the files, in this order; None where only a reload does.

    What comes is there before what goes is gone, so what is refused before and afterwards is so all the time.
    """
    changed = change.names() - READ_BY_ITSELF
    if change.whole or change.forced or not all(_is_amended(name, change) for name in changed):
        return None
    come: list[Command] = []
    go: list[Command] = []
    for name in sorted(changed):
        view = name.removesuffix(".conf")
        old, new = ({*texts[name].splitlines()} for texts in (change.before, change.after))
        come += _coming(view, new - old)
        kept = {found[1] for line in new if (found := _ZONE.fullmatch(line))}
        gone = [found[1] for line in old - new if (found := _ZONE.fullmatch(line)) and found[1] not in kept]
        go += (["view_local_zone_remove", view, name.decode()] for name in sorted(gone))
        if len(come) + len(go) > MOST:
            return None
    return come + go


def _is_amended(name: str, change: Change) -> bool:
    return _VIEW.fullmatch(name) is not None and name in change.before and name in change.after


def _coming(view: str, lines: set[bytes]) -> Iterator[Command]:
    """Yield what makes zones: names that are let go before what is above them is refused; the data after its zone."""
    zones = {found[1]: found[2] for line in lines if (found := _ZONE.fullmatch(line))}
    data = {found[2]: found[1] for line in lines if (found := _DATA.fullmatch(line))}
    for name in sorted({*zones, *data}, key=lambda each: (-each.count(b"."), each)):
        if name in zones:
            yield ["view_local_zone", view, name.decode(), zones[name].decode()]
        if name in data:
            yield ["view_local_data", view, data[name].decode()]
