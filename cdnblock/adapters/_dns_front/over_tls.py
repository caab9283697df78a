"""DNS over TLS (RFC 7858): the conversations of TCP, encrypted, and answers of a size that tells little (RFC 7830)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from cdnblock.adapters._dns_front.peers import Address, Preface
from cdnblock.adapters._dns_front.queries import FORWARD, Verdict
from cdnblock.adapters._dns_front.records import padded
from cdnblock.adapters._dns_front.streams import Asks, Conversations, Judges, StreamLimits, open_listener
from cdnblock.errors import ConfigError
from cdnblock.measures.dns_refusal import not_implemented
from cdnblock.measures.dns_relay import is_transfer

PROTOCOLS: Final = ("dot",)  # for ALPN: RFC 7858 §3.1 and IANA's list
BACKLOG: Final = 1_024


class Encrypted:
    """The judge and the upstreams as encrypted ways ask them: answers to padded queries come padded.

    Upstreams are asked over UDP, and over TCP when that does not do; the client notices nothing of it.
    """

    def __init__(self, judge: Judges, upstreams: Asks) -> None:
        self._judge, self._ask = judge.judge, upstreams.ask

    def judge(self, packet: bytes, peer: str, *, limit: int | None = None) -> bytes | Verdict | None:
        """Return an answer, None for silence, or FORWARD."""
        verdict = self._judge(packet, peer, limit=limit)
        return padded(packet, verdict) if isinstance(verdict, bytes) else verdict

    async def ask(self, query: bytes, *, tcp: bool = False) -> bytes:  # noqa: ARG002 (what `Asks` has)
        """Return the upstream's answer."""
        return padded(query, await self._ask(query))

    async def resolve(self, query: bytes, client: str) -> bytes | None:
        """Return the answer, whoever gives it; None for what deserves silence."""
        verdict = self.judge(query, client)
        if verdict is not FORWARD:
            return verdict
        return not_implemented(query) if is_transfer(query) else await self.ask(query)


class DnsOverTls:
    """Answers DNS over TLS, in one event loop."""

    def __init__(self, encrypted: Encrypted, limits: StreamLimits) -> None:
        self._limits = limits
        self.streams = Conversations(encrypted, encrypted, Preface(()), limits)

    @asynccontextmanager
    async def serve(
        self, address: Address, context: ssl.SSLContext, *, reuse_port: bool = False
    ) -> AsyncIterator[Address]:
        """Listen, and yield the address with its port; `context` speaks `PROTOCOLS`.

        Raises:
            ConfigError: the address cannot be listened on.

        """
        server = await listen(self.streams, address, context, handshake=self._limits.idle, reuse_port=reuse_port)
        try:
            yield address[0], server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.streams.close()

    def metrics(self) -> dict[str, object]:
        """Return the counters as JSON has them."""
        return {"tls": self.streams.metrics()}


async def listen(
    make: Callable[[], asyncio.Protocol],
    address: Address,
    context: ssl.SSLContext | None,
    *,
    handshake: float,
    reuse_port: bool,
) -> asyncio.Server:
    """Return a server that listens there; with a TLS context it does TLS, in `handshake` seconds at most.

    Raises ConfigError when the address cannot be listened on.
    """
    host, port = address
    try:
        listener = open_listener(host, port, reuse_port=reuse_port)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    loop = asyncio.get_running_loop()
    timeout = None if context is None else handshake
    return await loop.create_server(make, sock=listener, backlog=BACKLOG, ssl=context, ssl_handshake_timeout=timeout)
