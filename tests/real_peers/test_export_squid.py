"""Squid with the configuration that `cdnblock export squid` writes, under the contract of every host."""

from __future__ import annotations

import html
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import (
    HOSTILE,
    asked,
    at_each_turn,
    export_for,
    listens,
    needs,
    rules_of,
    running,
    stage_with,
    started_example,
    wait_until,
    with_annex,
    wrong_about,
)

from cdnblock.orders.model import Measure
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.testing import AdapterContract, Host, Need
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import put_orders

pytestmark = needs("squid", "squid")

CONFIGURATION = """
{include}
http_access allow all
http_port 127.0.0.1:{port} accel vhost allow-direct
cache_peer {host} parent {origin} 0 no-query no-digest originserver name=site
never_direct allow all
pid_filename {folder}/{name}.pid
cache_log {folder}/{name}.log
access_log none
coredump_dir {folder}
cache_mem 16 MB
visible_hostname edge.example
pinger_enable off
shutdown_lifetime 0 seconds
workers 1
http_upgrade_request_protocols websocket allow all
http_upgrade_request_protocols OTHER deny all
"""


@contextmanager
def folder_of_squids():
    """Yield a folder that Squid may use: started by root, it goes on as somebody else."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            shutil.chown(name, "proxy", "proxy")
        yield Path(name)


class Squid:
    """A Squid that is told to read its configuration again."""

    def __init__(self, stage, folder, *, exported=True):
        self.stage, self.folder = stage, folder
        self.out = folder / "cdnblock"
        self.name = "squid" if exported else "plain"
        self.file = folder / f"{self.name}.conf"
        self.log = folder / f"{self.name}.log"
        (self.port,) = free_ports(1)
        self.changing = threading.Lock()
        if exported:
            export_for(stage, "squid", self.out)
        host, port = stage.origin.removeprefix("http://").split(":")
        self.file.write_text(CONFIGURATION.format(
            include=f"include {self.out}/cdnblock.conf" if exported else "",
            port=self.port, host=host, origin=port, folder=self.folder, name=self.name,
        ))  # fmt: skip

    def ask(self, *words):
        done = subprocess.run(
            ["squid", "-f", str(self.file), "-n", f"s{self.port}", *words],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    @contextmanager
    def run(self):
        said = self.ask("-k", "parse")
        assert "ERROR" not in said, said
        assert "WARNING" not in said, said
        command = ["squid", "-N", "-f", str(self.file), "-n", f"s{self.port}"]
        with running(command, self.port, self.folder / f"{self.name}.out"), at_each_turn(self.stage, self.reload):
            yield

    def reload(self):
        with self.changing:
            export_for(self.stage, "squid", self.out)
            self.ask("-k", "parse")
            before = self.accepting()
            self.ask("-k", "reconfigure")
            wait_until(lambda: self.accepting() > before and listens(self.port), self.log.read_text)

    def accepting(self):
        return self.log.read_text(errors="replace").count("Accepting reverse-proxy HTTP Socket connections")


class TestSquid(AdapterContract):
    """One Squid before the site, with a cache in memory; it speaks HTTP/1.1 in clear."""

    random_requests = 2_000
    cannot = {
        Need.HTTP2: "Squid speaks HTTP/1.1 only",
        Need.CONNECT: "Squid as an accelerator answers CONNECT with 405 by itself",
        Need.FORWARDED: "Squid goes by X-Forwarded-For and does not read Forwarded",
        Need.NODE_PORT: "Squid reads addresses alone in X-Forwarded-For",
        Need.SURROGATE: "Squid takes Surrogate-Control out of all answers but to those who send Surrogate-Capability",
        Need.PADDED_HOST: "Squid answers a Host with white space behind it with 400",
        Need.TWO_HOSTS: "Squid goes by the first Host, and sends that one on alone",
        Need.NOTICE: "Squid's own pages are HTML whatever the client accepts",
        Need.CACHE: "Squid's cache is purged URL by URL, and by nobody of a whole host",
        Need.LIVE: "Squid reads its configuration anew behind closed doors, and ends the connections that are kept",
        Need.CUT: "Squid decides a request when it begins, and nothing of its own ends what runs",
        Need.REWRITE: "Squid rewrites by programs beside it",
    }

    @contextmanager
    def serve(self, stage):
        with folder_of_squids() as folder, (squid := Squid(stage, folder)).run():
            yield Host(address=("127.0.0.1", squid.port), reload=squid.reload)


def test_the_example_starts_as_it_stands():
    """`examples/squid/start.sh` exports, starts, refuses a client in France and serves one in Germany."""
    with folder_of_squids() as folder, started_example("squid", folder) as port:
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
    "lifted": {
        "names": ["b.example"],
        "lifted": [{"names": ["free.b.example"], "at": "2025-05-01T12:00"}],
    },
    "again": {"names": ["x.free.b.example", "y.www.a.example"], "territory": ["DE"]},
    "below": {"names": [{"name": "c.example", "subdomains": False}, "c.example", "x.c.example"]},
    "close": {"names": [{"name": "b.example", "subdomains": False}], "measures": {"proxy": "close"}},
    "uncached": {"names": ["cdn.example"], "measures": {"cdn": "disable"}},
    "everywhere": {"names": ["everywhere.example"], "territory": "world"},
    "unknown": {"names": ["unknown.example"], "unknown_location": "enforce"},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with stage_with(tmp_path_factory.mktemp("squid"), **ORDERS) as stage, folder_of_squids() as folder:
        squid = Squid(stage, folder)
        with squid.run():
            yield stage, squid


HOSTS = [
    "a.example", "www.a.example", "x.www.a.example", "y.www.a.example", "z.y.www.a.example", "alone.example", "x.alone.example",
    "x.b.example", "free.b.example", "y.free.b.example", "x.free.b.example", "z.x.free.b.example", "c.example", "x.c.example",
    "everywhere.example", "unknown.example", "xa.example", "example", "203.0.113.9",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_names_in_each_others_layers_are_decided_as_the_rules_do(served, place):
    """Names below others, lifted ones, and hosts alone: lists that Squid alone would stop at, or take too far."""
    stage, squid = served
    for host in HOSTS:
        country = open_geo_table(stage.geo).locate(PLACES[place])
        decision = rules_of(stage).decide(host, country=country, at=datetime.now(UTC))
        expected = 451 if decision.measures.get(Measure.PROXY) else 200
        assert asked(squid.port, host, PLACES[place])[0] == expected, host


@pytest.mark.parametrize(
    ("wish", "client", "language"),
    [
        ("", "france", "fr"),
        ("", "germany", "en"),
        ("en-GB, fr;q=0.5", "france", "en"),
        ("de, fr;q=0.5", "germany", "fr"),
        ("french, fi, English;q=1, f, e, en", "france", "en"),
        ("*", "france", "fr"),
    ],
)
def test_the_notice_is_a_page_in_the_clients_language(served, wish, client, language):
    """In French or English, whichever is named first; HTML, with all that the order holds and the host that was asked for."""
    _, squid = served
    fields = {"Accept-Language": wish} if wish else {}
    status, headers, body = asked(squid.port, "www.everywhere.example", PLACES[client], **fields)
    assert (status, headers["content-language"], headers["vary"]) == (451, language, "Accept-Language")
    assert (headers["cache-control"], headers["cdn-cache-control"]) == ("no-store", "no-store")
    assert headers["content-type"].replace(" ", "") == "text/html;charset=utf-8"
    assert "www.everywhere.example" in body
    assert f'<html lang="{language}">' in body
    assert ("Bloqué" in body or "impose" in body) == (language == "fr")


def test_hostile_orders_are_told_as_they_are(served):
    """What Squid would take for codes of its own pages is nothing but text."""
    _, squid = served
    assert html.escape(HOSTILE, quote=False) in html.unescape(
        asked(squid.port, "a.example", PLACES["france"])[2]
    ).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_closed_without_an_octet(served):
    """Measure proxy, variant close."""
    _, squid = served
    with pytest.raises(OSError, match=r"reset|closed"):
        asked(squid.port, "b.example", PLACES["france"])
    assert asked(squid.port, "b.example", PLACES["germany"])[0] == 200


def test_covered_clients_get_no_stored_copy_and_leave_none(served):
    """Squid's own cache answers others, before and after; covered clients get the site's answer each time."""
    _, squid = served
    answers = [
        asked(squid.port, "cdn.example", PLACES[place], path="/cached")[1]
        for place in ("france", "germany", "germany", "france", "france", "germany")
    ]
    numbers = [headers["x-answer"] for headers in answers]
    assert numbers[1] == numbers[2] == numbers[5]
    assert len({*numbers}) == 4
    for headers in (answers[0], answers[3]):
        assert (headers["cache-control"], headers["cdn-cache-control"]) == ("no-store", "no-store")
        assert "age" not in headers
    assert answers[5]["cache-control"] == "public, max-age=3600"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("2001:db8:f::7", 451), ("2001:DB8:F:0:0:0:0:7", 451), ("::ffff:203.0.113.7", 451), ("2002:cb00:7107::1", 451),
        ("64:ff9b::cb00:7107", 451), ("::ffff:198.51.100.7", 200), ("203.0.113.7, 198.51.100.7", 200), ("198.51.100.7,203.0.113.7", 451),
        ("203.0.113.7, unknown", 200), ("203.0.113.7, 198.51.100", 200), ("garbage, 203.0.113.7", 451),
    ],
)  # fmt: skip
def test_addresses_in_the_forms_that_squid_reads(served, lines, expected):
    """IPv6, IPv4 inside IPv6, chains; what cannot be read is nowhere."""
    _, squid = served
    assert asked(squid.port, "a.example", lines)[0] == expected


QUESTIONS = [
    b"GET /marked HTTP/1.1\r\nHost: %(host)s\r\n%(rest)s\r\n",
    b"GET /cached HTTP/1.1\r\nHost: %(host)s\r\n%(rest)s\r\n",
    b"HEAD /marked HTTP/1.1\r\nHost: WWW.%(host)s:80\r\n%(rest)s\r\n",
    b"POST / HTTP/1.1\r\nHost: %(host)s\r\nContent-Length: 3\r\nCookie: a=1\r\nCookie: b=2\r\n%(rest)s\r\nabc",
    b"GET /marked HTTP/1.0\r\nHost: %(host)s\r\n%(rest)s\r\n",
    b"GET http://%(host)s/?a=%%20 HTTP/1.1\r\nHost: other.example\r\n%(rest)s\r\n",
    b"GET / HTTP/1.1\r\nHost: 203.0.113.9\r\n%(rest)s\r\n",
]


def test_uncovered_hosts_get_what_they_get_without_us(served):
    """Octet for octet, both ways, beside the same Squid without the include; clocks and counters apart."""
    stage, squid = served
    with folder_of_squids() as folder, (plain := Squid(stage, folder, exported=False)).run():
        for number, question in enumerate(QUESTIONS):
            for host, client in ((b"untouched", b"203.0.113.7"), (b"a", b"198.51.100.7"), (b"free.b", b"203.0.113.7")):
                for again in (b"", b"again"):
                    rest = b"X-Forwarded-For: %s\r\nX-Contract-Trace: %d%s\r\n" % (client, number, again)
                    text = question % {b"host": host + b".example", b"rest": rest + b"Connection: close\r\n"}
                    with_us, without = (_without_clocks(_said(port, text), port) for port in (squid.port, plain.port))
                    assert with_us == without, text


def _said(port, text):
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def _without_clocks(answer, port):
    return re.sub(rb"(?im)^(date|age|x-answer):.*$", rb"\1", answer).replace(b":%d" % port, b":port")


def test_a_reconfiguration_takes_what_was_ordered_meanwhile(tmp_path):
    """Export again, `squid -k reconfigure`: new names are refused, and those that were refused no longer are."""
    with stage_with(tmp_path, before={"names": ["before.example"]}) as stage, folder_of_squids() as folder:
        squid = Squid(stage, folder)
        with squid.run():
            for names in (["after.example"], ["after.example", "x.after.example"], ["before.example"]):
                put_orders(stage.orders, {"before": {"names": names}})
                squid.reload()
                for host in ("before.example", "x.after.example"):
                    covered = any(host == name or host.endswith(f".{name}") for name in names)
                    assert asked(squid.port, host, PLACES["france"])[0] == (451 if covered else 200)


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
    """Without a warning: nothing in force, one measure alone, the longest name."""
    with stage_with(tmp_path, one=order) as stage, folder_of_squids() as folder, (squid := Squid(stage, folder)).run():
        assert asked(squid.port, "other.example", PLACES["france"])[0] == 200


def test_a_hundred_thousand_names_are_carried(tmp_path):
    """The first and the last of them, what is below, and what only looks like them."""
    with with_annex(tmp_path, 100_000) as (stage, names), folder_of_squids() as folder:
        squid = Squid(stage, folder)
        with squid.run():
            assert [*wrong_about(squid.port, names)] == []
