"""Where the decision service listens, and who may ask there."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdnblock.adapters._decision_dialects import DIALECTS
from cdnblock.errors import ConfigError
from cdnblock.geo.client_address import TrustedProxies

UNIX: Final = "unix:"
SOCKET_MODE: Final = 0o660

_BACKLOG: Final = 1024
_PEERS: Final = 4096  # addresses of callers that are remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """An address to listen on, the path of a unix socket or host and port, and who alone asks there (a dialect)."""

    path: Path | None = None
    host: str = ""
    port: int = 0
    dialect: str | None = None


def parse_listen(text: str) -> Listen:
    """Return the address that `unix:/path`, `HOST:PORT` or `[IPv6]:PORT` names, or one of them behind `DIALECT@`.

    Raises:
        ConfigError: it is none of these.

    """
    before, mark, address = text.partition("@")
    dialect = before if mark and before in DIALECTS else None
    address = address if dialect else text
    if address.startswith(UNIX) and len(address) > len(UNIX):
        return Listen(path=Path(address.removeprefix(UNIX)), dialect=dialect)
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"cannot listen on {text!r}; right would be `127.0.0.1:9451`, `[::1]:9451` or `unix:/path`")
    return Listen(host=host.removeprefix("[").removesuffix("]"), port=int(port), dialect=dialect)


@contextmanager
def listening(where: Listen, *, mode: int = SOCKET_MODE) -> Iterator[socket.socket]:
    """Yield a socket that listens; a unix socket has these permissions from its first moment, and goes at the end.

    Raises:
        ConfigError: another process listens there, or nobody can.

    """
    try:
        listener = _tcp(where) if where.path is None else _unix(where.path, mode)
    except OSError as error:
        shown = where.path or f"{where.host}:{where.port}"
        raise ConfigError(f"{shown}: cannot be listened on: {error.strerror or error}") from error
    inode = None if where.path is None else where.path.lstat().st_ino
    try:
        yield listener
    finally:
        listener.close()
        if where.path is not None:
            with suppress(OSError):
                if where.path.lstat().st_ino == inode:
                    where.path.unlink()


class Callers:
    """Who may ask: whoever can open the unix socket, and the listed networks."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        """Raise ConfigError for what is no network."""
        self._trusted = TrustedProxies(networks)
        self._known: dict[str, bool] = {}

    def may_ask(self, peer: str | None) -> bool:
        """Tell whether a peer is answered; None is one on a unix socket, whom its permissions have let in."""
        if not peer:
            return True
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= _PEERS:
                self._known.clear()
            known = self._known[peer] = self._trusted.trusts(peer)
        return known


def _tcp(where: Listen) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _unix(path: Path, mode: int) -> socket.socket:
    """Listen beside the place and then take it, so that there is no moment without a listener or with other permissions."""
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise FileExistsError(errno.EEXIST, "it is there, and no socket")
    if _is_in_use(path):
        raise OSError(errno.EADDRINUSE, "another process listens on it")
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), mode & 0o600)  # on Linux, what `bind` gives the file: nobody gets in before
        listener.bind(str(new))
        new.chmod(mode)  # whatever the umask
        listener.listen(_BACKLOG)
        new.rename(path)
    except BaseException:
        listener.close()
        new.unlink(missing_ok=True)
        raise
    return listener


def _is_in_use(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(1)
        try:
            other.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):  # nobody there, or what a dead process left
            return False
        return True
