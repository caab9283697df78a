"""Knot Resolver: it watches its file of orders; for a new program its processes have to start anew.

It has no checker. The program never changes with the orders, and takes no file that is not whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cdnblock.engines._engine import CHECK, RELOAD, Change, Engine, EngineKind, Means, NotTakenError
from cdnblock.engines._programs import checked, told

_ORDERS: Final = "cdnblock-orders.txt"


class KnotResolver(Engine):
    """The processes of one Knot Resolver, which all watch the same file."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def check(self, trial: Path) -> None:
        """Run the operator's own command, if there is one."""
        command = self._means.command("check", trial=trial)
        if command:
            checked(command)

    def take(self, change: Change) -> bool:
        """Have a new program read; new orders are seen without a word."""
        if change.forced or (change.before and change.names() - {_ORDERS}):
            command = self._means.command("reload")
            if not command:
                raise NotTakenError(
                    "Knot Resolver has to start anew for a new program; say how: --engine reload=COMMAND"
                )
            told(command)
        return True


ENGINE: Final = EngineKind(name="knot-resolver", make=KnotResolver, settings={"check": CHECK, "reload": RELOAD})
