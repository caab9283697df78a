"""`cdnblock reload`: have a running instance reread its orders now, and see what came of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from cdnblock.cli.options import printable
from cdnblock.cli.status import (
    ENFORCED,
    EXIT_WRONG,
    asked,
    echo,
    is_anything_wrong,
    json_option,
    last_reload,
    many,
    problems_and_held,
    state_option,
    understood,
)
from cdnblock.shown import json_text

_TIMEOUT: Final = 120.0  # seconds; a million names take a few


@click.command
@state_option
@click.option(
    "--accept-release", is_flag=True, help="Also release what was held back: a third of the names in force, or more."
)
@json_option
def command(state: Path, accept_release: bool, as_json: bool) -> None:  # noqa: FBT001 (click's way)
    """Have a running instance reread its orders now; print what changed and what is wrong.

    \b
    Exits 0 when all that is on the disk is enforced,
          1 when a file is invalid (its last good version stays enforced) or a release is held back,
          5 when no instance answers.

    Example: cdnblock reload --state /var/lib/cdnblock --accept-release
    """  # noqa: D301 (click's mark)
    reply = asked(state, {"command": "reload", "accept_release": accept_release}, _TIMEOUT)
    with understood(state):
        lines = [json_text(reply, indent=1)] if as_json else list(_page(reply, state))
        wrong = is_anything_wrong(reply)
    echo(lines)
    sys.exit(EXIT_WRONG if wrong else 0)


def _page(reply: Mapping[str, Any], state: Path) -> Iterator[str]:
    before, after = reply["before"], reply["revision"]
    if before == after:
        yield f"unchanged    {printable(after)}"
        yield f"last reload  {printable(last_reload(reply))}"
    else:
        yield f"revision     {printable(after)}, before {printable(before)}"
        yield _names("added", reply["added"], reply["added_names"])
        yield _names("released", reply["released"], reply["released_names"])
    yield f"in force     {many(reply['names_in_force'], 'name')} of {many(reply['orders'], 'order')}"
    for file in reply["files"]:
        if file["state"] != ENFORCED:
            yield printable(f"{file['file']}: {file['state']}")
    yield from (printable(line) for line in problems_and_held(reply, state))


def _names(what: str, number: int, names: Sequence[str]) -> str:
    more = f" and {number - len(names):,} more" if number > len(names) else ""
    listed = f": {printable(' '.join(names))}{more}" if names else ""
    return f"{what:11}  {many(number, 'name')}{listed}"
