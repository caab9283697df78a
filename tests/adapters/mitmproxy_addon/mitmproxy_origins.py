"""Real origins for the proxy under test: HTTP/1.1 on plain sockets, HTTP/2 over TLS, HTTP/3, and a DNS server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import h2.config
import h2.connection
import h2.events
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamReset

DRIP_SECONDS = 0.02
CACHEABLE = (
    b"Cache-Control: public, max-age=600\r\nCDN-Cache-Control: max-age=900\r\nExpires: Thu, 01 Jan 2099 00:00:00 GMT\r\n"
    b'Age: 5\r\nSurrogate-Key: a b\r\nETag: "v1"\r\n'
)


@dataclass
class Seen:
    """One request as it arrived at the origin."""

    method: str
    target: str
    hosts: list[str]
    headers: dict[str, str]
    body: bytes


class LoopThread:
    """An event loop on a thread of its own, so that origins answer while a test blocks on its sockets."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Awaitable):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def close(self) -> None:
        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


@dataclass
class Origin:
    """What the proxy forwards to: remembers each request and connection, and each byte it could still send."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    last_sent: dict[str, float] = field(default_factory=dict)

    def of(self, host: str) -> list[Seen]:
        """Every request for a host (Host field or target), in order."""
        return [seen for seen in self.seen if host in seen.hosts or f"//{host}" in seen.target]


async def start_http1(origin: Origin) -> asyncio.Server:
    """Serve HTTP/1.1 byte by byte; the path says how (see `_answer`)."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        origin.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, TimeoutError):
            while await _one_request(origin, reader, writer):
                pass
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    origin.port = server.sockets[0].getsockname()[1]
    return server


