"""Configuration that we write for servers of others: one file per target, none knows another.

    exporter = load("haproxy")
    done = export(exporter, rules, open_geo_table(None), at, Options(folder="/etc/haproxy/cdnblock"))
    done.files, done.missing

Nothing here opens a file: the command line writes what comes out.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cdnblock.errors import ConfigError, UnsupportedError
from cdnblock.exporters._exporter import Cannot, Exporter, File, Missing, Options, Otherwise, Work
from cdnblock.exporters._plan import OTHER, Plan
from cdnblock.exporters._planner import make_plan
from cdnblock.exporters._roll import Roll, roll_of
from cdnblock.exporters._territory import ListableTable, listed
from cdnblock.geo.client_address import UNIX
from cdnblock.matching.ruleset import RuleSet
from cdnblock.measures.printable import printable
from cdnblock.orders import calendar
from cdnblock.orders.model import VARIANTS, Order

__all__ = ["EXPORTERS", "Export", "Exporter", "File", "ListableTable", "Missing", "Options", "export", "load", "table"]

EXPORTERS: Final[Mapping[str, str]] = {
    # target: its module in this folder
    "haproxy": "haproxy",
    "nginx": "nginx",
    "varnish": "varnish",
    "squid": "squid",
    "envoy": "envoy",
    "caddy": "caddy",
    "traefik": "traefik",
    "bind": "bind",
    "knot-resolver": "knot_resolver",
    "powerdns": "powerdns",
    "dnsdist": "dnsdist",
    "unbound": "unbound",
    "domains": "domains",
    "hosts": "hosts",
    "dnsmasq": "dnsmasq",
    "adblock": "adblock",
}

_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9._/+@-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The files of a target, and what they do not say although orders ask for it: nothing, unless that was agreed to.

    `plan` is what they say, before it became text. `roll` is what makes the next export quick.
    """

    files: tuple[File, ...]
    missing: tuple[Missing, ...]
    plan: Plan
    roll: Roll = field(repr=False, compare=False)


def load(target: str) -> Exporter:
    """Return the exporter of a target. Raises ConfigError where there is none."""
    if target not in EXPORTERS:
        raise ConfigError(f"there is no target {target!r}; there are {', '.join(EXPORTERS)}")
    exporter: Exporter = importlib.import_module(f"cdnblock.exporters.{EXPORTERS[target]}").EXPORTER
    return exporter


def export(
    exporter: Exporter,
    rules: RuleSet,
    table: ListableTable,
    at: datetime,
    options: Options,
    *,
    served: Iterable[str] | None = None,
    partial: bool = False,
    since: Export | None = None,
) -> Export:
    """Return a target's configuration for the orders as they stand at `at`: the same orders, the same text.

    `served` are the canonical hosts that the server really serves (`*.name`: all below a name), None for any. `since`
    is an earlier export, of whatever target, orders and instant: where few names differ it makes this one quick.

    Raises:
        UnsupportedError: the target cannot say what an order asks for, and `partial` does not agree to that.
        ConfigError: a setting has a value that it cannot have.

    """
    options = _with_settings(exporter, options)
    roll = roll_of(rules, None if since is None else since.roll)
    plan, missing = _planned(exporter, rules, at, roll)
    plan = plan if served is None else plan.served(served)
    if not exporter.territory:
        missing += () if options.clients_in else _without_territory(plan)
        plan = plan.seen_from(plan.place_of(options.clients_in) if options.clients_in else OTHER)
    missing += tuple(exporter.objections(plan, options))
    if missing and not partial:
        raise UnsupportedError(
            "\n".join(
                [f"{exporter.name} cannot carry out what was ordered (--partial writes the rest):", *map(str, missing)]
            )
        )
    work = Work(
        plan=plan,
        options=options,
        networks=listed(table, plan.countries, unknown=plan.tells_unknown) if exporter.territory else (),
        header=tuple(_header(exporter, plan, rules, table, options, missing)),
    )
    return Export(files=exporter.render(work), missing=missing, plan=plan, roll=roll)


