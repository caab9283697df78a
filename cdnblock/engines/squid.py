"""Squid: `squid -k parse` with the new files, and `squid -k reconfigure`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cdnblock.engines._configured import Configured
from cdnblock.engines._engine import CHECK, RELOAD, Change, DownError, EngineKind, NotTakenError, Setting
from cdnblock.engines._programs import reloaded_by_operator, run
from cdnblock.verification.clients import Told

_INCLUDE: Final = re.compile(r"^\s*include\s+(?P<path>\S+)", re.MULTILINE)
_DOWN: Final = re.compile(r"no running copy|failed to open .*pid|no such process", re.IGNORECASE)


class Squid(Configured):
    """One Squid, known by its main file."""

    include = _INCLUDE

    def checker(self, config: Path) -> list[str]:
        """Return `squid -k parse`."""
        return self._squid("parse", config)

    def take(self, change: Change) -> bool:
        """Have it read everything again."""
        if not change.is_news or reloaded_by_operator(self.means):
            return True
        code, said = run(self._squid("reconfigure", self.main))
        if code != 0:
            what = DownError if _DOWN.search(said) else NotTakenError
            raise what(f"squid, asked to reconfigure: {said}")
        return True

    def _squid(self, what: str, config: Path) -> list[str]:
        service = ["-n", self.means.one("service")] if self.means.one("service") else []
        return [self.means.one("program"), "-k", what, "-f", str(config), *service]


ENGINE: Final = EngineKind(
    name="squid",
    make=Squid,
    settings={
        "config": Setting("/etc/squid/squid.conf", "its main file"),
        "program": Setting("squid", "the program that checks, and tells it"),
        "service": Setting("", "the service name that it was started with (-n), if with one"),
        "check": CHECK,
        "reload": RELOAD,
    },
    believes=Told.X_FORWARDED_FOR,
)
