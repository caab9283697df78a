"""Measures `proxy` and `cdn` inside an aiohttp application of your own, as one middleware.

Run it: python examples/05_aiohttp_middleware.py 8080
Ask it: curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 90.84.144.1' http://127.0.0.1:8080/

Measure `dns` is a name server's business. Streams that are open when an order starts are not cut here: see
cdnblock/sandbox/edge.py for that, and for a cache that is bypassed and purged.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from cdnblock import Enforcer, Measure
from cdnblock.measures import cache_disable, proxy_termination

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ORDERS = Path(__file__).parent / "orders"
THEN = datetime(2025, 5, 1, 12, tzinfo=UTC)  # the orders have ended since, so this example stays in their season
ENFORCER = web.AppKey("enforcer", Enforcer)


@web.middleware
async def enforce(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Decide about each request by its host and its client; refuse it, or switch caching off, or neither."""
    enforcer = request.app[ENFORCER]
    client = enforcer.client_address(request.remote, request.headers.items())
    decision = enforcer.decide(request.host, client)
    if decision.malformed:
        return respond(proxy_termination.bad_host(method=request.method))
    if Measure.PROXY in decision.measures:
        if proxy_termination.closes(decision) and request.transport is not None:
            request.transport.abort()
            raise ConnectionResetError
        accept, language = request.headers.get("Accept"), request.headers.get("Accept-Language")
        notice = proxy_termination.notice(decision, accept=accept, accept_language=language, method=request.method)
        return respond(notice)
    response = await handler(request)
    if Measure.CDN in decision.measures:
        headers = cache_disable.response_headers(response.headers.items())
        response.headers.clear()
        response.headers.extend(headers)
    return response


def respond(answer: proxy_termination.Answer) -> web.Response:
    """Turn an answer into aiohttp's."""
    return web.Response(status=answer.status, reason=answer.reason, headers=answer.headers, body=answer.body)


async def page(_request: web.Request) -> web.Response:
    """Return what the site shows."""
    return web.Response(text="The site.\n", headers={"Cache-Control": "max-age=600"})


async def following(app: web.Application) -> AsyncIterator[None]:
    """Follow the orders as long as the application runs."""
    with Enforcer(ORDERS, trusted_proxies=["127.0.0.1"], clock=THEN.timestamp) as app[ENFORCER]:
        yield


if __name__ == "__main__":
    app = web.Application(middlewares=[enforce])
    app.cleanup_ctx.append(following)
    app.router.add_route("*", "/{path:.*}", page)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
