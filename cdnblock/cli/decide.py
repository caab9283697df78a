"""`cdnblock decide`: decisions as JSON, one line each, stable for scripts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from cdnblock.cli.options import at_option, geo_option, orders_option, rfc3339
from cdnblock.cli.progress import progress_bar
from cdnblock.geo.country import locate
from cdnblock.matching.decision import Decision, Reason
from cdnblock.matching.names import canonical
from cdnblock.orders.instants import read_instant
from cdnblock.orders.model import Order

if TYPE_CHECKING:
    from cdnblock.geo.country import CountryTable
    from cdnblock.matching.ruleset import RuleSet

EXIT_APPLIES: Final = 3
_PROGRESS_STEP: Final = 1_000


@click.command
@click.argument("host", required=False)
@click.argument("client", required=False)
@orders_option
@geo_option
@at_option
@click.option("--exit-code", is_flag=True, help="Exit 3 when a measure applies.")
@click.option(
    "--batch", type=click.File("rb"), help="File of lines HOST<TAB>CLIENT[<TAB>TIME], - for stdin; a JSON line each."
)
def command(
    host: str | None,
    client: str | None,
    orders: Path,
    geo: Path | None,
    at: datetime | None,
    exit_code: bool,  # noqa: FBT001 (click hands options over by name)
    batch: BinaryIO | None,
) -> None:
    """Decide for a HOST and a CLIENT address, and print the decision as one JSON line.

    A TIME without offset is legal time in Paris.

    Example: cdnblock decide www.motogpstream.me 90.84.144.1 --orders examples/orders --at 2025-05-01T12:00+02:00
    """
    from cdnblock.sources.geo_tables import open_geo_table
    from cdnblock.sources.order_folder import load_orders

    if (batch is None) == (host is None) or (host is not None and client is None):
        raise click.UsageError("give HOST and CLIENT, or --batch FILE")
    questions = _read(batch) if batch is not None else [(host or "", client, None)]
    rules, table = load_orders(orders), open_geo_table(geo)
    applies = False
    with progress_bar("decisions") as progress:
        for number, answer in enumerate(_answer(questions, rules, table, at), start=1):
            applies = applies or bool(answer["measures"])
            click.echo(json.dumps(answer))
            if number % _PROGRESS_STEP == 0 and not sys.stdout.isatty():
                progress(*_progress_of(batch, number))
    sys.exit(EXIT_APPLIES if exit_code and applies else 0)


def _progress_of(batch: BinaryIO | None, number: int) -> tuple[int, int]:
    """Return how many lines are answered and, by the octets that are read, how many there will be about."""
    try:
        size, read = (os.fstat(batch.fileno()).st_size, batch.tell()) if batch is not None else (0, 0)
    except (OSError, ValueError):  # a pipe has no size
        return number, number
    return number, max(number, number * size // max(1, read))


def decision_as_json(decision: Decision, host: str, client: str | None, at: datetime) -> dict[str, Any]:
    """Return a decision as `cdnblock decide` prints it (command-line.md, "`decide`'s JSON")."""
    zone = decision.orders[0].timezone if decision.orders else None
    return {
        "host": canonical(host) or host,
        "client": client,
        "country": decision.country,
        "at": rfc3339(at, zone),
        "measures": {measure.value: variant for measure, variant in decision.measures.items()},
        "orders": [*map(_reason, decision.reasons)],
        "would": {measure.value: variant for measure, variant in decision.would.items()},
        "would_orders": [*map(_reason, decision.would_reasons)],
        "not_applied": [
            {"id": item.id, "name": item.name, "why": item.why.value} | _mode(item.order)
            for item in decision.not_applied
        ],
        "changes_at": decision.changes_at.isoformat() if decision.changes_at else None,
        "revision": decision.revision,
    }  # fmt: skip


def _reason(reason: Reason) -> dict[str, Any]:
    told = {"id": reason.id, "name": reason.name, "notice": reason.notice, "until": reason.until.isoformat()}
    return told | _mode(reason.order)


def _mode(order: Order) -> dict[str, str]:
    return {} if order.is_enforced else {"mode": order.mode.value}


def _read(batch: BinaryIO) -> Iterator[tuple[str, str | None, str | None]]:
    for line in batch:
        host, client, at, *_ = [*line.decode("utf-8", "replace").rstrip("\r\n").split("\t"), None, None, None]
        yield host or "", client, at or None


def _answer(
    questions: Iterable[tuple[str, str | None, str | None]],
    rules: RuleSet,
    table: CountryTable,
    default: datetime | None,
) -> Iterator[dict[str, Any]]:
    """Answer in order. A time that is none gets a line too: with no decision, and with the error."""
    for host, client, time in questions:
        try:
            at = read_instant(time) if time is not None else default or datetime.now(UTC)
        except ValueError as error:
            nothing = Decision(measures={}, revision=rules.revision)
            yield decision_as_json(nothing, host, client, datetime.now(UTC)) | {"at": time, "error": str(error)}
            continue
        country, told_by = locate(table, client)
        decision = rules.decide(host, country=country, at=at, told_by=told_by)
        yield decision_as_json(decision, host, client, at)
