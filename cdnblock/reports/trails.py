"""Trails read for a report: what they tell of an order, and whether they are whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from cdnblock.audit.reading import records
from cdnblock.audit.records import Kind
from cdnblock.audit.segments import FILES
from cdnblock.audit.verifying import verify
from cdnblock.errors import ConfigError
from cdnblock.orders.model import Order
from cdnblock.reports.order import TrailReport
from cdnblock.reports.trail_facts import read_trail
from cdnblock.sources.order_folder import parse_kept, read_bounded

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_FINDINGS: Final = 20  # of one trail that a report lists


def read_trails(paths: Iterable[Path], order: Order) -> Iterator[TrailReport]:
    """Yield what each trail tells of an order, with the result of its verification.

    Raises:
        ConfigError: a folder cannot be read.

    """
    for path in paths:
        try:
            facts = read_trail(path, order.id, order.timezone)
            found = verify(path)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read as a trail: {error.strerror or error}") from error
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


def order_of_trails(paths: Iterable[Path], order_id: str) -> Order | None:
    """Return an order as its file was in force last, according to trails, which keep such files; None if none did.

    Raises:
        ConfigError: a folder cannot be read.

    """
    found: tuple[str, Path, dict[str, Any]] | None = None
    for path in paths:
        try:
            for record in records(path, order=order_id, kinds={Kind.LOADED}):
                items = (item for item in record.get("files") or () if isinstance(item, dict))
                latest = next((item for item in items if item.get("order") == order_id), None)
                if latest is not None and (found is None or str(record["at"]) >= found[0]):
                    found = str(record["at"]), path, latest
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read as a trail: {error.strerror or error}") from error
    return None if found is None else _kept_order(found[1], found[2])


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
