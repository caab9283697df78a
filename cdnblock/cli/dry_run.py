"""The dry run of everything that commands offer which serve: its option, and how they say so when they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cdnblock.enforcer import Enforcer

report_only_option = click.option(
    "--report-only", is_flag=True, envvar="CDNBLOCK_REPORT_ONLY",
    help="A dry run of everything: what would be enforced is told and counted; nothing is refused.",
)  # fmt: skip


def names_listed(enforcer: Enforcer) -> str:
    """Return how many names the orders list, and loudly where nothing is refused for them."""
    names = len(enforcer.rules)
    dry_run = "; REPORT ONLY: nothing is refused" if enforcer.report_only else ""
    return f"{names:,} name{'' if names == 1 else 's'} listed{dry_run}"
