"""The origin: one real web site for every host name, whose every answer is different.

Each page carries a number that no other answer of this origin has. Two answers with one number are one answer, stored
and handed out twice: that is how the probes see a cache work without trusting what it says of itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from typing import Final

from aiohttp import WSMsgType, web

_PAGE: Final = "<!doctype html>\n<title>{host}</title>\n<p>This is {host}{path}, answer {number} of this origin.</p>\n"
_STREAM_PATH: Final = "/stream"
_SOCKET_PATH: Final = "/socket"
_TICK: Final = 0.05  # seconds between the lines of the stream
_FRESH_FOR: Final = 3600  # seconds: longer than any rehearsal, so that nothing leaves a cache by age


class Origin:
    """`/` and any other path: a page that may be cached for an hour. `/stream`: lines without end. `/socket`: an echo."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = itertools.count(1)

    def application(self) -> web.Application:
        """Return the site, ready to be served."""
        application = web.Application()
        application.router.add_get(_STREAM_PATH, self._stream)
        application.router.add_get(_SOCKET_PATH, self._echo)
        application.router.add_route("*", "/{path:.*}", self._page)
        return application

    async def _page(self, request: web.Request) -> web.Response:
        number = next(self._numbers)
        return web.Response(
            text=_PAGE.format(host=request.host, path=request.path, number=number),
            content_type="text/html",
            headers={
                "Cache-Control": f"public, max-age={_FRESH_FOR}",
                "ETag": f'"{number}"',
                "X-Answer": str(number),
            },
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Cache-Control": "no-store"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # the client went away, as clients of streams do
            for number in itertools.count(1):
                await response.write(b"line %d\n" % number)
                await asyncio.sleep(_TICK)
        return response

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            match message.type:
                case WSMsgType.TEXT:
                    await socket.send_str(message.data)
                case WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
                case _:
                    break
        return socket
