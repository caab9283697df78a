"""Options that several commands share, and how instants are read and written on the command line."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from cdnblock.orders.instants import read_instant
from cdnblock.shown import shown

orders_option = click.option(
    "--orders",
    type=click.Path(path_type=Path),
    envvar="CDNBLOCK_ORDERS",
    default=Path("orders"),
    show_default=True,
    help="Folder of order files, or one such file.",
)
geo_option = click.option(
    "--geo",
    type=click.Path(path_type=Path),
    envvar="CDNBLOCK_GEO",
    help="Country table (MMDB).  [default: the dated table in the package; see `cdnblock geo info`]",
)


def _instant_option(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else read_instant(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


at_option = click.option(
    "--at",
    metavar="TIME",
    callback=_instant_option,
    help="Instant to decide for, such as 2025-05-01T12:00+02:00; without an offset it is legal time in Paris.  "
    "[default: now]",
)


def rfc3339(at: datetime, zone: str | None) -> str:
    """Return an instant as RFC 3339 text, in the time zone `zone` if there is one."""
    try:
        return (at if zone is None else at.astimezone(ZoneInfo(zone))).isoformat()
    except OverflowError:  # the first and last hours that a datetime can hold
        return at.isoformat()


printable = shown  # what the commands call it


def colours_wanted() -> bool:
    """Tell whether people look at stdout and want colours (https://no-color.org)."""
    return "NO_COLOR" not in os.environ and sys.stdout.isatty()
