"""Engines that watch a file of orders by a program of ours, and have no checker: the program takes no file that is not whole.

The program itself never changes with the orders. For a new one their processes have to start anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from cdnblock.engines._engine import CHECK, Change, Engine, Means, NotTakenError, Setting
from cdnblock.engines._programs import checked, reloaded_by_operator

SETTINGS: Final = {
    "check": CHECK,
    "reload": Setting("", "command that starts it anew, for a new program of ours", command=True),
}


class Watched(Engine):
    """One engine, all of whose processes watch the same file, `watched`."""

    watched: ClassVar[str]

    def __init__(self, means: Means) -> None:
        self.means = means

    def check(self, trial: Path) -> None:
        """Run the operator's own command, if there is one."""
        command = self.means.command("check", trial=trial)
        if command:
            checked(command)

    def take(self, change: Change) -> bool:
        """Have a new program read; new orders are seen without a word."""
        is_new = change.forced or (change.before and change.names() - {self.watched})
        if is_new and not reloaded_by_operator(self.means):
            raise NotTakenError("the engine has to start anew for a new program; say how: --engine reload=COMMAND")
        return True
