"""`cdnblock dns`: the DNS front. It refuses what the orders say and hands everything else to a resolver."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cdnblock.cli.dry_run import names_listed, report_only_option
from cdnblock.cli.open_files import allow_many_files
from cdnblock.cli.options import geo_option, orders_option
from cdnblock.cli.recording import recording_options
from cdnblock.cli.serving_metrics import metrics_option, serving_metrics
from cdnblock.shown import log_to_stderr

if TYPE_CHECKING:
    from cdnblock.adapters.dns_server import Address, FrontSettings
    from cdnblock.audit.settings import Settings
    from cdnblock.enforcer import Enforcer

_MOST_WORKERS: Final = 256


@click.command(epilog="Example: cdnblock dns --orders orders/ --listen 127.0.0.1:5353 --upstream 127.0.0.1:53")
@click.option(
    "--listen", "listen", multiple=True, metavar="ADDRESS", default=["127.0.0.1:5353"], show_default=True,
    help="Address and port to answer on, by UDP and TCP; [::1]:53 for IPv6. Can be repeated.",
)  # fmt: skip
@click.option(
    "--upstream", "upstreams", multiple=True, required=True, metavar="ADDRESS",
    help="Resolver that gets everything else; more of them are asked in this order when one does not answer.",
)  # fmt: skip
@orders_option
@geo_option
@click.option(
    "--state", type=click.Path(path_type=Path), envvar="CDNBLOCK_STATE",
    help="Folder of this instance alone: the last good orders survive there; for `cdnblock status` and `reload`.",
)  # fmt: skip
@click.option(
    "--trusted-forwarder", "forwarders", multiple=True, metavar="CIDR",
    help="Network of resolvers whose EDNS Client Subnet is believed. Can be repeated.",
)  # fmt: skip
@click.option(
    "--load-balancer", "load_balancers", multiple=True, metavar="CIDR",
    help="Network of load balancers that always send the PROXY protocol, such as dnsdist. Can be repeated.",
)  # fmt: skip
@click.option(
    "--listen-tls",
    multiple=True,
    metavar="ADDRESS",
    help="Address for DNS over TLS, port 853 by default. Can be repeated.",
)
@click.option(
    "--listen-https", multiple=True, metavar="ADDRESS",
    help="Address for DNS over HTTPS at /dns-query, port 443 by default. Can be repeated.",
)  # fmt: skip
@click.option(
    "--listen-http", multiple=True, metavar="ADDRESS",
    help="The same without TLS, port 80 by default, behind a proxy that does TLS. Can be repeated.",
)  # fmt: skip
@click.option(
    "--certificate", type=click.Path(path_type=Path),
    help="Certificate chain for TLS and HTTPS, PEM; when the file is replaced, the new one counts.",
)  # fmt: skip
@click.option("--key", type=click.Path(path_type=Path), help="Its private key, PEM.  [default: in the same file]")
@click.option(
    "--trusted-proxies", envvar="CDNBLOCK_TRUSTED_PROXIES", multiple=True, metavar="CIDR",
    help="Network of proxies whose forwarded client addresses DNS over HTTPS believes. Can be repeated.",
)  # fmt: skip
@click.option("--contact", help="Whom to contact, for the extended error.  [default: what each order says]")
@click.option(
    "--on-failure", type=click.Choice(["closed", "open"]), default="closed", show_default=True,
    help="What a name in the orders gets when no decision can be made: SERVFAIL, or the resolver's answer.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(0.05, 60), default=3.0, show_default=True,
    help="Seconds after which the next upstream is asked, or the client gets SERVFAIL.",
)  # fmt: skip
@click.option(
    "--outstanding", type=click.IntRange(1, 32_768), default=16_384, show_default=True,
    help="Queries that may wait for upstreams, per worker; beyond that the oldest get SERVFAIL.",
)  # fmt: skip
@click.option(
    "--idle", type=click.FloatRange(0.1, 600), default=10.0, show_default=True,
    help="Seconds after which a connection over TCP, TLS or HTTP is closed on which no whole query has come.",
)  # fmt: skip
@click.option("--retry-truncated", is_flag=True, help="Ask once more over TCP when an upstream's answer is truncated.")
@click.option(
    "--workers", type=click.IntRange(1, _MOST_WORKERS), default=1, show_default=True,
    help="Processes that share the addresses, each with an event loop, all with the same orders.",
)  # fmt: skip
@metrics_option
@report_only_option
@recording_options
@click.option("--clock", type=click.Path(path_type=Path), hidden=True, help="File with the time of a rehearsal.")
def command(  # noqa: PLR0913 (click hands options over by name)
    *,
    listen: Sequence[str],
    upstreams: Sequence[str],
    orders: Path,
    geo: Path | None,
    state: Path | None,
    forwarders: Sequence[str],
    load_balancers: Sequence[str],
    listen_tls: Sequence[str],
    listen_https: Sequence[str],
    listen_http: Sequence[str],
    certificate: Path | None,
    key: Path | None,
    trusted_proxies: Sequence[str],
    contact: str | None,
    on_failure: str,
    timeout: float,
    outstanding: int,
    idle: float,
    retry_truncated: bool,
    workers: int,
    metrics: str | None,
    report_only: bool,
    audit: Path | None,
    audit_settings: Settings,
    clock: Path | None,
) -> None:
    """Stand before a resolver: refuse the names of the orders to the clients they concern, forward everything else.

    The client is whoever sends the query, unless a network is named whose word about its clients is believed. What is
    forwarded goes as it came, but for its id, and so does its answer. SIGHUP has the orders reread, SIGTERM ends it.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # while it starts: the orders are being read
    click.get_current_context().call_on_close(lambda: signal.signal(signal.SIGHUP, before))

    from cdnblock.adapters._dns_front.encrypted import EncryptedSettings
    from cdnblock.adapters._dns_front.front import fitting
    from cdnblock.adapters.dns_server import FrontSettings, StreamLimits, read_address

    log_to_stderr()
    settings = FrontSettings(
        listen=tuple(read_address(text) for text in listen),
        upstreams=tuple(read_address(text) for text in upstreams),
        timeout=timeout,
        outstanding=outstanding,
        limits=StreamLimits(idle=idle),
        retry_truncated=retry_truncated,
        trusted_forwarders=_split(forwarders),
        load_balancers=_split(load_balancers),
        contact=contact,
        fails_open=on_failure == "open",
        geo=geo,
        report_only=report_only,
        clock=clock,
        encrypted=EncryptedSettings(
            tls=tuple(read_address(text, 853) for text in listen_tls),
            https=tuple(read_address(text, 443) for text in listen_https),
            http=tuple(read_address(text, 80) for text in listen_http),
            certificate=certificate,
            key=key,
            trusted_proxies=_split(trusted_proxies),
        ),
    )
    allow_many_files()
    settings = fitting(settings)
    load = functools.partial(_enforcer, settings, orders, audit, audit_settings)
    if workers == 1:
        with load(state) as enforcer:
            _serve_alone(settings, enforcer, metrics)
    else:
        _serve_with_workers(settings, load, state, metrics, workers)


