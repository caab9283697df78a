"""`cdnblock rpz-primary`: a hidden primary, from which resolvers transfer the orders as response policy zones."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cdnblock.cli.open_files import allow_many_files
from cdnblock.cli.options import geo_option, orders_option
from cdnblock.cli.serving_metrics import metrics_option, serving_metrics
from cdnblock.errors import ConfigError
from cdnblock.shown import log_to_stderr

if TYPE_CHECKING:
    from cdnblock.enforcer import Enforcer
    from cdnblock.rpz_primary.primary import Primary, PrimarySettings

_ZONES = "zones"  # the folder for them, in the state folder


@click.command(
    epilog="Example: cdnblock rpz-primary --orders orders/ --state /var/lib/cdnblock --listen 192.0.2.1:53 --clients"
    " fr=FR --keys rpz.key --secondary 192.0.2.2:53,key=rpz --partial"
)
@click.option(
    "--listen", multiple=True, metavar="ADDRESS", default=["127.0.0.1:5300"], show_default=True,
    help="Address and port to answer on, by UDP and TCP. Can be repeated.",
)  # fmt: skip
@orders_option
@click.option(
    "--state", type=click.Path(path_type=Path), envvar="CDNBLOCK_STATE", required=True,
    help="Folder of this instance alone: zones, serials and the last good orders survive there.",
)  # fmt: skip
@click.option(
    "--clients", "clients", multiple=True, required=True, metavar="NAME=PLACES",
    help="Whose zones there are, such as fr=FR or rest=other+unknown: pass-fr, delta-fr, base-fr. Can be repeated.",
)  # fmt: skip
@click.option(
    "--keys", "keys", type=click.Path(path_type=Path),
    help="File of TSIG keys as tsig-keygen writes them. Whoever has one may transfer.",
)  # fmt: skip
@click.option(
    "--secondary", "secondaries", multiple=True, metavar="ADDRESS[,key=NAME][,clients=NAME]",
    help="Resolver that is told of changes; without a key its address may transfer unsigned. Can be repeated.",
)  # fmt: skip
@click.option(
    "--allow", "allowed", multiple=True, metavar="CIDR",
    help="Network that may transfer without a key. Can be repeated.",
)  # fmt: skip
@click.option(
    "--update", "updates", multiple=True, metavar="ADDRESS[,key=NAME]",
    help="Primary of yours whose zones of these names are kept by dynamic updates. Can be repeated.",
)  # fmt: skip
@click.option("--suffix", default="", metavar="NAME", help="What stands behind the zones' names: pass-fr.NAME.")
@click.option(
    "--settle", type=click.FloatRange(0, 86_400), default=600.0, show_default=True,
    help="Seconds that resolvers have to take over a rewritten base zone.",
)  # fmt: skip
@click.option("--partial", is_flag=True, help="Agree to NXDOMAIN where REFUSED is ordered: policy zones know none.")
@geo_option
@metrics_option
@click.option("--clock", type=click.Path(path_type=Path), hidden=True, help="File with the time of a rehearsal.")
def command(  # noqa: PLR0913 (click hands options over by name)
    *,
    listen: Sequence[str],
    orders: Path,
    state: Path,
    clients: Sequence[str],
    keys: Path | None,
    secondaries: Sequence[str],
    allowed: Sequence[str],
    updates: Sequence[str],
    suffix: str,
    settle: float,
    partial: bool,
    geo: Path | None,
    metrics: str | None,
    clock: Path | None,
) -> None:
    """Be the hidden primary of resolvers: policy zones with SOA, AXFR, IXFR, NOTIFY and TSIG.

    Resolvers take the three zones of their clients in the order pass, delta, base. examples/rpz_primary has their
    configurations. SIGHUP has the orders reread, SIGTERM ends it.
    """
    import time

    from cdnblock.adapters._dns_front.peers import read_address
    from cdnblock.enforcer import Enforcer

    if find_spec("dns") is None:
        raise ConfigError("the hidden primary needs dnspython: pip install 'cdnblock[dns]'")
    from cdnblock.rpz_primary.keys import read_keys
    from cdnblock.rpz_primary.notifying import Secondary
    from cdnblock.rpz_primary.policies import read_clients
    from cdnblock.rpz_primary.primary import PrimarySettings
    from cdnblock.rpz_primary.publisher import Pace
    from cdnblock.rpz_primary.updating import Target
    from cdnblock.rpz_primary.zone_sets import read_suffix
    from cdnblock.sources.staging_clock import StagingClock

    log_to_stderr()
    known = read_keys(keys) if keys is not None else {}
    settings = PrimarySettings(
        listen=tuple(read_address(text) for text in listen),
        clients=read_clients(clients),
        folder=state / _ZONES,
        keys=known,
        secondaries=tuple(Secondary.read(text, known) for text in secondaries),
        targets=tuple(Target.read(text, known) for text in updates),
        allowed=tuple(part for text in allowed for part in text.replace(",", " ").split()),
        suffix=read_suffix(suffix),
        refuses_otherwise=partial,
        pace=Pace(settle=settle),
    )
    allow_many_files()
    now: Callable[[], float] = time.time if clock is None else StagingClock(clock)
    with Enforcer(orders, geo=geo, state=state, clock=now) as enforcer, serving_metrics(metrics, enforcer):
        asyncio.run(_serve(settings, enforcer, now))


async def _serve(settings: PrimarySettings, enforcer: Enforcer, clock: Callable[[], float]) -> None:
    """Serve until SIGTERM or SIGINT."""
    from cdnblock.rpz_primary.primary import serve_primary

    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, enforcer)
    async with serve_primary(settings, enforcer, clock) as primary:
        _say(primary)
        await ended.wait()


def _reload(enforcer: Enforcer) -> None:
    """Reread the orders beside the event loop."""
    threading.Thread(target=enforcer.reload, name="cdnblock-reload", daemon=True).start()


def _say(primary: Primary) -> None:
    where = ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in primary.addresses)
    zones = ", ".join(f"{zone.name} ({len(zone.version.policies):,} names)" for zone in primary.zones)
    click.echo(f"cdnblock: {zones} on {where}", err=True)
