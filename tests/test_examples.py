"""The examples run, and say what they are there to show."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from free_ports import free_port

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

PRINTED = {
    "01_decide.py": """\
www.motogpstream.me from FR on 2025-05-01: dns refuse, cdn disable, proxy terminate
    Enforced (dns: refuse, cdn: disable, proxy: terminate) for a client in FR: order tjp-2025-03-28-motogp of Tribunal judiciaire de Paris names motogpstream.me (…/tjp-2025-03-28-motogp.yaml:…), until 2025-11-17T00:00:00+01:00.
www.motogpstream.me from DE on 2025-05-01: let through
    Let through for a client in DE: order tjp-2025-03-28-motogp of Tribunal judiciaire de Paris names motogpstream.me (…), but the client is outside its territory.
www.motogpstream.me from FR on 2025-11-17: let through
    Let through for a client in FR: order tjp-2025-03-28-motogp of Tribunal judiciaire de Paris names motogpstream.me (…), but it has ended, at 2025-11-17T00:00:00+01:00.
mymotogpstream.me from FR on 2025-05-01: let through
    Let through: no order names this host.
ddl-music.to from DE on 2024-05-01: cdn disable
    Enforced (cdn: disable) for a client in DE: order olgk-2023-11-03-ddl-music of Oberlandesgericht Köln names ddl-music.to (…), until 2024-11-04T00:00:00+01:00.
""",
    "02_enforcer.py": """\
client: 90.84.144.1
before: let through
after, in France: dns refuse, cdn disable, proxy terminate
after, in Germany: let through
with a broken file: dns refuse, cdn disable, proxy terminate
tjp-2025-03-28-motogp.yaml, line …, until: …
""",
    "03_order_in_python.py": """\
revision: sha256:…
changes next: 2025-01-12 23:00:00+00:00
www.live-football.example: {'dns': 'refuse', 'proxy': 'terminate'}
cdn.mirror.example: {'dns': 'refuse', 'proxy': 'terminate'}
www.cdn.mirror.example: let through
refused: …
""",
}
SERVERS = {
    "04_mitmproxy.sh", "05_aiohttp_middleware.py", "06_aiohttp_app.py", "07_asgi_app.py", "08_dns_front.py",
}  # fmt: skip
FRENCH, GERMAN = "90.84.144.1", "80.187.0.1"
STAGED = "2025-05-01T12:00:00+00:00"


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CDNBLOCK_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


@contextlib.contextmanager
def running(arguments, port, **variables):
    """Run a server, wait until it listens on its port, and end it."""
    process = subprocess.Popen(
        arguments, env={**environment(), **variables}, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, process.stdout.read().decode()
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)
        process.stdout.close()


def get(port, host, client):
    headers = {"Host": host, "X-Forwarded-For": client}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
            return response.status, response.headers.get_all("Cache-Control"), response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get_all("Cache-Control"), error.read().decode()


class Origin(BaseHTTPRequestHandler):
    """A site that may be cached."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=600")
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"The site.\n")

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def origin():
    with ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def staged_clock(tmp_path):
    """A clock that stands in the season of the example orders, as mitmproxy's option wants it."""
    from datetime import datetime

    from cdnblock.sources import staging_clock

    staging_clock.stop_at(tmp_path / "clock", datetime.fromisoformat(STAGED).timestamp())
    return tmp_path / "clock"


