"""The door of the decision service: who gets a connection, how many there are, and what of all that is told."""

from __future__ import annotations

import asyncio
import logging
import math
import resource
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from cdnblock.adapters._decision_listening import Callers
from cdnblock.http_gate import COMPLAIN_EVERY

FIRST_HEAD: Final = 10.0
"""Seconds within which a connection's first question must be there, whole."""

_MOST: Final = 4096  # connections; proxies keep some dozens
_SHARE: Final = 0.75  # of the files that this process may open: the rest is for orders, tables, and itself
_PAUSE: Final = 0.25  # seconds, after an `accept` that failed: there are no files left, and soon will be
_LOG: Final = logging.getLogger(__name__)


class Seldom:
    """Tells whether it is time to complain once more: at once, then once a minute."""

    def __init__(self) -> None:
        self._told_at = -COMPLAIN_EVERY

    def __call__(self) -> bool:
        """Return True when nobody was told for a minute, and remember that now somebody is."""
        now = time.monotonic()
        if now - self._told_at < COMPLAIN_EVERY:
            return False
        self._told_at = now
        return True


class Unreadable(logging.Filter):
    """Makes of aiohttp's traceback for each request that is no HTTP one line a minute, without what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self._seldom = Seldom()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let through what is no bad request as it is."""
        if not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)):
            return True
        record.msg, record.args, record.exc_info = (
            "cdnblock: a question was no HTTP that can be read: 400 (told once a minute)",
            (),
            None,
        )
        return self._seldom()


def most_connections() -> int:
    """Return how many connections may be open at a time, so that files are left for everything else."""
    return int(max(1, min(_MOST, most_files() * _SHARE)))


def most_files() -> float:
    """Return how many files this process may have open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if files == resource.RLIM_INFINITY else files


class Door:
    """Accepts connections for one listener; what is no caller's is closed before a byte of it is read.

    `opened` returns how many connections there are at all listeners, `counts` is told of those that were turned away;
    `most` is how many there may be, by default `most_connections()`.
    """

    def __init__(
        self,
        server: web.Server,
        callers: Callers,
        counts: MutableMapping[str, int],
        opened: Callable[[], int],
        *,
        most: int | None = None,
    ) -> None:
        self._server, self._callers, self._counts, self._opened = server, callers, counts, opened
        self._most = most or most_connections()
        self._seldom = Seldom()
        self._awaited: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    async def accept(self, listener: socket.socket) -> None:
        """Accept until cancelled, whatever becomes of one connection."""
        listener.setblocking(False)
        while True:
            try:
                connection, peer = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:
                self._complain(f"connections cannot be accepted: {error.strerror}")
                await asyncio.sleep(_PAUSE)
                continue
            try:
                await self._let_in(connection, peer[0] if isinstance(peer, tuple) else None)
            except Exception as error:  # noqa: BLE001 (the next connection is somebody else's)
                connection.close()
                self._complain(f"a connection was given up: {error!r}")

    async def _let_in(self, connection: socket.socket, peer: str | None) -> None:
        if not self._may_enter(peer):
            connection.close()
            await asyncio.sleep(0)  # whoever comes again and again: the questions of others are answered between
            return
        loop = asyncio.get_running_loop()
        _, protocol = await loop.connect_accepted_socket(self._server, connection)
        self._awaited[protocol] = loop.call_later(FIRST_HEAD, self._too_late, protocol)

    def asked(self, protocol: asyncio.BaseProtocol) -> None:
        """Take note that a connection's question is there."""
        if timer := self._awaited.pop(protocol, None):
            timer.cancel()

    def _may_enter(self, peer: str | None) -> bool:
        if not self._callers.may_ask(peer):
            self._counts["untrusted"] += 1
            return False
        if self._opened() >= self._most:
            self._counts["crowded"] += 1
            self._complain(f"{self._most} connections are open, which is the most: another one was closed")
            return False
        return True

    def _too_late(self, protocol: asyncio.BaseProtocol) -> None:
        self._awaited.pop(protocol, None)
        if isinstance(protocol, web.RequestHandler):
            protocol.force_close()

    def _complain(self, text: str) -> None:
        if self._seldom():
            _LOG.error("cdnblock: %s (told once a minute)", text)
