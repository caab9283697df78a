"""What the sandbox says while it stays up: what to type, and each change of the order files as it takes effect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Final

import click

from cdnblock.errors import Severity
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Addition, Order
from cdnblock.sandbox import naive_reading
from cdnblock.sandbox.front import LOOPBACK
from cdnblock.sandbox.naive_reading import Paper
from cdnblock.sandbox.stage import Stage
from cdnblock.shown import shown
from cdnblock.verification.places import Place

_LOOK: Final = 0.2  # seconds between two looks at what is wrong with the files
_NAMES_SHOWN: Final = 5
_REVISION: Final = slice(len("sha256:"), len("sha256:") + 12)


def best_instant(papers: list[Paper], now: datetime) -> datetime:
    """Return now if an order is in force, or else an instant at which most are."""
    if any(naive_reading.holds(paper, now) for paper in papers):
        return now
    middles = [naive_reading.middle(paper) for paper in papers]
    return max(middles, key=lambda at: sum(naive_reading.holds(paper, at) for paper in papers))


def things_to_try(stage: Stage, papers: list[Paper], places: list[Place], at: datetime) -> Iterator[str]:
    """Return lines to paste into a terminal, for a covered client and one that is not."""
    for paper in papers:
        host = next(
            (item.name for item in naive_reading.listed(paper) if naive_reading.names(paper, item.name, at)), None
        )
        if host is None or not naive_reading.holds(paper, at):
            continue
        yield click.style(f"# {paper['id']}: {host}", dim=True)
        inside = [place for place in places if naive_reading.concerns(paper, place.country)]
        outside = [place for place in places if not naive_reading.concerns(paper, place.country)]
        for place in inside[:1] + outside[:1]:
            yield from _commands(stage, host, place)


def _commands(stage: Stage, host: str, place: Place) -> Iterator[str]:
    asked = f"-H 'Host: {host}' -H 'X-Forwarded-For: {place.address}'"
    yield click.style(f"# from {place.label}", dim=True)
    yield f"dig @{LOOPBACK} -p {stage.front.dns} +subnet={place.subnet} {host}"
    yield f"curl -i {asked} http://{LOOPBACK}:{stage.front.http}/"
    yield f"curl -i {asked} http://{LOOPBACK}:{stage.edge_port}/   # the edge itself: see X-Cache"


async def changes(stage: Stage) -> AsyncIterator[str]:
    """Yield a line for each thing that happens to the order files, for ever."""
    loop = asyncio.get_running_loop()
    happened: asyncio.Queue[str] = asyncio.Queue()

    def tell(line: str) -> None:  # on the enforcer's own thread
        loop.call_soon_threadsafe(happened.put_nowait, line)

    def tell_change(old: RuleSet, new: RuleSet) -> None:
        for line in _of_rules(old, new):
            tell(line)

    complaints = _Complaints(tell)
    logger = logging.getLogger("cdnblock")
    logger.addHandler(complaints)
    unsubscribe = stage.enforcer.subscribe(tell_change)
    wrong = _wrong_files(stage)
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                yield await asyncio.wait_for(happened.get(), _LOOK)
            before, wrong = wrong, _wrong_files(stage)
            for file in sorted(before - wrong):
                yield click.style(f"{shown(file)}: nothing is wrong any more", fg="green")
    finally:
        unsubscribe()
        logger.removeHandler(complaints)


class _Complaints(logging.Handler):
    """Passes on what the enforcer logs: what is wrong with a file, what it keeps enforced or holds back because of it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        colour = "red" if record.levelno >= logging.ERROR else "yellow"
        self._tell(click.style(shown(record.getMessage()), fg=colour))


def _wrong_files(stage: Stage) -> set[str]:
    return {problem.file for problem in stage.enforcer.problems if problem.severity is Severity.ERROR}


def _of_rules(old: RuleSet, new: RuleSet) -> Iterator[str]:
    if old is new:
        yield "an order starts, ends, or opens or closes a window now"
    for order_id in sorted(old.orders.keys() | new.orders.keys()):
        before, after = old.orders.get(order_id), new.orders.get(order_id)
        if before != after:
            yield f"{shown(_file_of(after or before))}: {_what_changed(before, after)}  (revision {new.revision[_REVISION]})"


def _file_of(order: Order | None) -> str:
    if order is None or order.position is None:
        return "an order without a file" if order is None else order.id
    return order.position.file


def _what_changed(before: Order | None, after: Order | None) -> str:
    if after is None:
        return click.style("gone, and its order with it", fg="yellow")
    if before is None:
        return click.style(f"accepted, a new order with {_count(after.size())}", fg="green")
    had, has = _names(before), _names(after)
    parts = [_some("+", has - had), _some("-", had - has)]
    return click.style(f"accepted, {' '.join(filter(None, parts)) or 'with the same names'}", fg="green")


def _count(names: int) -> str:
    return f"{names} name{'' if names == 1 else 's'}"


def _some(sign: str, names: set[str]) -> str:
    shown = " ".join(f"{sign}{name}" for name in sorted(names)[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return shown + (f" and {more} more" if more > 0 else "")


def _names(order: Order) -> set[str]:
    parts: list[Order | Addition] = [order, *order.additions]
    return {name.name for part in parts for name in part.each_name()}
