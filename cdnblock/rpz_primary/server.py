"""The primary on its addresses: UDP for serials, TCP for transfers (RFC 5936, RFC 7766)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from cdnblock.adapters._dns_front.datagrams import bind_datagrams
from cdnblock.adapters._dns_front.peers import Address
from cdnblock.adapters._dns_front.places import Places
from cdnblock.adapters._dns_front.streams import open_listener
from cdnblock.errors import ConfigError
from cdnblock.rpz_primary.requests import LARGEST_REQUEST, Desk

_LOG: Final = logging.getLogger("cdnblock.rpz")
_ATTEMPTS: Final = 20  # at a port that is free for UDP and for TCP
_WRITTEN: Final = 1 << 18  # octets that may wait for a reader before the next message is made
_QR: Final = b"\x80"  # the third octet of a message that is an answer, at least
_LENGTH: Final = 2  # octets before each message (RFC 1035 §4.2.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many connections there may be, in all and from one client, and how long one may stand still (seconds).

    Whoever takes a transfer more slowly than about 200 kB in that time is cut off.
    """

    connections: int = 256
    per_client: int = 64
    idle: float = 30.0


class PrimaryServer:
    """Answers on some addresses, in one event loop. Port 0 is any free port."""

    def __init__(self, desk: Desk, *, listen: Sequence[Address], limits: Limits | None = None) -> None:
        self._desk = desk
        self._listen = tuple(listen)
        self._limits = limits or Limits()
        self._open = Places(self._limits.connections, self._limits.per_client)
        self.datagrams: list[asyncio.DatagramTransport] = []
        self.heard: Callable[[bytes, Any], None] | None = None
        """Is given what answers a message of ours, and the address it came from."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[tuple[Address, ...]]:
        """Listen, and yield the addresses with their ports.

        Raises:
            ConfigError: an address cannot be listened on.

        """
        servers: list[asyncio.Server] = []
        try:
            yield tuple([await self._listen_on(address, servers) for address in self._listen])
        finally:
            for server in servers:
                server.close()
            for transport in self.datagrams:
                transport.close()
            for guest in self._open:
                guest.abort()
            self.datagrams = []

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._open)

    def answers(self, packet: bytes, peer: str, *, stream: bool) -> Iterator[bytes] | None:
        """Return the messages of an answer, None for silence."""
        return self._desk.answers(packet, peer, stream=stream)

    async def _listen_on(self, address: Address, servers: list[asyncio.Server]) -> Address:
        host, wanted = address
        loop = asyncio.get_running_loop()
        for attempt in range(_ATTEMPTS):
            listener = None
            try:
                listener = open_listener(host, wanted, reuse_port=False)
                port: int = listener.getsockname()[1]
                datagrams = bind_datagrams((host, port), reuse_port=False)
            except OSError as error:
                if listener is not None:
                    listener.close()
                if wanted or attempt == _ATTEMPTS - 1:
                    raise ConfigError(f"cannot listen on {host} port {wanted}: {error.strerror or error}") from error
                continue
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
            self.datagrams.append(transport)
            servers.append(await asyncio.start_server(self._converse, sock=listener, limit=LARGEST_REQUEST * 2))
            return host, port
        raise AssertionError

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = cast("asyncio.Transport", writer.transport)
        peer = (writer.get_extra_info("peername") or ("",))[0]
        if not self._open.take(transport, peer, is_one_client=True):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_WRITTEN)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._answer_all(reader, writer, peer)
        except TimeoutError:
            transport.abort()
        except Exception:  # noqa: BLE001 (logged with its trace; others are answered all the same)
            _LOG.exception("cdnblock: a conversation with %s failed", peer)
        finally:
            self._open.leave(transport)
            writer.close()  # once what was said is sent, but nobody waits for ever for somebody who does not listen
            asyncio.get_running_loop().call_later(self._limits.idle, transport.abort)

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        idle = self._limits.idle
        while True:
            async with asyncio.timeout(idle):
                size = int.from_bytes(await reader.readexactly(_LENGTH), "big")
                if size > LARGEST_REQUEST:
                    return
                packet = await reader.readexactly(size)
            messages = self.answers(packet, peer, stream=True)
            if messages is None:
                return
            for message in messages:
                self._open.moved(cast("asyncio.Transport", writer.transport))
                writer.write(len(message).to_bytes(_LENGTH, "big") + message)
                async with asyncio.timeout(idle):
                    await writer.drain()
                await asyncio.sleep(0)  # a transfer of a million names keeps nobody waiting


class _Datagrams(asyncio.DatagramProtocol):
    """One UDP socket: serials go out, and what answers our notifications comes in."""

    def __init__(self, server: PrimaryServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data[2:3] >= _QR:
            if self._server.heard is not None:
                self._server.heard(data, addr)
            return
        if len(data) <= LARGEST_REQUEST and (messages := self._server.answers(data, addr[0], stream=False)) is not None:
            for message in messages:
                self._transport.sendto(message, addr)
