"""DNS over HTTPS (RFC 8484): the questions and answers of DNS, each in an HTTP exchange.

HTTP/1.1 is aiohttp's; HTTP/2, which `dig +https` and browsers want, is h2's and there where h2 is installed. TLS is
done here, or by a proxy before that names its clients.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, cast

from aiohttp import HttpVersion11, web

from cdnblock.adapters._dns_front.http_messages import (
    MOST_OCTETS,
    OK,
    Headers,
    Request,
    Response,
    complaint,
    dns_query,
    dns_response,
    too_large,
)
from cdnblock.adapters._dns_front.over_tls import listen
from cdnblock.adapters._dns_front.peers import Address
from cdnblock.adapters._dns_front.places import Places
from cdnblock.adapters._dns_front.streams import StreamLimits

try:
    from cdnblock.adapters._dns_front.http2 import Http2Connection
except ImportError:  # HTTP/1.1 goes without
    Http2Connection = None  # type: ignore[assignment,misc]  # told apart where it is used

Resolve: TypeAlias = Callable[[bytes, str], Awaitable[bytes | None]]
"""Given a query and its client's address, the answer; None for what deserves silence."""

ClientAddress: TypeAlias = Callable[[str | None, Headers], str | None]
"""Given a peer and header fields, the client's address: `Enforcer.client_address`."""

PROTOCOLS: Final = ("http/1.1",) if Http2Connection is None else ("h2", "http/1.1")  # for ALPN (RFC 7301)

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LOG: Final = logging.getLogger("cdnblock.adapters.dns_server")
_QUIET: Final = logging.getLogger(f"{__name__}.clients")  # what clients do wrong is answered, not logged
_QUIET.setLevel(logging.CRITICAL + 1)


