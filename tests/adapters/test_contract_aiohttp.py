"""An aiohttp application behind the middleware, under the contract of every host."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from cdnblock.adapters.aiohttp_middleware import CdnblockMiddleware
from cdnblock.enforcer import Enforcer
from cdnblock.http_gate import HttpGate
from cdnblock.testing import AdapterContract, Host, Need, aiohttp_site


class TestAiohttp(AdapterContract):
    """The pages of the site, in an application of its own."""

    cannot = {
        Need.HTTP2: "aiohttp's server speaks HTTP/1.1 only",
        Need.CACHE: "an application has no cache",
        Need.REWRITE: "an application answers itself and passes no host on",
    }

    @contextmanager
    def serve(self, stage):
        """Run it on an event loop of its own."""
        with Enforcer(stage.orders, geo=stage.geo, trusted_proxies=stage.trusted_proxies) as enforcer:
            app = aiohttp_site()
            CdnblockMiddleware(HttpGate(enforcer, operator_url=stage.operator_url)).install(app)
            with on_a_loop_of_its_own(serving(app)) as port:
                yield Host(address=("127.0.0.1", port), reload=enforcer.reload)


@asynccontextmanager
async def serving(app):
    """Serve an application on a free port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextmanager
def on_a_loop_of_its_own(context):
    """Enter an asynchronous context on a loop and thread of its own; leave it at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(10)
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
