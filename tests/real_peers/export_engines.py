"""What the tests of exported configuration share: exporting for a stage, and programs that are started and stopped."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from free_ports import free_ports

from cdnblock import exporters
from cdnblock.cli.export import put
from cdnblock.measures.proxy_termination import notice
from cdnblock.orders.model import Measure
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import load_orders
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import open_stage, put_orders

ROOT = Path(__file__).parent.parent.parent
START = 60.0  # seconds that a slow machine may take to start a server


def needs(program, package):
    """Skip where a program is not installed."""
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is not installed (apt-get install {package})"
    )


@functools.lru_cache(maxsize=2)
def _rules(folder, _changed):
    return load_orders(folder)


def rules_of(stage):
    """Return the rules of the orders as they are now, read once for each state of the folder."""
    return _rules(stage.orders, stage.orders.stat().st_mtime_ns)


def export_for(stage, target, folder, *, partial=False, **settings):
    """Export the stage's orders as they are now; return the names of the files that changed.

    With `partial`, what the target cannot say is left out or written as it can say it.
    """
    done = exporters.export(
        exporters.load(target),
        rules_of(stage),
        open_geo_table(stage.geo),
        datetime.now(UTC),
        exporters.Options(
            folder=str(folder),
            operator_url=stage.operator_url,
            trusted_proxies=stage.trusted_proxies,
            settings=settings,
        ),
        partial=partial,
    )
    assert partial or done.missing == ()
    return put(folder, done.files)


def names_without_cache(stage):
    """Return the names whose stored answers have to go when they change."""
    return rules_of(stage).covered_names(Measure.CDN, datetime.now(UTC))


@contextlib.contextmanager
def at_each_turn(stage, act):
    """Act whenever an order starts, ends, or opens or closes a window: servers know no calendar."""
    ended = threading.Event()

    def watch():
        seen, read, turn = datetime.now(UTC), None, None
        while not ended.wait(0.1):
            if read != (read := stage.orders.stat().st_mtime_ns):
                turn = rules_of(stage).next_change(seen)
            while turn is not None and turn <= datetime.now(UTC):
                act()
                seen, turn = turn, rules_of(stage).next_change(turn)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextlib.contextmanager
def running(command, port, log, env=None):
    """Run a server until the end of the block, once it listens on a port; what it says goes to a file."""
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or listens(port), lambda: log.read_text(errors="replace"))
            assert process.poll() is None, log.read_text(errors="replace")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def listens(port):
    """Tell whether somebody takes connections on a port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_until(holds, complaint=lambda: ""):
    """Wait until something holds, for as long as a slow machine may take."""
    deadline = time.monotonic() + START
    while not holds():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.02)


@contextlib.contextmanager
def started_example(name, folder):
    """Start an example as it stands, but for its ports, with a site behind it; yield where it listens."""
    (edge,) = free_ports(1)
    shutil.copytree(ROOT / "examples" / name, folder / name)
    shutil.copytree(ROOT / "examples" / "orders", folder / "orders")
    command = folder / "bin" / "cdnblock"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec "{sys.executable}" -m cdnblock "$@"\n')
    command.chmod(0o755)
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        for path in (folder / name).iterdir():
            text = path.read_text()
            for before in ("127.0.0.1:", "port_value: ", "http://:", "parent "):
                text = text.replace(f"{before}8080", f"{before}{edge}")
                text = text.replace(f"{before}8000", f"{before}{site.server_port}")
            if os.geteuid() == 0:  # otherwise workers run as somebody who may read nothing here
                text = (
                    f"user root;\n{text}"
                    if path.name == "nginx.conf"
                    else text.replace("varnishd ", "varnishd -j none ")
                )
            path.write_text(text)
        environment = {
            **os.environ,
            "PATH": f"{command.parent}:{Path(sys.executable).parent}:/usr/sbin:{os.environ['PATH']}",
        }
        with running([str(folder / name / "start.sh")], edge, folder / "log", env=environment):
            yield edge
        site.shutdown()


class Site(BaseHTTPRequestHandler):
    """A site that says whom it was asked for."""

    def do_GET(self):
        body = f"site {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def shakes_hands(port, name):
    """Tell whether TLS comes about with a server name."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        try:
            with context.wrap_socket(connection, server_hostname=name):
                return True
        except OSError:
            return False


def asked(port, host, client, path="/", **headers):
    """Return status, headers in lower case and body of an answer to a client at an address."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", path, headers={"Host": host, "X-Forwarded-For": client} | headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()


