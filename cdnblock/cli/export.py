"""`cdnblock export`: the orders as configuration of other servers, in a folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from cdnblock.cli.options import at_option, geo_option, orders_option, printable
from cdnblock.errors import ConfigError
from cdnblock.matching.names import canonical

if TYPE_CHECKING:
    from cdnblock.exporters import File

_MODE: Final = 0o644  # nothing in the files is secret, and many servers read them as another user
_ANY_BELOW: Final = "*."


@click.command
@click.argument("target", required=False)
@click.option("--list", "as_list", is_flag=True, help="Print which target carries which measures, and exit.")
@orders_option
@geo_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to; the rest of it stays."
)
@click.option(
    "--served", type=click.File("r", encoding="utf-8"), metavar="FILE",
    help="The hosts that this server serves, one a line, *.name for all below a name. Others are left out.",
)  # fmt: skip
@at_option
@click.option(
    "--partial", is_flag=True, help="Write what the target can say, and list the rest; otherwise that is an error."
)
@click.option(
    "--trusted-proxies", multiple=True, envvar="CDNBLOCK_TRUSTED_PROXIES", metavar="NETWORK",
    help="Whose X-Forwarded-For the server is to believe; repeat it, or separate by commas.",
)  # fmt: skip
@click.option("--operator-url", metavar="URL", help="Your page about blocking, for the 451's Link.")
@click.option("--contact", metavar="TEXT", help="Whom to contact, for orders that name nobody.")
@click.option("--clients-in", metavar="CODE", help="Country of all clients, for lists that ask nobody where he is.")
@click.option("--folder", metavar="PATH", help="Where the server will find the files.  [default: --out]")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the target; see --list.")
@click.option("--stamp", is_flag=True, help="Write the time of rendering into the files; then each export differs.")
def command(  # noqa: PLR0913 (click hands each option over by name)
    *,
    target: str | None,
    as_list: bool,
    orders: Path,
    geo: Path | None,
    out: Path | None,
    served: TextIO | None,
    at: datetime | None,
    partial: bool,
    trusted_proxies: tuple[str, ...],
    operator_url: str | None,
    contact: str | None,
    clients_in: str | None,
    folder: str | None,
    settings: tuple[str, ...],
    stamp: bool,
) -> None:
    """Write the orders as configuration of another server, the TARGET, into a folder.

    It is right for the instant --at until the one that its header names: servers know no calendar. What the target
    cannot say of an order in force is an error, unless --partial agrees to leave it out.

    Example: cdnblock export haproxy --orders examples/orders --out /etc/haproxy/cdnblock
    """
    from cdnblock.exporters import Options, export, load, table
    from cdnblock.sources.geo_tables import open_geo_table
    from cdnblock.sources.order_folder import load_orders

    if as_list:
        click.echo(table())
        click.echo("\n".join(_settings_of_targets()), err=True)
        return
    if target is None or out is None:
        raise click.UsageError("give a TARGET and --out FOLDER, or --list")
    now = datetime.now(UTC)
    done = export(
        load(target),
        load_orders(orders),
        open_geo_table(geo),
        at or now,
        Options(
            folder=folder or str(out.absolute()),
            operator_url=operator_url,
            contact=contact,
            trusted_proxies=networks_of(trusted_proxies),
            clients_in=_country(clients_in),
            settings=dict(map(setting_of, settings)),
            rendered=now if stamp else None,
        ),
        served=None if served is None else hosts_listed(served),
        partial=partial,
    )
    for item in done.missing:
        click.echo(f"cdnblock: missing: {printable(str(item))}", err=True)
    for name in put(out, done.files):
        click.echo(printable(str(out / name)))


def put(folder: Path, files: Iterable[File]) -> list[str]:
    """Write files into a folder, and return the names of those that changed.

    Each is whole at any moment, and none is put in its place before all are written; what else is there stays. A file
    is always dated some second later than the one that was there: engines that watch a file compare no more than that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    changed = [file for file in files if not _is_there(folder / file.name, file.octets)]
    with ExitStack() as leftovers:
        written = [(_written(folder, file, leftovers), file.name) for file in changed]
        for new, name in written:
            _date_after(folder / name, new)
            new.replace(folder / name)
    return [file.name for file in changed]


def _is_there(path: Path, octets: bytes) -> bool:
    try:
        return path.read_bytes() == octets
    except FileNotFoundError:
        return False


def _written(folder: Path, file: File, leftovers: ExitStack) -> Path:
    place = folder / file.name
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    leftovers.callback(Path(name).unlink, missing_ok=True)
    with os.fdopen(descriptor, "wb") as new:
        new.write(file.octets)
        new.flush()
        os.fchmod(descriptor, _MODE)
        os.fsync(descriptor)
    return Path(name)


def _date_after(old: Path, new: Path) -> None:
    try:
        before = int(old.stat().st_mtime)
    except FileNotFoundError:
        return
    if int(new.stat().st_mtime) <= before:
        os.utime(new, (before + 1, before + 1))


def hosts_listed(lines: Iterable[str]) -> Iterator[str]:
    """Yield the canonical hosts of a file, one a line; raises ConfigError for what is none."""
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if text:
            below = _ANY_BELOW if text.startswith(_ANY_BELOW) else ""
            name = canonical(text.removeprefix(below))
            if name is None:
                raise ConfigError(
                    f"--served, line {number}: {text!r} is no host name; right would be `www.example.org`"
                )
            yield below + name


def networks_of(values: Iterable[str]) -> tuple[str, ...]:
    """Return networks in CIDR form; raises ConfigError for what is none."""
    from cdnblock.geo.client_address import TrustedProxies

    texts = tuple(text for value in values for text in value.replace(",", " ").split())
    TrustedProxies(texts)
    return texts


def _country(code: str | None) -> str | None:
    from cdnblock.orders.territories import COUNTRIES

    if code is not None and code not in COUNTRIES:
        raise click.BadParameter(f"{code!r} is no ISO 3166-1 alpha-2 code; France is FR", param_hint="--clients-in")
    return code


def setting_of(text: str) -> tuple[str, str]:
    """Return name and value of a setting."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r}: write NAME=VALUE")
    return name, value


def _settings_of_targets() -> Iterator[str]:
    """Yield what `--set` takes, a line for each setting; for people, so not part of the table."""
    from cdnblock.exporters import EXPORTERS, load

    for target in EXPORTERS:
        for name, setting in load(target).settings.items():
            values = f" ({', '.join(setting.values)})" if setting.values else ""
            yield f"{target}: --set {name}={setting.default or '…'}: {setting.does}{values}"
