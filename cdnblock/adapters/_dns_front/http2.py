"""The server's side of an HTTP/2 connection (RFC 9113), with as little of it as DNS over HTTPS needs.

h2 knows the protocol; here are the limits: whatever a client does, a connection holds little memory, and who opens
requests only to take them back is sent away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Final, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from cdnblock.adapters._dns_front.http_messages import MOST_OCTETS, Headers, Request, Response, too_large

MOST_STREAMS: Final = 100  # RFC 9113 §6.5.2 recommends no fewer
_MOST_HEADERS: Final = 16_384  # octets of a request's header fields
_MOST_RESETS: Final = 200  # requests taken back beyond those that were answered (CVE-2023-44487)
_MOST_CHATTER: Final = 1_000  # frames with nothing of a request, beyond some for each answer (CVE-2019-9512)
_CHATTER: Final = 20  # for each answer: windows, pings
_SLICE: Final = 2_048  # octets that are read in one go, before others have their turn: frames have 9 octets at least
_SETTINGS: Final = {
    SettingCodes.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
    SettingCodes.MAX_HEADER_LIST_SIZE: _MOST_HEADERS,
    SettingCodes.INITIAL_WINDOW_SIZE: MOST_OCTETS + 1,  # so that one octet too many can be seen
    SettingCodes.ENABLE_PUSH: 0,
}


@dataclass(slots=True)
class _Stream:
    """One request, while it comes in, while it is answered, and while its answer goes out."""

    headers: Headers
    body: bytearray = field(default_factory=bytearray)
    unacknowledged: int = 0
    answering: asyncio.Task[None] | None = None
    unsent: bytes = b""


class Http2Connection(asyncio.Protocol):
    """Answers the requests of one connection, each on its own.

    `progress` is called whenever a request has come in whole, and whenever a response has gone out whole. What clients
    send counts against the connection's window (131,070 octets) until its request is answered: so no connection makes
    us hold more.
    """

    def __init__(
        self, respond: Callable[[Request], Awaitable[Response]], progress: Callable[[], None], peer: str | None
    ) -> None:
        self._respond, self._progress, self._peer = respond, progress, peer
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._streams: dict[int, _Stream] = {}
        self._answered = self._resets = self._chatter = 0
        self._received = bytearray()
        self._later: asyncio.Handle | None = None
        self._blocked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the client the limits (asyncio.Protocol)."""
        self._transport = cast("asyncio.Transport", transport)
        self._h2.local_settings = Settings(client=False, initial_values=_SETTINGS)
        self._h2.decoder.max_header_list_size = _MOST_HEADERS
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(MOST_OCTETS)
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Drop what is still being answered (asyncio.Protocol)."""
        for number in tuple(self._streams):
            self._forget(number)
        if self._later is not None:
            self._later.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what came (asyncio.Protocol)."""
        self._received += data
        if self._later is None:
            self._take_some()

    def pause_writing(self) -> None:
        """Read nothing more of a client that does not read either (asyncio.Protocol)."""
        self._blocked = True
        self._go_on()

    def resume_writing(self) -> None:
        """Read on (asyncio.Protocol)."""
        self._blocked = False
        self._go_on()

    def _take_some(self) -> None:
        """Take a slice of what came. A packet may hold thousands of frames, and each costs what a refusal costs."""
        self._later = None
        if self._blocked or self._transport.is_closing():
            return
        part = bytes(self._received[:_SLICE])
        del self._received[:_SLICE]
        try:
            for event in self._h2.receive_data(part):
                self._take(event)
        except ProtocolError:  # h2 has put the reason into a GOAWAY
            self._close()
        else:
            self._flush()
        self._go_on()

    def _go_on(self) -> None:
        """Read on when all that came is taken, and take more of it when others have had their turn."""
        if self._transport.is_closing():
            self._received.clear()
            return
        (self._transport.pause_reading if self._blocked or self._received else self._transport.resume_reading)()
        if self._received and not self._blocked and self._later is None:
            self._later = asyncio.get_running_loop().call_soon(self._take_some)

    def _take(self, event: Event) -> None:
        number = cast("int", getattr(event, "stream_id", 0))
        stream = self._streams.get(number)
        match event:
            case RequestReceived():
                self._open(number, tuple((bytes(name), bytes(value)) for name, value in event.headers or ()))
            case DataReceived(data=b"", stream_ended=None):
                self._hear_chatter()
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
            case DataReceived() if stream is not None:
                stream.unacknowledged += event.flow_controlled_length or 0
                stream.body += event.data or b""
                if len(stream.body) > MOST_OCTETS:
                    self._turn_down(number)
            case DataReceived():  # of a request that was turned down
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
            case StreamEnded() if stream is not None:
                self._progress()
                stream.answering = asyncio.get_running_loop().create_task(self._answer(number, stream))
            case StreamReset():
                self._reset(number)
            case ConnectionTerminated():
                self._close()
            case _:
                self._hear_chatter()  # settings, windows, pings and priorities are h2's business

    def _open(self, number: int, headers: Headers) -> None:
        self._streams[number] = _Stream(headers)
        if any(name == b"content-length" and int(value) > MOST_OCTETS for name, value in headers):
            self._turn_down(number)

    def _turn_down(self, number: int) -> None:
        """Answer before the whole request is there, and take no more of it (RFC 9113 §8.1)."""
        self._acknowledge(number, self._streams[number])
        self._send(number, self._streams[number], too_large())
        if number in self._streams:
            self._h2.reset_stream(number, ErrorCodes.NO_ERROR)
            self._forget(number)

    def _reset(self, number: int) -> None:
        self._forget(number)
        self._resets += 1
        if self._resets > self._answered + _MOST_RESETS:
            self._send_away()

    def _hear_chatter(self) -> None:
        self._chatter += 1
        if self._chatter > self._answered * _CHATTER + _MOST_CHATTER:
            self._send_away()

    def _send_away(self) -> None:
        if not self._transport.is_closing():
            self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            self._close()

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        self._acknowledge(number, stream)
        if stream.answering is not None:
            stream.answering.cancel()

    def _acknowledge(self, number: int, stream: _Stream) -> None:
        if stream.unacknowledged:
            self._h2.acknowledge_received_data(stream.unacknowledged, number)
            stream.unacknowledged = 0

    async def _answer(self, number: int, stream: _Stream) -> None:
        response = await self._respond(_request(stream, self._peer))
        stream.answering = None
        self._answered += 1
        self._acknowledge(number, stream)
        with contextlib.suppress(ProtocolError):  # the connection is about to end
            self._send(number, stream, response, without_body=_is_head(stream))
            self._flush()

    def _send(self, number: int, stream: _Stream, response: Response, *, without_body: bool = False) -> None:
        fields = [(":status", str(response.status)), ("server", "cdnblock"), ("date", formatdate(usegmt=True))]
        fields += [*response.headers, ("content-length", str(len(response.body)))]
        stream.unsent = b"" if without_body else response.body
        self._h2.send_headers(number, fields, end_stream=not stream.unsent)
        if stream.unsent:
            self._send_body(number, stream)
        else:
            self._sent(number)

    def _send_body(self, number: int, stream: _Stream) -> None:
        # Less than nothing is left when the client makes its windows smaller (RFC 9113 §6.9.2).
        while (room := min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)) > 0:
            part, stream.unsent = stream.unsent[:room], stream.unsent[room:]
            self._h2.send_data(number, part, end_stream=not stream.unsent)
            if not stream.unsent:
                self._sent(number)
                return

    def _sent(self, number: int) -> None:
        del self._streams[number]
        self._progress()

    def _flush(self) -> None:
        """Send what the client's windows have room for now."""
        for number, stream in tuple(self._streams.items()):
            if stream.unsent:
                self._send_body(number, stream)
        self._write()

    def _write(self) -> None:
        if data := self._h2.data_to_send():
            self._transport.write(data)

    def _close(self) -> None:
        self._write()
        self._transport.close()


def _request(stream: _Stream, peer: str | None) -> Request:
    pseudo = {name: value.decode("latin-1") for name, value in stream.headers if name.startswith(b":")}
    fields = tuple(pair for pair in stream.headers if not pair[0].startswith(b":"))
    return Request(pseudo.get(b":method", ""), pseudo.get(b":path", ""), fields, bytes(stream.body), peer)


def _is_head(stream: _Stream) -> bool:
    return (b":method", b"HEAD") in stream.headers
