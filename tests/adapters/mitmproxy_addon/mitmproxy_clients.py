"""Clients that send exactly what a test wants: raw HTTP/1.1, HTTP/2, WebSocket, DNS and HTTP/3."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Self

import dns.edns
import dns.message
import dns.query
import h2.config
import h2.connection
import h2.errors
import h2.events
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamReset

FRANCE, GERMANY, REUNION = "203.0.113.7", "198.51.100.7", "192.0.2.7"


@dataclass
class Answer:
    """One HTTP/1.1 answer; `status` 0 means that the connection ended without one."""

    status: int
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def field(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def fields(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Raw:
    """A raw connection to the proxy, plain or TLS, with the little HTTP/1.1 that a test needs to read."""

    def __init__(self, port: int, *, sni: str | None = None, timeout: float = 5) -> None:
        self.sock: socket.socket = socket.create_connection(("127.0.0.1", port), timeout)
        if sni is not None:
            self.start_tls(sni)
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def start_tls(self, sni: str) -> None:
        self.sock = _any_certificate().wrap_socket(self.sock, server_hostname=sni)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_until(self, mark: bytes) -> bytes:
        """Return what comes up to and with the mark; what came, if the connection ends before it."""
        while mark not in self.buffer:
            if not (data := self._receive()):
                rest, self.buffer = self.buffer, b""
                return rest
            self.buffer += data
        before, _, self.buffer = self.buffer.partition(mark)
        return before + mark

    def read_exactly(self, count: int) -> bytes:
        while len(self.buffer) < count and (data := self._receive()):
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def head(self) -> Answer:
        """Read a status line and header fields, nothing more."""
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        if not lines[0]:
            return Answer(0)
        _, status, *reason = lines[0].split(" ", 2)
        pairs = [line.split(":", 1) for line in lines[1:] if line]
        return Answer(int(status), "".join(reason), [(name, value.strip()) for name, value in pairs])

    def answer(self, method: str = "GET") -> Answer:
        """Read one whole answer that has a Content-Length, after any 1xx."""
        answer = self.head()
        while 100 <= answer.status < 200 and answer.status != 101:
            answer = self.head()
        if method != "HEAD":
            answer.body = self.read_exactly(int(answer.field("content-length") or 0))
        return answer

    def is_alive(self, seconds: float) -> bool:
        """Tell whether data still comes during all of this time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.buffer = b""
            if not self._receive():
                return False
        return True

    def seconds_to_end(self, limit: float = 5) -> float:
        """Return after how many seconds the connection ended; raise if it did not."""
        began = time.monotonic()
        while time.monotonic() - began < limit:
            if not self._receive():
                return time.monotonic() - began
        raise AssertionError(f"still open after {limit} s")

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError):
            return b""


def request(
    port: int, host: str, *, client: str = FRANCE, method: str = "GET", target: str = "/", headers: str = "", body: bytes = b"",
    sni: str | None = None,
) -> Answer:  # fmt: skip
    """Send one HTTP/1.1 request as a client somewhere (told by X-Forwarded-For) and read its answer."""
    with Raw(port, sni=sni) as raw:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        raw.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{via(client)}{headers}{length}\r\n".encode() + body)
        return raw.answer(method)


def via(client: str) -> str:
    """The header line by which the trusted proxy in front says who the client is."""
    return f"X-Forwarded-For: {client}\r\n"


