"""`cdnblock explain`: why a host is blocked or not, for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from cdnblock.cli.options import at_option, colours_wanted, geo_option, orders_option, printable, rfc3339
from cdnblock.geo.country import locate
from cdnblock.matching.decision import Why, in_zone
from cdnblock.matching.explanation import Effect, Explanation, Said, Verdict, explain
from cdnblock.orders.territories import COUNTRIES


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
    for line in _lines(explain(decision, host, at, asked_place=asked_place)):
        click.echo(line, color=colours_wanted())


def _lines(told: Explanation) -> Iterator[str]:
    yield _heading(told)
    for item in told.said:
        yield from _about(item)
        yield from _effect(item)
    if told.decision.changes_at is not None:
        yield f"This changes next at {told.decision.changes_at.isoformat()}."


def _heading(told: Explanation) -> str:
    name, host, decision = told.name, told.host, told.decision
    shown = printable(host) if name is None else name if name == host else f"{printable(host)} = {name}"
    if told.unicode not in (None, name, host):
        shown += f" ({printable(told.unicode)})"
    if told.verdict is Verdict.NO_HOST:
        return (
            f"{shown}: not a host name, so no order can name it. A URL's host is what stands between // and the next /."
        )
    if told.verdict is Verdict.NOT_NAMED:
        return f"{shown}: {_styled('let through', 'green')} for everybody, at any time: no order names it."
    when = rfc3339(told.at, told.zone)
    if told.verdict is Verdict.BLOCKED_FOR_SOME:
        return f"{shown} at {when}: {_styled('BLOCKED for some', 'yellow')}, depending on where the client is"
    verdict = _styled("BLOCKED", "red") if told.verdict is Verdict.BLOCKED else _styled("let through", "green")
    place = f"a client in {decision.country}" if decision.country else "a client whose country cannot be told"
    place += f" ({printable(decision.told_by)})" if decision.told_by else ""
    return f"{shown} at {when}: {verdict} for {place if told.asked_place else 'everybody'}"


def _about(item: Said) -> Iterator[str]:
    order = item.order
    title = f" {printable(order.title)}" if order.title else ""
    yield f"  {_styled(printable(order.id), None)}{title}, {printable(order.court)}, {order.decided.isoformat()}"
    broad = f", over-broad and let through: {printable(item.overbroad)}" if item.overbroad else ""
    added = f", added by {printable(item.addition.notice)}" if item.addition else ""
    place = f"    {printable(str(item.position))}" if item.position else ""
    yield f"    names {item.name}{added}{broad}{place}"


def _effect(item: Said) -> Iterator[str]:
    order = item.order
    measures = ", ".join(f"{measure.value} {variant}" for measure, variant in order.measures.items())
    match item.effect:
        case Effect.APPLIES:
            yield f"    applies: {measures}, until {in_zone(item.until, order)}"
        case Effect.WOULD_APPLY:
            yield f"    would apply, and is only reported: {measures}, until {in_zone(item.until, order)}"
        case Effect.DEPENDS_ON_PLACE:
            only = "" if order.is_enforced else ", and only reported"
            yield f"    in force{only}, for clients in: {order.territory}"
        case Effect.DOES_NOT_APPLY:
            yield f"    does not apply: {item.in_words}"
            if item.why is Why.OUTSIDE_TERRITORY:
                yield f"    territory: {order.territory}"


def _styled(text: str, colour: str | None) -> str:
    return click.style(text, fg=colour, bold=True) if colours_wanted() else text
