"""The contract's clients: what they send is what the scenario says, octet by octet, and what comes is read strictly."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self, TypeAlias

Address: TypeAlias = tuple[str, int]

PATIENCE: Final = 10.0  # seconds without an octet after which a client calls it a hang
_CHUNK: Final = 65_536


class HangError(AssertionError):
    """Nothing came for a long time: neither an answer nor an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, as it goes on the wire. `hosts` are the Host lines (HTTP/2: `:authority` first, then `host`)."""

    method: str = "GET"
    target: str = "/"
    hosts: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    version: str = "1.1"

    def octets(self) -> bytes:
        """Return the request as HTTP/1 has it."""
        lines = [f"{self.method} {self.target} HTTP/{self.version}", *(f"Host: {host}" for host in self.hosts)]
        lines += [f"{name}: {value}" for name, value in self.headers]
        framed = {name.lower() for name, _ in self.headers} & {"content-length", "transfer-encoding"}
        if self.body and not framed:
            lines.append(f"Content-Length: {len(self.body)}")
        return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape") + b"\r\n" + self.body


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer; `status` is 0 when the connection (HTTP/2: the stream) ended without one."""

    status: int = 0
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    interim: list[int] = field(default_factory=list)  # the 1xx before it
    whole: bool = False  # the body ended as its framing says

    def of(self, name: str) -> list[str]:
        """Return the values of a field."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Running(Protocol):
    """An answer that goes on: its head has come."""

    head: Answer

    def octets_within(self, seconds: float) -> bytes:
        """Return what came in this time; ends early when it is over."""

    def is_over(self) -> bool:
        """Tell whether it has ended, as far as what came says."""

    def close(self) -> None:
        """Go away."""


class Http1:
    """One connection that speaks HTTP/1, in clear or over TLS (`sni`), from `source` or wherever."""

    def __init__(self, address: Address, *, source: str | None = None, sni: str | None = None) -> None:
        self._socket: socket.socket = socket.create_connection(
            address, PATIENCE, source_address=(source, 0) if source else None
        )
        if sni is not None:
            self._socket = any_certificate("http/1.1").wrap_socket(self._socket, server_hostname=sni)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away."""
        self._socket.close()

    def ask(self, request: Request) -> Answer:
        """Send a request and read its whole answer."""
        return self.begin(request)()

    def begin(self, request: Request) -> Callable[[], Answer]:
        """Send a request; return what reads its whole answer."""
        self.send(request.octets())
        return functools.partial(self.answer, request.method)

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Send several requests at once and read all answers; fewer where the connection ends before the last."""
        self.send(b"".join(request.octets() for request in requests))
        answers: list[Answer] = []
        for request in requests:
            answer = self.answer(request.method)
            if not answer.status:
                break
            answers.append(answer)
        return answers

    def start(self, request: Request) -> Running:
        """Send a request and read only the head of its answer."""
        self.send(request.octets())
        return _Running1(self, self.head())

    def send(self, octets: bytes) -> None:
        """Send octets as they are; that nobody takes them is found out by reading."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self._socket.sendall(octets)

    def head(self) -> Answer:
        """Read status line and fields, after any 1xx but 101."""
        interim: list[int] = []
        while True:
            answer = self._one_head()
            if not 100 <= answer.status < 200 or answer.status == 101:  # noqa: PLR2004 (RFC 9110 §15.2)
                answer.interim = interim
                return answer
            interim.append(answer.status)

    def answer(self, method: str = "GET") -> Answer:
        """Read a whole answer: as long as its framing says (RFC 9112 §6.3)."""
        answer = self.head()
        if answer.status in (0, 101):
            return answer
        length = answer.of("content-length")
        if method == "HEAD" or answer.status in (204, 304):
            answer.whole = True
        elif any("chunked" in value.lower() for value in answer.of("transfer-encoding")):
            answer.body = b"".join(self._chunks())
            answer.whole = not self.ended
        elif length:
            answer.body = self._exactly(int(length[0]))
            answer.whole = len(answer.body) == int(length[0])
        else:
            while not self.ended:
                self._more()
            answer.body, self._buffer = self._buffer, b""
            answer.whole = True
        return answer

    def is_at_end(self, seconds: float) -> bool:
        """Tell whether the peer ends the connection within this time, without another octet."""
        return not self.octets_within(seconds) and self.ended

    def octets_within(self, seconds: float, enough: int = 2**63) -> bytes:
        """Return what comes within this time or until it is enough, what is already there included."""
        until, taken = time.monotonic() + seconds, bytearray(self._buffer)
        self._buffer = b""
        while not self.ended and len(taken) < enough and (left := until - time.monotonic()) > 0:
            self._socket.settimeout(left)
            with contextlib.suppress(HangError):
                self._more()
            taken += self._buffer
            self._buffer = b""
        self._socket.settimeout(PATIENCE)
        return bytes(taken)

    def _one_head(self) -> Answer:
        octets = self._until(b"\r\n\r\n")
        if not octets.endswith(b"\r\n\r\n"):
            if octets:
                raise AssertionError(f"the connection ended in the middle of a head: {octets[:200]!r}")
            return Answer()
        first, *lines = octets.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise AssertionError(f"no status line: {first[:200]!r}")
        pairs = [line.partition(":") for line in lines]
        return Answer(
            status=int(rest[:3]), reason=rest[4:], headers=[(name, value.strip()) for name, _, value in pairs]
        )

    def _chunks(self) -> Iterator[bytes]:
        while size := self._until(b"\r\n"):
            length = int(size.partition(b";")[0], 16)
            if not length:
                break
            yield self._exactly(length)
            self._until(b"\r\n")
        while self._until(b"\r\n") not in (b"\r\n", b""):  # trailers
            pass

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer and not self.ended:
            self._more()
        before, found, self._buffer = self._buffer.partition(mark)
        return before + found

    def _exactly(self, count: int) -> bytes:
        parts, have = [self._buffer], len(self._buffer)
        while have < count and not self.ended:
            self._buffer = b""
            self._more()
            parts.append(self._buffer)
            have += len(self._buffer)
        octets = b"".join(parts)
        self._buffer = octets[count:]
        return octets[:count]

    def _more(self) -> None:
        try:
            octets = self._socket.recv(_CHUNK)
        except TimeoutError as error:
            raise HangError(f"nothing came for {self._socket.gettimeout():.1f} s") from error
        except (ConnectionError, ssl.SSLError):
            octets = b""
        self.ended = self.ended or not octets
        self._buffer += octets


class _Running1:
    def __init__(self, connection: Http1, head: Answer) -> None:
        self.head = head
        self._connection = connection

    def octets_within(self, seconds: float) -> bytes:
        return self._connection.octets_within(seconds)

    def is_over(self) -> bool:
        return self._connection.ended

    def close(self) -> None:
        self._connection.close()


def websocket_text(text: str) -> bytes:
    """Return a text message of at most 125 octets as a client sends it (RFC 6455 §5.2)."""
    payload, mask = text.encode(), os.urandom(4)
    masked = bytes(octet ^ mask[place % 4] for place, octet in enumerate(payload))
    return struct.pack("!BB", 0x81, 0x80 | len(payload)) + mask + masked


def any_certificate(*protocols: str) -> ssl.SSLContext:
    """Return a client's TLS settings that accept whatever certificate there is, and offer these protocols."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([*protocols])
    return context


def eventually(holds: Callable[[], bool], within: float = PATIENCE) -> bool:
    """Wait until something holds; False if it does not in time (seconds)."""
    deadline = time.monotonic() + within
    while not (met := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met
