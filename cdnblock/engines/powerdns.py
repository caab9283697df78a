"""PowerDNS Recursor: it looks at its file of orders every second; only a new program needs `rec_control`.

Its checker reads its settings alone. What is in our two files is ours to get right: the program never changes with the
orders, and goes on with those that it has where the file is not whole.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cdnblock.engines._configured import Configured
from cdnblock.engines._engine import CHECK, RELOAD, Change, DownError, EngineKind, NotTakenError, Setting
from cdnblock.engines._programs import reloaded_by_operator, run
from cdnblock.verification.clients import Told

_ORDERS: Final = "cdnblock-powerdns.orders"
_DOWN: Final = re.compile(r"unable to connect|no such file|connection refused", re.IGNORECASE)


class PowerDNS(Configured):
    """One Recursor, known by its main file."""

    def checker(self, config: Path) -> list[str]:
        """Return `pdns_recursor --config=check`."""
        return [self.means.one("program"), f"--config-dir={config.parent}", "--config=check"]

    def take(self, change: Change) -> bool:
        """Have a new program read; new orders are seen without a word."""
        if not (change.forced or change.names() - {_ORDERS}):
            return True
        if reloaded_by_operator(self.means):
            return True
        code, said = run([self.means.one("control"), f"--config-dir={self.main.parent}", "reload-lua-script"])
        if code != 0:
            what = DownError if _DOWN.search(said) else NotTakenError
            raise what(f"the Recursor, asked to reload its script: {said}")
        return True


ENGINE: Final = EngineKind(
    name="powerdns",
    make=PowerDNS,
    settings={
        "config": Setting("/etc/powerdns/recursor.conf", "its main file, which names our folder by its whole path"),
        "program": Setting("pdns_recursor", "the program that checks"),
        "control": Setting("rec_control", "the program that tells it"),
        "check": CHECK,
        "reload": RELOAD,
    },
    believes=Told.CLIENT_SUBNET,
    says_why=lambda _settings: True,
)
