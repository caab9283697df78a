"""Caddy: `caddy validate` with the new files, and `caddy reload` by its admin API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cdnblock.engines._configured import Configured
from cdnblock.engines._engine import CHECK, RELOAD, Change, DownError, EngineKind, NotTakenError, Setting
from cdnblock.engines._programs import reloaded_by_operator, run
from cdnblock.verification.clients import Told

_INCLUDE: Final = re.compile(r"^\s*import\s+(?P<path>[./~][^\s{}]*|[^\s{}]*/[^\s{}]*)", re.MULTILINE)
_DOWN: Final = re.compile(r"connection refused|no such file", re.IGNORECASE)


class Caddy(Configured):
    """One Caddy, known by its Caddyfile."""

    include = _INCLUDE

    def checker(self, config: Path) -> list[str]:
        """Return `caddy validate`."""
        return [self.means.one("program"), "validate", "--adapter", "caddyfile", "--config", str(config)]

    def take(self, change: Change) -> bool:
        """Have it read its Caddyfile again."""
        if not change.is_news or reloaded_by_operator(self.means):
            return True
        where = ["--address", self.means.one("admin")] if self.means.one("admin") else []
        command = [self.means.one("program"), "reload", "--adapter", "caddyfile", "--config", str(self.main), *where]
        code, said = run(command)
        if code != 0:
            what = DownError if _DOWN.search(said) else NotTakenError
            raise what(f"caddy, asked to reload: {said}")
        return True


ENGINE: Final = EngineKind(
    name="caddy",
    make=Caddy,
    settings={
        "config": Setting("/etc/caddy/Caddyfile", "its Caddyfile"),
        "program": Setting("caddy", "the program that checks, and tells it"),
        "admin": Setting("", "its admin API, if it is not localhost:2019"),
        "check": CHECK,
        "reload": RELOAD,
    },
    believes=Told.X_FORWARDED_FOR,
)
