"""`cdnblock verify` on servers that really carry traffic: what our configuration does is as decided, nothing else is.

Each engine is also run with one thing taken from it, and has to be found out.
"""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "adapters")]
sys.path[:0] = [str(Path(__file__).parent.parent / "testing")]

import dns_peers
from broken_edges import served_apart
from export_engines import needs, stage_with
from export_resolvers import stage_with as dns_stage_with
from test_export_bind import Bind
from test_export_haproxy import HAProxy
from test_export_nginx import Nginx
from test_export_unbound import Unbound

from cdnblock import exporters
from cdnblock.adapters.aiohttp_middleware import CdnblockMiddleware
from cdnblock.enforcer import Enforcer
from cdnblock.http_gate import HttpGate
from cdnblock.sources.order_folder import load_orders
from cdnblock.testing.dns_stage import CLIENTS, COUNTRY_OF
from cdnblock.testing.places import PLACES
from cdnblock.testing.site import aiohttp_site
from cdnblock.testing.stage import put_orders
from cdnblock.verification.clients import Client, Told
from cdnblock.verification.expecting import Promises
from cdnblock.verification.probes import Way
from cdnblock.verification.servers import Edge, Resolver
from cdnblock.verification.verifying import Settings, verify

SITES = {
    "refused": {"names": ["cdn.refused.example", "annex.example"]},
    "overseas": {"names": ["overseas.example"], "territory": ["FR", "RE"]},
    "slow": {"names": ["slow.example"], "measures": {"cdn": "disable"}},
    "closed": {"names": ["closed.example"], "measures": {"proxy": "close"}},
    "lifted": {"names": ["lifted.example", "held.example"],
               "lifted": [{"names": ["lifted.example"], "at": "2025-06-01T12:00"}]},
    "unknown": {"names": ["unknown.example"], "unknown_location": "enforce"},
}  # fmt: skip
NAMES = {
    "refused": {"names": ["cdn.refused.example", "annex.example"], "measures": {"dns": "refuse"}},
    "gone": {"names": ["gone-by-order.example"], "measures": {"dns": "nxdomain"}, "territory": ["FR", "RE"]},
    "empty": {"names": ["empty-by-order.example"], "measures": {"dns": "nodata"}},
    "lifted": {"names": ["lifted.example", "held.example"], "measures": {"dns": "refuse"},
               "lifted": [{"names": ["lifted.example"], "at": "2025-06-01T12:00"}]},
}  # fmt: skip


def verified(server, stage, clients, **settings):
    rules = load_orders(stage.orders)
    settings = {"clients": clients, "rate": 0, "sample": 2, "settle": 0} | settings
    report = asyncio.run(verify(server, lambda: rules, Settings(**settings)))
    assert report.covered > 20
    return report


def everywhere(told=Told.X_FORWARDED_FOR):
    places = {"france": "FR", "reunion": "RE", "germany": "DE", "nowhere": None}
    return [Client(label=place, country=code, address=PLACES[place], told=told) for place, code in places.items()]


def on_loopback():
    return [
        Client(label=place, country=COUNTRY_OF[place], address=CLIENTS[place])
        for place in ("france", "reunion", "germany", "nowhere")
    ]


def found(report):
    return [str(finding) for finding in report.findings]


@contextmanager
def middleware(stage):
    """Serve the site with the aiohttp middleware."""
    with Enforcer(stage.orders, geo=stage.geo, trusted_proxies=stage.trusted_proxies) as enforcer:
        site = aiohttp_site()
        CdnblockMiddleware(HttpGate(enforcer, operator_url=stage.operator_url)).install(site)

        class Serving:
            async def __aenter__(self):
                self.runner = web.AppRunner(site, access_log=None, shutdown_timeout=0.1)
                await self.runner.setup()
                await web.TCPSite(self.runner, "127.0.0.1", 0).start()
                return self.runner.addresses[0][1]

            async def __aexit__(self, *_):
                await self.runner.cleanup()

        with served_apart(Serving()) as port:
            yield port


def test_the_aiohttp_middleware(tmp_path):
    """As decided, told by X-Forwarded-For and by Forwarded."""
    with stage_with(tmp_path, **SITES) as stage, middleware(stage) as port:
        for told in (Told.X_FORWARDED_FOR, Told.FORWARDED):
            report = verified(Edge(host="127.0.0.1", port=port, path="/cached"), stage, everywhere(told))
            assert found(report) == []


