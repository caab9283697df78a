"""DNS over UDP: queries are read and answered in batches, straight from the socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from struct import pack
from typing import Any, Final, Protocol, TypeAlias

from cdnblock.adapters._dns_front.circles import Circles
from cdnblock.adapters._dns_front.peers import Address, Preface
from cdnblock.adapters._dns_front.queries import FORWARD, Verdict
from cdnblock.measures.dns_message import SMALLEST_UDP, UDP_SIZE
from cdnblock.measures.dns_relay import truncated, udp_room

_BATCH: Final = 64  # queries that are read in one go, before others have their turn
_LARGEST_QUERY: Final = 4_096  # octets; what fills all of them may have been longer, and is dropped
_BUFFER: Final = 4 * 1024 * 1024  # octets of queries that the kernel may hold
_IP_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8)  # Linux: ip(7); Python names it since 3.12
_ANCILLARY: Final = 128  # octets: room for one such record

Judge: TypeAlias = Callable[..., bytes | Verdict | None]


class Forwards(Protocol):
    """What is needed of the upstreams."""

    def forward(self, query: bytes, done: Callable[[Any, bytes, bytes], None], context: object) -> None:
        """Ask, and call `done(context, query, answer)`."""


class DatagramPort:
    """One UDP socket, bound to one address of this machine: what it sends comes from there."""

    def __init__(
        self, bound: socket.socket, judge: Judge, upstreams: Forwards, preface: Preface, circles: Circles
    ) -> None:
        self._socket = bound
        self._judge = judge
        self._forward = upstreams.forward
        self._circles = circles
        self._preface = preface if preface.expected_of_some else None
        self.queries = self.unsent = self.cut = 0

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to answer."""
        loop.add_reader(self._socket.fileno(), self.answer_some)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop; answers that upstreams still owe are dropped."""
        loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def answer_some(self) -> None:
        """Read and answer a batch of what is there (called by the event loop)."""
        receive, send, judge, preface = self._socket.recvfrom, self._socket.sendto, self._judge, self._preface
        for _ in range(_BATCH):
            try:
                packet, sender = receive(_LARGEST_QUERY)
            except OSError:  # nothing more is there, or the kernel tells of an answer that did not arrive
                return
            self.queries += 1
            peer = sender[0]
            if preface is not None:
                packet, peer = preface.read_datagram(packet, peer)
            verdict = judge(packet, peer, limit=UDP_SIZE)
            if verdict is FORWARD:
                if len(packet) < _LARGEST_QUERY:
                    forward = self._circles.forward if sender[0] in self._circles.hosts else self._forward
                    forward(packet, self.relay, sender)
            elif verdict is not None:
                try:
                    send(verdict, sender)
                except OSError:
                    self.unsent += 1

    def relay(self, sender: Any, query: bytes, answer: bytes) -> None:
        """Send an upstream's answer as it is; where the client has no room for it, say so (TC) instead."""
        if len(answer) > SMALLEST_UDP and len(answer) > udp_room(query):
            answer = truncated(query, answer)
            self.cut += 1
        self.send(answer, sender)

    def send(self, answer: bytes, sender: Any) -> None:
        """Send, or count what the kernel does not take."""
        try:
            self._socket.sendto(answer, sender)
        except OSError:
            self.unsent += 1


class WildcardPort(DatagramPort):
    """One UDP socket, bound to all addresses: each answer is sent from the address to which its query came."""

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._socket.family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        super().open(loop)

    def answer_some(self) -> None:
        for _ in range(_BATCH):
            try:
                packet, ancillary, _flags, sender = self._socket.recvmsg(_LARGEST_QUERY, _ANCILLARY)
            except OSError:
                return
            self.queries += 1
            peer = sender[0]
            way_back = (sender, [_reversed(*record) for record in ancillary])
            if self._preface is not None:
                packet, peer = self._preface.read_datagram(packet, peer)
            verdict = self._judge(packet, peer, limit=UDP_SIZE)
            if verdict is FORWARD:
                if len(packet) < _LARGEST_QUERY:
                    forward = self._circles.forward if sender[0] in self._circles.hosts else self._forward
                    forward(packet, self.relay, way_back)
            elif isinstance(verdict, bytes):
                self.send(verdict, way_back)

    def send(self, answer: bytes, sender: Any) -> None:
        address, ancillary = sender
        try:
            self._socket.sendmsg([answer], ancillary, 0, address)
        except OSError:
            self.unsent += 1


def open_datagram_port(
    address: Address, judge: Judge, upstreams: Forwards, preface: Preface, circles: Circles, *, reuse_port: bool
) -> DatagramPort:
    """Return a port that is bound, and answers once it is opened. Raises OSError when it cannot be bound."""
    kind = WildcardPort if address[0] in ("0.0.0.0", "::") else DatagramPort
    return kind(bind_datagrams(address, reuse_port=reuse_port), judge, upstreams, preface, circles)


def bind_datagrams(address: Address, *, reuse_port: bool) -> socket.socket:
    """Return a bound UDP socket. Raises OSError when it cannot be bound."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _reversed(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """Return the record with which to answer: from that local address, by whatever way the kernel chooses (ip(7)).

    For IPv6 the interface stays: a link-local address means nothing without it.
    """
    if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
        return level, kind, pack("=I4s4s", 0, data[4:8], b"\0\0\0\0")
    return level, kind, data