def table() -> str:
    """Return which target carries which measures, as a Markdown table."""
    pairs = [(measure, variant) for measure, variants in VARIANTS.items() for variant in variants]
    rows = [
        ["target", "for", *(f"{measure.value} {variant}" for measure, variant in pairs), "territory"],
        ["---"] * (len(pairs) + 3),
    ]
    for target in EXPORTERS:
        exporter = load(target)
        says = [exporter.says(measure, variant) for measure, variant in pairs]
        rows.append([f"`{target}`", exporter.title, *says, "yes" if exporter.territory else "no"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _with_settings(exporter: Exporter, options: Options) -> Options:
    for name, value in options.settings.items():
        setting = exporter.settings.get(name)
        if setting is None:
            known = ", ".join(exporter.settings) or "none"
            raise ConfigError(f"{exporter.name} has no setting {name!r}; there is {known}")
        if (right := setting.wants(value)) is not None:
            raise ConfigError(f"{exporter.name}: {name} cannot be {value!r}; right would be {right}")
    if options.clients_in and exporter.territory:
        raise ConfigError(
            f"{exporter.name} asks each client's address where he is; --clients-in is for lists that do not"
        )
    if not _PLAIN_PATH.fullmatch(options.folder):
        raise ConfigError(
            f"folder {options.folder!r}: servers' languages want a path of letters, digits and `._/+@-` alone"
        )
    if UNIX in options.trusted_proxies:
        raise ConfigError(f"trusted proxy `{UNIX}`: servers know their peers by address; list addresses and networks")
    defaults = {name: setting.default for name, setting in exporter.settings.items()}
    return options.with_settings(defaults | dict(options.settings))


def _planned(exporter: Exporter, rules: RuleSet, at: datetime, roll: Roll) -> tuple[Plan, tuple[Missing, ...]]:
    """Return what the target can carry, and what of the orders that hold it cannot."""
    cannot = {pair: reason for pair, reason in exporter.carries.items() if isinstance(reason, Cannot)}
    wanted = {pair: pair[1] for pair in exporter.carries}
    plan = make_plan(rules, at, wanted, exporter.tells, roll)
    missing = tuple(
        Missing(order.id, _why(f"{measure.value} {variant}", cannot[measure, variant]))
        for order in plan.orders
        for measure, variant in order.measures.items()
        if (measure, variant) in cannot
    )
    if missing:
        given = {pair: cannot[pair].instead if pair in cannot else pair[1] for pair in wanted}
        carried = {pair: variant for pair, variant in given.items() if variant is not None}
        plan = make_plan(rules, at, carried, exporter.tells, roll)
    return plan, missing


def _why(asked: str, cannot: Cannot) -> str:
    done = f"written as {cannot.instead}" if cannot.instead else "left out"
    return f"{asked}: {cannot.why}; {done}"


def _without_territory(plan: Plan) -> tuple[Missing, ...]:
    return tuple(
        Missing(
            order.id,
            f"holds in {order.territory}, and this asks no client where he is; left out."
            " Where all clients of the server are in one country, say so: --clients-in CODE",
        )
        for order in plan.orders
        if not order.territory.world
    )


def _header(
    exporter: Exporter,
    plan: Plan,
    rules: RuleSet,
    countries: ListableTable,
    options: Options,
    missing: tuple[Missing, ...],
) -> Iterator[str]:
    yield f"Written by `cdnblock export {exporter.name}`: do not edit, export again."
    yield f"revision {plan.revision}"
    if options.rendered is not None:
        yield f"rendered {options.rendered.isoformat(timespec='seconds')}"
    yield "holds for ever" if plan.until is None else f"holds until {plan.until.isoformat()}: export again then"
    if exporter.territory:
        yield f"countries by {printable(countries.description)}"
    elif options.clients_in:
        yield f"has no territory and no time: written for a server all of whose clients are in {options.clients_in}"
    else:
        yield "has no territory and no time"
    for order in plan.orders:
        yield _about(order)
    for order in rules.reported:
        yield f"report only: order {order.id} refuses nothing, so nothing of it is here"
    elsewhere = {measure for order in rules.enforced for measure in order.measures} & exporter.elsewhere.keys()
    for measure in sorted(elsewhere):
        yield f"not here: {measure.value} {exporter.elsewhere[measure]}"
    otherwise = {reason.how for reason in exporter.carries.values() if isinstance(reason, Otherwise)}
    for how in sorted(otherwise):
        yield f"names are refused {how}"
    for item in missing:
        yield f"MISSING: {item}"


def _about(order: Order) -> str:
    measures = ", ".join(f"{measure.value} {variant}" for measure, variant in order.measures.items())
    unknown = " and unknown location" if order.unknown_location.value == "enforce" else ""
    until = calendar.ends_at(order).isoformat()
    return f"order {order.id}: {measures}; in {order.territory}{unknown}; until {until}"