@pytest.mark.parametrize("name", PRINTED)
def test_example_prints(name):
    """Each example that ends prints exactly this; `…` stands for paths, digests and what a message says in full."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], env=environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pattern = ".*".join(map(re.escape, PRINTED[name].split("…")))
    assert re.fullmatch(pattern, done.stdout), done.stdout


def test_mitmproxy_example_refuses_in_http_and_dns(origin, staged_clock):
    """The command line of the example refuses French clients and lets German ones reach the origin."""
    import dns.message
    import dns.query

    http_port, dns_port, resolver = free_port(), free_port(), free_port()
    with running(
        [str(EXAMPLES / "04_mitmproxy.sh"), "--set", f"cdnblock_clock={staged_clock}"], http_port,
        ORIGIN=origin, RESOLVER=f"127.0.0.1:{resolver}", HTTP_PORT=str(http_port), DNS_PORT=str(dns_port),
        PATH=f"{command_folder(staged_clock.parent)}:{os.environ['PATH']}",
    ):  # fmt: skip
        status, cache, text = get(http_port, "www.motogpstream.me", FRENCH)
        assert (status, cache) == (451, ["no-store"])
        assert "Tribunal judiciaire de Paris" in text
        assert "https://edge.example/blocked" in text
        assert get(http_port, "www.motogpstream.me", GERMAN) == (200, ["max-age=600"], "The site.\n")
        subnet = dns.edns.ECSOption("90.84.144.0", 24)
        query = dns.message.make_query("www.motogpstream.me", "HTTPS", use_edns=0, options=[subnet])
        answer = dns.query.udp(query, "127.0.0.1", port=dns_port, timeout=20)
        assert answer.rcode() == dns.rcode.REFUSED
        assert [option.code for option in answer.options if isinstance(option, dns.edns.EDEOption)] == [16]


ASGI = ["--port", "{port}", "--app-dir", str(EXAMPLES), "07_asgi_app:app"]
HTTP = {
    "05_aiohttp_middleware.py": [str(EXAMPLES / "05_aiohttp_middleware.py"), "{port}"],
    "06_aiohttp_app.py": [str(EXAMPLES / "06_aiohttp_app.py"), "{port}"],
    "07_asgi_app.py by uvicorn": ["-m", "uvicorn", "--no-proxy-headers", *ASGI],
    "07_asgi_app.py by granian": [
        "-m",
        "granian",
        "--interface",
        "asgi",
        "--working-dir",
        str(EXAMPLES),
        "--port",
        "{port}",
        "07_asgi_app:app",
    ],
}


@pytest.mark.parametrize("name", HTTP)
def test_http_examples_refuse_and_leave_others_alone(name):
    """The middlewares answer 451 where measure proxy applies, and leave other hosts and clients alone."""
    port = free_port()
    if " by " in name:
        pytest.importorskip(name.rpartition(" ")[2], reason="of the extra `test`")
    with running([sys.executable, *(part.format(port=port) for part in HTTP[name])], port):
        status, cache, text = get(port, "www.motogpstream.me", FRENCH)
        assert (status, cache) == (451, ["no-store"])
        assert "Code du sport" in text
        assert get(port, "www.motogpstream.me", GERMAN) == (200, ["max-age=600"], "The site.\n")
        assert get(port, "other.example", FRENCH) == (200, ["max-age=600"], "The site.\n")
        assert get(port, "not a host", FRENCH)[0] == 400


def test_dns_front_example_refuses_and_forwards():
    """A French client's query is refused with the contact; a German one's, and other names, reach the resolver."""
    import dns.message
    import dns.query

    port = free_port()
    with socket.socket(type=socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{resolver.getsockname()[1]}"

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    data, client = resolver.recvfrom(4096)
                    if not data:
                        return
                    resolver.sendto(dns.message.make_response(dns.message.from_wire(data)).to_wire(), client)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with running([sys.executable, str(EXAMPLES / "08_dns_front.py"), f"127.0.0.1:{port}", address], port):
            said = {}
            for subnet in ("90.84.144.0", "80.187.0.0"):
                option = dns.edns.ECSOption(subnet, 24)
                query = dns.message.make_query("www.motogpstream.me", "HTTPS", use_edns=0, options=[option])
                said[subnet] = dns.query.udp(query, "127.0.0.1", port=port, timeout=20)
            assert said["90.84.144.0"].rcode() == dns.rcode.REFUSED
            [error] = [option for option in said["90.84.144.0"].options if isinstance(option, dns.edns.EDEOption)]
            assert (error.code, error.text) == (16, "order tjp-2025-03-28-motogp; contact legal@resolver.example")
            assert said["80.187.0.0"].rcode() == dns.rcode.NOERROR
        with socket.socket(type=socket.SOCK_DGRAM) as end:
            end.sendto(b"", resolver.getsockname())
        thread.join(5)


def test_every_example_is_run():
    """No example is left out of these tests, and the numbers leave no gap."""
    found = sorted(path.name for path in EXAMPLES.iterdir() if path.is_file())
    assert found == sorted({*PRINTED, *SERVERS})
    assert [name[:2] for name in found] == [f"{number:02}" for number in range(1, len(found) + 1)]


def test_examples_are_well_typed():
    """Each example passes mypy --strict, as its readers' code should."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, sorted(EXAMPLES.glob("*.py")))],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def command_folder(folder):
    """Return a folder in which `cdnblock` is this checkout's command."""
    command = folder / "bin" / "cdnblock"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cdnblock "$@"\n')
    command.chmod(0o755)
    return command.parent
