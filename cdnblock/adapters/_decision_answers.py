"""Verdicts as octets that are ready to be sent: they are few, and aiohttp's own responses are a third of a question."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, cast

from aiohttp import HttpVersion11, web

from cdnblock.measures.cache_disable import NO_STORE
from cdnblock.measures.proxy_termination import Answer

ACTION: Final = "X-Cdnblock-Action"
"""Response field: `pass`, `uncached`, `answer` or `close`. On requests nobody's word about it is believed."""

GENERATION: Final = "X-Cdnblock-Generation"
"""Response field: what a cache makes part of its key, see `_decision_generations`."""

NOT_STORED: Final = dict(NO_STORE)
"""A verdict is for one client and one instant."""

_KEPT: Final = 1024  # verdicts; the notices of the gate are fewer
_Made = tuple[bytes, bytes, Answer | None]
_NO_BODY: Final = frozenset({204, 304})


class Answers:
    """Makes responses of verdicts, and keeps what they have in common. For one thread."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, str, str, int], _Made] = {}
        self._second, self._date = 0, b""

    def respond(
        self, request: web.BaseRequest, status: int, action: str, generation: str, answer: Answer | None = None
    ) -> web.StreamResponse:
        """Return the response that tells an action and a generation, with what an answer has of its own."""
        if not request.keep_alive or request.version != HttpVersion11 or request.method == "HEAD":
            return plain(status, {ACTION: action, GENERATION: generation, **NOT_STORED}, answer)
        key = (status, action, generation, id(answer))
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= _KEPT:
                self._made.clear()
            # With the answer: as long as it is kept, no other one can have its id.
            made = self._made[key] = (*_octets(status, action, generation, answer), answer)
        if (now := int(time.time())) != self._second:
            self._second, self._date = now, formatdate(now, usegmt=True).encode()
        return cast("web.StreamResponse", _Ready(made[0] + self._date + made[1]))


def plain(status: int, headers: Mapping[str, str], answer: Answer | None = None) -> web.Response:
    """Return aiohttp's own response: with an answer's fields, reason and body where there is one."""
    if answer is None:
        return web.Response(status=status, headers=headers)
    return web.Response(
        status=status, reason=answer.reason, headers={**dict(answer.headers), **headers}, body=answer.body
    )


class _Ready:
    """What aiohttp asks of a response, for a request that keeps its connection."""

    __slots__ = ("_octets", "_request")

    keep_alive = True
    prepared = False

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    async def prepare(self, request: web.BaseRequest) -> None:
        """Be sent to whoever asked."""
        self._request = request

    async def write_eof(self) -> None:
        """Send everything. Who reads nothing is waited for."""
        transport = self._request.transport
        if transport is None:
            return
        transport.write(self._octets)
        if transport.get_write_buffer_size():
            await self._request.writer.drain()


def _octets(status: int, action: str, generation: str, answer: Answer | None) -> tuple[bytes, bytes]:
    """Return what comes before the date (RFC 9110 §6.6.1), and what comes after it."""
    reason, body, headers = HTTPStatus(status).phrase, b"", {}
    if answer is not None:
        reason, body, headers = answer.reason, answer.body, dict(answer.headers)
    headers |= {ACTION: action, GENERATION: generation, **NOT_STORED}
    if status not in _NO_BODY:
        headers["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items()), "Date: "]
    return "\r\n".join(lines).encode("latin-1"), b"\r\n\r\n" + body
