"""What the command line says of how an engine is asked whether a change has arrived."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

import click

from cdnblock.errors import ConfigError

if TYPE_CHECKING:
    from cdnblock.engines import EngineKind
    from cdnblock.engines._probes import Prober, Table
    from cdnblock.exporters import Exporter, Options
    from cdnblock.verification.clients import Client


def prober_of(
    url: str, kind: EngineKind, exporter: Exporter, table: Table, clients: Sequence[Client], options: Options,
    patience: float, *, is_believed: bool,
) -> Prober:  # fmt: skip
    """Return who asks an engine at a URL; says so on stderr where that shows nothing of territories."""
    from cdnblock.engines._probes import Prober
    from cdnblock.measures.notice.contents import web_link
    from cdnblock.verification.servers import read_server

    prober = Prober(
        server=read_server(url), exporter=exporter, table=table, clients=clients, patience=patience, own=kind.own,
        told=kind.believes if is_believed else None, says_why=kind.says_why(options.settings),
        links=web_link(options.operator_url) is not None,
    )  # fmt: skip
    if exporter.territory and not clients and prober.told is None:
        click.echo(
            "cdnblock: the engine is asked from this machine alone, which is in no territory: name addresses that it may"
            " be asked from, --probe-client FR=ADDRESS, or let it believe us, --trusted-proxies 127.0.0.1",
            err=True,
        )
    return prober


def client_of(text: str, told: str | None) -> Client:
    """Return the client that `CODE=ADDRESS` describes. Raises ConfigError where it is none."""
    from cdnblock.verification.clients import Client, Told

    code, equals, address = text.partition("=")
    if not equals:
        raise ConfigError(f"--probe-client {text!r}: write CODE=ADDRESS, such as FR=192.0.2.7")
    try:
        ip_address(address)
        way = Told(told) if told else Told.SOURCE
    except ValueError as error:
        raise ConfigError(f"--probe-client {text!r}, --probe-told {told!r}: {error}") from None
    return Client(label=code, country=None if code == "-" else code, address=address, told=way)
