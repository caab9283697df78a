"""BIND: `named-checkconf -z` with the new files; `rndc` then reloads the policies that changed, or everything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cdnblock.engines._configured import QUOTED_INCLUDE, Configured
from cdnblock.engines._engine import CHECK, RELOAD, Change, DownError, EngineKind, NotTakenError, Setting
from cdnblock.engines._programs import reloaded_by_operator, run

_POLICY: Final = re.compile(r'view "(?P<view>[^"]+)" \{.*?zone "(?P<zone>[^"]+)" \{\s*type primary; file "(?P<file>[^"]+)"', re.DOTALL)  # fmt: skip
_OF_POLICIES: Final = ".rpz"
_MAIN: Final = "cdnblock.conf"
_DOWN: Final = re.compile(r"connect failed|connection refused|timed out", re.IGNORECASE)


class BIND(Configured):
    """One BIND, known by its main file, with a control channel for rndc."""

    gentle = True

    include = QUOTED_INCLUDE

    def checker(self, config: Path) -> list[str]:
        """Return `named-checkconf -z`, which loads every zone."""
        return [self.means.one("program"), "-z", str(config)]

    def take(self, change: Change) -> bool:
        """Reload single policies where nothing else has changed."""
        if not change.is_news or reloaded_by_operator(self.means):
            return True
        changed = change.names()
        if change.whole or change.forced or any(not name.endswith(_OF_POLICIES) for name in changed):
            self._say("reload")
            return True
        views = {
            Path(found["file"]).name: (found["zone"], found["view"])
            for found in _POLICY.finditer(change.after.get(_MAIN, b"").decode())
        }
        for name in sorted(changed & views.keys()):
            zone, view = views[name]
            self._say("reload", zone, "IN", view)
        return False

    def _say(self, *words: str) -> None:
        code, said = run([*self.means.command("control"), *words])
        if code != 0:
            what = DownError if _DOWN.search(said) else NotTakenError
            raise what(f"BIND, asked to `{' '.join(words)}`: {said}")


ENGINE: Final = EngineKind(
    name="bind",
    make=BIND,
    settings={
        "config": Setting("/etc/bind/named.conf", "its main file"),
        "program": Setting("named-checkconf", "the program that checks"),
        "control": Setting("rndc", "the program that tells it, with its options", command=True),
        "check": CHECK,
        "reload": RELOAD,
    },
    says_why=lambda settings: settings.get("ede") == "yes",
)
