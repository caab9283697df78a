"""A client that asks a name server, over UDP and TCP: one query, and the first packet that answers it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from secrets import randbelow
from typing import Final

from cdnblock.measures.dns_relay import is_answer_to
from cdnblock.verification.answers import Answer, DnsAnswer, Nothing
from cdnblock.verification.clients import Client
from cdnblock.verification.dns_packets import Question, UnreadableError, read_answer, write_query
from cdnblock.verification.servers import Resolver

TRIES: Final = 3  # over UDP, which may lose packets, and over TCP, where who has too many connections ends some
_PAUSE: Final = 0.1  # seconds until a connection that ended is made again, at first
_ENDED: Final = Nothing(why="the connection ended without an answer")
_CLOSING: Final = 0.5  # seconds that the end of a connection may take
_STRAY: Final = 64  # packets that answer something else and are passed over; whoever sends more is not waited for


async def ask_udp(resolver: Resolver, question: Question, client: Client, patience: float) -> Answer:
    """Return what is answered over UDP; the patience is for all tries together, in seconds.

    Raises:
        TimeoutError: there is none.
        OSError: nobody listens there, or the client's address is none of this machine's.

    """
    query = write_query(question, randbelow(1 << 16))
    ours = (client.bound_to, 0) if client.bound_to else None
    loop = asyncio.get_running_loop()
    transport, waiting = await loop.create_datagram_endpoint(
        lambda: _Waiting(query), local_addr=ours, remote_addr=(resolver.host, resolver.port)
    )
    try:
        for _ in range(TRIES):
            transport.sendto(client.preamble(resolver.host, resolver.port, datagram=True) + query)
            with contextlib.suppress(TimeoutError):
                return _judged(await asyncio.wait_for(asyncio.shield(waiting.answer), patience / TRIES))
    finally:
        transport.close()
        waiting.answer.cancel()
    raise TimeoutError


async def ask_tcp(resolver: Resolver, question: Question, client: Client) -> Answer:
    """Return what is answered over TCP. The caller bounds the time.

    A server may end a connection whenever it likes, and is asked once more then (RFC 7766 §6.2.4).

    Raises:
        OSError: nobody takes connections there, or the client's address is none of this machine's.

    """
    for number in range(1, TRIES):
        if (answer := await _ask_once(resolver, question, client)) != _ENDED:
            return answer
        await asyncio.sleep(number * _PAUSE)
    return await _ask_once(resolver, question, client)


async def _ask_once(resolver: Resolver, question: Question, client: Client) -> Answer:
    query = write_query(question, randbelow(1 << 16))
    ours = (client.bound_to, 0) if client.bound_to else None
    reader, writer = await asyncio.open_connection(resolver.host, resolver.port, local_addr=ours)
    try:
        writer.write(client.preamble(resolver.host, resolver.port) + len(query).to_bytes(2, "big") + query)
        for _ in range(_STRAY):
            size = int.from_bytes(await reader.readexactly(2), "big")
            packet = await reader.readexactly(size)
            if _answers(query, packet):
                return _judged(packet)
    except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
        return _ENDED
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), _CLOSING)
    return Nothing(why="answers to other questions alone")


class _Waiting(asyncio.DatagramProtocol):
    """Waits for the packet that answers a query."""

    def __init__(self, query: bytes) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._query = query
        self._stray = 0

    def datagram_received(self, data: bytes, addr: tuple[str | None, int]) -> None:  # noqa: ARG002 (asyncio's signature)
        if _answers(self._query, data):
            self._tell(lambda: self.answer.set_result(data))
            return
        self._stray += 1
        if self._stray >= _STRAY:
            self._tell(lambda: self.answer.set_result(b""))

    def error_received(self, exc: Exception) -> None:
        self._tell(lambda: self.answer.set_exception(exc))

    def _tell(self, tell: Callable[[], None]) -> None:
        if not self.answer.done():
            tell()


def _answers(query: bytes, packet: bytes) -> bool:
    try:
        return packet[:2] == query[:2] and is_answer_to(query, packet)
    except IndexError:
        return False


def _judged(packet: bytes) -> Answer:
    if not packet:
        return Nothing(why="answers to other questions alone")
    try:
        return DnsAnswer(reading=read_answer(packet))
    except UnreadableError as error:
        return Nothing(why=str(error))
