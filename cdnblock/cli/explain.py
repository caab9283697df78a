"""`cdnblock explain`: why a host is blocked or not, for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from cdnblock.cli.options import at_option, colours_wanted, geo_option, orders_option, printable, rfc3339
from cdnblock.geo.country import locate
from cdnblock.matching.decision import Decision, NotApplied, Reason, Why, in_zone
from cdnblock.matching.names import canonical, to_unicode
from cdnblock.orders.model import Order
from cdnblock.orders.territories import COUNTRIES

_IN_TIME: Final = (Why.OUTSIDE_TERRITORY, Why.UNKNOWN_LOCATION)


@click.command
@click.argument("host")
@click.argument("client", required=False)
@orders_option
@geo_option
@at_option
@click.option("--country", help="Decide for this ISO 3166-1 alpha-2 code instead of a client's address.")
def command(
    host: str, client: str | None, orders: Path, geo: Path | None, at: datetime | None, country: str | None
) -> None:
    """Explain what the orders say of a HOST: every order that names it, why it applies or why not, with file and line.

    Without CLIENT or --country, say what holds for whom.

    Example: cdnblock explain www.motogpstream.me 90.84.144.1 --orders examples/orders --at 2025-05-01T12:00
    """
    from cdnblock.sources.geo_tables import open_geo_table
    from cdnblock.sources.order_folder import load_orders

    if country is not None and country not in COUNTRIES:
        raise click.BadParameter(f"{country!r} is no ISO 3166-1 alpha-2 code; France is FR, the United Kingdom GB")
    rules = load_orders(orders)
    at = at or datetime.now(UTC)
    told_by = None
    if client is not None and country is None:
        country, told_by = locate(open_geo_table(geo), client)
    decision = rules.decide(host, country=country, at=at, told_by=told_by)
    asked_place = client is not None or country is not None
    for line in _lines(decision, host, at, asked_place=asked_place):
        click.echo(line, color=colours_wanted())


def _lines(decision: Decision, host: str, at: datetime, *, asked_place: bool) -> Iterator[str]:
    yield _heading(decision, host, at, asked_place=asked_place)
    for reason in decision.reasons:
        measures = ", ".join(f"{measure.value} {variant}" for measure, variant in reason.order.measures.items())
        yield from _about(reason)
        yield f"    applies: {measures}, until {in_zone(reason.until, reason.order)}"
    for item in decision.not_applied:
        yield from _about(item)
        if not asked_place and item.why in _IN_TIME:
            yield f"    in force, for clients in: {item.order.territory}"
        else:
            yield f"    does not apply: {item.in_words()}"
            if item.why is Why.OUTSIDE_TERRITORY:
                yield f"    territory: {item.order.territory}"
    if decision.changes_at is not None:
        yield f"This changes next at {decision.changes_at.isoformat()}."


def _heading(decision: Decision, host: str, at: datetime, *, asked_place: bool) -> str:
    zone = decision.orders[0].timezone if decision.orders else None
    name = canonical(host)
    shown = printable(host) if name is None else name if name == host else f"{printable(host)} = {name}"
    if name is not None and to_unicode(name) not in (name, host):
        shown += f" ({to_unicode(name)})"
    if decision.malformed:
        return (
            f"{shown}: not a host name, so no order can name it. A URL's host is what stands between // and the next /."
        )
    place = f"a client in {decision.country}" if decision.country else "a client whose country cannot be told"
    place += f" ({decision.told_by})" if decision.told_by else ""
    verdict = _styled("BLOCKED", "red") if decision else _styled("let through", "green")
    if not (decision.reasons or decision.not_applied):
        return f"{shown}: {verdict} for everybody, at any time: no order names it."
    if not asked_place and not decision and any(item.why in _IN_TIME for item in decision.not_applied):
        return (
            f"{shown} at {rfc3339(at, zone)}: {_styled('BLOCKED for some', 'yellow')}, depending on where the client is"
        )
    return f"{shown} at {rfc3339(at, zone)}: {verdict} for {place if asked_place else 'everybody'}"


def _about(item: Reason | NotApplied) -> Iterator[str]:
    order: Order = item.order
    title = f" {order.title}" if order.title else ""
    yield f"  {_styled(order.id, None)}{title}, {order.court}, {order.decided.isoformat()}"
    listed = next((name for name in (item.addition or order).names if name.name == item.name), None)
    broad = f", over-broad and let through: {listed.overbroad}" if listed is not None and listed.overbroad else ""
    added = f", added by {item.addition.notice}" if item.addition else ""
    place = f"    {item.position}" if item.position else ""
    yield f"    names {item.name}{added}{broad}{place}"


def _styled(text: str, colour: str | None) -> str:
    return click.style(text, fg=colour, bold=True) if colours_wanted() else text
