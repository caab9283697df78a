"""What mitmproxy has under way, and how to end one part of it without touching the rest.

mitmproxy has no call for that: `flow.kill()` does nothing to what streams already (its issue #4711). So this file
reaches into the connection handler and the protocol layers, the same on every version from 11.0.2 to 12.2.3. Where
they are not what it expects, it closes the client's whole connection: too much ends then, never too little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from mitmproxy import connection, ctx, flow, http
from mitmproxy.net.http.status_codes import SWITCHING
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy import server as proxy_server
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream
from mitmproxy.proxy.layers.http._events import RequestProtocolError

from cdnblock.matching.decision import Decision

ABORT_AFTER: Final = 0.05  # seconds; closing takes one turn of the event loop, so what is left then was leaked

# mitmproxy forgets a UDP client after 20 s of silence, and its socket layer then drops everything from that address and
# port until 60 s have passed without a packet: a resolver with a fixed port that tries again is shut out for ever.
# Forgetting later than the socket layer does leaves no such gap.
UDP_TIMEOUT: Final = 70

_CUT: Final = "cut: a court order takes effect"
_REFUSED: Final = "refused by court order"
_TASKS: Final[set[asyncio.Task[None]]] = set()  # the event loop itself keeps no strong reference to its tasks


@dataclass(slots=True, eq=False)
class Running:
    """One exchange between the moment it is let through and its end.

    `names` are those it asks for, `client` is the client's address. `cut` is set when we end it.
    """

    flow: flow.Flow
    names: tuple[str | bytes, ...]
    client: str | None
    decision: Decision
    decided_in: int
    answer: http.Response | None = None
    cut: bool = False


@dataclass(slots=True)
class Register:
    """Everything that runs, by client connection, so that a connection that ends takes its part along."""

    _by_client: dict[str, dict[str, Running]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self._by_client.values()))

    def __iter__(self) -> Iterator[Running]:
        """Go over all that runs now; what starts or ends meanwhile is left out or still in."""
        for running in tuple(self._by_client.values()):
            yield from tuple(running.values())

    def add(self, running: Running) -> None:
        """Take one in."""
        key = running.flow.client_conn.id
        try:
            self._by_client[key][running.flow.id] = running
        except KeyError:
            self._by_client[key] = {running.flow.id: running}

    def find(self, of: flow.Flow) -> Running | None:
        """Return the record of a flow, None when it has none (any more)."""
        running = self._by_client.get(of.client_conn.id)
        return None if running is None else running.get(of.id)

    def drop(self, of: flow.Flow) -> Running | None:
        """Forget a flow and return its record."""
        running = self._by_client.get(of.client_conn.id)
        return None if running is None else running.pop(of.id, None)

    def drop_client(self, client: connection.Client) -> None:
        """Forget a connection that has ended, with everything on it."""
        self._by_client.pop(client.id, None)


def refuse(of: flow.Flow) -> None:
    """End a flow that has just begun, without an answer and without its origin hearing of it."""
    if isinstance(of, http.HTTPFlow):
        if not (of.request.is_http2 or of.request.is_http3):
            abort_later(of.client_conn)
        if of.killable:
            of.kill()  # type: ignore[no-untyped-call]
    else:
        of.server_conn.error = _REFUSED
        close_client(of.client_conn, and_abort=True)


def close_client(client: connection.Client, *, and_abort: bool = False) -> None:
    """Close a client's connection, whatever it carries.

    `and_abort`: also end its socket a moment later. From Python 3.12 on, mitmproxy forgets to when it closes during an
    upload (its issue #8045), and the client waits for ever.
    """
    handler = _handler(client)
    if handler is None or client not in handler.transports:
        return
    if and_abort:
        abort_later(client)
    handler.close_connection(client)


def abort_later(client: connection.Client) -> None:
    """End a client's TCP socket in a moment, after mitmproxy has closed the connection or should have."""
    handler = _handler(client)
    transport = None if handler is None else handler.transports.get(client)
    writer = None if transport is None else transport.writer
    if isinstance(writer, asyncio.StreamWriter):
        ctx.master.event_loop.call_later(ABORT_AFTER, writer.transport.abort)


def cut(running: Running) -> None:
    """End an exchange now, and only it: other streams of the same client and of the same origin go on."""
    running.cut = True
    of = running.flow
    client = of.client_conn
    if not isinstance(of, http.HTTPFlow) or of.request.method == "CONNECT":
        close_client(client, and_abort=True)
    elif of.response is not None and of.response.status_code == SWITCHING:
        _close_upgraded(of)
    elif not _reset_stream(of):
        close_client(client, and_abort=True)
    elif not (of.request.is_http2 or of.request.is_http3):
        abort_later(client)


def _close_upgraded(of: http.HTTPFlow) -> None:
    """End a WebSocket (it gets a proper Close) or another upgraded connection; it has its origin to itself."""
    handler = _handler(of.client_conn)
    if of.websocket is not None and handler is not None and of.server_conn in handler.transports:
        handler.close_connection(of.server_conn)
    else:
        close_client(of.client_conn, and_abort=True)


class _Cut(commands.Command):
    """A command that nobody gives: its completion alone is sent, because completions find their way to a stream."""


class _CutCompleted(events.CommandCompleted, RequestProtocolError):  # type: ignore[no-untyped-call]  # noqa: N818
    """To the layers on the way the end of a command, to the stream a client that has reset it.

    That ends the stream on both sides and nothing else, over every version of HTTP; it is the way that mitmproxy
    itself takes when a client gives up.
    """

    command: _Cut
    reply: None

    def __init__(self, command: _Cut, stream_id: int) -> None:
        RequestProtocolError.__init__(self, stream_id, _CUT, RequestProtocolError.code)
        self.command = command
        self.reply = None


def _reset_stream(of: http.HTTPFlow) -> bool:
    """Reset the stream of a flow; return False when it is not found."""
    handler = _handler(of.client_conn)
    if handler is None:
        return False
    way = _way_to(of, handler.layer.context.layers)
    if not way:
        return False
    command = _Cut()
    for http_layer, stream in way:
        http_layer.command_sources[command] = stream
    event = _CutCompleted(command, way[-1][1].stream_id)
    task = ctx.master.event_loop.create_task(handler.server_event(event))
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)
    return True


def _way_to(of: http.HTTPFlow, layers: list[layer.Layer]) -> list[tuple[HttpLayer, HttpStream]]:
    """Return the HTTP layers with the stream to take in each (more than one inside CONNECT), empty if there is none."""
    for http_layer in layers:
        if not isinstance(http_layer, HttpLayer):
            continue
        for stream in http_layer.streams.values():
            if getattr(stream, "flow", None) is of:
                return [(http_layer, stream)]
            if stream.child_layer is not None:
                below = stream.child_layer.context.layers
                rest = _way_to(of, below[below.index(stream) + 1 :])
                if rest:
                    return [(http_layer, stream), *rest]
    return []


def _handler(client: connection.Client) -> proxy_server.ConnectionHandler | None:
    proxyserver = ctx.master.addons.get("proxyserver")  # type: ignore[no-untyped-call]
    handler: proxy_server.ConnectionHandler | None = proxyserver.connections.get(client.id)
    return handler


def patient_with_udp() -> None:
    """Let mitmproxy remember UDP clients for `UDP_TIMEOUT` seconds."""
    proxy_server.UDP_TIMEOUT = UDP_TIMEOUT
