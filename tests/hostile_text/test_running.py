"""No text of an order, a file or a client breaks what an instance says while it runs: pages, answers, logs, the trail."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from free_ports import free_port
from hostile import ALLOWED, PAYLOADS, check_lines, check_page, write_allowed, write_broken
from prometheus_page import samples

from cdnblock.cli.root import root

ROOT = Path(__file__).parents[2]
ASKED = [("text/html", check_page), ("application/json", check_lines), ("text/plain", None)]


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    return write_allowed(tmp_path_factory.mktemp("hostile") / "orders")


@pytest.fixture(scope="module")
def serving(orders, tmp_path_factory):
    """`cdnblock serve`, with a trail and a state folder, before a folder that was broken while it ran; what it logs."""
    scratch = tmp_path_factory.mktemp("serving")
    mine = scratch / "orders"
    mine.mkdir()
    for file in orders.iterdir():
        (mine / file.name).write_bytes(file.read_bytes())
    port, dashboard = free_port(), free_port()
    (scratch / "dashboard").write_text(str(dashboard))
    log = (scratch / "log").open("wb")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "cdnblock", "serve", "--orders", mine, "--listen", f"127.0.0.1:{port}",
            "--trusted-caller", "127.0.0.1", "--state", scratch / "state", "--audit", scratch / "audit",
            "--dashboard", f"127.0.0.1:{dashboard}", "--contact", "Legal: <script>alert(1)</script>", "--operator-url", 'https://edge.example/"><script>',
        ],
        stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        until(lambda: b'"ready": true' in fetched(port, "/readyz")[1])
        write_broken(mine)
        yield port, scratch
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def until(true):
    event = threading.Event()
    for _ in range(1_200):
        with contextlib.suppress(OSError):
            if true():
                return
        event.wait(0.05)
    raise AssertionError(true)


def fetched(port, path, **fields):
    """Send a request as it is written, and return head and body: no client is in the way of what is hostile."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass"))
        answer = b"".join(iter(lambda: sock.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(("accept", "check"), ASKED, ids=[accept for accept, _ in ASKED])
def test_notices_of_hostile_orders(serving, accept, check):
    """The 451 in HTML, JSON and text: nothing of an order is markup, a field or a line of its own."""
    port, _ = serving
    for number in range(len(ALLOWED)):
        asked = {"X_Original_Method": "GET", "X_Original_URI": "/", "X_Forwarded_Method": "GET", "X_Forwarded_Uri": "/"}
        head, body = fetched(
            port,
            "/traefik",
            Accept=accept,
            X_Forwarded_Host=f"h{number}.example",
            X_Forwarded_For="90.84.144.1",
            **asked,
        )
        assert b" 451 " in head.splitlines()[0]
        assert b"FAKE" not in head
        assert b"Set-Cookie" not in head
        text = body.decode()
        (check or check_lines)(text, accept)
        if accept == "text/html":
            assert "<script" not in text
            assert "javascript:" not in "".join(re.findall(r'href="[^"]*"', text))


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
def test_hostile_clients(serving, text):
    """Hosts, addresses, countries, languages and paths that a proxy passes on: an answer that is ours, and one answer."""
    port, _ = serving
    line = re.sub(r"[\r\n\x00]", " ", text)
    head, body = fetched(
        port, "/traefik", X_Forwarded_Host=line, X_Forwarded_For=line, X_Forwarded_Method="GET", X_Forwarded_Uri=f"/{line}",
        Accept=line, Accept_Language=line, CF_IPCountry=line, X_Geo_Country=line, User_Agent=line,
    )  # fmt: skip
    assert re.match(rb"HTTP/1.[01] (200|400|451|500|503) ", head)
    check_lines(head.decode("latin-1").replace("\r\n", "\n"))
    check_page(body.decode("latin-1"))
    assert b"<script" not in body


def test_status_and_reload(serving):
    """What an instance says of a folder full of broken files, to people and to scripts."""
    _, scratch = serving
    run = CliRunner()
    done = run.invoke(root, ["reload", "--state", str(scratch / "state")])
    assert done.exit_code == 1
    check_lines(done.output)
    for options in ([], ["--json"]):
        done = run.invoke(root, ["status", "--state", str(scratch / "state"), *options])
        assert done.exit_code == 1
        check_lines(done.output)
    assert any("\x1b[31m" in file["file"] for file in json.loads(done.output)["files"])
    assert r"\x1b[31mred" in run.invoke(root, ["status", "--state", str(scratch / "state")]).output


def test_ready_and_metrics(serving):
    """The page for orchestrators is JSON without what cannot be seen; the one for Prometheus holds no text at all."""
    port, _ = serving
    _, body = fetched(port, "/readyz")
    check_lines(body.decode())
    assert json.loads(body)["problems"]
    _, body = fetched(port, "/metrics")
    check_lines(body.decode())
    samples(body.decode())
    assert b"script" not in body
    assert b"FAKE" not in body


def test_the_trail_and_what_shows_it(serving, tmp_path):
    """Records are ASCII; what is shown and exported of them steers nothing, and verifies."""
    port, scratch = serving
    for number in range(len(ALLOWED)):
        fetched(port, "/traefik", X_Forwarded_Host=f"h{number}.example", X_Forwarded_For="90.84.144.1",
                X_Forwarded_Method="GET", X_Forwarded_Uri="/")  # fmt: skip
    run = CliRunner()

    def shown_of_trail():
        done = run.invoke(root, ["audit", "show", str(scratch / "audit")])
        check_lines(done.output)
        return "hostile-html" in done.output

    until(shown_of_trail)
    for segment in (scratch / "audit").glob("*.jsonl"):
        assert segment.read_bytes().isascii()
    for arguments in (
        ["audit", "verify", scratch / "audit"],
        ["audit", "export", scratch / "audit", "--order", "hostile-newline", "--out", tmp_path / "evidence"],
        *(
            [
                "report",
                "--order",
                "hostile-html",
                "--orders",
                scratch / "orders",
                "--trail",
                scratch / "audit",
                "--format",
                layout,
            ]
            for layout in ("html", "markdown", "json")
        ),
    ):
        done = run.invoke(root, list(map(str, arguments)))
        check_lines(done.output, str(arguments))
        assert done.exit_code in (0, 1), done.output
        if "html" in arguments:
            check_page(done.stdout, svg=True)


PAGES = ["/", "/orders", "/try", "/decisions", "/trail", *(f"/orders/hostile-{name}" for name in ALLOWED)]


@pytest.mark.parametrize("path", PAGES)
def test_the_dashboard(serving, path):
    """Each page in both languages: no markup of an order's, no character that reorders, no link that runs."""
    _, scratch = serving
    for language in ("en", "fr"):
        head, body = fetched(int((scratch / "dashboard").read_text()), path, Accept_Language=language)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b"Content-Security-Policy" in head
        check_page(body.decode(), path, svg=True)


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
def test_what_is_asked_of_the_dashboard(serving, text):
    """Hosts, addresses, ids, filters and languages in an address come back as text, and in no field."""
    _, scratch = serving
    port, asked = int((scratch / "dashboard").read_text()), quote(text, safe="", errors="surrogatepass")
    line = re.sub(r"[\x00-\x1f\x7f]", " ", text)
    for path in (
        f"/try?host={asked}&client={asked}&country={asked}&at={asked}", f"/orders/{asked}", f"/{asked}",
        f"/orders?state={asked}&q={asked}&order={asked}", f"/decisions?order={asked}&host={asked}&after={asked}",
        f"/trail?order={asked}&kind={asked}&from={asked}", f"/orders/{asked}/report.html", f"/?language={asked}&theme={asked}",
    ):  # fmt: skip
        head, body = fetched(port, path, Accept_Language=line, Cookie=f"language={line}; theme={line}", Referer=line)
        assert re.match(rb"HTTP/1.[01] [2-4][0-9][0-9] ", head), (path, head)
        check_lines(head.decode("latin-1").replace("\r\n", "\n"), path)
        check_page(body.decode(), path, svg=True)


def test_what_it_logs(serving):
    """Problems of files, refusals and complaints: one record, one line, whatever their texts hold."""
    port, scratch = serving
    fetched(port, "/traefik", X_Forwarded_Host="\x1b[31m")
    until(lambda: rb"\x1b[31m" in (scratch / "log").read_bytes())
    text = (scratch / "log").read_text(encoding="utf-8")
    check_lines(text)
    for line in text.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ |cdnblock: |  ", line), line


COMMANDS = {
    # Commands that follow a folder: how they are started, and what they say when they have begun.
    "dns": (["--listen", "127.0.0.1:{port}", "--upstream", "127.0.0.1:9", "--workers", "2"], "cdnblock: DNS on"),
    "rpz-primary": (
        ["--listen", "127.0.0.1:{port}", "--clients", "fr=FR", "--partial", "--state", "{state}"],
        "names) on",
    ),
    "mitmproxy": (["--mode", "regular@{port}"], "listening"),
    "apply": (["nginx", "--out", "{state}", "--no-probe", "--partial"], "not in step"),
}


def test_what_commands_log_while_they_run(orders, tmp_path):
    """A folder that fills with broken files is complained about by each command that follows it, in lines of its own."""
    pytest.importorskip("mitmproxy", reason="mitmproxy is not installed (extra `mitmproxy`)")
    pytest.importorskip("dns", reason="dnspython is not installed (extra `dns`)")
    folder = tmp_path / "orders"
    folder.mkdir()
    for file in orders.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with contextlib.ExitStack() as stack:
        logs = {}
        for command, (options, _) in COMMANDS.items():
            logs[command] = tmp_path / f"{command}.log"
            filled = [option.format(port=free_port(), state=tmp_path / command) for option in options]
            process = subprocess.Popen(
                [sys.executable, "-m", "cdnblock", command, "--orders", folder, *filled],
                stdout=stack.enter_context(logs[command].open("wb")), stderr=subprocess.STDOUT,
                cwd=ROOT, env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        for command, (_, begun) in COMMANDS.items():
            until(lambda command=command, begun=begun: begun.encode() in logs[command].read_bytes())
        write_broken(folder)
        for command in COMMANDS:
            until(lambda command=command: rb"\x1b[31mred" in logs[command].read_bytes())
    for command, log in logs.items():
        check_lines(log.read_text(encoding="utf-8"), command)
