"""Unbound: `unbound-checkconf` with the new files, then single zones by remote control, or a reload that keeps what is stored.

A reload answers nobody while it lasts, seconds with a million names; single zones are changed between two answers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cdnblock.engines._configured import Configured
from cdnblock.engines._engine import CHECK, RELOAD, Change, DownError, EngineKind, NotTakenError, Setting
from cdnblock.engines._programs import reloaded_by_operator, run
from cdnblock.engines._unbound_zones import READ_BY_ITSELF, commands

_INCLUDE: Final = re.compile(r"""^\s*include(?:-toplevel)?:\s*(["']?)(?P<path>[^"'\s]+)\1""", re.MULTILINE)
_DOWN: Final = re.compile(r"connect|no such file|is stopped", re.IGNORECASE)
_NO_SUCH_COMMAND: Final = re.compile(r"unknown command", re.IGNORECASE)


class Unbound(Configured):
    """One Unbound, known by its main file, with remote control."""

    include = _INCLUDE
    gentle = True

    def checker(self, config: Path) -> list[str]:
        """Return `unbound-checkconf`."""
        return [self.means.one("program"), str(config)]

    def take(self, change: Change) -> bool:
        """Change single zones; where that is not enough, have it read everything again, keeping what it has stored."""
        if not (change.whole or change.forced or change.names() - READ_BY_ITSELF):
            return True
        if reloaded_by_operator(self.means):
            return True
        amending = commands(change)
        if amending is not None and all(self._say(*words) is None for words in amending):
            return False
        said = self._say("reload_keep_cache")
        if said is not None and _NO_SUCH_COMMAND.search(said):
            said = self._say("reload")
        if said is not None:
            raise NotTakenError(f"unbound, asked to reload: {said}")
        return True

    def _say(self, *command: str) -> str | None:
        """Return what it has against a command, None if nothing."""
        code, said = run([*self.means.command("control"), "-c", str(self.main), *command])
        if code == 0 and not said.startswith("error"):
            return None
        if not said.startswith("error") and _DOWN.search(said):
            raise DownError(f"unbound does not run: {said}")
        return said


ENGINE: Final = EngineKind(
    name="unbound",
    make=Unbound,
    settings={
        "config": Setting("/etc/unbound/unbound.conf", "its main file"),
        "program": Setting("unbound-checkconf", "the program that checks"),
        "control": Setting("unbound-control", "the program that tells it, with its options", command=True),
        "check": CHECK,
        "reload": RELOAD,
    },
    says_why=lambda settings: settings.get("ede") == "yes",
)
