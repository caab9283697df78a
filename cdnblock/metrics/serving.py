"""GET /metrics on an address of its own, for commands that have no HTTP otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cdnblock.errors import ConfigError
from cdnblock.metrics.exposition import exposition

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware
    from prometheus_client.registry import Collector

_START: Final = 10.0  # seconds
_MOST_CONNECTIONS: Final = 64
_FIRST_HEAD: Final = 10.0  # seconds within which a first question must be there
_KEPT_OPEN: Final = 300.0  # seconds: longer than Prometheus rests between two scrapes
_PATH: Final = "/metrics"


async def answer(collector: Collector, request: web.BaseRequest) -> web.Response:
    """Return the page, made on another thread: nothing that answers clients waits for it."""
    content_type, octets = await asyncio.to_thread(exposition, collector, request.headers.get("Accept"))
    return web.Response(body=octets, headers={"Content-Type": content_type})


class _Full(asyncio.Protocol):
    """Closes a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()


def _heard(silent: set[asyncio.BaseProtocol]) -> Middleware:
    """Take from those that are silent whoever asks for something."""

    @web.middleware
    async def heard(request: web.Request, handler: Handler) -> web.StreamResponse:
        silent.discard(request.protocol)
        return await handler(request)

    return heard


def _entrance(runner: web.AppRunner, silent: set[asyncio.BaseProtocol]) -> Callable[[], asyncio.Protocol]:
    """Return what takes connections: so few that the process has files left, and none that stays silent."""
    server = runner.server
    assert server is not None  # noqa: S101 (it is set up)

    def taken() -> asyncio.Protocol:
        if len(server.connections) >= _MOST_CONNECTIONS:
            return _Full()
        protocol = server()

        silent.add(protocol)

        def too_late() -> None:
            if protocol in silent:
                silent.discard(protocol)
                protocol.force_close()

        asyncio.get_running_loop().call_later(_FIRST_HEAD, too_late)
        return protocol

    return taken


@contextmanager
def serve_metrics(address: tuple[str, int], collector: Collector) -> Iterator[tuple[str, int]]:
    """Answer GET /metrics on a thread of its own, and yield the address with its port.

    Raises:
        ConfigError: the address cannot be listened on.

    """
    started, ended, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    outcome: list[tuple[str, int] | OSError] = []

    async def serve() -> None:
        silent: set[asyncio.BaseProtocol] = set()
        application = web.Application(middlewares=[_heard(silent)])
        application.router.add_get(_PATH, functools.partial(answer, collector))
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, keepalive_timeout=_KEPT_OPEN)
        await runner.setup()
        try:
            listening = await loop.create_server(_entrance(runner, silent), *address)
        except OSError as error:
            outcome.append(error)
            started.set()
        else:
            outcome.append(listening.sockets[0].getsockname()[:2])
            started.set()
            await ended.wait()
            listening.close()
        await runner.cleanup()

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, name="cdnblock-metrics", daemon=True)
    thread.start()
    started.wait(_START)
    if not outcome or isinstance(outcome[0], OSError):
        raise ConfigError(f"cannot listen on {address[0]} port {address[1]}: {outcome[0] if outcome else 'too slow'}")
    try:
        yield outcome[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(_START)
