"""Edges that are broken where only somebody who looks from outside can see it, beside those of the contract's trial."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web
from broken_edges import Sound, running, served_apart
from broken_http2 import Connection, H2Host

from cdnblock.enforcer import Enforcer
from cdnblock.measures.notice.html_page import CONTENT_SECURITY_POLICY
from cdnblock.orders.model import Measure
from cdnblock.testing import Host


class Forbids(Sound):
    """Refuses with a status that says nothing."""

    def _terminate(self, exchange, decision):
        return web.Response(status=403)


class ExplainsPolitely(Sound):
    """Sends its notice as if it were the page."""

    def _terminate(self, exchange, decision):
        response = super()._terminate(exchange, decision)
        response.set_status(200)
        return response


class KeepsRefusals(Sound):
    """Gives a stored 451 to whoever comes next."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.refused = {}

    async def _answer(self, exchange):
        key = exchange.target.authority.lower()
        if key in self.refused:
            return web.Response(status=451, headers=self.refused[key])
        answer = await super()._answer(exchange)
        if answer.status == 451:
            self.refused[key] = {name: value for name, value in answer.headers.items() if name != "Content-Length"}
        return answer


class KeepsPages(Sound):
    """Gives a stored page to whoever comes next, refused or not."""

    async def _answer(self, exchange):
        stored = self._from_cache(exchange)
        return await super()._answer(exchange) if stored is None else stored


class Parents(Sound):
    """Takes the registered name for what was ordered."""

    def _asked(self, authority, client, exchange):
        listed = {name for name, _, _ in self._enforcer.rules.each_listed()}
        below = [name for name in listed if authority and name.endswith(f".{authority}")]
        return (below[0] if below else authority), client


class Undecidable(Sound):
    """Cannot decide about neighbours."""

    async def _answer(self, exchange):
        if "neighbour" in exchange.target.authority:
            return web.Response(
                status=503, headers={"Cache-Control": "no-store", "CDN-Cache-Control": "no-store", "Retry-After": "5"}
            )
        return await super()._answer(exchange)


class Drops(Sound):
    """Ends the connections of neighbours."""

    async def _answer(self, exchange):
        if "neighbour" in exchange.target.authority:
            exchange.request.transport.abort()
        return await super()._answer(exchange)


class _Abroad(Sound):
    """Does something to whom it has to let through, outside the territory."""

    def does(self):
        raise AssertionError

    async def _answer(self, exchange):
        if exchange.target.authority.startswith("cdn.") and Measure.PROXY not in self._decide(exchange).measures:
            return self.does()
        return await super()._answer(exchange)


class ForbidsAbroad(_Abroad):
    """Refuses there as well, by a status of its own."""

    def does(self):
        return web.Response(status=403)


class HidesAbroad(_Abroad):
    """The same with a status that many a site has."""

    def does(self):
        return web.Response(status=404)


class SendsAway(_Abroad):
    """Sends such clients elsewhere."""

    def does(self):
        return web.Response(status=302, headers={"Location": "https://elsewhere.example/blocked"})


class OtherwiseUnavailable(_Abroad):
    """Gives them a 451 that is not ours."""

    def does(self):
        return web.Response(status=451)


class ForbidsFrance(Sound):
    """Takes what clients in France are not to have for more than was ordered."""

    async def _answer(self, exchange):
        if exchange.client == "203.0.113.7" and "neighbour" in exchange.target.authority:
            return web.Response(status=403)
        return await super()._answer(exchange)


OWN = {
    "refusing": lambda: web.Response(status=451),
    "forbidding": lambda: web.Response(status=403),
    "redirecting": lambda: web.Response(status=302, headers={"Location": "https://other.example/"}),
    "unstored": lambda: web.Response(headers={"Cache-Control": "no-store", "CDN-Cache-Control": "no-store"}),
    "copying": lambda: web.Response(
        status=451,
        headers={
            "Cache-Control": "no-store", "CDN-Cache-Control": "no-store", "Link": '<https://x.example>; rel="blocked-by"',
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        },
    ),
}  # fmt: skip


@contextmanager
def own_site(manner):
    """Serve a site that answers everything in a manner of its own, but for names that nobody has; yield its URL."""

    async def answer(request):
        return web.Response(text="nobody") if request.host.endswith(".invalid") else OWN[manner]()

    class Serving:
        async def __aenter__(self):
            site = web.Application()
            site.router.add_route("*", "/{path:.*}", answer)
            self.runner = web.AppRunner(site, access_log=None)
            await self.runner.setup()
            await web.TCPSite(self.runner, "127.0.0.1", 0).start()
            return self.runner.addresses[0][1]

        async def __aexit__(self, *_):
            await self.runner.cleanup()

    with served_apart(Serving()) as port:
        yield f"http://127.0.0.1:{port}"


class Versed(Connection):
    """Nothing is broken; HEAD has no body."""

    def __init__(self, host):
        super().__init__(host)
        self.heads = set()

    def request(self, number, lines):
        if dict(lines)[":method"] == "HEAD":
            self.heads.add(number)
        super().request(number, lines)

    def answer(self, number, answer):
        super().answer(number, dataclasses.replace(answer, body=b"") if number in self.heads else answer)

    async def serve(self, number, page):
        await super().serve(number, dataclasses.replace(page, parts=()) if number in self.heads else page)


class NotOverHttp2(Versed):
    """Decides nothing over HTTP/2."""

    def asked(self, lines):
        return "nobody.example"


class Coalesces(Versed):
    """Decides by the name of the TLS handshake."""

    def asked(self, lines):
        return self.host.server_names.get(id(self.transport.get_extra_info("ssl_object"))) or super().asked(lines)


class _Either(asyncio.Protocol):
    """Hands a connection to whatever its client has chosen: HTTP/2 here, HTTP/1.1 to a sound edge."""

    def __init__(self, host, upstream):
        self.host, self.upstream = host, upstream
        self.waiting, self.there = [], None

    def connection_made(self, transport):
        self.transport = transport
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self.there = self.host.kind(self.host)
            self.there.connection_made(transport)
            self.data_received, self.connection_lost = self.there.data_received, self.there.connection_lost
        else:
            self.task = asyncio.ensure_future(self.relay())

    async def relay(self):
        reader, self.there = await asyncio.open_connection(*self.upstream)
        self.there.write(b"".join(self.waiting))
        with contextlib.suppress(ConnectionError):
            while octets := await reader.read(65_536):
                self.transport.write(octets)
        self.transport.close()

    def data_received(self, data):
        if self.there is None:
            self.waiting.append(data)
        else:
            self.there.write(data)

    def connection_lost(self, error):
        self.task.cancel()
        if self.there is not None:
            self.there.close()


@contextmanager
def speaking_both(kind, stage):
    """Run a sound edge for HTTP/1.1 and an HTTP/2 host of this kind, on one port over TLS."""
    with (
        running(Sound, stage) as sound,
        Enforcer(stage.orders, geo=stage.geo, trusted_proxies=stage.trusted_proxies) as enforcer,
        served_apart(_serve(H2Host(kind, stage, enforcer), stage, sound.address)) as port,
    ):
        yield Host(address=sound.address, tls=("127.0.0.1", port), reload=sound.reload)


@asynccontextmanager
async def _serve(host, stage, upstream):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(stage.certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    host.server_names = {}
    context.sni_callback = lambda handshake, name, _context: host.server_names.update({id(handshake): name})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Either(host, upstream), "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
