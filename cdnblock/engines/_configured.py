"""Engines that are known by a main configuration file, which leads to our folder."""

from __future__ import annotations

import re
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Final

from cdnblock.engines._engine import Engine, Means
from cdnblock.engines._programs import checked
from cdnblock.engines._shadow import shadow
from cdnblock.errors import ConfigError

QUOTED_INCLUDE: Final = re.compile(r"""(?<![\w$.-])include\s+(")(?P<path>[^"]+)"\s*;""")
"""How BIND and Varnish include files."""


class Configured(Engine):
    """One engine, known by its main file. `include` is how its language includes files, if it does."""

    include: ClassVar[re.Pattern[str] | None] = None

    def __init__(self, means: Means) -> None:
        """Raise ConfigError when the main file is missing."""
        self.means = means
        self.main = Path(means.one("config")).absolute()
        if not self.main.is_file():
            raise ConfigError(f"{self.main} is missing; say where the engine's main file is: --engine config=PATH")

    def check(self, trial: Path) -> None:
        """Run the engine's own checker, or the operator's own command."""
        command = self.means.command("check", trial=trial)
        checked(command or self.checker(self.shadow(trial)))

    @abstractmethod
    def checker(self, config: Path) -> list[str]:
        """Return the command that checks a main file."""

    def shadow(self, trial: Path) -> Path:
        """Return a copy of the main file that leads to the new files."""
        into = trial.parent / "configuration"
        return shadow(self.main, into, live=[self.means.folder], trial=trial, include=self.include)
