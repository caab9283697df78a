"""The site behind every host under the contract: it marks each answer, and remembers what it was asked.

A proxy forwards to it (`stage.origin`); an application is it: `aiohttp_site()` and `AsgiSite()` are the same pages. A
host in another framework answers like it: `X-Origin: site` on every answer, and what `page` returns for a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

from aiohttp import WSMsgType, web

Lines: TypeAlias = tuple[tuple[str, str], ...]
Scope: TypeAlias = dict[str, Any]
Send: TypeAlias = Callable[[Scope], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[Scope]]

MARK: Final = ("X-Origin", "site")
TRACE: Final = "x-contract-trace"
"""The request header by which a scenario's request is known again."""

LARGE: Final = bytes(range(256)) * 8192  # 2 MiB
TICK: Final = 0.02  # seconds between two parts of what goes on for ever
_THINKS: Final = 1.0  # seconds that `/slow` takes before its first octet
_NO_STORE: Final = ("Cache-Control", "no-store")
_MARKED: Final[Lines] = (
    # Whatever a host might touch when it should touch nothing, and all that measure `cdn` takes away.
    ("Cache-Control", "public"),
    ("Cache-Control", "max-age=600"),
    ("CDN-Cache-Control", "max-age=900"),
    ("Surrogate-Control", "max-age=900"),
    ("Surrogate-Key", "one two"),
    ("Expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
    ("ETag", '"v1"'),
    ("Set-Cookie", "first=1; Path=/"),
    ("Set-Cookie", "second=2; Path=/"),
    ("Link", '<https://site.example/next>; rel="next"'),
    ("X-Kept", "as it was"),
)
_TRAILERS: Final = (
    b"HTTP/1.1 200 OK\r\nX-Origin: site\r\nCache-Control: no-store\r\nTrailer: X-Last\r\nConnection: close\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\nX-Last: yes\r\n\r\n"
)
_ENDLESS: Final = {
    # path: Content-Type, one part, Content-Length
    "/stream": ("text/plain", b"", None),  # numbered lines, so that a gap shows
    "/events": ("text/event-stream", b"data: goal\n\n", None),
    "/download": ("application/zip", b"z" * 1000, 50_000_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as the site got it."""

    method: str
    target: str
    headers: Lines
    body: bytes = b""

    def of(self, name: str) -> list[str]:
        """Return the values of a field."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer: `parts` is its body, written one by one.

    With `endless` the only part is repeated every `TICK` seconds until the client goes; if it is empty, numbered lines.
    """

    headers: Lines
    parts: tuple[bytes, ...]
    endless: bool = False
    delay: float = 0.0  # seconds before the head
    length: int | None = None  # what Content-Length says; None: as long as it takes (chunks, or HTTP/2's way)

    def all_headers(self) -> list[tuple[str, str]]:
        """Return the header lines, Content-Length included."""
        return [*self.headers, *([] if self.length is None else [("Content-Length", str(self.length))])]


class Site:
    """The pages, by path, and the memory of what was asked for them.

    `rewrites` are the hosts that something between the host under the contract and the site replaces by others.
    """

    def __init__(self, rewrites: Mapping[str, str] | None = None) -> None:
        self._rewrites = rewrites or {}
        self._seen: dict[str, list[dict[str, Any]]] = {}
        self._numbers: Iterator[int] = itertools.count(1)

    def page(self, asked: Asked) -> Page:
        """Answer a request, and remember it by its trace."""
        path, _, query = _path(asked.target).partition("?")
        told = self._told(asked)
        if path in ("/seen", "/traces"):  # the memory itself; asking for it leaves no trace in it
            prefix = parse_qs(query).get("trace", [""])[0]
            found = {trace: asked for trace, asked in self._seen.items() if trace.startswith(prefix)}
            return _whole(json.dumps(found if path == "/seen" else [*found]), MARK, _NO_STORE)
        self._remember(told)
        marks = (MARK, ("X-Answer", str(next(self._numbers))))
        if path in _ENDLESS:
            kind, part, length = _ENDLESS[path]
            return Page(headers=(*marks, _NO_STORE, ("Content-Type", kind)), parts=(part,), endless=True, length=length)
        match path:
            case "/cached":
                return _whole(json.dumps(told), *marks, ("Cache-Control", "public, max-age=3600"))
            case "/marked":
                return _whole(json.dumps(told), *marks, *_MARKED)
            case "/large":
                return Page(headers=(*marks, _NO_STORE), parts=(LARGE,), length=len(LARGE))
            case "/slow":
                return dataclasses.replace(_whole(json.dumps(told), *marks, _NO_STORE), delay=_THINKS)
            case "/chunks" | "/trailers":
                return Page(headers=(*marks, _NO_STORE), parts=(b"one ", b"two ", b"three"))
            case _:
                return _whole(json.dumps(told), *marks, _NO_STORE)

    def remember(self, asked: Asked) -> None:
        """Remember a request that gets no page: a WebSocket."""
        self._remember(self._told(asked))

    def _told(self, asked: Asked) -> dict[str, Any]:
        return {
            "method": asked.method,
            "target": asked.target,
            "hosts": [self._rewrites.get(host, host) for host in asked.of("host")],
            "headers": [list(line) for line in asked.headers],
            "body_bytes": len(asked.body),
            "trace": asked.of(TRACE),
        }

    def _remember(self, told: dict[str, Any]) -> None:
        for trace in told["trace"]:
            self._seen.setdefault(trace, []).append(told)


def _path(target: str) -> str:
    """Return the path and query of any form of target (RFC 9112 §3.2)."""
    scheme, mark, rest = target.partition("://")
    if mark and scheme.lower() in ("http", "https"):
        return "/" + rest.partition("/")[2]
    return target


def _whole(text: str, *headers: tuple[str, str]) -> Page:
    body = text.encode()
    return Page(headers=(("Content-Type", "application/json"), *headers), parts=(body,), length=len(body))


def aiohttp_site(middlewares: Sequence[Any] = (), *, rewrites: Mapping[str, str] | None = None) -> web.Application:
    """Return the site as an application of aiohttp, behind these middlewares; `rewrites` as `Site` takes them."""
    site = Site(rewrites)

    async def answer(request: web.Request) -> web.StreamResponse:
        lines = tuple(
            (name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in request.raw_headers
        )
        if request.headers.get("Upgrade", "").lower() == "websocket" and _path(request.raw_path) == "/socket":
            site.remember(Asked(method=request.method, target=request.raw_path, headers=lines))
            return await _echo(request)
        asked = Asked(method=request.method, target=request.raw_path, headers=lines, body=await request.read())
        page = site.page(asked)
        await asyncio.sleep(page.delay)
        response = web.StreamResponse()
        if request.path == "/trailers" and request.transport is not None:  # which aiohttp itself does not send
            request.transport.write(_TRAILERS)
            request.transport.close()
            return response
        for name, value in page.all_headers():
            response.headers.add(name, value)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for part in _parts(page, request.method):
                await response.write(part)
        return response

    application = web.Application(middlewares=middlewares, client_max_size=2**26)
    application.router.add_route("*", "/{path:.*}", answer)
    return application


async def _echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    socket.headers[MARK[0]] = MARK[1]
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        else:
            break
    return socket


async def _parts(page: Page, method: str) -> AsyncIterator[bytes]:
    if method == "HEAD":
        return
    if not page.endless:
        for part in page.parts:
            yield part
        return
    for number in itertools.count(1):
        yield page.parts[0] or b"%09d\n" % number
        await asyncio.sleep(TICK)


class AsgiSite:
    """The site as an ASGI application: HTTP, WebSocket and lifespan; `rewrites` as `Site` takes them."""

    def __init__(self, rewrites: Mapping[str, str] | None = None) -> None:
        self._site = Site(rewrites)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the server's."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case "lifespan":
                while (await receive())["type"] != "lifespan.shutdown":
                    await send({"type": "lifespan.startup.complete"})
                await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if event["type"] == "http.disconnect" or not event.get("more_body"):
                break
        page = self._site.page(_asked(scope, body))
        await asyncio.sleep(page.delay)
        lines = [(name.lower().encode(), value.encode()) for name, value in page.all_headers()]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        gone = asyncio.ensure_future(_gone(receive)) if page.endless else None
        with contextlib.suppress(OSError):  # what servers may raise when the client has gone
            async for part in _parts(page, scope["method"]):
                if gone is not None and gone.done():
                    return
                await send({"type": "http.response.body", "body": part, "more_body": True})
        if gone is not None:
            gone.cancel()
        await send({"type": "http.response.body"})

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self._site.remember(_asked({**scope, "method": "GET"}, b""))
        await send({"type": "websocket.accept", "headers": [(b"x-origin", b"site")]})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", **{key: event[key] for key in ("text", "bytes") if key in event}})


def _asked(scope: Scope, body: bytes) -> Asked:
    lines = tuple(
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in scope["headers"]
    )
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    target = raw.decode("latin-1") + (f"?{query.decode('latin-1')}" if query and b"?" not in raw else "")
    return Asked(method=scope["method"], target=target, headers=lines, body=body)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
