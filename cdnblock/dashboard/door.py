"""Who may look: whoever is on this machine, or whoever has the token; and never a page of somebody else's.

A browser on this machine can be sent here by any web site. What such a site could read is kept from it twice: the Host
field must be a name of ours (DNS rebinding gives a site's own name our address), and answers are of one origin alone.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aiohttp import web

from cdnblock.errors import ConfigError

COOKIE: Final = "cdnblock_session"
SESSION_SECONDS: Final = 12 * 3_600  # a shift
SHORTEST_TOKEN: Final = 16  # characters; guessing one over the network takes longer than anybody has

_MOST_SESSIONS: Final = 1_000
_LONGEST_TOKEN: Final = 4_096
_OTHERS_MAY_READ: Final = 0o004


class Door:
    """Tells who may come in. `token` is None where everybody who can connect may; `names` are further Host names."""

    def __init__(self, token: str | None, names: Iterable[str] = ()) -> None:
        self.token = token
        self._names = frozenset({"localhost", *(name.lower().rstrip(".") for name in names)})
        self._sessions: dict[bytes, float] = {}  # digest of a cookie → when it ends, by the monotonic clock

    def knows(self, host: str | None) -> bool:
        """Tell whether a Host field is ours: an IP address, localhost or a listed name, with any port.

        A site that rebinds its name can send that name alone, so addresses are safe.
        """
        name = _without_port(host or "").lower().rstrip(".")
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def lets_in(self, request: web.BaseRequest) -> bool:
        """Tell whether a request comes with a session or, from a program, with the token itself."""
        if self.token is None:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return True
        ends = self._sessions.get(_digest(request.cookies.get(COOKIE, "")))
        return ends is not None and time.monotonic() < ends

    def log_in(self, given: str) -> str | None:
        """Return a new session for a right token, None for a wrong one."""
        if not self._is_token(given.strip()):
            return None
        now = time.monotonic()
        self._sessions = {key: ends for key, ends in self._sessions.items() if ends > now}
        while len(self._sessions) >= _MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        session = secrets.token_urlsafe(32)
        self._sessions[_digest(session)] = now + SESSION_SECONDS
        return session

    def log_out(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(_digest(session), None)

    def _is_token(self, given: str) -> bool:
        """Compare in constant time, whatever the lengths: digests are compared."""
        if self.token is None or len(given) > _LONGEST_TOKEN:
            return False
        return hmac.compare_digest(_digest(given), _digest(self.token))


def read_token(path: Path) -> str:
    """Return the token that a file holds.

    Raises:
        ConfigError: it cannot be read, is too short, or anybody on this machine may read it.

    """
    try:
        with path.open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(_LONGEST_TOKEN + 1)
        token = content.decode("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the dashboard's token cannot be read: {error}") from error
    if mode & _OTHERS_MAY_READ:
        raise ConfigError(f"{path}: everybody on this machine may read the dashboard's token; chmod 640 {path}")
    if len(token) < SHORTEST_TOKEN or len(content) > _LONGEST_TOKEN or not token.isprintable():
        raise ConfigError(
            f"{path}: a token is one line of at least {SHORTEST_TOKEN} characters; make one with: openssl rand -hex 32"
        )
    return token


def keep_strangers_out(host: str, token: str | None) -> None:
    """Raise ConfigError when others than this machine could connect to an address, and there is no token."""
    try:
        is_own = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_own = host.lower().rstrip(".") == "localhost"
    if token is None and not is_own:
        raise ConfigError(
            f"the dashboard at {host} could be read from elsewhere; "
            "bind it to 127.0.0.1, or give it a token: --dashboard-token-file FILE"
        )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