@dataclass
class Stream:
    """What became of one HTTP/2 or HTTP/3 stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Http2:
    """One HTTP/2 connection over TLS with as many streams as a test wants; `through` is a tunnel that is open."""

    def __init__(self, port: int, *, sni: str, through: Raw | None = None) -> None:
        context = _any_certificate()
        context.set_alpn_protocols(["h2"])
        plain = through.sock if through is not None else socket.create_connection(("127.0.0.1", port), 5)
        self.sock = context.wrap_socket(plain, server_hostname=sni)
        settings = h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.conn = h2.connection.H2Connection(settings)
        self.conn.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.closed = False
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def open(
        self, authority: str, path: str = "/", *, client: str = FRANCE, method: str = "GET", extra=(), body: bytes = b""
    ) -> Stream:
        stream_id = self.conn.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":path", path)]
        fields += [(":authority", authority)] if authority else []
        self.conn.send_headers(stream_id, [*fields, ("x-forwarded-for", client), *extra], end_stream=not body)
        self.streams[stream_id] = stream = Stream()
        self._flush()
        while body and not stream.over:
            size = min(len(body), self.conn.local_flow_control_window(stream_id), 16384)
            if size:
                self.conn.send_data(stream_id, body[:size], end_stream=size == len(body))
                body = body[size:]
                self._flush()
            else:
                self._pump_once()
        return stream

    def pump(self, seconds: float = 5, *, until=lambda: False) -> None:
        """Take in what comes, until a condition holds or the time is up."""
        end = time.monotonic() + seconds
        while not until() and not self.closed and (left := end - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                self._pump_once()
            except TimeoutError:
                return

    def get(self, authority: str, path: str = "/", **how) -> Stream:
        stream = self.open(authority, path, **how)
        self.pump(until=lambda: stream.over)
        return stream

    def _pump_once(self) -> None:
        data = self.sock.recv(65536)
        self.closed = not data
        for event in self.conn.receive_data(data) if data else ():
            stream = self.streams.get(getattr(event, "stream_id", 0) or 0)
            if stream is None:
                self.closed = self.closed or isinstance(event, h2.events.ConnectionTerminated)
            elif isinstance(event, h2.events.ResponseReceived):
                stream.headers = dict(event.headers)
                stream.status = int(stream.headers[":status"])
            elif isinstance(event, h2.events.DataReceived):
                stream.body += event.data
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                stream.ended = True
            elif isinstance(event, h2.events.StreamReset):
                stream.reset = int(event.error_code)
        self._flush()

    def _flush(self) -> None:
        if data := self.conn.data_to_send():
            self.sock.sendall(data)


class Http3(QuicConnectionProtocol):
    """One HTTP/3 connection; lives inside `http3`."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self.streams: dict[int, Stream] = {}
        self._news = asyncio.Event()

    def open(self, authority: str, path: str = "/", *, client: str = FRANCE, extra=()) -> Stream:
        stream_id = self._quic.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]
        fields += [("x-forwarded-for", client), *extra]
        self._http.send_headers(stream_id, [(name.encode(), value.encode()) for name, value in fields], end_stream=True)
        self.streams[stream_id] = stream = Stream()
        self.transmit()
        return stream

    async def until(self, condition, seconds: float = 5) -> None:
        """Take in what comes until a condition holds or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()

    async def get(self, authority: str, path: str = "/", **how) -> Stream:
        stream = self.open(authority, path, **how)
        await self.until(lambda: stream.over)
        return stream

    def quic_event_received(self, event) -> None:
        if isinstance(event, StreamReset) and event.stream_id in self.streams:
            self.streams[event.stream_id].reset = event.error_code
        for item in self._http.handle_event(event):
            stream = self.streams.get(item.stream_id)
            if stream is None:
                continue
            if isinstance(item, HeadersReceived):
                stream.headers = {name.decode(): value.decode() for name, value in item.headers}
                stream.status = int(stream.headers[":status"])
            elif isinstance(item, DataReceived):
                stream.body += item.data
            stream.ended = stream.ended or item.stream_ended
        self._news.set()


def http3(port: int, sni: str, scenario: Callable[[Http3], Awaitable[None]]) -> None:
    """Play a scenario on an HTTP/3 connection to the proxy."""

    async def play() -> None:
        settings = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name=sni)
        async with connect("127.0.0.1", port, configuration=settings, create_protocol=Http3) as client:
            await scenario(client)

    asyncio.run(play())


def query(name: str, rdtype: str = "A", *, client: str | None = FRANCE, edns: bool = True, query_id: int | None = None):
    """Build a DNS query; the client is told by EDNS Client Subnet, as a forwarder would."""
    message = dns.message.make_query(name, rdtype, id=query_id)
    if edns or client:
        options = [dns.edns.ECSOption.from_text(f"{client}/24")] if client else []
        message.use_edns(0, payload=1232, options=options)
    return message


def ask(port: int, message, *, tcp: bool = False):
    """Send a DNS query to the proxy from a fresh socket and return the answer."""
    send = dns.query.tcp if tcp else dns.query.udp
    return send(message, "127.0.0.1", timeout=3, port=port)


def ask_raw(port: int, *packets: bytes, timeout: float = 1) -> list[bytes | None]:
    """Send packets one after the other from one socket; each answer, or None where there was silence."""
    answers: list[bytes | None] = []
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(timeout)
        sock.connect(("127.0.0.1", port))
        for packet in packets:
            sock.send(packet)
            try:
                answers.append(sock.recv(65535))
            except TimeoutError:
                answers.append(None)
    return answers


def header(query_id: int, *, flags: int = 0x0100, questions: int = 1) -> bytes:
    """A DNS header; flags default to RD."""
    return struct.pack("!HHHHHH", query_id, flags, questions, 0, 0, 0)


def question(name: bytes, rdtype: int = 1) -> bytes:
    """A question for a name of labels separated by dots, in exactly these bytes."""
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b".")) if name else b""
    return labels + b"\0" + struct.pack("!HH", rdtype, 1)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