async def _one_request(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    lines = [line.split(":", 1) for line in head[1:] if line]
    headers = {name.lower(): value.strip() for name, value in lines}
    hosts = [value.strip() for name, value in lines if name.lower() == "host"]
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    origin.seen.append(Seen(method, target, hosts, headers, body))
    path = "/" + target.split("/", 3)[3] if "://" in target else target
    host = hosts[0] if hosts else ""

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        origin.last_sent[host] = time.monotonic()

    return await _answer(path, method, headers, send)


async def _answer(path: str, method: str, headers: dict[str, str], send: Callable[[bytes], Awaitable[None]]) -> bool:
    if path == "/ws":
        key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest())
        await send(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        await send(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        return await _drip(send, lambda n: b"\x81\x04%04d" % (n % 10_000))
    if path == "/upgrade":
        await send(b"HTTP/1.1 101 Switching\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n")
        return await _drip(send, lambda n: b"raw %06d " % n)
    if path == "/events":
        await send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        return await _drip(send, lambda n: _chunk(b"data: %d\n\n" % n))
    if path == "/live":
        await send(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nTransfer-Encoding: chunked\r\n\r\n")
        return await _drip(send, lambda n: _chunk(b"G%07d" % n))
    if path == "/download":
        await send(b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\nContent-Length: 50000000\r\n\r\n")
        return await _drip(send, lambda _: b"z" * 1000)
    if path == "/page":
        await send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 400\r\n\r\n")
        for n in range(40):
            await send(b"<p>%03d</p>" % n)
            await asyncio.sleep(DRIP_SECONDS)
        return True
    if path == "/lines":
        await send(b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n")
        return await _drip(send, lambda n: _chunk(b"%d;%d\n" % (n, n)))
    if path in ("/late", "/slow"):
        await asyncio.sleep(1 if path == "/late" else 20)
    body = b"" if method == "HEAD" else b"hello"
    await send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n" + CACHEABLE + b"\r\n" + body)
    return True


async def _drip(send: Callable[[bytes], Awaitable[None]], piece: Callable[[int], bytes]) -> bool:
    for n in range(1500):
        await send(piece(n))
        await asyncio.sleep(DRIP_SECONDS)
    return False


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def start_http2(origin: Origin, certificate: Path) -> asyncio.Server:
    """Serve HTTP/2 over TLS: `/` answers at once, `/live` drips until its stream is reset."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        origin.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await _serve_http2(origin, reader, writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    origin.port = server.sockets[0].getsockname()[1]
    return server


async def _serve_http2(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    conn.initiate_connection()
    writer.write(conn.data_to_send())
    drips: dict[int, asyncio.Task] = {}

    async def drip(stream_id: int, host: str) -> None:
        for n in range(1500):
            conn.send_data(stream_id, b"G%07d" % n)
            writer.write(conn.data_to_send())
            origin.last_sent[host] = time.monotonic()
            await asyncio.sleep(DRIP_SECONDS)

    try:
        while data := await reader.read(65536):
            for event in conn.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    fields = dict(event.headers)
                    host = fields.get(":authority", fields.get("host", ""))
                    origin.seen.append(Seen(fields[":method"], fields[":path"], [host], fields, b""))
                    conn.send_headers(event.stream_id, [(":status", "200"), ("content-type", "video/mp2t")])
                    if fields[":path"] == "/live":
                        drips[event.stream_id] = asyncio.create_task(drip(event.stream_id, host))
                    else:
                        conn.send_data(event.stream_id, b"hello", end_stream=True)
                elif isinstance(event, h2.events.StreamReset) and event.stream_id in drips:
                    drips.pop(event.stream_id).cancel()
            writer.write(conn.data_to_send())
    finally:
        for task in drips.values():
            task.cancel()


async def start_http3(origin: Origin, certificate: Path) -> QuicServer:
    """Serve HTTP/3 on the UDP port of `origin`, as `start_http2` does on its TCP port."""
    settings = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    settings.load_cert_chain(certificate)

    def protocol(*args, **kwargs) -> _Http3Origin:
        return _Http3Origin(origin, *args, **kwargs)

    return await serve("127.0.0.1", origin.port, configuration=settings, create_protocol=protocol)


class _Http3Origin(QuicConnectionProtocol):
    def __init__(self, origin: Origin, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._origin = origin
        self._http = H3Connection(self._quic)
        self._drips: dict[int, asyncio.Task] = {}

    def quic_event_received(self, event) -> None:
        if isinstance(event, StreamReset | StopSendingReceived | ConnectionTerminated):
            for stream_id in [getattr(event, "stream_id", None)] if hasattr(event, "stream_id") else [*self._drips]:
                if stream_id in self._drips:
                    self._drips.pop(stream_id).cancel()
        for item in self._http.handle_event(event):
            if isinstance(item, HeadersReceived):
                fields = {name.decode(): value.decode() for name, value in item.headers}
                host = fields.get(":authority", "")
                self._origin.seen.append(Seen(fields[":method"], fields[":path"], [host], fields, b""))
                self._http.send_headers(item.stream_id, [(b":status", b"200"), (b"content-type", b"video/mp2t")])
                if fields[":path"] == "/live":
                    self._drips[item.stream_id] = asyncio.ensure_future(self._drip(item.stream_id, host))
                else:
                    self._http.send_data(item.stream_id, b"hello", end_stream=True)
        self.transmit()

    async def _drip(self, stream_id: int, host: str) -> None:
        for n in range(1500):
            self._http.send_data(stream_id, b"G%07d" % n, end_stream=False)
            self.transmit()
            self._origin.last_sent[host] = time.monotonic()
            await asyncio.sleep(DRIP_SECONDS)


class DnsUpstream:
    """A name server on UDP and TCP: every name has the address 192.0.2.99; it remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.packets = 0
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        for work in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()

    def _serve_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = self.udp.recvfrom(65535)
                with contextlib.suppress(Exception):
                    self.udp.sendto(self._answer(data), peer)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.tcp.accept()
                threading.Thread(target=self._one_tcp, args=(peer,), daemon=True).start()

    def _one_tcp(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError, struct.error), peer:
            while True:
                (length,) = struct.unpack("!H", peer.recv(2, socket.MSG_WAITALL))
                answer = self._answer(peer.recv(length, socket.MSG_WAITALL))
                peer.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, data: bytes) -> bytes:
        self.packets += 1
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query, recursion_available=True)
        for question in query.question:
            self.asked.append(str(question.name).rstrip(".").lower())
            if question.rdtype == 1:
                response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "192.0.2.99"))
        return response.to_wire()
