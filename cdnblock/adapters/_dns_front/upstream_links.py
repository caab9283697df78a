"""TCP connections to an upstream resolver: one at a time, kept open, many queries on it at once (RFC 7766 §6.2)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Final

from cdnblock.adapters._dns_front.upstream_health import Address
from cdnblock.measures.dns_relay import is_answer_to

_IDLE: Final = 10.0  # seconds without anything to read; upstreams have few connections to give
_MOST_AT_ONCE: Final = 4_096  # queries that wait on one connection; whoever comes then waits for room first
_IN_VAIN: Final = 16  # connections without one answer, after which a query is given up: a reset may lose answers sent


class Link:
    """The way to one upstream over TCP. A connection is opened when there is something to ask, and closed when idle."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
        self._closed = False

    async def ask(self, query: bytes, within: float) -> bytes | None:
        """Return the answer with the query's id, None when there is none `within` so many seconds.

        An upstream may close the connection at any time (RFC 7766 §6.2.4): what it left unanswered is asked again.
        """
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(within), self._room:
                in_vain = 0
                while in_vain < _IN_VAIN:
                    connection = await self._open()
                    answer = await connection.ask(query)
                    if answer is not None:
                        return answer
                    in_vain += not connection.answers
        return None

    def close(self) -> None:
        """Close the connection for good; whoever waits gets None."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    async def _open(self) -> _Connection:
        """Return the connection, a new one when the last is closed: so whoever comes back to it has waited."""
        async with self._opening:
            if self._closed:
                raise ConnectionAbortedError
            if self._connection is None or self._connection.closed:
                self._connection = _Connection(*await asyncio.open_connection(*self._address))
            return self._connection


class _Connection:
    """One connection, with the queries that wait on it by the ids that they have there."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, tuple[bytes, asyncio.Future[bytes | None]]] = {}
        self._sending = asyncio.Lock()
        self._task = asyncio.create_task(self._read())
        self.answers = 0
        self.closed = False

    async def ask(self, query: bytes) -> bytes | None:
        """Return the answer; None when the connection is closed before, and then it is `closed`."""
        if self.closed:
            return None
        number = secrets.randbits(16)
        while number in self._waiting:
            number = secrets.randbits(16)
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = query, future
        try:
            await self._send(number, query)
            return await future
        finally:  # also of one that is given up while there is no room to send: else its id would never be free again
            del self._waiting[number]

    async def _send(self, number: int, query: bytes) -> None:
        """Send one query when the upstream has taken most of those before it: what is given up meanwhile is never sent."""
        try:
            async with self._sending:
                await self._writer.drain()
                self._writer.write(len(query).to_bytes(2, "big") + number.to_bytes(2, "big") + query[2:])
        except (OSError, RuntimeError):  # uvloop raises RuntimeError when it knows of an end that we have yet to read
            self.close()

    def close(self) -> None:
        """Close it; whoever waits gets None."""
        if self.closed:
            return
        self.closed = True
        self._task.cancel()
        self._writer.transport.abort()  # what is still to be sent to an upstream that does not read would keep it open
        for _, future in self._waiting.values():
            if not future.done():
                future.set_result(None)

    async def _read(self) -> None:
        try:
            while True:
                async with asyncio.timeout(_IDLE):
                    size = int.from_bytes(await self._reader.readexactly(2), "big")
                    self._take(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError, TimeoutError, RuntimeError):
            self.close()

    def _take(self, answer: bytes) -> None:
        query, future = self._waiting.get(int.from_bytes(answer[:2], "big"), (b"", None))
        if future is not None and not future.done() and is_answer_to(query, answer):
            self.answers += 1
            future.set_result(query[:2] + answer[2:])
