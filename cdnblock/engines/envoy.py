"""Envoy: `envoy --mode validate` with the new files. It sees changed files by itself, and loses nobody by that."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cdnblock.engines._configured import Configured
from cdnblock.engines._engine import CHECK, RELOAD, Change, EngineKind, Setting
from cdnblock.engines._programs import reloaded_by_operator
from cdnblock.verification.clients import Told


class Envoy(Configured):
    """One Envoy, known by its bootstrap file."""

    def checker(self, config: Path) -> list[str]:
        """Return `envoy --mode validate`."""
        quiet = ("--use-dynamic-base-id", "--log-level", "error")
        return [self.means.one("program"), "--mode", "validate", "-c", str(config), *quiet]

    def take(self, change: Change) -> bool:
        """Run the operator's command, if there is one: Envoy watches the files."""
        if change.is_news:
            reloaded_by_operator(self.means)
        return True


ENGINE: Final = EngineKind(
    name="envoy",
    make=Envoy,
    settings={
        "config": Setting("/etc/envoy/envoy.yaml", "its bootstrap file, which names our folder by its whole path"),
        "program": Setting("envoy", "the program that checks"),
        "check": CHECK,
        "reload": RELOAD,
    },
    believes=Told.X_FORWARDED_FOR,
)
