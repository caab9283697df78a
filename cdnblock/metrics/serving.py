"""GET /metrics on an address of its own, for commands that have no HTTP otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cdnblock.errors import ConfigError
from cdnblock.metrics.exposition import exposition

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

_START: Final = 10.0  # seconds
_PATH: Final = "/metrics"


async def answer(collector: Collector, request: web.BaseRequest) -> web.Response:
    """Return the page, made on another thread: nothing that answers clients waits for it."""
    content_type, octets = await asyncio.to_thread(exposition, collector, request.headers.get("Accept"))
    return web.Response(body=octets, headers={"Content-Type": content_type})


@contextmanager
def serve_metrics(address: tuple[str, int], collector: Collector) -> Iterator[tuple[str, int]]:
    """Answer GET /metrics on a thread of its own, and yield the address with its port.

    Raises:
        ConfigError: the address cannot be listened on.

    """
    started, ended, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    outcome: list[tuple[str, int] | OSError] = []

    async def serve() -> None:
        application = web.Application()
        application.router.add_get(_PATH, functools.partial(answer, collector))
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, *address).start()
            outcome.append(runner.addresses[0][:2])
        except OSError as error:
            outcome.append(error)
        started.set()
        if not isinstance(outcome[0], OSError):
            await ended.wait()
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
