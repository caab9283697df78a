"""The sandbox's edge, an aiohttp server with a cache, under the contract of every host."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

from cdnblock.enforcer import Enforcer
from cdnblock.sandbox.edge import Edge
from cdnblock.testing import AdapterContract, Host, Need, counted_by


class TestSandboxEdge(AdapterContract):
    """It answers requests and keeps a cache of its own."""

    random_requests = 2_000  # it is for staging, and slow
    cannot = {
        Need.HTTP2: "aiohttp's server speaks HTTP/1.1 only",
        Need.REWRITE: "the edge passes the host on as it is",
    }

    @contextmanager
    def serve(self, stage):
        """Run it on an event loop of its own."""
        with Enforcer(stage.orders, geo=stage.geo, trusted_proxies=stage.trusted_proxies) as enforcer:
            edge = Edge(stage.origin, enforcer, operator_url=stage.operator_url)
            with served_apart(edge.serve()) as port:
                yield Host(address=("127.0.0.1", port), reload=enforcer.reload, counted=lambda: counted_by(enforcer))


@contextmanager
def served_apart(serving):
    """Enter an asynchronous context on a loop and thread of its own; leave it at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(10)
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