@needs("nginx", "nginx")
def test_nginx(tmp_path):
    """With the exported configuration as decided in clear, over TLS and HTTP/2, its cache included; without it found."""
    with stage_with(tmp_path, **SITES) as stage:
        nginx = Nginx(stage, **{"headers-more": "no"})
        with nginx.run():
            clear = Edge(host="127.0.0.1", port=nginx.port, path="/cached")
            assert found(verified(clear, stage, everywhere())) == []
            tls = verified(replace(clear, port=nginx.tls, tls=True), stage, everywhere())
            assert (found(tls), tls.ways) == ([], (Way.HTTP1, Way.HTTP2))
        put_orders(stage.orders, {"later": {"names": ["later.example"]}})
        lines = (nginx.out / "cdnblock-hosts.map").read_text().replace(".annex.example", "annex.example")
        (nginx.out / "cdnblock-hosts.map").write_text(re.sub(r"^\.?held\.example .*\n", "", lines, flags=re.MULTILINE))
        with nginx.run():
            wrong = verified(clear, stage, everywhere())
    names = {(finding.probe.name, finding.came) for finding in wrong.findings}
    assert {("later.example", "200"), ("held.example", "200"), ("www.annex.example", "200")} <= names
    assert all(name.endswith(("later.example", "held.example", "annex.example")) for name, _ in names), names


@needs("haproxy", "haproxy")
def test_haproxy(tmp_path):
    """The same; here a territory that grew is what is wrong."""
    with stage_with(tmp_path, **SITES) as stage:
        haproxy = HAProxy(stage)
        with haproxy.run():
            clear = Edge(host="127.0.0.1", port=haproxy.port, path="/cached")
            assert found(verified(clear, stage, everywhere())) == []
            tls = verified(replace(clear, port=haproxy.tls, tls=True), stage, everywhere())
            assert (found(tls), tls.ways) == ([], (Way.HTTP1, Way.HTTP2))
        territory = haproxy.out / "cdnblock-territory.map"
        territory.write_text(territory.read_text() + "198.51.100.0/24 FR\n")
        with haproxy.run():
            wrong = verified(clear, stage, everywhere())
    assert {finding.probe.client.label for finding in wrong.findings} == {"germany"}
    assert {"451", "closed without an answer"} <= {finding.came for finding in wrong.findings}


@needs("unbound", "unbound")
def test_unbound(tmp_path):
    """Told by the source address; what it cannot promise is said beforehand. With one view's names gone it is found."""
    promises = replace(Promises.of(exporters.load("unbound")), ede=False)
    with dns_stage_with(tmp_path, **NAMES) as stage:
        unbound = Unbound(stage)
        with unbound.run():
            server = Resolver(host="127.0.0.1", port=unbound.port)
            report = verified(server, stage, on_loopback(), promises=promises)
            assert found(report) == []
            strict = verified(server, stage, on_loopback())
            assert strict.findings
            assert all(finding.came.endswith("without EDE") for finding in strict.findings)
        for file in unbound.out.iterdir():
            file.write_text(re.sub(r'^.*"?(?<![\w.-])held\.example.*\n', "", file.read_text(), flags=re.MULTILINE))
        with unbound.run():
            wrong = verified(server, stage, on_loopback(), promises=promises)
    assert {finding.probe.name for finding in wrong.findings} >= {"held.example", "www.held.example"}
    assert [line for line in found(wrong) if "held.example" not in line] == []


@needs("named", "bind9")
def test_bind(tmp_path):
    """It gives no extended error and no SOA: that is all that is found, unless it was said; a zone too wide is, too."""
    orders = {name: NAMES[name] for name in ("gone", "empty")}
    with dns_stage_with(tmp_path, **orders) as stage:
        bind = Bind(stage)
        with bind.run():
            server = Resolver(host="127.0.0.1", port=bind.port)
            promises = replace(Promises.of(exporters.load("bind")), ede=False, negative_ttl=None)
            assert found(verified(server, stage, on_loopback(), promises=promises)) == []
            strict = verified(server, stage, on_loopback())
            assert strict.findings
            assert all(
                " without EDE" in finding.came or " without an SOA" in finding.came for finding in strict.findings
            )
        for file in bind.out.glob("*.rpz"):
            file.write_text(file.read_text() + "*.example CNAME .\n")
        with bind.run():
            wrong = verified(server, stage, on_loopback(), promises=promises)
    assert "cdnblock-neighbour.example" in {finding.probe.name for finding in wrong.findings}


def test_the_dns_front(tmp_path, dns_upstream):
    """`cdnblock dns`, told by client subnets and by the PROXY protocol."""
    (tmp_path / "stage").mkdir()
    with stage_with(tmp_path / "stage", **NAMES) as stage:
        arguments = ("--geo", str(stage.geo), "--trusted-forwarder", "127.0.0.1", "--load-balancer", "127.0.0.2")
        with dns_peers.front(tmp_path / "front", stage.orders, [dns_upstream], *arguments) as front:
            server = Resolver(host="127.0.0.1", port=front.port)
            subnets = [client for client in everywhere(Told.CLIENT_SUBNET) if client.country]
            assert found(verified(server, stage, subnets)) == []
            proxied = [replace(client, told=Told.PROXY_V2, source="127.0.0.2") for client in everywhere()]
            assert found(verified(server, stage, proxied)) == []


@pytest.fixture
def dns_upstream():
    """A name server that knows every name."""
    from cdnblock.sandbox.resolver import Resolver as EveryName

    class Serving:
        async def __aenter__(self):
            self.resolver = EveryName()
            return await self.resolver.start()

        async def __aexit__(self, *_):
            self.resolver.close()

    with served_apart(Serving()) as port:
        yield port
