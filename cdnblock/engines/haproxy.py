"""HAProxy: maps are changed through the runtime API, which loses nobody; a reload only where its configuration changes.

Files first, so that a HAProxy that is started or reloaded meanwhile has them too. Then the maps, in an order in which no
moment shows a host without its action: what is asked last (actions, notices) knows both old and new while what is asked
first (hosts) changes, and so do the networks. Between them there is time for whoever is on his way from map to map.
"""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cdnblock.engines._blame import CONNECT
from cdnblock.engines._engine import (
    CHECK,
    RELOAD,
    Change,
    DownError,
    Engine,
    EngineKind,
    Means,
    NotTakenError,
    Setting,
    below,
)  # fmt: skip
from cdnblock.engines._haproxy_maps import (
    Map,
    added,
    bridge,
    changed,
    chunks,
    differing,
    of_either,
    read_map,
    removed,
    tally,
)
from cdnblock.engines._lines import without_header
from cdnblock.engines._programs import (
    PATIENCE,
    checked,
    put_in_place,
    reloaded_by_operator,
    running,
    send,
    started,
    wait_until,
)
from cdnblock.engines._shadow import shadow
from cdnblock.errors import ConfigError
from cdnblock.exporters.haproxy import ACTIONS, GATES, HOSTS, NOTICES, TERRITORY
from cdnblock.verification.clients import Told

_MAPS: Final = (GATES, HOSTS, TERRITORY, ACTIONS, NOTICES)
_LONG: Final = (GATES, HOSTS, TERRITORY)  # lines without any regard to each other: what was accepted stays acceptable
_FEW: Final = 300  # entries of a map that are changed or taken away one by one: a whole map costs HAProxy as long
_UNDER_WAY: Final = 0.02  # seconds: who has looked in one map has by then looked in the next
_SOCKET: Final = re.compile(r"^\s*stats\s+socket\s+(\S+)", re.MULTILINE)
_PID: Final = re.compile(r"^\s*pidfile\s+(\S+)", re.MULTILINE)
_SHORT: Final = 10.0  # seconds for one answer of the runtime API, but for a commit


