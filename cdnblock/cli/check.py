"""`cdnblock check`: every problem of an orders folder, and where."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import click

from cdnblock.cli.options import printable
from cdnblock.cli.progress import progress_bar
from cdnblock.errors import Problem, Severity
from cdnblock.shown import json_text, shown


@click.command
@click.argument("orders", type=click.Path(path_type=Path), nargs=-1, envvar="CDNBLOCK_ORDERS")
@click.option(
    "--format", "layout", type=click.Choice(["text", "json", "github"]), default="text", show_default=True,
    help="text: FILE:LINE:COLUMN: KEY: what; what would be right. github: annotations of a pull request.",
)  # fmt: skip
def command(orders: tuple[Path, ...], layout: str) -> None:
    """Validate a folder of order files, or single files; exit 1 if anything is wrong.

    Warnings are shown and do not fail.

    Example: cdnblock check orders/ --format github
    """
    from cdnblock.sources.order_folder import read_orders

    with progress_bar("files read") as progress:
        found = read_orders(*(orders or (Path("orders"),)), progress=progress)
    text = _LAYOUTS[layout](found.problems)
    if text:
        click.echo(text)
    warnings = len(found.problems) - len(found.errors)
    names = sum(order.size() for order in found.orders)
    if not found.files:
        click.echo("no order files; an order is a file *.yaml or *.yml at the top of the folder", err=True)
    counts = {"file": len(found.files), "valid order": len(found.orders), "name": names, "error": len(found.errors)}
    counts["warning"] = warnings
    reported = sum(not order.is_enforced for order in found.orders)
    dry_run = f"; {reported:,} of the orders report only, refusing nothing" if reported else ""
    click.echo(", ".join(f"{n:,} {what}{'' if n == 1 else 's'}" for what, n in counts.items()) + dry_run, err=True)
    sys.exit(1 if found.errors else 0)


def _as_text(problems: Iterable[Problem]) -> str:
    return "\n".join(printable(str(problem)) for problem in problems)


def _as_json(problems: Iterable[Problem]) -> str:
    return json_text([problem.as_json() for problem in problems], indent=1)


def _as_github(problems: Iterable[Problem]) -> str:
    """Return workflow commands: in values `%`, CR and LF are escaped, in properties `:` and `,` too."""
    return "\n".join(
        f"::{'error' if problem.severity is Severity.ERROR else 'warning'} file={_property(problem.file)},"
        f"line={problem.line},col={problem.column},title={_property(problem.key or 'file')}::{_value(problem.message)}"
        for problem in problems
    )


def _value(text: str) -> str:
    return shown(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _value(text).replace(":", "%3A").replace(",", "%2C")


_LAYOUTS: Final[Mapping[str, Callable[[Iterable[Problem]], str]]] = {
    "text": _as_text,
    "json": _as_json,
    "github": _as_github,
}