EMPTY_LABELS = [
    ".a.example",
    "a.example..",
    "x..a.example",
    ".",
    "..",
    "a.example..:80",
    ".a.example.",
    ".other.example",
]
"""Hosts that are none."""

HOSTILE = """A "quoted" $host ${x} \\\\ {brace} %[src] %{x} ; # % | |2| <b>&amp; ’é' 'single' *"""
"""What a court may write, and languages take for their own."""

COMBINATIONS = [
    {"Accept": accept, "Accept-Language": language}
    for accept in (
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "*/*",
        "application/json;q=0.5, text/*;q=0.1",
        "image/png",
    )
    for language in ("fr-FR,fr;q=0.9,en;q=0.8", "de,en;q=0.5,fr;q=0.3", "*")
]


@contextlib.contextmanager
def stage_with(folder, **orders):
    """Open a stage with these orders alone."""
    with open_stage(folder, ()) as stage:
        put_orders(stage.orders, orders)
        yield stage


def notices(stage, port, host, client):
    """Yield what is answered beside what the library answers, for many wishes, each as (status, headers, text)."""
    decision = rules_of(stage).decide(host, country=open_geo_table(stage.geo).locate(client), at=datetime.now(UTC))
    for wishes in COMBINATIONS:
        mine = notice(
            decision,
            accept=wishes["Accept"],
            accept_language=wishes["Accept-Language"],
            operator_url=stage.operator_url,
        )
        status, headers, text = asked(port, host, client, **wishes)
        added = {"date", "server", "connection", "content-length", "transfer-encoding"}
        yield (
            (status, {name: value for name, value in headers.items() if name not in added}, _unwrapped(text)),
            (
                mine.status,
                {name.lower(): value for name, value in mine.headers if name.lower() not in added},
                _unwrapped(mine.body.decode()),
            ),
        )


def _unwrapped(text):
    """Return a text without its line ends: plain text is wrapped before the engine puts the name in."""
    return " ".join(text.split())


QUESTIONS = [
    b"GET /marked HTTP/1.1\r\nHost: %(host)s\r\n%(rest)s\r\n",
    b"GET /cached HTTP/1.1\r\nHost: %(host)s\r\n%(rest)s\r\n",
    b"GET /cached HTTP/1.1\r\nHost: %(host)s:80\r\nAccept-Encoding: gzip\r\n%(rest)s\r\n",
    b"HEAD /marked HTTP/1.1\r\nHost: WWW.%(host)s\r\n%(rest)s\r\n",
    b"POST / HTTP/1.1\r\nHost: %(host)s\r\nContent-Length: 3\r\n%(rest)s\r\nabc",
    b"POST / HTTP/1.1\r\nHost: %(host)s\r\nTransfer-Encoding: chunked\r\n%(rest)s\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /marked HTTP/1.0\r\nHost: %(host)s\r\n%(rest)s\r\n",
    b"GET / HTTP/1.1\r\nhost: %(host)s.\r\nCookie: a=1\r\nCookie: b=2\r\nX-Twice: 1\r\nX-Twice: 2\r\n%(rest)s\r\n",
    b"GET http://%(host)s/?a=%%20 HTTP/1.1\r\nHost: other.example\r\n%(rest)s\r\n",
    b'GET /marked HTTP/1.1\r\nHost: %(host)s\r\nIf-None-Match: "v1"\r\n%(rest)s\r\n',
    b"GET / HTTP/1.1\r\nHost: %(host)s\r\nUpgrade: h2c\r\nConnection: upgrade\r\n%(rest)s\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: %(host)s\r\n%(rest)s\r\n",
    b"GET / HTTP/1.1\r\nHost: 203.0.113.9\r\n%(rest)s\r\n",
    b"GET / HTTP/1.1\r\n%(rest)s\r\n",
    b"GET /missing HTTP/1.1\r\nHost: %(host)s\r\n%(rest)s\r\n",
]
"""Requests for a host, with more header fields, that an engine with our configuration is to treat as it does without."""


def texts_of(questions):
    """Yield each request for clients and hosts that no order of those tests is about, and once more, for what is stored."""
    for number, question in enumerate(questions):
        for host, client in ((b"other", b"203.0.113.7"), (b"a", b"198.51.100.7"), (b"free.b", b"203.0.113.7")):
            for again in (b"", b"again"):
                rest = b"X-Forwarded-For: %s\r\nX-Contract-Trace: %d%s\r\n" % (client, number, again)
                yield question % {b"host": host + b".example", b"rest": rest + b"Connection: close\r\n"}