class HAProxy(Engine):
    """One HAProxy in master-worker mode, known by its configuration files and the socket of its runtime API."""

    gentle = True

    def __init__(self, means: Means) -> None:
        """Raise ConfigError when a file is missing, or nothing says where the runtime API is."""
        self._means = means
        self._files = [Path(path).absolute() for path in means.all("config")]
        missing = [path for path in self._files if not path.exists() and below(str(path), means.folder) is None]
        if missing:
            raise ConfigError(f"haproxy: {missing[0]} is missing; name its files in their order: --engine config=PATH")
        self._socket = means.one("socket") or self._said(_SOCKET)
        if not self._socket:
            raise ConfigError("haproxy: no `stats socket` in its files; say where it is: --engine socket=PATH")

    def check(self, trial: Path) -> None:
        """Run `haproxy -c`, or the operator's own command."""
        command = self._means.command("check", trial=trial)
        if not command:
            command = [self._means.one("program"), "-c"]
            for number, path in enumerate(self._files):
                command += ["-f", str(self._tried(path, trial, number))]
        checked(command)

    def trial(self, change: Change) -> Mapping[str, bytes]:
        """Leave out what the checker has accepted before, where one line has nothing to do with another."""
        return change.with_news_alone(_LONG)

    def take(self, change: Change) -> bool:
        """Change the maps, or reload where more than maps has changed."""
        news = change.names()
        if change.forced or news - {*_MAPS}:
            self._reload()
            return True
        if change.whole or news:
            self._change_maps(change, news)
        return False

    def astray(self, files: Mapping[str, bytes]) -> list[str]:
        """Return the maps that HAProxy shows otherwise: somebody changed them by its runtime API."""
        with suppress(NotTakenError, DownError):
            return [name for name in _MAPS if name in files and self._shown(name) != tally(files[name])]
        return []

    def is_older(self, files: Mapping[str, bytes]) -> bool:
        """Tell whether its process was started before what no map holds was put in place."""
        worker = self._worker()
        since = started(int(worker)) if worker else None
        return since is not None and since < put_in_place(self._means.folder, files.keys() - {*_MAPS})

    def generation(self) -> str | None:
        """Return the process: each reload starts another one, which has read its maps from the files."""
        return self._worker()

    def purge(self, names: Collection[tuple[str, bool]]) -> None:
        """Start a new process where the operator wants it: HAProxy has no other way to empty its small cache."""
        if names and self._means.one("purge") == "reload":
            self._reload()

    def _tried(self, path: Path, trial: Path, number: int) -> Path:
        inside = below(str(path), self._means.folder)
        if inside is not None:
            return trial / inside
        if path.is_dir() or str(self._means.folder) not in path.read_text(encoding="utf-8", errors="replace"):
            return path
        return shadow(path, trial.parent / f"configuration-{number}", live=[self._means.folder], trial=trial)

    def _said(self, pattern: re.Pattern[str]) -> str:
        texts = (path.read_text(encoding="utf-8", errors="replace") for path in self._files if path.is_file())
        return next((found[1] for text in texts if (found := pattern.search(text))), "")

    def _change_maps(self, change: Change, news: Collection[str]) -> None:
        """Bring HAProxy's maps to what the files say: asked last, and right for both, before what is asked first."""

        def both_of(name: str) -> tuple[Map, Map]:
            return read_map(change.before.get(name, b"")), read_map(change.after.get(name, b""))

        actions, notices = both_of(ACTIONS), both_of(NOTICES)
        small = ACTIONS in news or NOTICES in news or TERRITORY in news or change.whole
        bridged, told = actions[1], notices[1]
        if small:
            places = {place for territory in both_of(TERRITORY) for place in territory.values()}
            bridged, told = bridge(*actions, places), {**notices[0], **notices[1]}
            self._bring(NOTICES, notices[0], told, whole=change.whole)
            self._bring(ACTIONS, actions[0], bridged, whole=change.whole)
        # Old and new groups both rely on what networks are told apart: these come before, and go after, those who ask.
        was, now = (side.get(TERRITORY, b"") for side in (change.before, change.after))
        meanwhile = now if without_header(was) == without_header(now) else of_either(was, now)
        self._bring_long(TERRITORY, was, meanwhile, whole=change.whole)
        if meanwhile is not now:
            time.sleep(_UNDER_WAY)
        for name in (GATES, HOSTS):
            self._bring_long(name, change.before.get(name, b""), change.after[name], whole=change.whole)
        self._bring_long(TERRITORY, meanwhile, now)
        if (bridged, told) != (actions[1], notices[1]):
            time.sleep(_UNDER_WAY)
        self._bring(ACTIONS, bridged, actions[1])
        self._bring(NOTICES, told, notices[1])

    def _bring_long(self, name: str, before: bytes, after: bytes, *, whole: bool = False) -> None:
        """Make a long map in HAProxy what it is to be; `whole` where nobody knows what it is."""
        if whole:
            self._replace(self._path(name), read_map(after))
        elif without_header(before) != without_header(after):
            self._amend(name, *differing(before, after), after)

    def _bring(self, name: str, before: Map, after: Map, *, whole: bool = False) -> None:
        """Make a short map in HAProxy what it is to be. A command has no room for values of several words: a map has."""
        if whole or any(" " in value for value in changed(before, after).values()):
            self._replace(self._path(name), after)
        else:
            self._amend(name, before, after)

    def _amend(self, name: str, before: Map, after: Map, whole: bytes | None = None) -> None:
        """Change single entries, in an order in which no host is at any moment decided as neither side has it.

        Where there is more to change or to take away than is quickly looked for, what is `whole` takes the map's place.
        """
        path = self._path(name)
        adds = [[f"add map {path} <<\n{chunk}\n" for chunk in chunks(some)] for some in added(before, after)]
        sets = [f"set map {path} {key} {value}\n" for key, value in changed(before, after).items()]
        ends = [f"del map {path} {key}\n" for key in removed(before, after)]
        is_long = whole is not None and len(sets) + len(ends) > _FEW
        for number, commands in enumerate(filter(None, adds if is_long else (*adds, sets, ends))):
            if number:
                time.sleep(_UNDER_WAY)
            for command in commands:
                self._must(command)
        if whole is not None and is_long:
            time.sleep(_UNDER_WAY)
            self._replace(path, read_map(whole))

    def _path(self, name: str) -> str:
        return str(self._means.folder / name)

    def _replace(self, path: str, entries: Map) -> None:
        """Replace a map in one transaction: nobody sees half of it (management guide §9.3, `prepare map`)."""
        said = self._ask(f"prepare map {path}\n")
        found = re.search(r"version created: (\d+)", said)
        if found is None:
            raise NotTakenError(f"haproxy does not have the map {path}: {said.strip()}")
        version = found[1]
        for chunk in chunks(entries):
            self._must(f"add map @{version} {path} <<\n{chunk}\n")
        self._must(f"commit map @{version} {path}\n", PATIENCE)

    def _shown(self, name: str) -> tuple[int, int]:
        return tally(self._octets(f"show map {self._path(name)}\n", PATIENCE), shown=True)

    def _must(self, command: str, patience: float = _SHORT) -> None:
        said = self._ask(command, patience).strip()
        if said:
            raise NotTakenError(f"haproxy, asked to `{command.splitlines()[0]}`: {said}")

    def _ask(self, command: str, patience: float = _SHORT) -> str:
        return self._octets(command, patience).decode(errors="replace")

    def _octets(self, command: str, patience: float) -> bytes:
        try:
            with _connected(self._socket, patience) as api:
                api.sendall(command.encode())
                return b"".join(iter(lambda: api.recv(65536), b""))
        except TimeoutError:
            raise NotTakenError(f"haproxy's runtime API at {self._socket} does not answer") from None
        except OSError as error:
            raise DownError(f"haproxy does not run: its runtime API at {self._socket}: {error}") from None

    def _reload(self) -> None:
        """Have the master start a new worker, and wait until it is the one that answers."""
        before = self._worker()
        if not reloaded_by_operator(self._means):
            pid_file = self._means.one("pid") or self._said(_PID)
            if not pid_file:
                raise NotTakenError(
                    "haproxy: a reload is due, and nothing says how; say --engine pid=FILE (of the master process, -p)"
                    " or --engine reload=COMMAND"
                )
            send(running(pid_file, "haproxy"), signal.SIGUSR2, "haproxy")
        wait_until(
            lambda: self._worker() not in (None, before),
            self._means.patience,
            "haproxy was told to reload, and no new process answers (its log says why)",
        )

    def _worker(self) -> str | None:
        with suppress(NotTakenError, DownError):
            found = re.search(r"^Pid: (\d+)", self._ask("show info\n"), re.MULTILINE)
            return found[1] if found else None
        return None


def _connected(address: str, patience: float) -> socket.socket:
    """Connect to the runtime API: a path, or HOST:PORT."""
    path = address.removeprefix("unix@")
    if path.startswith("/"):
        api = socket.socket(socket.AF_UNIX)
        api.settimeout(patience)
        try:
            api.connect(path)
        except OSError:
            api.close()
            raise
        return api
    host, _, port = address.removeprefix("ipv4@").rpartition(":")
    return socket.create_connection((host, int(port) if port.isdigit() else 0), patience)


ENGINE: Final = EngineKind(
    name="haproxy",
    make=HAProxy,
    settings={
        "config": Setting("/etc/haproxy/haproxy.cfg", "its files (-f), in their order, ours among them", many=True),
        "program": Setting("haproxy", "the program that checks"),
        "socket": Setting("", "its runtime API with level admin; otherwise the first `stats socket` of its files"),
        "pid": Setting("", "pid file of its master process (-p); otherwise the `pidfile` of its files"),
        "purge": Setting("no", "`reload`: empty its cache by a new process when a cdn measure starts or ends"),
        "check": CHECK,
        "reload": RELOAD,
    },
    believes=Told.X_FORWARDED_FOR,
    own=CONNECT,
)
