"""`cdnblock sandbox`: the staging sandbox. Rehearse orders on loopback before they bind."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import sys
import time
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import click

from cdnblock.cli.dry_run import report_only_option
from cdnblock.cli.options import geo_option
from cdnblock.cli.recording import recording_options
from cdnblock.errors import ConfigError
from cdnblock.orders.instants import LEGAL_TIME, read_instant
from cdnblock.orders.model import Measure
from cdnblock.shown import shown

if TYPE_CHECKING:
    from cdnblock.audit.settings import Settings
    from cdnblock.sandbox.report import Report
    from cdnblock.sandbox.stage import Stage, StageSettings

_EXIT_FAILED: Final = 1
_EXIT_INTERRUPTED: Final = 130


def _instant(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else read_instant(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command(epilog="Example: cdnblock sandbox --orders orders/ --once")
@click.option(
    "--orders",
    type=click.Path(path_type=Path),
    help="Folder of order files, or one such file.  [default: the examples]",
)
@geo_option
@click.option(
    "--at", metavar="TIME", callback=_instant,
    help="The clock's instant while it stays up.  [default: now if an order is in force, else when most are]",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Send the probes, print the table, exit 0 if each got what its order says.")
@click.option("--json", "as_json", is_flag=True, help="The result for machines; with --once or alone.")
@click.option(
    "--port", type=click.IntRange(0, 65533), default=0, metavar="N",
    help="Listen on N (proxy), N+1 (edge), N+2 (name server).  [default: any free ports]",
)  # fmt: skip
@report_only_option
@recording_options
@click.option("--break", "broken", type=click.Choice([measure.value for measure in Measure]), hidden=True)
def command(  # noqa: PLR0913 (each is an option)
    *,
    orders: Path | None,
    geo: Path | None,
    at: datetime | None,
    once: bool,
    as_json: bool,
    port: int,
    report_only: bool,
    audit: Path | None,
    audit_settings: Settings,
    broken: str | None,
) -> None:
    """Rehearse orders: a real origin, edge, proxy and name server on loopback, probed as clients in five places.

    The clock is set to just before, at and after each turn of each order, and every probe is compared with what a
    second, deliberately naive reading of the files says. Then everything stays up, to be tried with curl and dig,
    and shows how edits of the order files take effect, until Ctrl-C.
    """
    try:
        from cdnblock.sandbox.stage import StageSettings
    except ImportError as error:
        raise ConfigError(f"{error}; the sandbox needs pip install 'cdnblock[all]'") from error
    settings = StageSettings(
        orders=orders or _examples(),
        geo=geo,
        http_port=port,
        edge_port=port and port + 1,
        dns_port=port and port + 2,
        broken=Measure(broken) if broken else None,
        report_only=report_only,
        audit=audit,
        audit_settings=audit_settings,
    )
    try:
        failed = asyncio.run(_run(settings, at, stay=not (once or as_json), as_json=as_json))
    except asyncio.CancelledError:
        sys.exit(_EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise ConfigError(f"{error.strerror}; give another --port, or none for free ones") from error
    sys.exit(_EXIT_FAILED if failed else 0)


def _examples() -> Path:
    """Return the example orders: the copies in the installed package, or those of the source tree that this runs from."""
    here = Path(str(resources.files("cdnblock")))
    shipped = here / "sandbox" / "example_orders"
    return shipped if shipped.is_dir() else here.parent / "examples" / "orders"


async def _run(settings: StageSettings, at: datetime | None, *, stay: bool, as_json: bool) -> bool:
    """Rehearse, report, and stay if wanted; return whether a probe failed."""
    from cdnblock.sandbox.stage import open_stage

    started = time.monotonic()
    _end_on_signals()
    logging.getLogger("cdnblock").addHandler(logging.NullHandler())  # what it would say is in the report, or shown live
    if not as_json:
        click.echo(f"Starting origin, edge, mitmproxy and name server for {shown(settings.orders)} ...", err=True)
    async with open_stage(settings) as stage:
        report = await _rehearse(stage, settings, started)
        click.echo(report.as_json() if as_json else report.table())
        if stay:
            await _stay(stage, report, settings.orders, at)
    return bool(report.failed)


def _end_on_signals() -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _rehearse(stage: Stage, settings: StageSettings, started: float) -> Report:
    from cdnblock.sandbox import naive_reading
    from cdnblock.sandbox.probes import plan
    from cdnblock.sandbox.rehearsal import rehearse
    from cdnblock.sandbox.report import Report
    from cdnblock.verification.places import find_places

    papers = naive_reading.read(settings.orders)
    if settings.report_only:
        papers = naive_reading.as_reported(papers)
    if not papers:
        raise ConfigError(
            f"{settings.orders}: there is no order to rehearse; name a folder of order files with --orders"
        )
    places, missing = find_places(stage.enforcer.geo)
    steps = plan(papers, places)
    with click.progressbar(
        length=sum(len(step.probes) for step in steps), label="Probing", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        results = await rehearse(stage, steps, tell=lambda _result: bar.update(1))
    return Report(
        papers=papers,
        results=results,
        places=places,
        missing=missing,
        warnings=[str(problem) for problem in stage.enforcer.problems],
        revision=stage.enforcer.rules.revision,
        geo=stage.enforcer.geo.description,
        seconds=time.monotonic() - started,
    )


async def _stay(stage: Stage, report: Report, orders: Path, at: datetime | None) -> None:
    """Print what to try, then every change of the files, until Ctrl-C."""
    from cdnblock.sandbox.live import best_instant, changes, things_to_try

    at = at or best_instant(report.papers, datetime.now(UTC))
    await stage.run_clock(at)
    told = at.astimezone(ZoneInfo(LEGAL_TIME))
    click.echo(f"\nThe sandbox stays up. Its clock runs from {told:%Y-%m-%d %H:%M %Z} (see --at). To paste:\n")
    for line in things_to_try(stage, report.papers, report.places, at):
        click.echo(line)
    click.echo(f"\nEdit the files in {shown(orders)} and watch. Ctrl-C ends it.\n")
    try:
        async for line in changes(stage):
            click.echo(f"{datetime.now().astimezone():%H:%M:%S}  {line}")
    except asyncio.CancelledError:
        click.echo("Ending.", err=True)