class DnsOverHttps:
    """Answers HTTP requests that carry DNS queries; `client_address` tells whose they are."""

    def __init__(self, resolve: Resolve, client_address: ClientAddress, limits: StreamLimits) -> None:
        self._resolve = resolve
        self._limits = limits
        self._client_address = client_address
        self._connections: dict[asyncio.BaseTransport, _Connection] = {}
        self._places = Places(limits.connections, limits.connections)  # a proxy is many clients
        self.requests = self.bad_requests = 0

    def metrics(self) -> dict[str, object]:
        """Return the counters as JSON has them; those of requests only ever grow."""
        return {
            "https": {
                "requests": self.requests,
                "bad_requests": self.bad_requests,
                "connections": len(self._places),
                "evicted": self._places.evicted,
            }
        }

    @asynccontextmanager
    async def serve(
        self, address: Address, context: ssl.SSLContext | None = None, *, reuse_port: bool = False
    ) -> AsyncIterator[Address]:
        """Listen, and yield the address with its port. Without a TLS context this is for a proxy that does TLS.

        Raises:
            ConfigError: the address cannot be listened on.

        """
        http1 = web.Server(self._http1, access_log=None, auto_decompress=False, logger=_QUIET)
        server = await listen(
            lambda: _Connection(self._connections, self._places, self._limits, http1, self.respond),
            address,
            context,
            handshake=self._limits.idle,
            reuse_port=reuse_port,
        )
        try:
            yield address[0], server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for transport in tuple(self._connections):
                cast("asyncio.Transport", transport).abort()
            await http1.shutdown(timeout=0)

    async def respond(self, request: Request) -> Response:
        """Return the response to a request. Never raises: a fault of ours is logged, and no answer."""
        self.requests += 1
        try:
            response = await self._respond(request)
        except Exception:  # noqa: BLE001 (whatever it is, it must not end a connection in silence)
            _LOG.exception("cdnblock: a request for DNS over HTTPS failed")
            response = complaint(500, "this is our fault")
        self.bad_requests += response.status != OK
        return response

    async def _respond(self, request: Request) -> Response:
        query = dns_query(request)
        if isinstance(query, Response):
            return query
        client = self._client_address(request.peer, request.headers)
        answer = await self._resolve(query, client or "")
        return complaint(400, "this is no DNS query") if answer is None else dns_response(answer)

    async def _http1(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = self._connections.get(cast("asyncio.BaseTransport", request.transport))
        if connection is None:
            raise ConnectionResetError
        connection.progress()
        read = await _http1_request(request, connection.peer)
        response = await connection.respond(read) if isinstance(read, Request) else read
        connection.progress()
        headers = {"server": "cdnblock", **dict(response.headers)}
        return web.Response(status=response.status, headers=headers, body=response.body)


class _Connection(asyncio.Protocol):
    """A client's connection: HTTP/2 when its first octets say so (RFC 9113 §3.3), HTTP/1.1 otherwise.

    It ends when nothing has happened for a while and no answer is due, or when it is the stillest and another one needs
    its place.
    """

    def __init__(
        self,
        connections: dict[asyncio.BaseTransport, _Connection],
        places: Places,
        limits: StreamLimits,
        http1: web.Server,
        respond: Callable[[Request], Awaitable[Response]],
    ) -> None:
        self._connections, self._places, self._limits = connections, places, limits
        self._http1, self._respond = http1, respond
        self._inner: asyncio.Protocol | None = None
        self._start = b""
        self._moved = False
        self._due = 0
        self.peer: str | None = None

    async def respond(self, request: Request) -> Response:
        """Return the response to a request; until it is there the connection is not idle, however slow upstreams are."""
        self._due += 1
        try:
            return await self._respond(request)
        finally:
            self._due -= 1
            self._moved = True

    def progress(self) -> None:
        """Note that a request has come, or that a response goes."""
        self._moved = True
        self._places.moved(self._transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for what the client speaks (asyncio.Protocol)."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else None
        self._places.take(self._transport, self.peer or "", is_one_client=False)
        self._connections[transport] = self
        self._look_again()

    def data_received(self, data: bytes) -> None:
        """Pass on what came, once it is clear to whom (asyncio.Protocol)."""
        if self._inner is None:
            data = self._start + data
            if len(data) < len(_PREFACE) and _PREFACE.startswith(data):
                self._start = data
                return
            self._start = b""
            self._inner = self._speak(data)
            self._inner.connection_made(self._transport)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on (asyncio.Protocol)."""
        return None if self._inner is None else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on (asyncio.Protocol)."""
        self._connections.pop(self._transport, None)
        self._places.leave(self._transport)
        self._timer.cancel()
        inner, self._inner = self._inner, None  # what goes round in circles keeps memory until it is searched for
        if inner is not None:
            inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on (asyncio.Protocol)."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on (asyncio.Protocol)."""
        if self._inner is not None:
            self._inner.resume_writing()

    def _speak(self, start: bytes) -> asyncio.Protocol:
        if Http2Connection is not None and start.startswith(_PREFACE):
            return Http2Connection(self.respond, self.progress, self.peer)
        return self._http1()

    def _look_again(self) -> None:
        self._moved = False
        self._timer = asyncio.get_running_loop().call_later(self._limits.idle, self._look)

    def _look(self) -> None:
        if self._transport.is_closing():  # and still there: the client does not read
            self._transport.abort()
            return
        if not self._moved and not self._due:
            self._transport.close()
        self._look_again()


async def _http1_request(request: web.BaseRequest, peer: str | None) -> Request | Response:
    """Return a request with its whole body, or the response to one that is wrong."""
    fields = tuple((name.lower(), value) for name, value in request.raw_headers)
    hosts = sum(name == b"host" for name, _ in fields)
    if hosts > 1 or (hosts == 0 and request.version >= HttpVersion11):
        return complaint(400, "a request has one Host")  # RFC 9112 §3.2
    if (request.content_length or 0) > MOST_OCTETS:
        return too_large()
    if (b"expect", b"100-continue") in fields and request.transport is not None:
        request.transport.write(_CONTINUE)  # RFC 9110 §10.1.1
    body = bytearray()
    try:
        while part := await request.content.readany():
            body += part
            if len(body) > MOST_OCTETS:
                return too_large()
        return Request(request.method, request.raw_path, fields, bytes(body), peer)
    except web.RequestPayloadError:
        return complaint(400, "the body is broken")
    finally:  # an exception goes round in circles with all that stands here, until it is searched for
        body.clear()
        part = b""
