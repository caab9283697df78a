"""Upgrades through the examples of examples/decision_service: WebSockets pass, and nothing else leaves HTTP/1.1."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import socket
import sys
import threading
from pathlib import Path

import pytest
from free_ports import free_ports

from cdnblock.testing.stage import open_stage, put_orders

sys.path.insert(0, str(Path(__file__).parent))

from peers import deciding, program
from test_export_haproxy import HAProxy
from test_export_varnish import Varnish
from test_promises import PROXIES

FRANCE = "203.0.113.7"
ORDERS = {
    "refused": {"names": ["refused.example"]},
    "uncached": {"names": ["uncached.example"], "measures": {"cdn": "disable"}},
}
HANDSHAKE = (
    "Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
NO_WEBSOCKETS = {
    # none of them may reach the origin as an upgrade to anything else than a WebSocket
    "h2c": ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade, HTTP2-Settings"),
    "h2c-alone": ("Upgrade: h2c", "Connection: Upgrade"),
    "mixed-case": ("upgrade: H2C", "connection: upgrade"),
    "other": ("Upgrade: TLS/1.3", "Connection: Upgrade"),
    "list": ("Upgrade: websocket, h2c", "Connection: Upgrade"),
    "list-reversed": ("Upgrade: h2c,websocket", "Connection: Upgrade"),
    "two-lines": ("Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade"),
    "two-lines-reversed": ("Upgrade: h2c", "Upgrade: websocket", "Connection: Upgrade"),
}


class Eager(http.server.ThreadingHTTPServer):
    """An origin that changes to whatever protocol it is asked for, and echoes; it remembers what came to it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Page)
        self.seen: list[tuple[str, list[str], str | None]] = []  # (host, protocols asked for, HTTP2-Settings)


class Page(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = [word.strip().lower() for line in self.headers.get_all("Upgrade", []) for word in line.split(",")]
        self.server.seen.append((self.headers["Host"], asked, self.headers["HTTP2-Settings"]))
        if asked and "upgrade" in self.headers.get("Connection", "").lower() and "refuses" not in self.path:
            self.send_response(101)
            self.send_header("Upgrade", asked[0])
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")  # what the key in HANDSHAKE makes
            self.end_headers()
            self.close_connection = True
            while line := self.rfile.readline():
                self.wfile.write(b"echo " + line)
            return
        words = [word.strip().lower() for word in self.headers.get("Connection", "").split(",")]
        self.close_connection = "close" in words and self.path != "/refuses"  # there it reads no list, as some do
        body = f"served {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("X-Origin", "site")
        self.send_header("Cache-Control", "public, max-age=3600")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


EXPORTED = {
    # name: (how it is run with what `cdnblock export` writes for it, its program, its package)
    "export-haproxy": (HAProxy, "haproxy", "haproxy"),
    "export-varnish": (Varnish, "varnishd", "varnish"),
}


@contextlib.contextmanager
def exported(stage, name):
    """Run a server with what `cdnblock export` writes for it; yield its port."""
    server, binary, package = EXPORTED[name]
    program(binary, f"apt-get install {package}")
    running = server(stage)
    with running.run():
        yield running.port


@contextlib.contextmanager
def asking(stage, name):
    """Run a proxy and the service that it asks; yield its port."""
    run, dialect = PROXIES[name]
    (asked,) = free_ports(1)
    with deciding(stage, f"{dialect}127.0.0.1:{asked}"), run(stage, asked) as (port, _):
        yield port


@pytest.fixture(scope="module", params=[*PROXIES, *EXPORTED])
def through(request, tmp_path_factory):
    """One proxy after the other in front of the eager origin: its port, and the origin."""
    with open_stage(tmp_path_factory.mktemp("stage"), []) as stage, Eager() as origin:
        threading.Thread(target=origin.serve_forever, args=(0.05,), daemon=True).start()
        put_orders(stage.orders, ORDERS)
        before = dataclasses.replace(stage, origin=f"http://127.0.0.1:{origin.server_address[1]}")
        with (exported if request.param in EXPORTED else asking)(before, request.param) as port:
            yield port, origin
        origin.shutdown()


def say(port, host, *lines, path="/", then=b"", seconds=1.0):
    """Send a request with these lines, and `then` behind the first answer; return all that comes."""
    head = (f"GET {path} HTTP/1.1", f"Host: {host}", f"X-Forwarded-For: {FRANCE}", *lines, "", "")
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall("\r\n".join(head).encode())
        got = connection.recv(65_536)
        connection.settimeout(seconds)
        with contextlib.suppress(OSError):
            connection.sendall(then)
            while piece := connection.recv(65_536) if then else b"":
                got += piece
                if b"echo " in got:
                    break
    return got


@pytest.mark.parametrize("kind", NO_WEBSOCKETS)
def test_nothing_but_a_websocket_is_upgraded(through, kind):
    """A host that nobody blocks is no way into a protocol whose requests nobody decides about."""
    port, origin = through
    origin.seen.clear()
    answer = say(port, "innocent.example", *NO_WEBSOCKETS[kind], path=f"/{kind}")
    for host, protocols, settings in origin.seen:
        assert (host, settings) == ("innocent.example", None)
        assert protocols in ([], ["websocket"])
    first = answer.split(b"\r\n")[0].split()[1]
    switched_to = [line for line in answer.lower().split(b"\r\n") if line.startswith(b"upgrade:")]
    assert first != b"101" or switched_to == [b"upgrade: websocket"]


@pytest.mark.parametrize("host", ["innocent.example", "uncached.example"])
def test_websockets_pass(through, host):
    """A handshake reaches the origin and upgrades, with measure cdn as well, and where a page is stored under its URL."""
    port, _ = through
    for _ in range(2):
        assert b"served" in say(port, host, "Connection: close", path="/socket", then=b"\r\n")
    got = say(port, host, *HANDSHAKE, path="/socket", then=b"hello\n", seconds=5)
    assert got.startswith(b"HTTP/1.1 101 ")
    assert got.endswith(b"echo hello\n")


@pytest.mark.parametrize("path", ["/refuses", "/socket?refuses"])
@pytest.mark.parametrize(
    "handshake", [HANDSHAKE, HANDSHAKE[:1], (*HANDSHAKE[:2], "Sec-WebSocket-Version: 99")], ids=["whole", "half", "old"]
)
def test_a_refused_handshake_lets_no_second_request_through(through, handshake, path):
    """When the origin answers a handshake with a page, what comes next on that connection is decided about like all else."""
    port, origin = through
    origin.seen.clear()
    second = f"GET /secret HTTP/1.1\r\nHost: refused.example\r\nX-Forwarded-For: {FRANCE}\r\n\r\n".encode()
    got = say(port, "innocent.example", *handshake, path=path, then=second)
    assert got.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
    assert b"served refused.example" not in got
    assert "refused.example" not in [host for host, *_ in origin.seen]
