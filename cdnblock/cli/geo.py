"""`cdnblock geo`: where an address is, according to which table of which date; where two tables disagree."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cdnblock.cli.options import geo_option, printable
from cdnblock.cli.progress import progress_bar
from cdnblock.geo.country import FRENCH_CODES, country_code

if TYPE_CHECKING:
    from cdnblock.geo.disagreement import Disagreement
    from cdnblock.geo.interval_table import IntervalTable
    from cdnblock.sources.geo_tables import GeoTable

_PER_48: Final = 1 << 16  # /64 networks in a /48, what one site usually gets
_UNITS: Final = (("ipv4", "IPv4 addresses", 1), ("ipv6", "IPv6 /48 networks", _PER_48))
_VERSIONS: Final = {"ipv4": 4, "ipv6": 6}
_BAR_AFTER: Final = 2.0  # seconds
_BAR_WIDTH: Final = 40
_EXIT_INVALID: Final = 1
_WARNING: Final = """\
This table came with the package and ages with it; its publisher has since announced errors in this edition. It goes by
where networks are registered, so the French overseas codes (GP, MQ, GF, RE, YT …) are its weak part: operators of the
mainland serve them too. Bring a better one with `--geo FILE.mmdb` or CDNBLOCK_GEO=FILE.mmdb, and see where the two
differ with `cdnblock geo compare default FILE.mmdb`."""

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group
@click.pass_context
def command(ctx: click.Context) -> None:
    """Where an address is, according to which table of which date; where two tables disagree.

    Example: cdnblock geo lookup 90.84.144.1
    """
    settings = dict(ctx.default_map or {})
    own = {name: value for name, value in settings.items() if isinstance(value, dict)}
    ctx.default_map = {name: settings | own.get(name, {}) for name in command.commands}


@command.command
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@geo_option
@json_option
def lookup(addresses: Sequence[str], geo: Path | None, as_json: bool) -> None:  # noqa: FBT001 (click's way)
    """Tell the country of each ADDRESS, and which table told it. Exits 1 when one of them is no address.

    Example: cdnblock geo lookup 90.84.144.1 2002:5a54:9001::1 --json
    """
    from cdnblock.sources.geo_tables import open_geo_table

    table = open_geo_table(geo)
    found = [_located(address, table) for address in addresses]
    if as_json:
        _echo(map(json.dumps, found))
    else:
        _echo(_aligned([("ADDRESS", "COUNTRY", "TOLD BY"), *map(_row, found)]))
    if any(row["client"] is None for row in found):
        sys.exit(_EXIT_INVALID)


@command.command
@geo_option
@json_option
def info(geo: Path | None, as_json: bool) -> None:  # noqa: FBT001 (click's way)
    """Tell what a table is: source, date and age, licence, ranges, countries.

    Example: cdnblock geo info --geo GeoLite2-Country.mmdb
    """
    from cdnblock.sources.geo_tables import open_geo_table

    with progress_bar("networks read") as progress:
        table = open_geo_table(geo).as_intervals(progress)
    described = _described(table) | {"warning": None if geo is not None else _WARNING}
    _echo([json.dumps(described)] if as_json else _page(described))


@command.command
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--countries", default=",".join(FRENCH_CODES), show_default=True, help="Codes to compare, with commas.")
@json_option
def compare(a: Path, b: Path, countries: str, as_json: bool) -> None:  # noqa: FBT001 (click's way)
    """Compare tables A and B, each a file or `default`: how much address space they call each country.

    Example: cdnblock geo compare default GeoLite2-Country.mmdb --countries FR,RE,GP
    """
    from cdnblock.geo.disagreement import disagreement, verdicts

    codes = _codes(countries)
    tables = [_opened(path) for path in (a, b)]
    with progress_bar("networks read") as progress:
        first, second = (table.as_intervals(progress) for table in tables)
        counts = {key: verdicts(first, second, version) for key, version in _VERSIONS.items()}
    found = {code: {key: disagreement(count, code) for key, count in counts.items()} for code in codes}
    if as_json:
        click.echo(json.dumps({"a": _named(first), "b": _named(second), "countries": _as_json(found)}))
    else:
        _echo([f"A: {printable(first.description)}", f"B: {printable(second.description)}"])
        for key, unit, size in _UNITS:
            _echo(["", f"{unit}:", *_aligned(_comparison({code: found[code][key] for code in found}, size))])


def _located(address: str, table: GeoTable) -> dict[str, str | None]:
    from cdnblock.geo.addresses import parse_address, tunnel_of, unwrap
    from cdnblock.geo.country import locate

    parsed = parse_address(address)
    location = locate(table, address)
    return {
        "address": address,
        "client": None if parsed is None else str(unwrap(parsed)),
        "tunnel": None if parsed is None else tunnel_of(parsed),
        "country": location.country,
        "told_by": location.told_by,
    }


def _row(found: dict[str, str | None]) -> tuple[str, ...]:
    inside = f", by {found['client']} inside {found['tunnel']}" if found["tunnel"] else ""
    return f"{found['address']}", found["country"] or "unknown", f"{found['told_by']}{inside}"


def _named(table: IntervalTable) -> dict[str, Any]:
    return {key: value for key, value in _described(table).items() if key in {"source", "version", "date", "age_days"}}


def _described(table: IntervalTable) -> dict[str, Any]:
    built = table.origin.built
    return {
        "source": table.origin.source,
        "version": table.origin.version,
        "date": built.isoformat(),
        "age_days": (datetime.now(UTC).date() - built).days,
        "licence": table.origin.licence,
        "ranges": {key: table.ranges(version) for key, version in _VERSIONS.items()},
        "countries": list(table.countries),
        "french_codes_missing": [code for code in FRENCH_CODES if code not in table.countries],
    }


def _page(described: dict[str, Any]) -> Iterator[str]:
    version = f", version {described['version']}" if described["version"] else ""
    missing = ", ".join(described["french_codes_missing"])
    yield from _aligned(
        [
            ("source", f"{described['source']}{version}"),
            ("date", f"{described['date']}, {described['age_days']} days old"),
            ("licence", described["licence"] or "not told in the file"),
            ("ranges", f"{described['ranges']['ipv4']:,} IPv4, {described['ranges']['ipv6']:,} IPv6"),
            ("countries", f"{len(described['countries'])}"),
            ("French codes", f"all but {missing}" if missing else f"all {len(FRENCH_CODES)}"),
        ]
    )
    if described["warning"]:
        yield from ("", described["warning"])


def _opened(path: Path) -> GeoTable:
    from cdnblock.sources.geo_tables import open_geo_table

    return open_geo_table(None if str(path) == "default" else path)


def _codes(text: str) -> list[str]:
    codes = [code.strip().upper() for code in text.split(",") if code.strip()]
    wrong = next((code for code in codes if country_code(code) is None), None)
    if wrong is not None or not codes:
        raise click.BadParameter(f"{wrong or text!r} is no country; write codes like FR,RE", param_hint="--countries")
    return list(dict.fromkeys(codes))


def _as_json(found: dict[str, dict[str, Disagreement]]) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        code: {key: item._asdict() | {"disagreement": round(item.share, 6)} for key, item in halves.items()}
        for code, halves in found.items()
    }


def _comparison(found: dict[str, Disagreement], size: int) -> Iterator[tuple[str, ...]]:
    yield "COUNTRY", "BOTH", "ONLY A", "B SAYS", "ONLY B", "A SAYS", "DISAGREE"
    for code, item in found.items():
        yield (
            code,
            f"{item.both / size:,.0f}",
            f"{item.only_a / size:,.0f}",
            _instead(item.instead_b, item.only_a),
            f"{item.only_b / size:,.0f}",
            _instead(item.instead_a, item.only_b),
            f"{item.share:.1%}" if item.both + item.only_a + item.only_b else "-",
        )


def _instead(country: str | None, space: int) -> str:
    return (country or "nothing") if space else "-"


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    table = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
