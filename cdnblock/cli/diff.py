"""`cdnblock diff`: what a change of the orders would do, before it goes live."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cdnblock.cli.options import at_option
from cdnblock.cli.progress import progress_bar
from cdnblock.errors import OrderError
from cdnblock.shown import json_text

if TYPE_CHECKING:
    from cdnblock.matching.ruleset import RuleSet

EXIT_DIFFERS: Final = 3
_ALL: Final = "all"


def _how_many(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    if value == _ALL:
        return None
    if not value.isascii() or not value.isdigit():
        raise click.BadParameter(f"{value!r} is no number; write a number of names, or `{_ALL}`", ctx, param)
    return int(value)


@click.command
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@at_option
@click.option(
    "--names", "most", default="10", show_default=True, metavar="N|all", callback=_how_many,
    help="How many names of each list are shown.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@click.option("--exit-code", is_flag=True, help="Exit 3 when any decision becomes otherwise.")
def command(
    old: Path,
    new: Path,
    at: datetime | None,
    most: int | None,
    as_json: bool,  # noqa: FBT001 (click's way)
    exit_code: bool,  # noqa: FBT001 (click's way)
) -> None:
    """Say what a change of the orders would block, release or prolong, from OLD to NEW: folders of order files, or files.

    Order by order and in total, with the names, for whom and from which instant on; what stays blocked by another
    order; and whether the release guard of a running instance would hold it back. Nothing is changed. An invalid file
    on either side is exit 1, with its problems.

    Example: git worktree add /tmp/live main && cdnblock diff /tmp/live/orders orders/
    """
    from cdnblock.reports import changes_json, changes_text
    from cdnblock.reports.changes import changes_between

    with progress_bar("files read") as progress:
        before, after = _both(old, new, progress)
    with progress_bar("names compared") as progress:
        found = changes_between(before, after, at or datetime.now(UTC), progress)
    if as_json:
        click.echo(json_text({"old": str(old), "new": str(new)} | changes_json.as_json(found, most), indent=1))
    else:
        click.echo("\n".join(changes_text.as_text(found, most)))
    sys.exit(EXIT_DIFFERS if exit_code and found else 0)


def _both(old: Path, new: Path, progress: Callable[[int, int], None]) -> tuple[RuleSet, RuleSet]:
    """Return the rules of two folders; an empty one has none, which is a set of orders like any other here.

    Raises:
        OrderError: something in them is wrong; `.problems` lists all of it.
        ConfigError: one does not exist.

    """
    from cdnblock.matching.ruleset import compile_orders
    from cdnblock.sources.order_folder import read_orders

    before, after = read_orders(old, progress=progress), read_orders(new, progress=progress)
    if before.errors or after.errors:
        raise OrderError((*before.problems, *after.problems))
    return compile_orders(before.orders), compile_orders(after.orders)
