"""`cdnblock apply`: keeps a running engine in step with the orders, as a service."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from cdnblock.cli.dry_run import report_only_option
from cdnblock.cli.export import hosts_listed, networks_of, setting_of
from cdnblock.cli.options import geo_option, orders_option, printable
from cdnblock.cli.probing import client_of, prober_of
from cdnblock.cli.recording import recording_options
from cdnblock.cli.serving_metrics import metrics_option, serving_metrics
from cdnblock.errors import CdnblockError, Severity
from cdnblock.shown import log_to_stderr

if TYPE_CHECKING:
    from cdnblock.audit.settings import Settings
    from cdnblock.enforcer import Enforcer
    from cdnblock.engines.applying import Applied, Applier

_EXIT_INVALID: Final = 1
_EXIT_UNREACHABLE: Final = 5
_LOOPBACK: Final = "127.0.0.1"


@click.command
@click.argument("target", required=False)
@click.option("--list", "as_list", is_flag=True, help="Print which engines there are and their settings, and exit.")
@orders_option
@geo_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that the engine reads; the rest of it stays.",
)
@click.option(
    "--engine", "means", multiple=True, metavar="NAME=VALUE",
    help="How the engine is reached, such as config=/etc/nginx/nginx.conf; see --list. Can be repeated.",
)  # fmt: skip
@click.option(
    "--probe", metavar="URL",
    help="Where clients reach the engine: http://…, https://… or dns://…. It is asked there after each change.",
)  # fmt: skip
@click.option("--no-probe", is_flag=True, help="Ask nobody whether a change has arrived: nothing is ever rolled back.")
@click.option(
    "--probe-client", "probe_clients", multiple=True, metavar="CODE=ADDRESS",
    help="Ask as a client in a country (`-`: in none), from this address. Can be repeated.  [default: made-up ones]",
)  # fmt: skip
@click.option(
    "--probe-told", metavar="HOW",
    help="How the engine learns where a probe comes from: source, x-forwarded-for, proxy-v1, proxy-v2 or ecs.",
)  # fmt: skip
@click.option(
    "--patience", type=click.FloatRange(0.1, 600), default=30.0, show_default=True,
    help="Seconds that the engine has until it answers as decided.",
)  # fmt: skip
@click.option("--state", type=click.Path(path_type=Path), envvar="CDNBLOCK_STATE",
              help="Folder of this instance alone: the last good orders survive there; for `status` and `reload`.  "
              "[default: .cdnblock-orders in --out]")  # fmt: skip
@click.option("--once", is_flag=True, help="Do what has to be done now, and exit.")
@click.option(
    "--accept-release", is_flag=True,
    help="With --once: also release a third of the names in force or more, which is otherwise held back.",
)  # fmt: skip
@click.option(
    "--look-every", type=click.FloatRange(0.1, 86_400), default=60.0, show_default=True,
    help="Seconds between two looks at an engine that nobody has changed.",
)  # fmt: skip
@click.option(
    "--served", type=click.File("r", encoding="utf-8"), metavar="FILE",
    help="The hosts that this engine serves, one a line, *.name for all below a name. Others are left out.",
)  # fmt: skip
@click.option(
    "--partial", is_flag=True, help="Apply what the target can say; otherwise an order it cannot is an error."
)
@click.option(
    "--trusted-proxies", multiple=True, envvar="CDNBLOCK_TRUSTED_PROXIES", metavar="NETWORK",
    help="Whose X-Forwarded-For the engine is to believe; repeat it, or separate by commas.",
)  # fmt: skip
@click.option("--operator-url", metavar="URL", help="Your page about blocking, for the 451's Link.")
@click.option("--contact", metavar="TEXT", help="Whom to contact, for orders that name nobody.")
@click.option("--folder", metavar="PATH", help="Where the engine sees the files.  [default: --out]")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="As of `cdnblock export`.")
@report_only_option
@recording_options
@metrics_option
@click.option("--clock", type=click.Path(path_type=Path), hidden=True, help="File with the time of a rehearsal.")
def command(  # noqa: PLR0913 (click hands each option over by name)
    *,
    target: str | None,
    as_list: bool,
    orders: Path,
    geo: Path | None,
    out: Path | None,
    means: tuple[str, ...],
    probe: str | None,
    no_probe: bool,
    probe_clients: tuple[str, ...],
    probe_told: str | None,
    patience: float,
    state: Path | None,
    once: bool,
    accept_release: bool,
    look_every: float,
    served: TextIO | None,
    partial: bool,
    trusted_proxies: tuple[str, ...],
    operator_url: str | None,
    contact: str | None,
    folder: str | None,
    settings: tuple[str, ...],
    report_only: bool,
    audit: Path | None,
    audit_settings: Settings,
    metrics: str | None,
    clock: Path | None,
) -> None:
    """Keep a running engine, the TARGET, in step with the orders.

    At each change of the folder and at each instant at which an order starts, ends, or opens or closes a window: write
    the configuration, have the engine's own checker read it, put it in place, reload by the gentlest means, and ask the
    engine as clients do, inside a territory and outside. Where it answers otherwise than decided, what was right before
    comes back, and it is tried again later. SIGHUP has everything looked at now, SIGTERM ends it; the engine goes on.

    \b
    With --once exits 0 when the engine is in step,
          1 when the orders, a setting or the checker keep it from that, or its answers do; or when a release is
            held back, or a file is invalid whose last good version stays in force,
          5 when it does not run: then what its checker accepted is in place for its start.

    Example: cdnblock apply nginx --orders orders/ --out /etc/nginx/cdnblock --probe http://127.0.0.1 --trusted-proxies 127.0.0.1
    """  # noqa: D301 (click's mark)
    from cdnblock.enforcer import Enforcer
    from cdnblock.engines import load
    from cdnblock.engines._folder import ORDERS, ConfigFolder
    from cdnblock.engines.applying import Applier
    from cdnblock.exporters import Options
    from cdnblock.exporters import load as load_exporter
    from cdnblock.sources.geo_tables import open_geo_table

    if as_list:
        click.echo("\n".join(_settings_of_engines()))
        return
    if target is None or out is None:
        raise click.UsageError("give a TARGET and --out FOLDER, or --list")
    if (probe is None) != no_probe:
        raise click.UsageError(
            "say where clients reach the engine, --probe URL; or that nobody is to ask it, --no-probe"
        )
    if accept_release and not once:
        raise click.UsageError("--accept-release goes with --once; a service is told by `cdnblock reload --state`")
    log_to_stderr()
    kind, exporter, table, tick = load(target), load_exporter(target), open_geo_table(geo), _clock(clock)
    seen_as, trusted = folder or str(out.absolute()), networks_of(trusted_proxies)
    engine = kind.make(kind.means(Path(seen_as), [setting_of(text) for text in means], patience))
    options = Options(
        folder=seen_as, operator_url=operator_url, contact=contact, trusted_proxies=trusted,
        settings=dict(map(setting_of, settings)),
    )  # fmt: skip
    prober = None
    if probe is not None:
        clients = [client_of(text, probe_told) for text in probe_clients]
        is_believed = any(ip_address(_LOOPBACK) in ip_network(network) for network in trusted)
        prober = prober_of(probe, kind, exporter, table, clients, options, patience, is_believed=is_believed)

    def now() -> datetime:
        return datetime.fromtimestamp(tick(), UTC)

    with ExitStack() as stack:
        applier = Applier(
            exporter=exporter, engine=engine, folder=stack.enter_context(ConfigFolder(out)), table=table,
            options=options, prober=prober, now=now, served=None if served is None else tuple(hosts_listed(served)), partial=partial,
        )  # fmt: skip
        enforcer = stack.enter_context(
            Enforcer(
                orders,
                geo=table,
                state=state or out / ORDERS,
                report_only=report_only,
                clock=tick,
                follow=not once,
                audit=audit,
                audit_settings=audit_settings,
                serving=False,
            )
        )
        if once:
            if accept_release:
                enforcer.reload(accept_release=True)
            sys.exit(_once(applier, enforcer))
        from cdnblock.engines.metrics import rows
        from cdnblock.engines.service import Service

        service = Service(enforcer=enforcer, applier=applier, said=_say, now=now, look=look_every)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.end())
        signal.signal(signal.SIGHUP, lambda *_: service.wake())
        stack.enter_context(serving_metrics(metrics, enforcer, lambda: rows(service.status())))
        service.run()


def _once(applier: Applier, enforcer: Enforcer) -> int:
    from cdnblock.engines._engine import DownError
    from cdnblock.engines._recorded import record_applied, record_failure

    kept = enforcer.status()["held"]
    for held in kept:
        click.echo(
            f"cdnblock: {printable(held['file'])} would release {held['names']} names in force: it is held back, and what"
            " was in force stays so; --accept-release if it is meant",
            err=True,
        )
    try:
        applied = applier.apply(enforcer.rules)
        _say(applied)
        record_applied(enforcer.trail, applier.exporter.name, applied, is_probed=applier.prober is not None)
    except (CdnblockError, OSError) as error:
        record_failure(enforcer.trail, applier.exporter.name, enforcer.rules.revision, str(error))
        click.echo(f"cdnblock: {applier.exporter.name} is not in step: {printable_lines(str(error))}", err=True)
        return _EXIT_UNREACHABLE if isinstance(error, DownError) else _EXIT_INVALID
    for wrong in applied.wrong:
        click.echo(f"cdnblock: {applier.exporter.name} is not in step for a name: {printable(wrong)}", err=True)
    return (
        _EXIT_INVALID
        if kept or applied.wrong or any(problem.severity is Severity.ERROR for problem in enforcer.problems)
        else 0
    )


def printable_lines(text: str) -> str:
    """Return a text of several lines that cannot steer a terminal."""
    return "\n".join(map(printable, text.splitlines()))


def _say(applied: Applied) -> None:
    for item in applied.missing:
        click.echo(f"cdnblock: missing: {printable(item)}", err=True)
    steps = ", ".join(f"{step} {1000 * seconds:,.0f} ms" for step, seconds in applied.seconds.items())
    until = "for ever" if applied.until is None else f"until {applied.until.isoformat()}"
    what = f"{len(applied.changed)} files changed" if applied.changed else "nothing to change"
    click.echo(f"cdnblock: in step with {applied.revision}, {until}: {what} ({steps})")


def _clock(path: Path | None) -> Callable[[], float]:
    if path is None:
        return time.time
    from cdnblock.sources.staging_clock import StagingClock

    return StagingClock(path)


def _settings_of_engines() -> Iterator[str]:
    from cdnblock.engines import ENGINES, load

    for target in ENGINES:
        yield target
        for name, setting in load(target).settings.items():
            yield f"  --engine {name}={setting.default or '…'}: {setting.does}{'; repeat it' if setting.many else ''}"
