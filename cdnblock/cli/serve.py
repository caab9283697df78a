"""`cdnblock serve`: the decision service, which nginx, Caddy, Traefik, Envoy, HAProxy and Varnish can ask; the dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cdnblock.cli.dry_run import names_listed, report_only_option
from cdnblock.cli.options import geo_option, orders_option
from cdnblock.cli.recording import recording_options
from cdnblock.cli.showing import DashboardSettings, dashboard_options, showing
from cdnblock.errors import ConfigError
from cdnblock.shown import log_to_stderr

if TYPE_CHECKING:
    from cdnblock.adapters._decision_generations import Generations
    from cdnblock.adapters._decision_listening import Listen
    from cdnblock.adapters.decision_service import DecisionService
    from cdnblock.audit.settings import Settings
    from cdnblock.enforcer import Enforcer
    from cdnblock.http_gate import HttpGate


def _octal(ctx: click.Context, param: click.Parameter, value: str) -> int:
    try:
        return int(value, 8) & 0o777
    except ValueError:
        raise click.BadParameter("permissions are octal, such as 0660", ctx, param) from None


@click.command(
    epilog="Example: cdnblock serve --orders orders/ --state /var/lib/cdnblock --listen unix:/run/cdnblock/decide.sock"
)
@click.option(
    "--listen", multiple=True, metavar="ADDRESS",
    help="HOST:PORT or unix:/path; haproxy@HOST:PORT for HAProxy, which needs an address of its own. Can be repeated.",
)  # fmt: skip
@orders_option
@geo_option
@click.option("--state", type=click.Path(path_type=Path), envvar="CDNBLOCK_STATE",
              help="Folder of this instance alone: the last good orders survive there, and the caches' generations.")  # fmt: skip
@click.option("--trusted-caller", multiple=True, metavar="CIDR",
              help="Network of proxies that may ask over TCP; nobody else gets an answer. Can be repeated.")  # fmt: skip
@click.option("--trusted-proxies", multiple=True, envvar="CDNBLOCK_TRUSTED_PROXIES", metavar="CIDR",
              help="Network in front of the asking proxies whose X-Forwarded-For is believed. Can be repeated.")  # fmt: skip
@click.option("--operator-url", help="Your page about blocking, for the 451's Link.")
@click.option("--contact", help="Whom to contact, for orders that name nobody.")
@click.option("--on-failure", type=click.Choice(["closed", "open"]), default="closed", show_default=True,
              help="What a covered host gets when no decision can be made: 503, or served.")  # fmt: skip
@report_only_option
@recording_options
@dashboard_options
@click.option("--socket-mode", callback=_octal, default="0660", show_default=True, help="Permissions of unix sockets.")
def command(  # noqa: PLR0913 (each is an option)
    *,
    listen: Sequence[str],
    orders: Path,
    geo: Path | None,
    state: Path | None,
    trusted_caller: Sequence[str],
    trusted_proxies: Sequence[str],
    operator_url: str | None,
    contact: str | None,
    on_failure: str,
    report_only: bool,
    audit: Path | None,
    audit_settings: Settings,
    dashboard: DashboardSettings,
    socket_mode: int,
) -> None:
    """Answer proxies that ask before they serve: 200, or the 451 with its notice.

    examples/decision_service has the configuration of each proxy. SIGHUP has the orders reread, SIGTERM lets it
    answer what was asked and end. /livez, /readyz and /metrics are for callers, too.

    --dashboard 127.0.0.1:9460 shows what this instance does, with or without --listen.
    """
    from cdnblock.adapters._decision_generations import Generations
    from cdnblock.adapters._decision_listening import Callers, parse_listen
    from cdnblock.adapters.decision_service import DecisionService
    from cdnblock.enforcer import Enforcer
    from cdnblock.http_gate import HttpGate
    from cdnblock.measures.notice.contents import check_operator

    if not listen and dashboard.where is None:
        raise click.UsageError("nothing to serve: give --listen ADDRESS, --dashboard HOST:PORT, or both")
    check_operator(operator_url, contact)
    addresses = [parse_listen(text) for text in listen]
    callers = _split(trusted_caller)
    if not callers and any(address.path is None for address in addresses):
        raise ConfigError("who may ask over TCP? Name the proxies' network: --trusted-caller 127.0.0.1")
    trusted = (*callers, *_split(trusted_proxies), "unix")

    def load() -> Enforcer:
        return Enforcer(
            orders, geo=geo, trusted_proxies=trusted, client_header="x-forwarded-for", state=state,
            report_only=report_only, audit=audit, audit_settings=audit_settings,
        )  # fmt: skip

    def decide_by(enforcer: Enforcer) -> tuple[HttpGate, Generations]:
        gate = HttpGate(enforcer, operator_url=operator_url, contact=contact, on_failure=on_failure)
        return gate, Generations(enforcer, folder=state, clock=time.time)

    log_to_stderr()
    service = DecisionService(callers=Callers(callers))
    shown = functools.partial(showing, dashboard, orders=orders, audit=audit)
    asyncio.run(_serve(service, addresses, socket_mode, load, decide_by, shown))


async def _serve(
    service: DecisionService,
    addresses: Sequence[Listen],
    mode: int,
    load: Callable[[], Enforcer],
    decide_by: Callable[[Enforcer], tuple[HttpGate, Generations]],
    shown_by: Callable[[Enforcer], AbstractAsyncContextManager[None]],
) -> None:
    """Listen at once, load the rules, decide until SIGTERM or SIGINT."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # while loading: they are being read
    async with service.serve(addresses, mode=mode) as ports:
        enforcer = await asyncio.to_thread(load)
        with contextlib.closing(enforcer):
            gate, generations = await asyncio.to_thread(decide_by, enforcer)
            unfollow = generations.follow()
            loop.add_signal_handler(signal.SIGHUP, _reload, enforcer)
            service.decide_by(gate, generations)
            shown = ", ".join(_shown(address, port) for address, port in zip(addresses, ports, strict=True))
            doing = f"deciding on {shown}" if shown else "following the orders"
            click.echo(f"cdnblock: {doing}; {names_listed(enforcer)}", err=True)
            async with shown_by(enforcer):
                await ended.wait()
            unfollow()


def _reload(enforcer: Enforcer) -> None:
    """Reread the orders beside the event loop."""
    threading.Thread(target=enforcer.reload, name="cdnblock-reload", daemon=True).start()


def _shown(address: Listen, port: int) -> str:
    return f"unix:{address.path}" if address.path else f"{address.host}:{port}"


def _split(networks: Sequence[str]) -> tuple[str, ...]:
    """Return networks that were given one by one, or in one text with commas."""
    return tuple(part for text in networks for part in text.replace(",", " ").split())
