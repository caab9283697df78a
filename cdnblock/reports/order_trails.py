"""What an order's report shows of each trail: whether it is whole, its runs, the order's files, and its silences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from cdnblock.reports.document import Block, Cell, Facts, Sentence, Table
from cdnblock.reports.order import TrailReport
from cdnblock.reports.trail_values import Record, TrailFacts

_WHOLE: Final = "whole: no record is changed, cut, moved or missing"
_CLOCK: Final = {True: "synchronised", False: "NOT synchronised"}

Shown: TypeAlias = Callable[[datetime | None], str]
"""How an instant is written."""


def trail_blocks(trails: Sequence[TrailReport], shown: Shown) -> Iterator[Block]:
    """Yield what there is to show of the trails."""
    if not trails:
        yield Sentence("None was given.")
    for trail in trails:
        facts = trail.facts
        yield Facts(tuple(_about(trail, shown)))
        if facts.runs:
            yield Table(
                f"Runs of {facts.path}",
                ("recording began", "no record since", "software", "clock"),
                _runs(facts, shown),
            )
        if files := tuple(_files(facts, shown)):
            yield Table(f"The order's file as {facts.path} had it in force", ("from", "mode", "file", "digest"), files)
        if facts.gaps:
            gaps = tuple((shown(gap.since), shown(gap.until), gap.what) for gap in facts.gaps)
            yield Table(f"Gaps of {facts.path}", ("from", "to", "what"), gaps)
        if facts.clock_steps:
            steps = tuple((_at(step, shown), f"{step.get('seconds')} s") for step in facts.clock_steps)
            yield Table(f"Steps of the clock of {facts.path}", ("when", "by"), steps)


def _about(trail: TrailReport, shown: Shown) -> Iterator[tuple[str, Cell]]:
    facts = trail.facts
    yield "Folder", str(facts.path)
    yield "Verification", _WHOLE if trail.whole else "NOT WHOLE"
    yield from (("Finding", finding) for finding in trail.findings)
    yield from (("Note", note) for note in trail.notes)
    yield "Records", trail.records
    yield "First record", shown(facts.first_at)
    yield "Last record", shown(facts.last_at)
    if trail.head:
        yield "Head", trail.head


def _runs(facts: TrailFacts, shown: Shown) -> tuple[tuple[Cell, ...], ...]:
    """Return a row for each run: when it began, and since when nobody had recorded while the order was in force."""
    silent = {pause.until: pause.since for pause in facts.pauses}
    rows = []
    for run in facts.runs:
        clock = run.get("clock")
        kept = clock.get("synchronised") if isinstance(clock, dict) else None
        synchronised = _CLOCK.get(kept, "unknown") if isinstance(kept, bool) else "unknown"
        since = next((since for until, since in silent.items() if _at(run, shown) == shown(until)), None)
        software = f"{run.get('software')}, {run.get('python')}"
        rows.append((_at(run, shown), shown(since), software, synchronised))
    return tuple(rows)


def _files(facts: TrailFacts, shown: Shown) -> Iterator[tuple[Cell, ...]]:
    """Yield each version of the order's file; one that a later run has found unchanged is no other."""
    before = None
    for record in facts.files:
        for item in record.get("files") or ():
            if isinstance(item, dict) and item.get("order") == facts.order:
                told = (str(item.get("mode")), str(item.get("file")), str(item.get("digest")))
                if told != before:
                    yield _at(record, shown), *told
                before = told


def _at(record: Record, shown: Shown) -> str:
    try:
        return shown(datetime.fromisoformat(str(record.get("at"))))
    except ValueError:
        return str(record.get("at"))
