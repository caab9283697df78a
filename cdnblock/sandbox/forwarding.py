"""What any HTTP intermediary must get right: which host is asked for, which headers go on, and WebSockets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import WSMsgType, web
from yarl import URL

# RFC 9110 §7.6.1: these, and what Connection names, are between two neighbours.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_WEBSOCKET_OWN: Final = frozenset(
    {"host", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol"}
)
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which host is asked (as it was spelled, port and all), and for what (path and query, as they were sent)."""

    authority: str
    path: str


def target_of(request: web.BaseRequest) -> Target | None:
    """Return what a request asks for, or None when it deserves 400 (RFC 9112 §3.2: no Host, two, or an empty one)."""
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not hosts[0].strip():
        return None
    raw = request.raw_path
    if request.method == "CONNECT":
        return Target(authority=raw, path="/")
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute:  # RFC 9112 §3.2.2: the authority of an absolute form counts, and Host is ignored
        path = absolute[2]
        return Target(authority=absolute[1], path=path if path.startswith("/") else f"/{path}")
    return Target(authority=hosts[0].strip(), path=raw if raw.startswith("/") else f"/{raw}")


def end_to_end(headers: Iterable[tuple[str, str]], without: Collection[str] = ()) -> list[tuple[str, str]]:
    """Return the headers that are meant for the other end (RFC 9110 §7.6.1), `without` (lower case) left out as well."""
    pairs = list(headers)
    named = {
        option.strip().lower() for name, value in pairs if name.lower() == "connection" for option in value.split(",")
    }
    dropped = _HOP_BY_HOP | named | set(without)
    return [(name, value) for name, value in pairs if name.lower() not in dropped]


def wants_websocket(request: web.BaseRequest) -> bool:
    """Tell whether a request wants to become a WebSocket (RFC 6455 §4.1)."""
    return request.headers.get("Upgrade", "").lower() == "websocket" and request.method == "GET"


async def relay_websocket(
    session: aiohttp.ClientSession, origin: str, request: web.BaseRequest, target: Target
) -> web.StreamResponse:
    """Open the same WebSocket to the origin and pass messages on until either end closes; 502 if it is refused."""
    offered = [item.strip() for item in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if item.strip()]
    headers = [*end_to_end(request.headers.items(), without=_WEBSOCKET_OWN), ("Host", target.authority)]
    try:
        connecting = session.ws_connect(
            URL(origin + target.path, encoded=True), headers=headers, protocols=offered, max_msg_size=0
        )
        async with connecting as upstream:
            chosen = [upstream.protocol] if upstream.protocol else []
            downstream = web.WebSocketResponse(protocols=chosen, max_msg_size=0)
            await downstream.prepare(request)
            await _until_either_ends(downstream, upstream)
            return downstream
    except (aiohttp.ClientError, TimeoutError):
        return web.Response(status=502, text="The origin did not open the WebSocket.\n")


async def _until_either_ends(downstream: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
    pumps = {asyncio.create_task(_pump(downstream, upstream)), asyncio.create_task(_pump(upstream, downstream))}
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
    await upstream.close()
    await downstream.close()


async def _pump(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
