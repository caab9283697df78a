"""A client that speaks HTTP/2: one request on one connection. Needs h2."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from cdnblock.verification.answers import CLOSED, Answer, HttpAnswer, Nothing
from cdnblock.verification.clients import Client
from cdnblock.verification.connections import Request, connected
from cdnblock.verification.http1 import KEPT_OF_A_BODY, MOST_OF_A_BODY, MOST_OF_A_HEAD
from cdnblock.verification.servers import Edge

_MOST_OCTETS: Final = MOST_OF_A_BODY + 4 * MOST_OF_A_HEAD  # of a whole connection, frames that carry nothing included
_PROTOCOL: Final = "h2"
_STREAM: Final = 1


async def ask(edge: Edge, request: Request, client: Client, patience: float) -> Answer:
    """Return what an edge answers within `patience` seconds; what of its body has not come by then does not matter.

    Raises:
        TimeoutError: there is no head in time.
        OSError: nobody takes connections there.

    """
    exchange = _Exchange(edge, request, client)
    try:
        async with (
            asyncio.timeout(patience),
            connected(edge, client, request.server_name, _PROTOCOL) as (reader, writer),
        ):
            secured = writer.get_extra_info("ssl_object")
            if secured is not None and secured.selected_alpn_protocol() != _PROTOCOL:
                return Nothing(why="it does not speak HTTP/2")
            return await _answer(exchange, reader, writer)
    except TimeoutError:
        if exchange.answer is None:
            raise
        return exchange.answer


async def _answer(exchange: _Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
    try:
        while not exchange.is_over:
            writer.write(exchange.to_send())
            exchange.take(await reader.read(MOST_OF_A_HEAD))
        writer.write(exchange.to_send())
    except h2.exceptions.H2Error as error:
        return exchange.answer or Nothing(why=f"no HTTP/2: {type(error).__name__}")
    except (ConnectionError, ssl.SSLError):
        return exchange.answer or HttpAnswer(status=CLOSED)
    return exchange.answer or Nothing(why=f"no head within {_MOST_OCTETS:,} octets")


class _Exchange:
    """The state of one connection: octets in, octets out."""

    def __init__(self, edge: Edge, request: Request, client: Client) -> None:
        settings = h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
        self._connection = h2.connection.H2Connection(settings)
        self._connection.initiate_connection()
        fields = [
            (":method", request.method),
            (":scheme", "https" if edge.tls else "http"),
            (":authority", request.host),
            (":path", edge.path),
            *((name.lower(), value) for name, value in (*request.fields(), *client.fields())),
        ]
        self._connection.send_headers(_STREAM, fields, end_stream=True)
        self._had = 0
        self._body = 0
        self.answer: HttpAnswer | None = None
        self.is_over = False

    def to_send(self) -> bytes:
        return bytes(self._connection.data_to_send())

    def take(self, octets: bytes) -> None:
        """Take in what came; raises H2Error for what is no HTTP/2."""
        self._had += len(octets)
        if not octets:
            self._end()
            return
        for event in self._connection.receive_data(octets):
            self._event(event)
        self.is_over = self.is_over or self._had > _MOST_OCTETS or self._body > MOST_OF_A_BODY

    def _event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                lines = [(_text(name).lower(), _text(value)) for name, value in event.headers or ()]
                status = dict(lines).get(":status", "")
                if not status.isdecimal():
                    raise h2.exceptions.ProtocolError("no status")
                self.answer = HttpAnswer(
                    status=int(status), headers=tuple(line for line in lines if not line[0].startswith(":"))
                )
            case h2.events.DataReceived():
                if self.answer is not None and self._body < KEPT_OF_A_BODY:
                    body = self.answer.body + (event.data or b"")
                    self.answer = replace(self.answer, body=body[:KEPT_OF_A_BODY])
                self._body += len(event.data or b"")
                self._connection.acknowledge_received_data(event.flow_controlled_length or 0, _STREAM)
            case h2.events.StreamEnded():
                self.is_over = True
            case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                self._end()

    def _end(self) -> None:
        """Take the end of the stream or connection: without a head it is an answer of its own."""
        self.is_over = True
        self.answer = self.answer or HttpAnswer(status=CLOSED)


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