def said_without_clocks(port, text):
    """Return all octets of an answer, but for its date, the site's counter and the port."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(text)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return re.sub(rb"(?im)^(date|x-answer):.*$", rb"\1", answer).replace(b":%d" % port, b":port")


VOLATILE = (b"date: ", b"x-answer: ", b"x-envoy-upstream-service-time: ")


def heads(port, host, path):
    """Return the octets of the heads of answers to GET and HEAD, without what no two answers have alike."""
    found = []
    for method in ("GET", "HEAD"):
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            fields = f"Host: {host}\r\nX-Forwarded-For: {PLACES['france']}\r\nConnection: close\r\n"
            connection.sendall(f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode())
            answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
        found.append([line for line in lines if not line.lower().startswith(VOLATILE)])
    return found


@contextlib.contextmanager
def busy(port, host):
    """Ask for a host over and over on one connection; yield the statuses, None where the connection was lost."""
    statuses, ended = [], threading.Event()

    def ask():
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while not ended.is_set():
            try:
                client.request("GET", "/", headers={"Host": host})
                answer = client.getresponse()
                answer.read()
                statuses.append(answer.status if client.sock else None)
            except (OSError, http.client.HTTPException):
                statuses.append(None)
                client.close()
        client.close()

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield statuses
    finally:
        ended.set()
        asker.join()


_LABELS = ("a", "b", "c", "xn--bcher-kva", "long" + "x" * 50, "1", "0", "a-b")


def tangled_orders(seed, *variants):
    """Return orders whose names stand above, below and beside each other; each of measure proxy has one of the variants."""
    dice = random.Random(seed)
    orders = {}
    for number in range(20):
        names = [".".join([*dice.choices(_LABELS, k=dice.randint(1, 4)), "example"]) for _ in range(12)]
        orders[f"tangled-{number}"] = {
            "names": [{"name": name, "subdomains": False} if dice.random() < 0.3 else name for name in names],
            "territory": dice.choice([["FR"], ["FR", "RE"], ["RE", "GP"], "world", ["DE"]]),
            "measures": {"proxy": dice.choice(variants)} | ({"cdn": "disable"} if dice.random() < 0.3 else {}),
            "unknown_location": dice.choice(["allow", "enforce"]),
        } | ({"lifted": [{"names": [names[0]], "at": "2025-05-01T12:00"}]} if dice.random() < 0.4 else {})
    return orders


def decided_otherwise(stage, port, seed, count):
    """Yield what a server does otherwise than the library decides, for hosts at, around and below the orders' names."""
    dice, rules, table = random.Random(seed), rules_of(stage), open_geo_table(stage.geo)
    names = sorted(name for name, _ in rules.covered_names(Measure.PROXY, datetime.now(UTC)))
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(count):
        name = dice.choice(names)
        host = dice.choice([name, f"{dice.choice(_LABELS)}.{name}", f"x.y.{name}", f"x{name}", name.partition(".")[2]])
        address = dice.choice([*PLACES.values()])
        measures = rules.decide(host, country=table.locate(address), at=datetime.now(UTC)).measures
        spelled = dice.choice([host, host.upper()]) + dice.choice(["", ".", ":80", ".:8080"])
        try:
            client.request("GET", "/", headers={"Host": spelled, "X-Forwarded-For": address})
            answer = client.getresponse()
            answer.read()
            found = {451: "terminate", 200: None}.get(answer.status, answer.status)
        except (OSError, http.client.HTTPException):
            found = "close"
            client.close()
        if found != measures.get(Measure.PROXY):
            yield f"{spelled} from {address}: {found} in place of {dict(measures)}"
    client.close()


@contextlib.contextmanager
def with_annex(folder, count):
    """Open a stage with one order that has so many names, of two depths, in a file beside it; yield it and some of them."""
    names = [f"www.s{n}.example" if n % 10 == 0 else f"s{n}-{n * 7919 % 1000}.example" for n in range(count)]
    with stage_with(folder) as stage:
        (stage.orders / "annex.txt").write_text("\n".join(names))
        put_orders(stage.orders, {"annex": {"names_file": "annex.txt"}})
        yield stage, [*names[:20], *names[-20:]]


def wrong_about(port, names):
    """Yield which of these covered names, and of names beside them, are answered otherwise than they should be."""
    for name in names:
        for host, status in (
            (name, 451),
            (f"x.{name.upper()}.", 451),
            (f"x{name}", 200),
            (name.partition(".")[2], 200),
        ):
            if asked(port, host, PLACES["france"])[0] != status:
                yield host
        if asked(port, name, PLACES["germany"])[0] != 200:
            yield f"{name} from Germany"
