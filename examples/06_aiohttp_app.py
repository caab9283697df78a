"""An aiohttp application of your own behind the middleware: measures `proxy` and `cdn`, and streams that are cut.

Run it: python examples/06_aiohttp_app.py 8080
Ask it: curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 90.84.144.1' http://127.0.0.1:8080/

A stream that is open when an order takes effect ends then, and no other:
curl -N -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 90.84.144.1' http://127.0.0.1:8080/live
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from cdnblock import Enforcer
from cdnblock.adapters.aiohttp_middleware import CdnblockMiddleware
from cdnblock.http_gate import HttpGate

ORDERS = Path(__file__).parent / "orders"
THEN = datetime(2025, 5, 1, 12, tzinfo=UTC)  # the orders have ended since, so this example stays in their season


async def page(_request: web.Request) -> web.Response:
    """Return what the site shows."""
    return web.Response(text="The site.\n", headers={"Cache-Control": "max-age=600"})


async def live(request: web.Request) -> web.StreamResponse:
    """Return a stream without an end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"still here\n")
        await asyncio.sleep(1)


def application(enforcer: Enforcer) -> web.Application:
    """Return the application; the middleware is before all others, whenever it is installed."""
    app = web.Application()
    app.router.add_get("/live", live)
    app.router.add_get("/{path:.*}", page)
    CdnblockMiddleware(HttpGate(enforcer, operator_url="https://edge.example/blocked")).install(app)

    async def until_the_end(_app: web.Application) -> AsyncIterator[None]:
        yield
        enforcer.close()

    app.cleanup_ctx.append(until_the_end)
    return app


if __name__ == "__main__":
    following = Enforcer(ORDERS, trusted_proxies=["127.0.0.1"], clock=THEN.timestamp)
    web.run_app(application(following), host="127.0.0.1", port=int(sys.argv[1]), print=None)
