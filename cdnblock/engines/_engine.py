"""What a running engine is to `cdnblock apply`: a checker, a reload, a purge, each by the engine's own means."""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cdnblock.engines._blame import Own
from cdnblock.engines._lines import lines_of_one, without_header
from cdnblock.errors import CdnblockError, ConfigError
from cdnblock.verification.clients import Told


class ApplyError(CdnblockError):
    """An engine does not go by the orders as they are now; it goes by the last configuration that was right."""


class RefusedError(ApplyError):
    """The engine's own checker refuses a configuration, which was therefore not put in place."""


class DownError(ApplyError):
    """The engine does not run, or nobody can reach it. What its checker accepted is in place for its start."""


class NotTakenError(ApplyError):
    """The engine runs, and did not take a configuration or answers otherwise than was decided."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How an engine is reached: what to say, and what counts where nothing is said.

    `many`: may be said repeatedly. `command`: words as a shell splits them.
    """

    default: str
    does: str
    many: bool = False
    command: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the operator said of the engine. `folder` is our folder as the engine sees it; all settings have a value.

    `patience` is how long it may take to do what it is told (s).
    """

    folder: Path
    patience: float = 30.0
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def one(self, name: str) -> str:
        """Return the value of a setting, the last one given; the default, which may be empty, where none is."""
        return self.settings[name][-1]

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value of a setting but empty ones."""
        return tuple(value for value in self.settings[name] if value)

    def command(self, name: str, **places: str | Path) -> list[str]:
        """Return the words of a command in a setting, `{trial}` and the like filled in; none where it is not given."""
        words = _split(name, self.one(name))
        for place, value in places.items():
            words = [word.replace(f"{{{place}}}", str(value)) for word in words]
        return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is different in the folder: each file's octets as they were and as they are, an absent one missing.

    `whole` means that nobody knows what the engine goes by: tell it everything. `forced` asks for the strongest means,
    since a gentler one did not help.
    """

    folder: Path
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    whole: bool = False
    forced: bool = False

    def names(self) -> frozenset[str]:
        """Return the files that say something else than before; the comments at their top say nothing."""
        return frozenset(
            name
            for name in {*self.before, *self.after}
            if (name in self.before) != (name in self.after)
            or (
                self.before[name] != self.after[name]
                and without_header(self.before[name]) != without_header(self.after[name])
            )
        )

    @property
    def is_news(self) -> bool:
        """Whether the engine has to be told at all: the files say something new, or nobody knows what it goes by."""
        return self.whole or self.forced or bool(self.names())

    def with_news_alone(self, names: Collection[str]) -> Mapping[str, bytes]:
        """Return the files as they are, but of these, if it is known what they were, the lines that are new."""
        return {
            name: b"".join(line + b"\n" for line in lines_of_one(self.before[name], text)[1])
            if name in names and name in self.before and not self.whole
            else text
            for name, text in self.after.items()
        }

    def backwards(self) -> Change:
        """Return the way back, with nothing taken for granted."""
        return replace(self, before=self.after, after=self.before, whole=True, forced=True)


class Engine(ABC):
    """One running engine. Nothing here is called by two threads at once."""

    gentle = False
    """Whether `take` has a gentler means than the one that it is forced to."""

    @abstractmethod
    def check(self, trial: Path) -> None:
        """Have the engine's own checker read the configuration with the files of another folder in the place of ours.

        Raises RefusedError with what it says.
        """

    @abstractmethod
    def take(self, change: Change) -> bool:
        """Make the running engine go by the files that are in the folder now, by the gentlest means.

        Return whether there is no stronger one. What it does need not have its effect yet when this returns.

        Raises:
            DownError: the engine does not run.
            NotTakenError: it does not take them.

        """

    def trial(self, change: Change) -> Mapping[str, bytes]:
        """Return what the checker has to read: all files, or less where the rest was accepted before."""
        return change.after

    def astray(self, files: Mapping[str, bytes]) -> list[str]:
        """Return those of the files that the running engine itself shows otherwise; none where it cannot be asked."""
        del files
        return []

    def legible(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the files with names as text, a line each, where what the engine reads has them in another form."""
        return files

    def is_older(self, files: Mapping[str, bytes]) -> bool:
        """Tell whether the engine read its configuration before these files were put in place, where that can be told."""
        del files
        return False

    def generation(self) -> str | None:
        """Return what each reload changes, whoever asks for it; None where nothing does or nobody runs."""
        return None

    def purge(self, names: Collection[tuple[str, bool]]) -> None:
        """Drop what is stored of these names; each is with its sub-domains if so said.

        Raises NotTakenError where that fails.
        """
        del names  # where nothing is stored


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """One kind of engine: how to make one from what the operator says of it.

    `believes` is how a trusted proxy tells it where a client is, None if it has no ear for that. `own` is a request that
    it answers itself. `says_why` tells by the target's settings whether its refusals carry an extended error.
    """

    name: str
    make: Callable[[Means], Engine]
    settings: Mapping[str, Setting]
    believes: Told | None = None
    own: Own | None = None
    says_why: Callable[[Mapping[str, str]], bool] = lambda _settings: False

    def means(self, folder: Path, said: Collection[tuple[str, str]], patience: float = 30.0) -> Means:
        """Return the means with defaults filled in. Raises ConfigError for a setting that there is not, or is no command."""
        found: dict[str, tuple[str, ...]] = {}
        for name, value in said:
            if name not in self.settings:
                known = ", ".join(self.settings)
                raise ConfigError(f"{self.name}: there is no engine setting {name!r}; there are {known}")
            if name in found and not self.settings[name].many:
                raise ConfigError(f"{self.name}: the engine setting {name!r} is given twice; once would be right")
            if self.settings[name].command:
                _split(name, value)
            found[name] = (*found.get(name, ()), value)
        defaults = {name: (setting.default,) for name, setting in self.settings.items()}
        return Means(folder=folder, settings=defaults | found, patience=patience)


CHECK: Final = Setting(
    "", "command that checks instead of ours; {trial} is the folder with the new files", command=True
)
RELOAD: Final = Setting(
    "", "command that reloads instead of our own way, such as `systemctl reload nginx`", command=True
)


def _split(name: str, text: str) -> list[str]:
    """Return the words of a command. Raises ConfigError where a quote is open."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--engine {name}={text}: no command, {error}; quote it as for a shell") from None


def below(path: str, folder: Path) -> str | None:
    """Return what of a path is below a folder, None if it is elsewhere."""
    found = re.fullmatch(re.escape(str(folder).rstrip("/")) + r"(?:/+(.*))?", path)
    return None if found is None else found[1] or ""
