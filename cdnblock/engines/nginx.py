"""nginx: `nginx -t` with the new files, SIGHUP to the master process, and stored answers deleted file by file.

SIGHUP starts new workers and lets the old ones finish what they have begun, so it costs each kept connection one
request. It is sent only when a file says something new.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cdnblock.engines._blame import TOO_LONG
from cdnblock.engines._configured import Configured
from cdnblock.engines._engine import CHECK, RELOAD, Change, DownError, EngineKind, Means, NotTakenError, Setting
from cdnblock.engines._programs import (
    children,
    put_in_place,
    reloaded_by_operator,
    running,
    send,
    started,
    wait_until,
)
from cdnblock.engines._shadow import files_of
from cdnblock.errors import ConfigError
from cdnblock.measures.cache_disable import names_cover
from cdnblock.verification.clients import Told

_INCLUDE: Final = re.compile(r"""(?<![\w$.-])include\s+(["']?)(?P<path>[^"';{}\s]+)\1\s*;""")
_PID: Final = re.compile(r"""^(?:[^#\n]*[;{}])?\s*pid\s+(["']?)([^"';]+?)\1\s*;""", re.MULTILINE)
_USUAL_PID: Final = "/run/nginx.pid"
_WORKER: Final = "nginx: worker process"  # the title of one that takes connections
_TICK: Final = 0.02  # seconds by which a process may seem to have been started too early
_LONG: Final = ("cdnblock-hosts.map", "cdnblock-territory.conf")  # lines without any regard to each other
_HEAD: Final = 4096  # octets of a stored answer that hold its key
_KEY: Final = re.compile(rb"\nKEY: ([^\n]*)\n")
_SCHEME: Final = re.compile(r"^https?(?:://)?")


class Nginx(Configured):
    """One nginx, known by its main configuration file."""

    include = _INCLUDE

    def __init__(self, means: Means) -> None:
        """Raise ConfigError when the main file is missing, or the pattern of keys is none."""
        super().__init__(means)
        self._prefix = ["-p", means.one("prefix")] if means.one("prefix") else []
        self._key = _pattern(means.one("key"))

    def checker(self, config: Path) -> list[str]:
        """Return `nginx -t`."""
        return [self.means.one("program"), *self._prefix, "-t", "-q", "-e", "stderr", "-c", str(config)]

    def trial(self, change: Change) -> Mapping[str, bytes]:
        """Leave out names and networks that nginx has accepted before."""
        return change.with_news_alone(_LONG)

    def take(self, change: Change) -> bool:
        """Send SIGHUP where a file says something new; return when no old worker takes connections any more."""
        if not change.is_news or reloaded_by_operator(self.means):
            return True
        master = running(self._pid_file(), "nginx")
        before = _workers(master)
        send(master, signal.SIGHUP, "nginx")
        wait_until(
            lambda: bool(now := _workers(master)) and not now & before,
            self.means.patience,
            "nginx was told to reload, and its workers have not changed (its error log says why)",
        )
        return True

    def is_older(self, files: Mapping[str, bytes]) -> bool:
        """Tell whether its workers were started before the files were put in place."""
        with suppress(DownError):
            since = [started(pid) for pid in _workers(running(self._pid_file(), "nginx"))]
            place = put_in_place(self.means.folder, files)
            return bool(since) and all(at is not None and at + _TICK < place for at in since)
        return False

    def generation(self) -> str | None:
        """Return its workers: each reload starts others, with what is in the files then."""
        with suppress(DownError):
            return " ".join(map(str, sorted(_workers(running(self._pid_file(), "nginx")))))
        return None

    def purge(self, names: Collection[tuple[str, bool]]) -> None:
        """Delete what is stored of the names: nginx takes a file that has vanished for a miss."""
        wanted = frozenset(names)
        for folder in self.means.all("cache"):
            try:
                for path in _stored(Path(folder)):
                    if any(names_cover(wanted, host) for host in self._hosts_of(path)):
                        path.unlink(missing_ok=True)
            except OSError as error:
                raise NotTakenError(f"nginx's cache {folder} cannot be purged: {error}") from None

    def _pid_file(self) -> str:
        if self.means.one("pid"):
            return self.means.one("pid")
        for path in files_of(self.main, _INCLUDE):
            found = _PID.search(path.read_bytes().decode(errors="replace"))
            if found:
                return str(Path(self.means.one("prefix") or "/usr/share/nginx") / found[2])
        return _USUAL_PID

    def _hosts_of(self, path: Path) -> Iterator[str]:
        """Yield the host in the key of something stored: a scheme may stand before it, and a host may look like that."""
        try:
            with path.open("rb") as stored:
                key = _KEY.search(stored.read(_HEAD))
        except FileNotFoundError:
            return
        text = key[1].decode(errors="replace") if key else ""
        for asked in {text, _SCHEME.sub("", text)}:
            if found := self._key.search(asked):
                yield found["host"]


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"nginx: key={text!r} is no regular expression: {error}") from None
    if "host" not in pattern.groupindex:
        raise ConfigError(f"nginx: key={text!r} says not where the host is; write (?P<host>…) around it")
    return pattern


def _workers(master: int) -> set[int]:
    return {pid for pid, title in children(master).items() if title == _WORKER}


def _stored(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


ENGINE: Final = EngineKind(
    name="nginx",
    make=Nginx,
    settings={
        "config": Setting("/etc/nginx/nginx.conf", "its main file"),
        "program": Setting("nginx", "the program that checks"),
        "prefix": Setting("", "the prefix it was started with (-p), if with one"),
        "pid": Setting("", "its pid file; otherwise what the main file says, or /run/nginx.pid"),
        "cache": Setting("", "folder of a cache to purge (proxy_cache_path)", many=True),
        "key": Setting(r"^(?P<host>[^/:?]+)", "where the host is in proxy_cache_key, behind a scheme if there is one"),
        "check": CHECK,
        "reload": RELOAD,
    },
    believes=Told.X_FORWARDED_FOR,
    own=TOO_LONG,
)
