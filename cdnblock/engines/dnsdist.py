"""dnsdist: it looks at the database of names every second; a new program or other networks are run on its console."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cdnblock.engines._configured import Configured
from cdnblock.engines._engine import CHECK, RELOAD, Change, DownError, EngineKind, NotTakenError, Setting
from cdnblock.engines._programs import reloaded_by_operator, run
from cdnblock.exporters.dnsdist import names_in

_PROGRAM: Final = "cdnblock-dnsdist.lua"
_NAMES: Final = ".cdb"
_DOWN: Final = re.compile(r"connection refused|fatal error|unable to connect|no such file", re.IGNORECASE)


class Dnsdist(Configured):
    """One dnsdist, known by its main file, with a console."""

    def checker(self, config: Path) -> list[str]:
        """Return `dnsdist --check-config`."""
        return [self.means.one("program"), "--check-config", "-C", str(config)]

    def legible(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the database as lines of names, which are not in text there; one that somebody has spoilt has none."""
        return {name: _lines(octets) if name.endswith(_NAMES) else octets for name, octets in files.items()}

    def take(self, change: Change) -> bool:
        """Run a new program; new names are seen without a word."""
        if not (change.whole or change.forced or any(not name.endswith(_NAMES) for name in change.names())):
            return True
        if reloaded_by_operator(self.means):
            return True
        program = self.means.folder / _PROGRAM
        code, said = run([self.means.one("program"), "-C", str(self.main), "-c", "-e", f'dofile("{program}")'])
        if code != 0 or "error" in said.lower():
            what = DownError if _DOWN.search(said) else NotTakenError
            raise what(f"dnsdist, asked to run {program}: {said}")
        return True


def _lines(octets: bytes) -> bytes:
    lines: list[bytes] = []
    with suppress(ValueError):
        lines += (b"%s%s\n" % (name.encode(), group) for name, group in names_in(octets))
    return b"".join(lines)


ENGINE: Final = EngineKind(
    name="dnsdist",
    make=Dnsdist,
    settings={
        "config": Setting("/etc/dnsdist/dnsdist.conf", "its main file, which names our folder by its whole path"),
        "program": Setting("dnsdist", "the program that checks, and tells it"),
        "check": CHECK,
        "reload": RELOAD,
    },
    says_why=lambda _settings: True,
)