def _serve_alone(settings: FrontSettings, enforcer: Enforcer, metrics: str | None) -> None:
    """Serve in this process until SIGTERM or SIGINT."""
    from cdnblock.adapters.dns_server import run, serve_front

    async def serve() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, _reload, enforcer)

        def counted() -> dict[str, object]:
            own = {"pid": os.getpid(), "revision": enforcer.rules.revision, **front.metrics()}
            return {"restarts": 0, "workers": [own]}

        async with serve_front(settings, enforcer) as front:
            with _reporting(enforcer, metrics, counted):
                _say(front.addresses, settings, enforcer, 1)
                await ended.wait()

    run(serve())


def _serve_with_workers(
    settings: FrontSettings,
    load: Callable[[Path | None], Enforcer],
    state: Path | None,
    metrics: str | None,
    number: int,
) -> None:
    """Supervise workers until SIGTERM or SIGINT."""
    from cdnblock.adapters.dns_server import Workers

    ended = threading.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: ended.set())
    with contextlib.ExitStack() as stack:
        if state is None:  # the files in force are handed on from a state folder
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdnblock-dns-"))) / "state"
        enforcer = stack.enter_context(load(state))
        signal.signal(signal.SIGHUP, lambda *_: _reload(enforcer))
        workers = stack.enter_context(Workers(enforcer, settings, number))
        stack.enter_context(_reporting(enforcer, metrics, workers.metrics))
        _say(workers.addresses, settings, enforcer, number)
        workers.watch(ended)


@contextlib.contextmanager
def _reporting(enforcer: Enforcer, metrics: str | None, tell: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """Tell the counters in `cdnblock status`, and to Prometheus where it is told to ask."""
    from cdnblock.adapters.dns_server import Totals

    enforcer.report("dns", tell)
    totals = Totals()
    with serving_metrics(metrics, enforcer, lambda: totals.rows(tell())):
        yield


def _enforcer(
    settings: FrontSettings, orders: Path, audit: Path | None, audit_settings: Settings, state: Path | None
) -> Enforcer:
    import time

    from cdnblock.enforcer import Enforcer
    from cdnblock.sources.staging_clock import StagingClock

    clock: Callable[[], float] = time.time if settings.clock is None else StagingClock(settings.clock)
    return Enforcer(
        orders, geo=settings.geo, state=state, report_only=settings.report_only, audit=audit,
        audit_settings=audit_settings, clock=clock,
    )  # fmt: skip


def _reload(enforcer: Enforcer) -> None:
    """Reread the orders because somebody said so, beside whoever answers."""
    threading.Thread(target=enforcer.reload, name="cdnblock-reload", daemon=True).start()


def _say(addresses: Sequence[Address], settings: FrontSettings, enforcer: Enforcer, number: int) -> None:
    doors = [("DNS", addresses)]
    doors += [(door.upper(), getattr(settings.encrypted, door)) for door in ("tls", "https", "http")]
    shown = ", ".join(
        f"{door} on " + ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in where)
        for door, where in doors
        if where
    )
    by = "" if number == 1 else f" with {number} workers"
    click.echo(f"cdnblock: {shown}{by}; {names_listed(enforcer)}", err=True)


def _split(networks: Sequence[str]) -> tuple[str, ...]:
    """Return networks that were given one by one, or in one text with commas."""
    return tuple(part for text in networks for part in text.replace(",", " ").split())
