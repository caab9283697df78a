"""`cdnblock verify`: asks a running edge or resolver what it does, and compares that with the decision."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cdnblock.cli.open_files import allow_many_files
from cdnblock.cli.options import geo_option, orders_option
from cdnblock.cli.progress import progress_bar
from cdnblock.errors import ConfigError
from cdnblock.shown import json_text, shown

if TYPE_CHECKING:
    from cdnblock.enforcer import Enforcer
    from cdnblock.verification.clients import Client, Told
    from cdnblock.verification.expecting import Promises
    from cdnblock.verification.servers import Edge, Resolver, Server
    from cdnblock.verification.verifying import Report, Settings

_EXIT_DIFFERENT: Final = 1
_EXIT_UNDECIDED: Final = 3
_EXIT_GONE: Final = 5
_EXIT_INTERRUPTED: Final = 130
_BY: Final = ("source", "x-forwarded-for", "forwarded", "proxy-v1", "proxy-v2", "ecs")
_FIELD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_WAYS: Final = {"http1": "http/1.1", "http2": "http/2", "udp": "udp", "tcp": "tcp"}
_PROMISES: Final[dict[str, dict[str, Any]]] = {
    # what --not-promised takes: what it changes in `Promises`
    "ede": {"ede": False},
    "ttl": {"negative_ttl": None},
    "link": {"link": False},
    "no-store": {"no_store": False},
    "cdn": {"caching": False},
    "proxy": {"proxy": False},
    "dns": {"dns": False},
}


@click.command(
    epilog="Example: cdnblock verify http://127.0.0.1:8080 --by x-forwarded-for; cdnblock verify 127.0.0.1:53 --by ecs"
)
@click.argument("server", metavar="URL-or-RESOLVER")
@orders_option
@geo_option
@click.option("--by", type=click.Choice(_BY), default="source", show_default=True,
              help="How the server learns where a client is; for all but `source` it has to believe this machine.")  # fmt: skip
@click.option("--header", metavar="NAME", help="The field with the client's address alone, if not X-Forwarded-For.")
@click.option("--client", "clients", multiple=True, metavar="ADDRESS[=CODE]",
              help="Ask as this client, in the country CODE or `none`; otherwise the table tells. Can be repeated.  "
              "[default: clients in several places; by source, this machine]")  # fmt: skip
@click.option("--source", metavar="ADDRESS", help="This machine's address to ask from, if not --by source.")
@click.option("--way", "ways", multiple=True, type=click.Choice([*_WAYS]), help="Ask by this alone. Can be repeated.")
@click.option(
    "--exported", metavar="TARGET", help="It runs what `cdnblock export TARGET` writes: expect what that can."
)
@click.option("--not-promised", multiple=True, metavar="WHAT",
              help=f"What it does not promise, so that it is no difference: {', '.join(_PROMISES)}. Can be repeated.")  # fmt: skip
@click.option("--reference", metavar="RESOLVER", help="A resolver that filters nothing, to compare with.")
@click.option("--origin", metavar="URL", help="Where the edge gets the sites from, to compare what may be their own.")
@click.option("--sample", type=click.IntRange(0, 10_000), default=5, show_default=True,
              help="Names of each order that are asked for in every form, with all that is near them.")  # fmt: skip
@click.option("--most", type=click.IntRange(0), help="Other names, at most.  [default: all of the orders]")
@click.option("--at-once", type=click.IntRange(1, 1000), default=16, show_default=True, help="Names at a time.")
@click.option("--rate", type=click.FloatRange(0), default=200.0, show_default=True, help="Probes a second; 0 for any.")
@click.option(
    "--patience", type=click.FloatRange(0.05, 300), default=5.0, show_default=True, help="Seconds per answer."
)
@click.option("--settle", type=click.FloatRange(0, 3600), default=5.0, show_default=True,
              help="Seconds that the server may take to follow a change of the orders.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="For the sample.")
@click.option("--show", type=click.IntRange(0), default=200, show_default=True, help="Differences that are listed.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(  # noqa: PLR0913 (click hands options over by name)
    *,
    server: str,
    orders: Path,
    geo: Path | None,
    by: str,
    header: str | None,
    clients: Sequence[str],
    source: str | None,
    ways: Sequence[str],
    exported: str | None,
    not_promised: Sequence[str],
    reference: str | None,
    origin: str | None,
    sample: int,
    most: int | None,
    at_once: int,
    rate: float,
    patience: float,
    settle: float,
    seed: int,
    show: int,
    as_json: bool,
) -> None:
    """Ask a running edge or resolver for every name of the orders, and for many beside them, and compare.

    A URL is an edge, an address or dns:// a resolver. Each name is asked for as clients inside and outside the
    territories, over HTTP/1.1 and HTTP/2, or UDP and TCP. Every answer that is not what is decided is listed, and the
    exit code is then 1. It follows the orders while it runs.

    Exits 3 when no difference was found and nothing could be judged, or answers may be the sites' own or refusals that
    are not due; 5 when nobody answers.
    """
    from cdnblock.enforcer import Enforcer
    from cdnblock.sources.protected_list import load_protected
    from cdnblock.verification.probes import Way
    from cdnblock.verification.servers import read_server
    from cdnblock.verification.verifying import Settings

    try:
        asked = read_server(server)
        compared = None if reference is None else _reference(asked, reference)
        site = None if origin is None else _origin(asked, origin)
        told = _told(asked, by, header, source)
        promises = _promises(exported, not_promised)
        chosen = _ways(asked, ways)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    logging.getLogger("cdnblock").addHandler(logging.NullHandler())  # what is wrong with the orders stops it below
    allow_many_files()
    with Enforcer(orders, geo=geo) as enforcer:
        settings = Settings(
            clients=_clients(enforcer, asked, clients, told, header, source),
            ways=[Way(way) for way in chosen] or None,
            promises=promises,
            reference=compared,
            origin=site,
            protected=load_protected(orders if orders.is_dir() else orders.parent)[0].names,
            sample=sample,
            most=most,
            at_once=at_once,
            rate=rate,
            patience=patience,
            settle=settle,
            seed=seed,
        )
        with progress_bar("names") as bar:
            report = asyncio.run(_verify(asked, enforcer, settings, bar))
        _print(report, enforcer, settings, show, as_json=as_json)
    sys.exit(_exit_code(report))


async def _verify(server: Server, enforcer: Enforcer, settings: Settings, bar: Callable[[int, int], None]) -> Report:
    from cdnblock.verification.verifying import verify

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return await verify(server, lambda: enforcer.rules, settings, bar, ended)


def _print(report: Report, enforcer: Enforcer, settings: Settings, show: int, *, as_json: bool) -> None:
    from cdnblock.verification.telling import as_mapping, as_text, unseen, verdict

    notes = [*unseen(report, enforcer.rules, settings.promises, has_reference=settings.reference is not None)]
    if as_json:
        click.echo(json_text(as_mapping(report, notes)))
        return
    for line in as_text(report, show):
        click.echo(shown(line))
    for note in notes:
        click.echo(click.style(f"not seen: {shown(note)}", fg="yellow"), err=True)
    click.echo(click.style(shown(verdict(report)), fg="green" if _exit_code(report) == 0 else "red", bold=True))


def _exit_code(report: Report) -> int:
    from cdnblock.verification.telling import undecided

    if report.differences:
        return _EXIT_DIFFERENT
    if report.gone is None:
        return 0 if undecided(report) is None else _EXIT_UNDECIDED
    return _EXIT_INTERRUPTED if "interrupted" in report.gone else _EXIT_GONE


def _told(server: Server, by: str, header: str | None, source: str | None) -> Told:
    from cdnblock.verification.clients import OF_EDGES, OF_RESOLVERS, Told
    from cdnblock.verification.servers import Edge
    from cdnblock.verification.standpoints import check_own

    told = Told(by)
    if header is not None and told is Told.SOURCE:
        told = Told.X_FORWARDED_FOR
    if header is not None and not _FIELD.fullmatch(header):
        raise ConfigError(f"--header {header!r} is no name of a field (RFC 9110 §5.1); right would be X-Real-IP")
    if header is not None and told is not Told.X_FORWARDED_FOR:
        raise ConfigError(f"--header goes with --by x-forwarded-for, not with --by {by}")
    possible = OF_EDGES if isinstance(server, Edge) else OF_RESOLVERS
    if told not in possible:
        what = "an edge" if isinstance(server, Edge) else "a resolver"
        raise ConfigError(f"--by {told} tells {what} nothing; there are {', '.join(sorted(possible))}")
    if source is not None:
        if told is Told.SOURCE:
            raise ConfigError("--by source: give each address as --client ADDRESS, with =CODE if the table errs")
        check_own(source)
    return told


def _reference(server: Server, text: str) -> Resolver:
    from cdnblock.verification.servers import Resolver, read_server

    reference = read_server(text)
    if not (isinstance(reference, Resolver) and isinstance(server, Resolver)):
        raise ConfigError(f"--reference {text}: it is a resolver, for verifying a resolver")
    return reference


def _origin(server: Server, text: str) -> Edge:
    from cdnblock.verification.servers import Edge, read_server

    origin = read_server(text)
    if not (isinstance(origin, Edge) and isinstance(server, Edge)):
        raise ConfigError(f"--origin {text}: it is a URL, for verifying an edge")
    return replace(origin, path=server.path)


def _clients(
    enforcer: Enforcer, server: Server, clients: Sequence[str], told: Told, header: str | None, source: str | None
) -> list[Client]:
    from cdnblock.verification.clients import Told
    from cdnblock.verification.standpoints import read_client, this_machine, told_clients

    if clients:
        try:
            return [read_client(text, enforcer.geo, told=told, header=header, source=source) for text in clients]
        except ConfigError as error:
            raise click.UsageError(str(error)) from None
    if told is Told.SOURCE:
        return [this_machine(server, enforcer.geo)]
    found, missing = told_clients(enforcer.geo, enforcer.rules, told=told, header=header, source=source)
    for place in missing:
        click.echo(f"not asked as a client in {place.label}: {shown(place.reason)}", err=True)
    return found


def _promises(exported: str | None, without: Sequence[str]) -> Promises:
    from cdnblock.exporters import load
    from cdnblock.verification.expecting import Promises

    promises = Promises() if exported is None else Promises.of(load(exported))
    for what in (part for text in without for part in text.replace(",", " ").split()):
        if what not in _PROMISES:
            raise ConfigError(f"--not-promised {what!r}; there are {', '.join(_PROMISES)}")
        promises = replace(promises, **_PROMISES[what])
    return promises


def _ways(server: Server, ways: Sequence[str]) -> list[str]:
    from cdnblock.verification.asking import speaks_http2
    from cdnblock.verification.servers import Edge

    possible = ("http1", "http2") if isinstance(server, Edge) else ("udp", "tcp")
    for way in ways:
        if way not in possible:
            raise ConfigError(f"--way {way}: {server} is asked by {' or '.join(possible)}")
    if "http2" in ways and not speaks_http2():
        raise ConfigError("HTTP/2 needs h2: pip install 'cdnblock[dns]'")
    return [_WAYS[way] for way in ways]
