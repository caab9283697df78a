"""Varnish: the running Varnish itself compiles and loads the new VCL under another name, then uses it; nobody notices.

Loading is the check: the table is read then, too. Where no Varnish runs, `varnishd -C` compiles alone. What is stored of
names under measure `cdn` is banned.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cdnblock.engines._blame import CONNECT
from cdnblock.engines._configured import QUOTED_INCLUDE, Configured
from cdnblock.engines._engine import (
    CHECK,
    Change,
    DownError,
    EngineKind,
    Means,
    NotTakenError,
    RefusedError,
    Setting,
)
from cdnblock.engines._programs import checked, put_in_place, run
from cdnblock.exporters.varnish import bans
from cdnblock.verification.clients import Told

_OURS: Final = "cdnblock-"  # begins the names of VCLs that we loaded
# Of varnishadm, seconds for one command: it waits as long for a Varnish that does not run as for one that works.
_TO_ANSWER, _TO_LOAD = "2", "300"
_GONE: Final = "No VCL name matches"
_DOWN: Final = re.compile(r"could not get hold of varnishd|connection failed|no -T", re.IGNORECASE)


class _AlreadyGoneError(NotTakenError):
    """A VCL of that name is no longer there."""


class Varnish(Configured):
    """One Varnish, known by its main VCL and its working directory (varnishd -n)."""

    include = QUOTED_INCLUDE

    def __init__(self, means: Means) -> None:
        """Raise ConfigError when the main VCL is missing."""
        super().__init__(means)
        self._name = ["-n", means.one("name")] if means.one("name") else []

    def checker(self, config: Path) -> list[str]:
        """Return `varnishd -C`, for where no Varnish runs."""
        allowed = ("-p", "vcc_allow_inline_c=on")
        return [self.means.one("program"), "-j", "none", "-C", "-f", str(config), *allowed, *self._name]

    def check(self, trial: Path) -> None:
        """Have the running Varnish load the new VCL and drop it again; or the operator's own command."""
        if self.means.command("check"):
            super().check(trial)
            return
        vcl, name = self.shadow(trial), _new_name("trial-")
        try:
            self._say("ping", within=_TO_ANSWER)
            self._say("vcl.load", name, str(vcl), "cold")
        except NotTakenError as error:
            raise RefusedError(f"Varnish does not accept the new configuration: {error}") from None
        except DownError:
            checked(self.checker(vcl))
        else:
            self._say("vcl.discard", name)

    def take(self, change: Change) -> bool:
        """Load the VCL under a new name, use it, and drop those that we loaded before."""
        if not change.is_news:
            return True
        self._say("ping", within=_TO_ANSWER)
        before = [line.split()[-1] for line in self._say("vcl.list").splitlines() if line.strip()]
        name = _new_name("")
        self._say("vcl.load", name, str(self.main))
        self._say("vcl.use", name)
        for old in before:
            if old.startswith(_OURS):
                with suppress(_AlreadyGoneError):  # it stays in the list until the last request has left it
                    self._say("vcl.discard", old)
        return True

    def is_older(self, files: Mapping[str, bytes]) -> bool:
        """Tell whether the VCL in use was loaded by us, and before the files were put in place."""
        number = (self.generation() or "").removeprefix(_OURS)
        return number.isdecimal() and int(number) / 1e9 < put_in_place(self.means.folder, files)

    def generation(self) -> str | None:
        """Return the VCL that is in use."""
        with suppress(NotTakenError, DownError):
            lines = self._say("vcl.list", within=_TO_ANSWER).splitlines()
            return next((line.split()[-1] for line in lines if line.startswith("active ")), None)
        return None

    def purge(self, names: Collection[tuple[str, bool]]) -> None:
        """Ban what is stored of the names."""
        self._say("ping", within=_TO_ANSWER)
        for ban in bans(names):
            self._say("ban", ban)

    def _say(self, *words: str, within: str = _TO_LOAD) -> str:
        code, said = run([self.means.one("admin"), *self._name, "-t", within, *words], lines=None)
        if code == 0:
            return said
        if _DOWN.search(said):
            raise DownError(f"Varnish does not run: {said}")
        if _GONE in said:
            raise _AlreadyGoneError(said)
        raise NotTakenError(f"Varnish, asked to `{' '.join(words[:2])}`: {said}")


def _new_name(what: str) -> str:
    return f"{_OURS}{what}{time.time_ns()}"


ENGINE: Final = EngineKind(
    name="varnish",
    make=Varnish,
    settings={
        "config": Setting("/etc/varnish/default.vcl", "your VCL, which includes ours"),
        "name": Setting("", "its working directory (varnishd -n), if it has one of its own"),
        "admin": Setting("varnishadm", "the program that tells it"),
        "program": Setting("varnishd", "the program that checks where none runs"),
        "check": CHECK,
    },
    believes=Told.X_FORWARDED_FOR,
    own=CONNECT,
)
