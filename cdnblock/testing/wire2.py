"""One HTTP/2 connection of the contract's clients: many streams, for whatever hosts a scenario wants."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from cdnblock.testing.wire import PATIENCE, Address, Answer, HangError, Request, Running, any_certificate

_CHUNK: Final = 65_536
_BETWEEN_NEIGHBOURS: Final = frozenset({"connection", "upgrade", "keep-alive", "transfer-encoding", "expect"})


class Http2:
    """One connection over TLS to `sni`. What a request holds that HTTP/2 has not (RFC 9113 §8.2.2) is left out."""

    def __init__(self, address: Address, *, source: str | None = None, sni: str = "localhost") -> None:
        plain = socket.create_connection(address, PATIENCE, source_address=(source, 0) if source else None)
        self._socket = any_certificate("h2").wrap_socket(plain, server_hostname=sni)
        if self._socket.selected_alpn_protocol() != "h2":
            raise AssertionError("the host does not speak HTTP/2 here")
        settings = h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._connection = h2.connection.H2Connection(settings)
        self._connection.initiate_connection()
        self._streams: dict[int, _Stream] = {}
        self.ended = False
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away."""
        self._socket.close()

    def ask(self, request: Request) -> Answer:
        """Send a request and read its whole answer; status 0 if the stream or the connection ended without one."""
        return self.begin(request)()

    def begin(self, request: Request) -> Callable[[], Answer]:
        """Send a request; return what reads its whole answer."""
        stream = self._open(request)

        def answer() -> Answer:
            self._pump_until(lambda: stream.over)
            stream.head.whole = stream.ended
            return stream.head

        return answer

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Send several requests at once, each on its stream, and read all answers."""
        return [answer() for answer in [self.begin(request) for request in requests]]

    def start(self, request: Request) -> Running:
        """Send a request and read only the head of its answer."""
        stream = self._open(request)
        self._pump_until(lambda: stream.over or stream.head.status > 0)
        return stream

    def octets_within(self, stream: _Stream, seconds: float) -> bytes:
        """Take in what comes within this time; return what of it is this stream's."""
        until = time.monotonic() + seconds
        while not stream.over and not self.ended and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(HangError):
                self._pump(left)
        taken, stream.head.body = stream.head.body, b""
        return taken

    def reset(self, number: int) -> None:
        """End one stream from here."""
        with contextlib.suppress(h2.exceptions.ProtocolError, OSError):
            self._connection.reset_stream(number)
            self._flush()

    def _open(self, request: Request) -> _Stream:
        number = self._connection.get_next_available_stream_id()
        authority, *hosts = request.hosts or ("",)
        fields = [(":method", request.method), (":scheme", "https"), (":path", request.target)]
        fields += [(":authority", authority)] if authority else []
        fields += [("host", host) for host in hosts]
        fields += [(name.lower(), value) for name, value in request.headers if name.lower() not in _BETWEEN_NEIGHBOURS]
        fields += [("content-length", str(len(request.body)))] if request.body else []
        lines = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in fields]
        self._streams[number] = stream = _Stream(self, number)
        self._connection.send_headers(number, lines, end_stream=not request.body)
        self._flush()
        self._send_body(stream, number, request.body)
        return stream

    def _send_body(self, stream: _Stream, number: int, body: bytes) -> None:
        while body and not stream.over and not self.ended:
            size = min(len(body), self._connection.local_flow_control_window(number), 16_384)
            if not size:
                self._pump(PATIENCE)
                continue
            try:
                self._connection.send_data(number, body[:size], end_stream=size == len(body))
            except h2.exceptions.ProtocolError:
                return  # the host has answered and does not want the rest
            body = body[size:]
            self._flush()

    def _pump_until(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not holds() and not self.ended:
            self._pump(until - time.monotonic())

    def _pump(self, seconds: float) -> None:
        if seconds <= 0:
            raise HangError(f"no answer for {PATIENCE:.0f} s")
        self._socket.settimeout(seconds)
        try:
            octets = self._socket.recv(_CHUNK)
        except TimeoutError as error:
            raise HangError(f"nothing came for {seconds:.1f} s") from error
        except (ConnectionError, ssl.SSLError):
            octets = b""
        finally:
            self._socket.settimeout(PATIENCE)
        self.ended = self.ended or not octets
        for event in self._connection.receive_data(octets) if octets else ():
            self._take(event)
        self._flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            # After an orderly one what it still answers may come (RFC 9113 §6.8), after an error nothing (§5.4.1).
            for number, unheard in self._streams.items():
                unheard.is_reset |= bool(event.error_code) or number > (event.last_stream_id or 0)
            return
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if stream is not None:
            stream.take(event)
        if isinstance(event, h2.events.DataReceived):
            self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _flush(self) -> None:
        octets = self._connection.data_to_send()
        if octets:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                self._socket.sendall(octets)


class _Stream:
    """What became of one stream; `Running` while it goes on."""

    def __init__(self, connection: Http2, number: int) -> None:
        self.head = Answer()
        self.ended = False
        self.is_reset = False
        self._connection = connection
        self._number = number

    @property
    def over(self) -> bool:
        return self.ended or self.is_reset

    def take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.InformationalResponseReceived():
                self.head.interim.append(int(_fields(event)[":status"]))
            case h2.events.ResponseReceived():
                fields = [(str(name), str(value)) for name, value in event.headers or ()]
                self.head.status = int(dict(fields)[":status"])
                self.head.headers = [field for field in fields if not field[0].startswith(":")]
            case h2.events.DataReceived():
                self.head.body += event.data or b""
            case h2.events.StreamEnded():
                self.ended = True
            case h2.events.StreamReset():
                self.is_reset = True

    def octets_within(self, seconds: float) -> bytes:
        return self._connection.octets_within(self, seconds)

    def is_over(self) -> bool:
        return self.over or self._connection.ended

    def close(self) -> None:
        self._connection.reset(self._number)


def _fields(event: h2.events.InformationalResponseReceived) -> dict[str, str]:
    return {str(name): str(value) for name, value in event.headers or ()}
