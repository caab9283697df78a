"""`cdnblock mitmproxy`: mitmdump with the addon in its right place and with the options that it needs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click

from cdnblock.audit.settings import Settings
from cdnblock.cli.dry_run import report_only_option
from cdnblock.cli.open_files import allow_many_files
from cdnblock.cli.recording import recording_options
from cdnblock.errors import ConfigError
from cdnblock.shown import ShownRecord, ShownStream

DEFAULTS: Final[Mapping[str, object]] = {
    # The host that the client asks for decides, so it must not be replaced by the origin's.
    "keep_host_header": True,
    # A refused request must not even open a connection to the origin.
    "connection_strategy": "lazy",
    # What mitmproxy does not take for HTTP in a tunnel would pass undecided, and a server may take it for HTTP.
    "rawtcp": False,
}


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="mitmdump's own options: cdnblock mitmproxy -- --help. All that --set takes: cdnblock mitmproxy --options.",
)
@click.option("--orders", envvar="CDNBLOCK_ORDERS", help="Folder of order files, or one such file (cdnblock_orders).")
@click.option("--geo", envvar="CDNBLOCK_GEO", help="Country table, MMDB (cdnblock_geo).")
@click.option(
    "--trusted-proxies",
    envvar="CDNBLOCK_TRUSTED_PROXIES",
    multiple=True,
    help="Network whose forwarded client addresses are believed; can be repeated (cdnblock_trusted_proxies).",
)
@click.option("--state", envvar="CDNBLOCK_STATE", help="Folder in which the last good orders survive (cdnblock_state).")
@report_only_option
@recording_options
@click.option("--metrics", help="Address and port for Prometheus' GET /metrics (cdnblock_metrics).")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(  # noqa: PLR0913 (click hands each option over by name)
    *,
    orders: str | None,
    geo: str | None,
    trusted_proxies: Sequence[str],
    state: str | None,
    report_only: bool,
    audit: Path | None,
    audit_settings: Settings,
    metrics: str | None,
    arguments: Sequence[str],
) -> None:
    """Run mitmdump and enforce the orders in it. ARGUMENTS are mitmdump's own.

    Sets keep_host_header=true, connection_strategy=lazy and rawtcp=false: the host that a client asks for decides, a
    refused request reaches no origin, and a tunnel carries HTTP or TLS. Clients with public addresses need --set block_global=false. Options that would let
    requests pass undecided, such as stream_large_bodies, are refused. SIGHUP has the orders reread.

    Example: cdnblock mitmproxy --orders orders/ --mode reverse:http://127.0.0.1:8000@8080
    """
    wanted = [("cdnblock_orders", orders), ("cdnblock_geo", geo), ("cdnblock_state", state)]
    wanted += [("cdnblock_metrics", metrics)]
    wanted += [("cdnblock_report_only", "true")] if report_only else []
    wanted += [] if audit is None else [("cdnblock_audit", str(audit)), *_of_trail(audit_settings)]
    wanted += [("cdnblock_trusted_proxies", network) for network in trusted_proxies]
    allow_many_files()  # it holds an upstream socket for each client of its DNS for over a minute
    _run([*_as_settings(wanted, arguments), *arguments])


def _of_trail(settings: Settings) -> list[tuple[str, str]]:
    return [
        ("cdnblock_audit_clients", settings.clients.value),
        ("cdnblock_audit_retention", f"{settings.retention // timedelta(seconds=1)}s"),
        ("cdnblock_audit_fsync", settings.fsync.value),
    ]


def _as_settings(wanted: Sequence[tuple[str, str | None]], arguments: Sequence[str]) -> list[str]:
    """Return our options as mitmdump's --set, but for those that its arguments set already."""
    given = {argument.removeprefix("--set=").partition("=")[0] for argument in arguments}
    settings = [f"{name}={value}" for name, value in wanted if value is not None and name not in given]
    return [part for setting in settings for part in ("--set", setting)]


def _run(arguments: Sequence[str]) -> None:
    try:
        from mitmproxy.options import Options
        from mitmproxy.tools import cmdline, main
        from mitmproxy.tools.dump import DumpMaster
    except ImportError as error:
        raise ConfigError(f"mitmproxy cannot be imported ({error}); install cdnblock[mitmproxy]") from error
    from cdnblock.adapters.mitmproxy_addon import CdnBlock

    logging.setLogRecordFactory(ShownRecord)  # what clients send stands in its log lines, as it came

    class EnforcingMaster(DumpMaster):
        """mitmdump's master with the addon first, so before all that may answer, resolve or rewrite.

        It takes TermLog, the log on the terminal, under it: one more addon beside the others would cost each request
        15 µs, however little it did.
        """

        def __init__(self, options: Options) -> None:
            super().__init__(options)
            dumper: Any = self.addons.get("dumper")  # type: ignore[no-untyped-call]
            dumper.outfp = ShownStream(dumper.outfp or sys.stdout)
            addon = self.addons.register(CdnBlock())  # type: ignore[no-untyped-call]
            addon.addons = self.addons.chain[:1]
            self.addons.chain[0] = addon
            options.update(**DEFAULTS)  # type: ignore[no-untyped-call]

    main.run(EnforcingMaster, cmdline.mitmdump, list(arguments), _filter_options)


def _filter_options(parsed: Any) -> dict[str, str]:
    """Return what mitmdump makes of its filter arguments."""
    if not parsed.filter_args:
        return {}
    text = " ".join(parsed.filter_args)
    return dict.fromkeys(("save_stream_filter", "readfile_filter", "dumper_filter"), text)
