"""A small HTTP/2 host that is the site itself: sound, or broken in one of the ways that only HTTP/2 knows."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from contextlib import asynccontextmanager, contextmanager

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from aiohttp import web
from broken_edges import served_apart

from cdnblock.enforcer import Enforcer
from cdnblock.measures import proxy_termination
from cdnblock.orders.model import Measure
from cdnblock.testing import Asked, Host, Site
from cdnblock.testing.site import TICK


class Connection(asyncio.Protocol):
    """One connection. Each stream is decided by its `:authority`, and is refused if its host field is another one."""

    def __init__(self, host):
        self.host = host
        self.streams = {}
        self.first = None

    def asked(self, lines):
        """Return the name that is decided about, None for what is answered with 400."""
        names = {value for key, value in lines if key in (":authority", "host")}
        return names.pop() if len(names) == 1 and dict(lines)[":path"].startswith("/") else None

    def close_stream(self, number):
        """End one stream: measure proxy, variant close, and what is cut."""
        self.http.reset_stream(number, 8)

    def connection_made(self, transport):
        self.transport = transport
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8", validate_inbound_headers=False)
        self.http = h2.connection.H2Connection(config)
        self.http.initiate_connection()
        self.host.connections.add(self)
        self.flush()

    def connection_lost(self, _error):
        self.host.connections.discard(self)
        for _, _, task in self.streams.values():
            task.cancel()

    def data_received(self, data):
        with contextlib.suppress(h2.exceptions.ProtocolError):
            for event in self.http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.request(event.stream_id, event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamReset) and event.stream_id in self.streams:
                    self.streams.pop(event.stream_id)[2].cancel()
        self.flush()

    def flush(self):
        self.transport.write(self.http.data_to_send())

    def request(self, number, lines):
        fields = dict(lines)
        self.first = self.first or fields.get(":authority")
        name = self.asked(lines)
        plain = [(key, value) for key, value in lines if not key.startswith(":")]
        client = self.host.enforcer.client_address(self.transport.get_extra_info("peername")[0], plain)
        decision = None if name is None else self.host.enforcer.decide(name, client)
        if decision is None or decision.malformed:
            self.answer(number, proxy_termination.bad_host())
        elif decision.measures.get(Measure.PROXY) == "close":
            self.close_stream(number)
        elif Measure.PROXY in decision.measures:
            self.answer(
                number, proxy_termination.notice(decision, method=fields[":method"], operator_url=self.host.url)
            )
        else:
            told = (("host", fields.get(":authority") or fields.get("host")), *plain)
            page = self.host.site.page(Asked(method=fields[":method"], target=fields[":path"], headers=told))
            task = asyncio.ensure_future(self.serve(number, page))
            self.streams[number] = name, client, task

    def answer(self, number, answer):
        lines = [(key.lower(), value) for key, value in answer.headers]
        self.http.send_headers(number, [(":status", str(answer.status)), *lines])
        self.http.send_data(number, answer.body, end_stream=True)

    async def serve(self, number, page):
        lines = [(key.lower(), value) for key, value in page.all_headers()]
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.http.send_headers(number, [(":status", "200"), *lines])
            for part in page.parts if not page.endless else ():
                self.http.send_data(number, part)
            count = 0
            while page.endless:
                count += 1
                self.http.send_data(number, page.parts[0] or b"%09d\n" % count)
                self.flush()
                await asyncio.sleep(TICK)
            self.http.end_stream(number)
            self.streams.pop(number, None)
            self.flush()

    def cut(self):
        """End what is covered now."""
        for number, (name, client, task) in [*self.streams.items()]:
            if Measure.PROXY in self.host.enforcer.decide(name, client).measures:
                task.cancel()
                self.close_stream(number)
                self.streams.pop(number, None)
        self.flush()


class ByFirst(Connection):
    """Decides a connection by its first request."""

    def asked(self, lines):
        return self.first


class ByHostField(Connection):
    """Decides by the host field, and serves `:authority`."""

    def asked(self, lines):
        return dict(lines).get("host", dict(lines).get(":authority"))


class ClosesAll(Connection):
    """Ends the whole connection for one stream."""

    def close_stream(self, number):
        self.transport.abort()


class H2Host:
    """Serves HTTP/2 over TLS, and HTTP/1.1 in clear for who asks what the site was asked."""

    def __init__(self, kind, stage, enforcer):
        self.kind, self.stage, self.enforcer = kind, stage, enforcer
        self.url = stage.operator_url
        self.site = Site()
        self.connections = set()

    @asynccontextmanager
    async def serve(self):
        loop = asyncio.get_running_loop()

        def changed(_old, _new):
            loop.call_soon_threadsafe(lambda: [connection.cut() for connection in [*self.connections]])

        async def witness(request):
            page = self.site.page(Asked(method="GET", target=request.raw_path, headers=()))
            return web.Response(body=page.parts[0], headers={"X-Origin": "site"})

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.stage.certificate)
        context.set_alpn_protocols(["h2"])
        self.enforcer.subscribe(changed)
        tls = await loop.create_server(lambda: self.kind(self), "127.0.0.1", 0, ssl=context)
        runner = web.ServerRunner(web.Server(witness))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1], tls.sockets[0].getsockname()[1]
        tls.close()
        await runner.cleanup()


@contextmanager
def speaking_http2(kind, stage):
    """Run an HTTP/2 host of this kind."""
    with (
        Enforcer(stage.orders, geo=stage.geo, trusted_proxies=stage.trusted_proxies) as enforcer,
        served_apart(H2Host(kind, stage, enforcer).serve()) as (clear, tls),
    ):
        yield Host(address=("127.0.0.1", clear), tls=("127.0.0.1", tls), reload=enforcer.reload)
