"""The listeners of the front: one judge and its upstreams, over UDP and TCP, on some addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from cdnblock.adapters._dns_front.circles import Circles
from cdnblock.adapters._dns_front.datagrams import DatagramPort, open_datagram_port
from cdnblock.adapters._dns_front.peers import Address, Preface
from cdnblock.adapters._dns_front.queries import QueryJudge
from cdnblock.adapters._dns_front.streams import Conversations, StreamLimits, open_listener
from cdnblock.adapters._dns_front.upstreams import Upstreams
from cdnblock.errors import ConfigError

_ATTEMPTS: Final = 20  # at a port that is free for UDP and for TCP
_BACKLOG: Final = 1_024


class DnsServer:
    """Serves one judge and its upstreams on some addresses, in one event loop. Port 0 is any free port."""

    def __init__(
        self,
        judge: QueryJudge,
        upstreams: Upstreams,
        *,
        listen: Sequence[Address],
        load_balancers: Iterable[str] = (),
        limits: StreamLimits | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._judge = judge
        self._upstreams = upstreams
        self._listen = tuple(listen)
        self._preface = Preface(load_balancers)
        self._circles = Circles(upstreams.forward, [upstream.address for upstream in upstreams.each])
        self._streams = Conversations(judge, upstreams, self._preface, limits or StreamLimits())
        self._reuse_port = reuse_port
        self._ports: list[DatagramPort] = []
        self._servers: list[asyncio.Server] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[tuple[Address, ...]]:
        """Listen, and yield the addresses with their ports.

        Raises:
            ConfigError: an address cannot be listened on.

        """
        try:
            yield tuple([await self._open(address) for address in self._listen])
        finally:
            loop = asyncio.get_running_loop()
            for server in self._servers:
                server.close()
            for port in self._ports:
                port.close(loop)
            self._streams.close()
            self._servers, self._ports = [], []

    def metrics(self) -> dict[str, object]:
        """Return the counters as JSON has them; all but `outstanding` and `connections` only ever grow."""
        judge, upstreams, streams = self._judge, self._upstreams, self._streams
        return {
            "queries": {
                "refused": judge.refused,
                "forwarded": judge.forwarded,
                "objected": judge.objected,
                "silent": judge.silent,
                "failed": judge.failures,
            },
            "udp": {
                "queries": sum(port.queries for port in self._ports),
                "unsent": sum(port.unsent for port in self._ports),
                "cut": sum(port.cut for port in self._ports),
            },
            "tcp": streams.metrics(),
            "outstanding": upstreams.outstanding,
            "unanswered": upstreams.unanswered,
            "dropped": upstreams.dropped,
            "in_circles": self._circles.stopped,
            "unasked_answers": upstreams.unasked,
            "disbelieved_answers": upstreams.disbelieved,
            "upstreams": [upstream.metrics() for upstream in upstreams.each],
        }

    async def _open(self, address: Address) -> Address:
        host, wanted = address
        listener, datagrams = self._bind(host, wanted)
        port: int = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._ports.append(datagrams)
        datagrams.open(loop)
        self._servers.append(await loop.create_server(self._streams, sock=listener, backlog=_BACKLOG))
        return host, port

    def _bind(self, host: str, wanted: int) -> tuple[socket.socket, DatagramPort]:
        """Return a TCP and a UDP socket on one port; a port free for TCP may be taken for UDP: another, then."""
        for attempt in range(_ATTEMPTS):
            listener = None
            try:
                listener = open_listener(host, wanted, reuse_port=self._reuse_port)
                port = listener.getsockname()[1]
                return listener, open_datagram_port(
                    (host, port),
                    self._judge.judge,
                    self._upstreams,
                    self._preface,
                    self._circles,
                    reuse_port=self._reuse_port,
                )
            except OSError as error:
                if listener is not None:
                    listener.close()
                if wanted or attempt == _ATTEMPTS - 1:
                    raise ConfigError(f"cannot listen on {host} port {wanted}: {error.strerror or error}") from error
        raise AssertionError
