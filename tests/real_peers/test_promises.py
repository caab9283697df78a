"""What every example of examples/decision_service promises beside the contract, and what the caches among them do."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.client
import http.server
import itertools
import json
import random
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from free_ports import free_ports

from cdnblock.sources import control_socket
from cdnblock.testing.stage import open_stage, put_orders

sys.path.insert(0, str(Path(__file__).parent))

from peers import deciding
from test_caddy import caddy
from test_envoy import envoy
from test_haproxy import haproxy
from test_nginx import nginx
from test_traefik import traefik
from test_varnish import varnish

FRANCE, GERMANY = "203.0.113.7", "198.51.100.7"
PROXIES = {
    # name: (how it is run, before the address that it asks)
    "nginx": (nginx, ""),
    "caddy": (caddy, ""),
    "varnish": (varnish, ""),
    "traefik": (traefik, ""),
    "envoy": (envoy, ""),
    "haproxy": (haproxy, "haproxy@"),
}
CACHES = [name for name in PROXIES if name in ("nginx", "varnish")]
ORDERS = {"refused": {"names": ["refused.example"]}}


@pytest.fixture
def stage(tmp_path):
    with open_stage(tmp_path, []) as stage:
        put_orders(stage.orders, ORDERS)
        yield stage


@pytest.fixture(scope="module", params=PROXIES)
def asking(request, tmp_path_factory):
    """One proxy after the other, with the service that it asks: its name, its port, and how the service is run again."""
    run, dialect = PROXIES[request.param]
    (asked,) = free_ports(1)
    with open_stage(tmp_path_factory.mktemp("stage"), []) as stage, contextlib.ExitStack() as service:
        put_orders(stage.orders, ORDERS)
        process = service.enter_context(deciding(stage, f"{dialect}127.0.0.1:{asked}")).process
        with run(stage, asked) as (port, _):
            yield request.param, port, asked, process, lambda: deciding(stage, f"{dialect}127.0.0.1:{asked}")


def ask(port, host, client=FRANCE, path="/", **headers):
    """Return (status, body, headers) of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    connection.request("GET", path, headers={"Host": host, "X-Forwarded-For": client} | headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


@contextlib.contextmanager
def silent(port):
    """Listen, take every connection, and never say a word."""
    with socket.create_server(("127.0.0.1", port)) as server:
        yield server


def test_what_clients_say_of_verdicts_is_nobodys_word(asking):
    """A client's X-Cdnblock fields open nothing, and neither they nor ours reach the origin or the client."""
    name, port, *_ = asking
    forged = {
        "X-Cdnblock-Action": "pass", "X-Cdnblock-Generation": "mine", "X-Forwarded-Host": "other.example",
        "X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/livez",
    }  # fmt: skip
    for path in ("/", "/nginx", "/metrics", "/envoy/", "/traefik?x"):
        assert ask(port, "refused.example", path=path, **forged)[0] == 451
    status, body, headers = ask(port, "other.example", path="/metrics", **forged)
    assert (status, headers["X-Origin"]) == (200, "site")
    asked_with = [(key.lower(), value) for key, value in json.loads(body)["headers"]]
    assert "mine" not in [value for _, value in asked_with]
    asked_with = [line for line in asked_with if name != "varnish" or line[0] != "x-cdnblock-generation"]  # its own
    assert not [line for line in asked_with if line[0].startswith("x-cdnblock")]
    assert not [key for key in headers if key.lower().startswith("x-cdnblock")]


def raw(port, *lines):
    """Send these lines and an empty one; return the status of the answer and all of it."""
    with socket.create_connection(("127.0.0.1", port), 15) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        with connection.makefile("rb") as file:
            answer = file.read()
    return int(answer.split()[1]), answer


ODD = {
    "query": ("GET /?q=\xe9 HTTP/1.1",),
    "content-type": ("GET / HTTP/1.1", "Content-Type: text/plain", "Content-Type: text/plain"),
    "etag": ("GET / HTTP/1.1", "ETag: a", "ETag: b"),
    "max-forwards": ("GET / HTTP/1.1", "Max-Forwards: 1", "Max-Forwards: 2"),
    "server": ("GET / HTTP/1.1", "Server: a", "Server: b"),
    "user-agent": ("GET / HTTP/1.1", "User-Agent: a", "User-Agent: b"),
    "cookie": ("GET / HTTP/1.1", "Cookie: \xe9", "Cookie: b"),
    "method": ("VERSION-CONTROL / HTTP/1.1",),
}


@pytest.mark.parametrize("first", ["GET / HTTP/1.0", "GET / HTTP/1.1"])
def test_a_request_without_a_host_gets_400(asking, first):
    """Nobody knows whose page that would be."""
    _, port, *_ = asking
    status, answer = raw(port, first, f"X-Forwarded-For: {FRANCE}")
    assert (status, b"-Origin: site" in answer) == (400, False), answer


def test_without_a_verdict_nobody_is_served(asking):
    """The decision that each example has written down: closed for all hosts, be the service down or slow."""
    name, port, asked, process, run_again = asking
    assert ask(port, "other.example")[0] == 200
    assert ask(port, "refused.example")[0] == 451
    process.kill()
    process.wait(10)
    for host in ("other.example", "refused.example"):
        status, body, headers = ask(port, host)
        assert (status >= 500, headers["X-Origin"]) == (True, None), body
    with contextlib.nullcontext() if name == "traefik" else silent(asked):  # Traefik waits for 30 s, by itself
        began = time.monotonic()
        status, body, headers = ask(port, "other.example")
        assert (status >= 500, headers["X-Origin"]) == (True, None), body
        assert time.monotonic() - began < 10
    with run_again():
        until = time.monotonic() + 15
        while ask(port, "other.example")[0] != 200:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert ask(port, "refused.example")[0] == 451


def test_over_a_unix_socket(stage):
    """nginx asks through the socket as well as by TCP; whose request it is, is told all the same."""
    where = f"unix:{stage.folder.parent / 'd'}"  # short: a socket's path has 107 octets at most
    with deciding(stage, where), nginx(stage, where) as (port, _):
        assert ask(port, "refused.example", FRANCE)[0] == 451
        assert ask(port, "refused.example", GERMANY)[0] == 200
        assert ask(port, "other.example", FRANCE)[0] == 200


class Numbered(http.server.ThreadingHTTPServer):
    """An origin that numbers its answers, all of which may be stored, and can be told to wait in the middle of one."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Page)
        self.numbers = itertools.count(1)
        self.may_end, self.began = threading.Event(), threading.Event()


class Page(http.server.BaseHTTPRequestHandler):
    """One answer."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = str(next(self.server.numbers)).encode()
        self.send_response(200)
        self.send_header("Cache-Control", "public, max-age=3600")
        self.send_header("X-Origin", "site")
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/slow":
            self.server.began.set()
            self.server.may_end.wait(10)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


setattr(Page, "do_VERSION-CONTROL", Page.do_GET)


@pytest.fixture
def numbered():
    with Numbered() as origin:
        thread = threading.Thread(target=origin.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield origin
        origin.may_end.set()
        origin.shutdown()


@contextlib.contextmanager
def cache(stage, numbered, name):
    """Run a cache and its service in front of the numbering origin; yield the cache's port."""
    run, dialect = PROXIES[name]
    (asked,) = free_ports(1)
    stage = dataclasses.replace(stage, origin=f"http://127.0.0.1:{numbered.server_address[1]}")
    with deciding(stage, f"{dialect}127.0.0.1:{asked}"), run(stage, asked) as (port, _):
        yield port


def measure(stage, **keys):
    put_orders(stage.orders, {"uncached": {"names": ["uncached.example"], "measures": {"cdn": "disable"}} | keys})
    told = control_socket.ask(stage.state, {"command": "reload", "accept_release": True}, 20)
    assert not told.get("held"), told


@pytest.mark.parametrize("name", CACHES)
def test_what_was_on_its_way_is_not_stored_for_later(stage, numbered, name):
    """An answer that the origin began before the measure and ended after it is handed to whoever asked, and to nobody else."""
    with cache(stage, numbered, name) as port:
        got = []
        for client in (FRANCE, GERMANY):
            thread = threading.Thread(
                target=lambda client=client: got.append(ask(port, "uncached.example", client, "/slow")[1])
            )
            thread.start()
            assert numbered.began.wait(10)
            time.sleep(0.1)
        measure(stage)
        numbered.may_end.set()
        until = time.monotonic() + 10
        while len(got) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        inside = [ask(port, "uncached.example", FRANCE, "/slow")[1] for _ in range(2)]
        outside = [ask(port, "uncached.example", GERMANY, "/slow")[1] for _ in range(2)]
        assert len(set(inside)) == 2
        assert outside[0] == outside[1]
        assert not {*got} & {*inside, *outside}
        assert not {*inside} & {*outside}


@pytest.mark.parametrize("name", ["nginx", "caddy", "varnish"])
def test_odd_requests_are_decided_like_others(stage, numbered, name):
    """What the question does not need is not asked with: neither innocents nor refused hosts get the service's 400."""
    with cache(stage, numbered, name) as port:
        for kind, (first, *fields) in ODD.items():
            for host, expected in (("refused.example", 451), ("other.example", 200)):
                status, answer = raw(port, first, f"Host: {host}", f"X-Forwarded-For: {FRANCE}", *fields)
                assert (kind, status, b"X-Origin: site" in answer) == (kind, expected, expected == 200), answer


@pytest.mark.parametrize("name", CACHES)
def test_a_host_with_a_port_is_stored_apart(stage, numbered, name):
    """The origin sees the port, and may write it into its answer: nobody who names another one gets that."""
    with cache(stage, numbered, name) as port:
        with_port, without = (ask(port, host, path="/port")[1] for host in ("other.example:1337", "other.example"))
        again = ask(port, "other.example", path="/port")[1]
    assert with_port != without == again


@pytest.mark.parametrize("name", CACHES)
def test_no_byte_stored_for_one_side_reaches_the_other(stage, numbered, name):
    """While clients of both sides ask without a pause, a measure begins and ends; what it parts stays parted."""
    heard = []  # (phase when it was asked, when it was answered, client, path, number)
    phase, ended = [0], threading.Event()

    def keep_asking(client, seed):
        choice = random.Random(seed)
        while not ended.is_set():
            path = f"/{choice.randrange(6)}"
            asked_in = phase[0]
            number = ask(port, "uncached.example", client, path)[1]
            heard.append((asked_in, phase[0], client, path, number))

    with cache(stage, numbered, name) as port:
        threads = [
            threading.Thread(target=keep_asking, args=(client, seed))
            for seed, client in enumerate([FRANCE, GERMANY] * 2)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.6)
        for text in ("2090-01-01", "2025-05-01"):  # begins; ends, because its end is brought forward
            phase[0] += 1  # odd: something is changing
            measure(stage, until=text)
            phase[0] += 1
            time.sleep(0.6)
        ended.set()
        for thread in threads:
            thread.join(20)
    settled = {
        part: [(client, number) for began, answered, client, _, number in heard if began == answered == part]
        for part in (0, 2, 4)
    }
    before, during, after = ({number for _, number in settled[part]} for part in (0, 2, 4))
    inside = [number for client, number in settled[2] if client == FRANCE]
    outside = {number for client, number in settled[2] if client == GERMANY}
    assert all(len(settled[part]) > 40 for part in settled), {part: len(of) for part, of in settled.items()}
    assert len(outside) <= 2 * 6, "outside, the cache is hot: each client fetched a path once at most"
    assert len(inside) == len(set(inside)), "inside, nothing comes from a cache"
    everywhere = collections.Counter(number for *_, number in heard)
    assert all(everywhere[number] == 1 for number in inside), "what was fetched for inside is nobody else's"
    assert not during & before, "what was stored before the measure is handed to nobody during it"
    assert not during & after, "what was stored during the measure is handed to nobody after it"
    assert len(after) <= 4 * 6, "afterwards the cache is hot for everybody"
