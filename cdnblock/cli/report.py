"""`cdnblock report`: what was ordered and what was done, for courts, regulators and the operator."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cdnblock.cli.options import at_option, orders_option
from cdnblock.cli.orders import span_option
from cdnblock.cli.progress import progress_bar
from cdnblock.errors import ConfigError, OrderError

if TYPE_CHECKING:
    from cdnblock.orders.model import Order
    from cdnblock.reports.dsa import DsaReport
    from cdnblock.reports.order import OrderReport

_EXIT_LEFT_OVER: Final = 1


trail_option = click.option(
    "--trail", "trails", type=click.Path(path_type=Path, exists=True, file_okay=False), multiple=True, metavar="DIR",
    help="Audit folder of an instance. May be repeated: several trails are one report.",
)  # fmt: skip
out_option = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write to, whole or not at all.  [default: stdout]"
)  # fmt: skip


@click.group(invoke_without_command=True)
@click.option("--order", "order_id", metavar="ID", help="The order to report on.")
@orders_option
@trail_option
@at_option
@click.option(
    "--format", "form", type=click.Choice(["markdown", "html", "json"]), default="markdown", show_default=True,
    help="The JSON form has every value.",
)  # fmt: skip
@out_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    order_id: str | None,
    orders: Path,
    trails: Sequence[Path],
    at: datetime | None,
    form: str,
    out: Path | None,
) -> None:
    """Report on one order: which names from when to when, by what deadline and when really, hits, gaps.

    An order that is not in the folder any more is taken from the trails, which keep its file as it was. With --at it is
    the report of that instant: what the trails tell of afterwards is left aside.

    Example: cdnblock report --order tjp-2025-03-28-motogp --orders examples/orders --format html --out motogp.html
    """
    settings = dict(ctx.default_map or {})
    own = {name: value for name, value in settings.items() if isinstance(value, dict)}
    ctx.default_map = {name: settings | own.get(name, {}) for name in command.commands}
    if ctx.invoked_subcommand is not None:
        if order_id is not None:
            raise click.UsageError(f"`report {ctx.invoked_subcommand}` takes no --order")
        return
    if order_id is None:
        raise click.UsageError("give --order ID, or one of the commands: " + ", ".join(command.commands))
    write(_order_report(order_id, orders, trails, at, form), out)


def write(text: str, out: Path | None) -> None:
    """Print a report, or put it into a file, whole or not at all."""
    if out is None:
        click.echo(text, nl=False)
        return
    from cdnblock.cli.export import put
    from cdnblock.exporters import File

    put(out.parent, [File(out.name, text)])


def _order_report(order_id: str, orders: Path, trails: Sequence[Path], at: datetime | None, form: str) -> str:
    from cdnblock.cli.root import installed_version
    from cdnblock.reports.order_making import order_report
    from cdnblock.reports.trails import orders_of_trails, read_trails
    from cdnblock.sources.order_folder import read_orders
    from cdnblock.sources.protected_list import load_holidays

    there = read_orders(orders) if orders.exists() or not trails else None
    order = next((order for order in there.orders if order.id == order_id), None) if there else None
    order = order or orders_of_trails(trails).get(order_id)
    if order is None:
        if there is not None and there.errors:  # it may be in a file that cannot be read
            raise OrderError(there.problems)
        raise ConfigError(f"no order {order_id!r} in {orders}, nor in the trails; `cdnblock orders list` names them")
    holidays, _ = load_holidays(orders if orders.is_dir() else orders.parent)
    with progress_bar("octets of the trails verified") as progress:
        found = list(read_trails(trails, order, until=at, progress=progress))
    at = at or datetime.now(UTC)
    report = order_report(order, found, at=at, software=installed_version(), holidays=holidays)
    return _as_text(report, form)


def _as_text(report: OrderReport, form: str) -> str:
    from cdnblock.reports.html import as_html
    from cdnblock.reports.markdown import as_markdown
    from cdnblock.reports.order_document import order_document
    from cdnblock.reports.order_json import as_json

    if form == "json":
        return json.dumps(as_json(report), indent=1) + "\n"
    return (as_html if form == "html" else as_markdown)(order_document(report))


@command.command
@orders_option
@at_option
@click.option(
    "--within", metavar="SPAN", default="30d", show_default=True, callback=span_option, help="How near an end is told."
)
@click.option(
    "--config", "configs", type=click.Path(path_type=Path, exists=True), multiple=True, metavar="PATH",
    help="Files or folders that `cdnblock export` or `apply` wrote: tells what is still in them. May be repeated.",
)  # fmt: skip
@click.argument("more_configs", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@click.option("--exit-code", is_flag=True, help="Exit 1 when a file still carries an order that is over.")
def expiring(
    *,
    orders: Path,
    at: datetime | None,
    within: timedelta,
    configs: Sequence[Path],
    more_configs: Sequence[Path],
    as_json: bool,
    exit_code: bool,
) -> None:
    """Tell which orders are about to end, with marks 30, 7 and 1 days before, and what servers still carry of ended ones.

    Example: cdnblock report expiring --within 30d --orders examples/orders --config /etc/haproxy/cdnblock --exit-code
    """
    from cdnblock.reports.expiring import expiring_report
    from cdnblock.reports.native import read_natives
    from cdnblock.sources.order_folder import load_orders

    rules = load_orders(orders)
    files = read_natives([*configs, *more_configs])
    report = expiring_report(rules, at or datetime.now(UTC), within, files)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=1))
    else:
        click.echo("\n".join(report.lines()))
    if exit_code and report.leftovers:
        sys.exit(_EXIT_LEFT_OVER)


def _day_option(ctx: click.Context, param: click.Parameter, value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no day; write it like 2025-12-31", ctx, param) from None


@command.command(name="dsa-15")
@orders_option
@trail_option
@click.option("--from", "since", metavar="DAY", required=True, callback=_day_option, help="First day of the period.")
@click.option("--to", "until", metavar="DAY", required=True, callback=_day_option, help="Last day of the period.")
@click.option("--service", default="", metavar="NAME", help="Your service, for the template's column.")
@click.option(
    "--format", "form", type=click.Choice(["markdown", "html", "json", "csv"]), default="markdown", show_default=True,
    help="csv is the Commission's template, filled in.",
)  # fmt: skip
@out_option
def dsa_15(
    *, orders: Path, trails: Sequence[Path], since: date, until: date, service: str, form: str, out: Path | None
) -> None:
    """Count the orders of Member States' authorities: Regulation (EU) 2022/2065, art. 15(1)(a).

    By Member State and type of illegal content, with the median time to confirm receipt and to give effect, in the
    template of Implementing Regulation (EU) 2024/2835. Needs `member_state`, `illegal_content`, `received` and
    `acknowledged` in the order files; an order that lacks one is counted as far as possible, and named.

    Example: cdnblock report dsa-15 --from 2025-01-01 --to 2025-12-31 --orders examples/orders --format csv
    """
    from cdnblock.cli.root import installed_version
    from cdnblock.reports.dsa import dsa_report
    from cdnblock.reports.trails import facts_of_trails, orders_of_trails
    from cdnblock.sources.order_folder import load_orders

    if until < since:
        raise click.UsageError(f"--to {until} lies before --from {since}")
    found: dict[str, Order | None] = orders_of_trails(trails) | dict(load_orders(orders).orders)
    known = [order for _, order in sorted(found.items()) if order is not None]
    report = dsa_report(
        known,
        facts_of_trails(trails, known),
        since=since,
        until=until,
        at=datetime.now(UTC),
        software=installed_version(),
        service=service,
        lost=sorted(order_id for order_id, order in found.items() if order is None),
    )
    write(_dsa_text(report, form), out)


def _dsa_text(report: DsaReport, form: str) -> str:
    from cdnblock.reports.dsa_texts import as_csv, as_document, as_json
    from cdnblock.reports.html import as_html
    from cdnblock.reports.markdown import as_markdown

    if form == "csv":
        return as_csv(report)
    if form == "json":
        return json.dumps(as_json(report), indent=1) + "\n"
    return (as_html if form == "html" else as_markdown)(as_document(report))
