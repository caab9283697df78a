"""`cdnblock orders`: the life of each order: state, deadline counted in law, next change, names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from cdnblock.cli.options import at_option, colours_wanted, orders_option, rfc3339
from cdnblock.errors import ConfigError
from cdnblock.matching.names import to_unicode
from cdnblock.orders import calendar
from cdnblock.orders.calendar import Holidays
from cdnblock.orders.life import OrderState, ends_within, next_change, state_of
from cdnblock.orders.model import Mode, Moment, Order
from cdnblock.shown import json_text, shown

_COLOURS: Final = {
    OrderState.PENDING: "yellow",
    OrderState.IN_FORCE: "green",
    OrderState.ENDED: "bright_black",
    OrderState.LIFTED: "bright_black",
}
_SPANS: Final = {"d": "days", "h": "hours", "w": "weeks"}


def span_option(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """Read an option such as 30d."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,5})([dhw])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no span of time; write it like 30d, 12h or 4w", ctx, param)
    return timedelta(**{_SPANS[found[2]]: int(found[1])})


@click.command
@click.argument("action", type=click.Choice(["list", "show"]), default="list")
@click.argument("order_id", metavar="[ID]", required=False)
@orders_option
@at_option
@click.option(
    "--expiring",
    metavar="SPAN",
    callback=span_option,
    help="Only those that are over within this time, such as 30d.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def command(
    action: str,
    order_id: str | None,
    orders: Path,
    at: datetime | None,
    expiring: timedelta | None,
    as_json: bool,  # noqa: FBT001 (click's way)
) -> None:
    """List the orders (`list`), or show one (`show ID`): state, deadline, next change, names.

    Example: cdnblock orders list --orders examples/orders --expiring 30d
    """  # fmt: skip
    from cdnblock.sources.order_folder import load_orders
    from cdnblock.sources.protected_list import load_holidays

    at = at or datetime.now(UTC)
    holidays, _ = load_holidays(orders if orders.is_dir() else orders.parent)
    known = load_orders(orders).orders
    found = [_described(order, at, holidays) for order in known.values()]
    if action == "list" and order_id is not None:
        raise click.UsageError(f"`orders list` takes no ID; `orders show {order_id}` shows one order")
    if action == "show":
        if order_id is None:
            raise click.UsageError("`orders show` wants the ID of an order")
        found = [item for item in found if item["id"] == order_id]
        if not found:
            raise ConfigError(f"no order {order_id!r} in {orders}; `cdnblock orders list` names them")
    if expiring is not None and action == "list":
        found = [item for item in found if ends_within(known[item["id"]], at, expiring)]
    if as_json:
        click.echo(json_text(found[0] if action == "show" else found, indent=1))
        return
    for line in _page(found[0]) if action == "show" else _table(found):
        click.echo(line)


def _described(order: Order, at: datetime, holidays: Holidays) -> dict[str, Any]:
    def shown(instant: datetime | None) -> str | None:
        return None if instant is None else rfc3339(instant, order.timezone)

    return {
        "id": order.id,
        "title": order.title,
        "court": order.court,
        "case": order.case,
        "decided": order.decided.isoformat(),
        "state": state_of(order, at),
        "starts": shown(calendar.starts_at(order)),
        "ends": shown(calendar.ends_at(order)),
        "deadline": shown(calendar.deadline(order, holidays)),
        "next_change": shown(next_change(order, at)),
        "territory": "world" if order.territory.world else sorted(order.territory.countries),
        "measures": {measure.value: variant for measure, variant in order.measures.items()},
        "mode": order.mode.value,
        "names": order.size(),
        "listed": [
            {"name": name.name, "subdomains": name.subdomains, "note": name.note, "overbroad": name.overbroad}
            for name in order.each_name()
        ],
        "additions": [
            {
                "notice": addition.notice,
                "authority": addition.authority,
                "starts": shown(calendar.addition_starts_at(order, addition)),
                "deadline": shown(calendar.addition_deadline(order, addition, holidays)),
                "names": [name.name for name in addition.each_name()],
            }
            for addition in order.additions
        ],
        "lifted": [
            {"at": shown(_instant(order, lifting.at)), "names": lifting.names, "reason": lifting.reason}
            for lifting in order.lifted
        ],
        "file": str(order.position) if order.position else None,
    }


def _table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not found:
        yield "no orders"
        return
    header = ("ID", "STATE", "STARTS", "ENDS", "DEADLINE", "NEXT CHANGE", "NAMES", "MEASURES", "TERRITORY")
    rows = [
        (
            item["id"], _state(item), _short(item["starts"]), _short(item["ends"]), _short(item["deadline"]),
            _short(item["next_change"]), str(item["names"]), " ".join(item["measures"]), _territory(item, limit=5),
        )
        for item in found
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    yield _row(header, widths)
    for item, row in zip(found, rows, strict=True):
        line = _row(row, widths)
        yield click.style(line, fg=_COLOURS[item["state"]]) if colours_wanted() else line


def _page(item: dict[str, Any]) -> Iterator[str]:
    for key in (
        "id",
        "title",
        "court",
        "case",
        "decided",
        "state",
        "starts",
        "ends",
        "deadline",
        "next_change",
        "file",
    ):
        yield f"{key.replace('_', ' '):12} {shown(item[key]) if item[key] is not None else '-'}"
    yield f"{'territory':12} {_territory(item, limit=249)}"
    yield f"{'measures':12} {', '.join(f'{measure}: {variant}' for measure, variant in item['measures'].items())}"
    dry_run = " (report only: nothing is refused)" if item["mode"] == Mode.REPORT else ""
    yield f"{'mode':12} {item['mode']}{dry_run}"
    yield f"{'names':12} {item['names']}"
    for name in item["listed"]:
        scope = "" if name["subdomains"] else " (this exact name only)"
        note = f", {shown(name['note'])}" if name["note"] else ""
        broad = f", over-broad and let through: {shown(name['overbroad'])}" if name["overbroad"] else ""
        yield f"{'':12} {_name(name['name'])}{scope}{note}{broad}"
    for addition in item["additions"]:
        yield f"{'addition':12} {shown(addition['notice'])} from {addition['starts']}, deadline {addition['deadline'] or '-'}"
        yield from (f"{'':12} {_name(name)}" for name in addition["names"])
    for lifting in item["lifted"]:
        names = "the whole order" if lifting["names"] is None else ", ".join(map(_name, lifting["names"]))
        yield f"{'lifted':12} {names} at {lifting['at']}{': ' + shown(lifting['reason']) if lifting['reason'] else ''}"


def _state(item: dict[str, Any]) -> str:
    return f"{item['state'].value}{', report only' if item['mode'] == Mode.REPORT else ''}"


def _name(name: str) -> str:
    unicode = to_unicode(name)
    return name if unicode == name else f"{name} ({shown(unicode)})"


def _row(cells: Iterable[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _short(instant: str | None) -> str:
    return "-" if instant is None else instant[:16].replace("T", " ")


def _territory(item: dict[str, Any], limit: int) -> str:
    territory = item["territory"]
    if isinstance(territory, str):
        return territory
    return " ".join(territory[:limit]) + (f" +{len(territory) - limit}" if len(territory) > limit else "")


def _instant(order: Order, moment: Moment) -> datetime:
    return calendar.instant(moment, order.timezone)
