"""Trails read for a report: what they tell of an order, and whether they are whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cdnblock.audit.reading import open_segment, records, whole_lines
from cdnblock.audit.records import Kind
from cdnblock.audit.segments import FILES, segments_of
from cdnblock.audit.verifying import Progress, verify
from cdnblock.errors import ConfigError
from cdnblock.orders.calendar import instant
from cdnblock.orders.model import Order
from cdnblock.reports.order import TrailReport
from cdnblock.reports.trail_facts import read_trail
from cdnblock.reports.trail_values import TrailFacts
from cdnblock.sources.order_folder import parse_kept, read_bounded

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_FINDINGS: Final = 20  # of one trail that a report lists


def read_trails(
    paths: Iterable[Path], order: Order, *, until: datetime | None = None, progress: Progress | None = None
) -> Iterator[TrailReport]:
    """Yield what each trail tells of an order up to an instant, with the result of its verification, which is of all.

    `progress` is told how many octets of how many were verified.

    Raises:
        ConfigError: a folder cannot be read, or two are the same trail, whose hits would count twice.

    """
    seen: dict[str, Path] = {}
    for path in paths:
        try:
            parts = {str(path.resolve()), *_beginnings(path)}
            if same := next((seen[part] for part in parts if part in seen), None):
                raise ConfigError(f"{path} is the same trail as {same}, or an older copy of it: give it once")
            facts = read_trail(path, {order.id: order.timezone}, until, _decided([order]))[order.id]
            found = verify(path, progress=progress)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read as a trail: {error.strerror or error}") from error
        seen |= dict.fromkeys(parts, path)
        findings = [str(finding.message) for finding in found.findings]
        more = [f"and {len(findings) - _FINDINGS} more"] if len(findings) > _FINDINGS else []
        yield TrailReport(
            facts=facts,
            whole=found.ok,
            records=found.records,
            findings=(*findings[:_FINDINGS], *more),
            notes=tuple(found.notes),
            head=f"record {found.head.seq}, chain {found.head.chain.hex()}" if found.head else None,
        )


def _beginnings(path: Path) -> Iterator[str]:
    """Yield the first line of each segment: copies of one trail have one in common, whatever was retired meanwhile."""
    for segment in segments_of(path):
        with open_segment(path / segment.name) as file:
            line, is_whole = next(whole_lines(file), (b"", False))
        if is_whole:
            yield line.decode("ascii", "backslashreplace")


def _decided(orders: Iterable[Order]) -> dict[str, datetime]:
    return {order.id: instant(order.decided, order.timezone) for order in orders}


def facts_of_trails(paths: Iterable[Path], orders: Iterable[Order]) -> list[dict[str, TrailFacts]]:
    """Return what each trail tells of each order, unverified.

    Raises:
        ConfigError: a folder cannot be read.

    """
    known = [*orders]
    zones, decided = {order.id: order.timezone for order in known}, _decided(known)
    found = []
    for path in paths:
        try:
            found.append(read_trail(path, zones, decided=decided))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read as a trail: {error.strerror or error}") from error
    return found


def orders_of_trails(paths: Iterable[Path]) -> dict[str, Order | None]:
    """Return each order as its file was in force last, by id, according to trails, which keep such files.

    None stands for one whose file is not kept any more, or is none.

    Raises:
        ConfigError: a folder cannot be read.

    """
    latest: dict[str, tuple[str, Path, dict[str, Any]]] = {}
    for path in paths:
        try:
            for record in records(path, kinds={Kind.LOADED}):
                at = str(record.get("at"))
                for item in record.get("files") or ():
                    order = str(item.get("order")) if isinstance(item, dict) else ""
                    if order and (order not in latest or at >= latest[order][0]):
                        latest[order] = at, path, item
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read as a trail: {error.strerror or error}") from error
    found = {order: _kept_order(path, item) for order, (_, path, item) in latest.items()}
    return {order_id: order if order and order.id == order_id else None for order_id, order in found.items()}


def _kept_order(path: Path, item: dict[str, Any]) -> Order | None:
    """Return the order of a file that a trail kept; None where it is not there any more."""
    text = _kept(path, item.get("digest"))
    beside = {
        str(other["file"]): octets
        for other in item.get("beside") or ()
        if isinstance(other, dict) and "file" in other and (octets := _kept(path, other.get("digest"))) is not None
    }
    return None if text is None else parse_kept(Path(str(item.get("file"))), text, beside).order


def _kept(path: Path, digest: object) -> bytes | None:
    found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    try:
        return read_bounded(path / FILES / found[1]) if found else None
    except OSError:
        return None
