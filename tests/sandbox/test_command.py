"""`cdnblock sandbox` as people and machines run it: a process, real sockets, an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from order_texts import order_text

pytest.importorskip("mitmproxy", reason="the sandbox is made of mitmproxy and dnspython: cdnblock[all]")
pytest.importorskip("dns", reason="the sandbox is made of mitmproxy and dnspython: cdnblock[all]")

ROOT = Path(__file__).parents[2]
TURNS = {"1 s before it starts", "as it starts", "while it runs", "1 s before it ends", "as it ends"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cdnblock", "sandbox", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """One small order, so that the rehearsal is short."""
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "all.yaml").write_text(order_text(until="2030-01-01"), encoding="utf-8")
    return folder


def test_every_probe_of_the_examples_gets_what_its_order_says():
    """`--once --json` exits 0 in under 30 seconds, having probed every order from every place before, during and after."""
    done = run("--once", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["verdict"], told["failed"]) == (0, "passed", [])
    assert told["seconds"] < 30
    assert told["skipped"] == []
    assert {(probe["country"]) for probe in told["probes"]} == {"FR", "RE", "PF", "DE", None}
    assert {probe["kind"] for probe in told["probes"]} >= {"named", "sub-host", "sibling", "look-alike"}
    assert {probe["channel"] for probe in told["probes"]} == {"dns", "http", "edge", "store", "stream", "socket"}
    by_order: dict[str, set[str]] = {}
    for probe in told["probes"]:
        by_order.setdefault(probe["order"], set()).add(probe["turn"])
    assert len(by_order) == len(list((ROOT / "examples" / "orders").glob("*.yaml")))
    assert all(turns >= TURNS for turns in by_order.values())
    expected = {probe["expected"] for probe in told["probes"]}
    assert expected == {
        "answered", "refused+16", "200", "451", "closed", "cached", "uncached", "kept", "purged", "cut", "goes on",
    } - ({"kept"} - expected)  # fmt: skip


@pytest.mark.parametrize(
    ("measure", "named", "wrong"),
    [
        ("dns", "motogp: dns motogpstream.me (named) from metropolitan France as it starts", "got 'answered'"),
        ("cdn", "motogp: edge motogpstream.me (named) from metropolitan France as it starts", "got 'cached'"),
        ("proxy", "motogp: http motogpstream.me (named) from metropolitan France as it starts", "got '200'"),
    ],
)
def test_a_measure_that_is_broken_is_noticed(orders, measure, named, wrong):
    """Exit 1, with the probe named, when one of the three really does not work."""
    if measure == "cdn":
        (orders / "all.yaml").write_text(order_text(until="2030-01-01", measures="{cdn: disable}"), encoding="utf-8")
    done = run("--orders", str(orders), "--once", "--break", measure)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(named in line and wrong in line for line in failed), failed
    others = {"dns": " dns ", "cdn": (" edge ", " store "), "proxy": (" http ", " edge ", " stream ", " socket ")}
    assert all(any(channel in line for channel in others[measure]) for line in failed), failed


def test_an_invalid_order_ends_it_with_the_place(tmp_path):
    """Nothing is started; exit 1 and file:line."""
    (tmp_path / "bad.yaml").write_text(order_text(territory="[XX]"), encoding="utf-8")
    done = run("--orders", str(tmp_path), "--once")
    assert done.returncode == 1
    assert re.search(r"bad\.yaml:9:\d+: ", done.stderr)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_port_that_is_taken_is_said(orders, taken):
    """Another program's answers are never taken for ours: exit 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = run("--orders", str(orders), "--once", "--port", str(other.getsockname()[1] - taken))
    assert done.returncode == 1
    assert "address already in use" in done.stderr.lower()


class Running:
    """A sandbox that stays up."""

    def __init__(self, temporary: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            command(*arguments),
            env=environment() | {"TMPDIR": str(temporary)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []

    def wait_for(self, pattern: str, seconds: float = 40) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            line = self.process.stdout.readline()
            self.said.append(line)
            found = re.search(pattern, line)
            if found:
                return found
            assert line, "".join(self.said)
        raise AssertionError("".join(self.said))


@pytest.fixture
def running(orders, tmp_path):
    started: list[Running] = []
    (tmp_path / "temporary").mkdir()

    def start(*arguments: str) -> Running:
        started.append(Running(tmp_path / "temporary", "--orders", str(orders), *arguments))
        return started[0]

    yield start
    for sandbox in started:
        sandbox.process.kill()
        sandbox.process.wait()
        sandbox.process.stdout.close()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def until(holds, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for orphans in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(running, tmp_path, number):
    """However it ends: no process, no open port, no file."""
    sandbox = running()
    port = int(sandbox.wait_for(r"curl .*http://127\.0\.0\.1:(\d+)/$")[1])
    sandbox.wait_for("Ctrl-C ends it")
    fronts = children(sandbox.process.pid)
    assert fronts
    assert accepts(port)
    sandbox.process.send_signal(number)
    assert sandbox.process.wait(15) == (-signal.SIGKILL if number is signal.SIGKILL else 0)
    assert until(lambda: all(is_gone(pid) for pid in fronts), 10)
    assert until(lambda: not accepts(port), 10)
    assert until(lambda: not list((tmp_path / "temporary").glob("cdnblock-*")), 10)


def test_edits_are_shown_as_they_take_effect(running, orders):
    """A new name, a mistake with its place, and its mending: each is a line, without a restart."""
    sandbox = running()
    edge = sandbox.wait_for(r"curl .*(http://127\.0\.0\.1:\d+/) +# the edge")[1]
    sandbox.wait_for("Ctrl-C ends it")
    names = "[motogpstream.me, added.example]"
    (orders / "all.yaml").write_text(order_text(until="2030-01-01", names=names), encoding="utf-8")
    sandbox.wait_for(r"all\.yaml: accepted, \+added\.example", 10)
    asked = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
    asked += ["-H", "Host: added.example", "-H", "X-Forwarded-For: 90.84.144.1", edge]
    assert subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout == "451"
    (orders / "all.yaml").write_text(order_text(until="2030-01-01", names="[http://x.example/a]"), encoding="utf-8")
    sandbox.wait_for(r"all\.yaml:11:\d+: names\.0: ", 10)
    sandbox.wait_for(r"all\.yaml: invalid; its last good version stays enforced", 10)
    (orders / "all.yaml").write_text(order_text(until="2030-01-01", names=names), encoding="utf-8")
    sandbox.wait_for("all.yaml: nothing is wrong any more", 10)
    (orders / "all.yaml").unlink()
    sandbox.wait_for(r"all\.yaml: would release 2 names in force; held back", 10)
