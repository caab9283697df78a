"""DNS over TCP (RFC 7766), and over whatever carries streams as TCP does, such as TLS (RFC 7858)."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Final, Protocol, cast

from cdnblock.adapters._dns_front.peers import Preface
from cdnblock.adapters._dns_front.places import Places
from cdnblock.adapters._dns_front.queries import FORWARD, Verdict
from cdnblock.measures.dns_refusal import not_implemented
from cdnblock.measures.dns_relay import is_transfer

_LENGTH: Final = 2  # octets before each message (RFC 1035 §4.2.2)
_OCTETS: Final = 65_535  # of queries under way on one connection: then no more are read; nobody has use for large ones


class Judges(Protocol):
    """What is needed of the judge."""

    def judge(self, packet: bytes, peer: str, *, limit: int | None = None) -> bytes | Verdict | None:
        """Return an answer, None for silence, or FORWARD."""


class Asks(Protocol):
    """What is needed of the upstreams."""

    async def ask(self, query: bytes, *, tcp: bool = False) -> bytes:
        """Return the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """How many connections there may be, in all and from one client, and how many queries at once on one of them.

    `idle` is how long (seconds) a connection may go without a whole query, or without taking an answer, before it is
    closed (RFC 7766 §6.2.3): single octets do not count, so a slow sender gains nothing.
    """

    connections: int = 1_024
    per_client: int = 64
    at_once: int = 64
    idle: float = 10.0


class Conversations:
    """All stream connections of one event loop. Calling it gives the protocol of a new one (`loop.create_server`)."""

    def __init__(self, judge: Judges, upstreams: Asks, preface: Preface, limits: StreamLimits) -> None:
        self.judge = judge.judge
        self.ask = upstreams.ask
        self.preface = preface
        self.limits = limits
        self.open = Places(limits.connections, limits.per_client)
        self.queries = self.cut_off = 0

    def __call__(self) -> Conversation:
        return Conversation(self)

    def close(self) -> None:
        """Cut off every connection."""
        for transport in self.open:
            transport.abort()

    def metrics(self) -> dict[str, int]:
        """Return the counters as JSON has them; all but `connections` only ever grow."""
        return {
            "queries": self.queries,
            "connections": len(self.open),
            "turned_away": self.open.turned_away,
            "evicted": self.open.evicted,
            "cut_off": self.cut_off,
        }


class Conversation(asyncio.Protocol):
    """One connection: queries come one behind the other, and each answer goes out as soon as it is there."""

    def __init__(self, all_of_them: Conversations) -> None:
        self._all = all_of_them
        self._received = bytearray()
        self._running: set[asyncio.Task[None]] = set()
        self._octets = 0  # of the queries that are running
        self._peer = self._client = ""
        self._wants_preface = self._ended = self._blocked = self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the connection in, or turn it away when its client has enough (asyncio.Protocol)."""
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        address = transport.get_extra_info("peername")
        self._peer = self._client = address[0] if address else ""
        self._wants_preface = self._all.preface.is_expected_of(self._peer)
        self._last = self._loop.time()
        self._watching = self._loop.call_later(self._all.limits.idle, self._watch)
        if not self._all.open.take(self._transport, self._peer, is_one_client=not self._wants_preface):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Forget the connection (asyncio.Protocol)."""
        self._watching.cancel()
        for task in self._running:
            task.cancel()
        self._all.open.leave(self._transport)

    def data_received(self, data: bytes) -> None:
        """Answer every query that is complete (asyncio.Protocol)."""
        self._received += data
        if self._wants_preface and not self._read_preface():
            return
        self._read_queries()

    def eof_received(self) -> bool:
        """Give a client that has asked all it wants the answers that are still due (asyncio.Protocol)."""
        self._ended = True
        return bool(self._running) and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """Read no more queries of a client who does not read answers (asyncio.Protocol)."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Go on (asyncio.Protocol)."""
        self._blocked = False
        self._last = self._loop.time()
        self._read_queries()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def _read_preface(self) -> bool:
        found = self._all.preface.read_stream(bytes(self._received), self._peer)
        if found is None:
            self.abort()
            return False
        consumed, self._client = found
        del self._received[:consumed]
        self._wants_preface = not consumed
        return bool(consumed)

    def _read_queries(self) -> None:
        received = self._received
        while not self._transport.is_closing() and not self._is_busy():
            end = _LENGTH + int.from_bytes(received[:_LENGTH], "big")
            if len(received) < max(end, _LENGTH):
                break
            query = bytes(received[_LENGTH:end])
            del received[:end]
            self._last = self._loop.time()
            self._all.open.moved(self._transport)
            self._all.queries += 1
            self._answer(query)
        if self._is_busy() is not self._paused and not self._transport.is_closing():
            self._paused = not self._paused
            (self._transport.pause_reading if self._paused else self._transport.resume_reading)()

    def _is_busy(self) -> bool:
        return self._blocked or len(self._running) >= self._all.limits.at_once or self._octets >= _OCTETS

    def _answer(self, query: bytes) -> None:
        verdict = self._all.judge(query, self._client)
        if verdict is FORWARD and not is_transfer(query):
            self._octets += len(query)
            task = self._loop.create_task(self._relay(query))
            self._running.add(task)
            task.add_done_callback(self._finished)
        elif verdict is FORWARD:  # a transfer is many messages; whoever needs one asks a primary, not a resolver
            self._write(not_implemented(query))
        elif isinstance(verdict, bytes):
            self._write(verdict)
        else:
            self.abort()  # what deserves silence over UDP is no DNS client's

    async def _relay(self, query: bytes) -> None:
        try:
            self._write(await self._all.ask(query, tcp=True))
        finally:
            self._octets -= len(query)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._transport.is_closing():
            return
        self._read_queries()
        if self._ended and not self._running:
            self._transport.close()

    def _write(self, answer: bytes) -> None:
        if self._transport.is_closing():  # uvloop raises then
            return
        self._last = self._loop.time()
        self._transport.write(len(answer).to_bytes(_LENGTH, "big") + answer)

    def _watch(self) -> None:
        """Cut the connection off when nothing whole has come or gone for too long."""
        left = self._last + self._all.limits.idle - self._loop.time()
        if self._running and not self._blocked:
            left = self._all.limits.idle
        if left <= 0:
            self._all.cut_off += 1
            self.abort()
        else:
            self._watching = self._loop.call_later(left, self._watch)


def open_listener(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """Return a bound TCP socket for `loop.create_server`. Raises OSError when it cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
