"""`--metrics` of the commands that have no HTTP of their own: what really was done, from one page, over real sockets."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from free_ports import free_port
from order_texts import order_text
from prometheus_page import samples, value

from cdnblock.adapters._dns_front.metrics import Totals
from cdnblock.engines.metrics import rows as engine_rows

ROOT = Path(__file__).parents[2]
QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00%s\x00\x00\x01\x00\x01"


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "refused.yaml").write_text(order_text(id="refused", names="[refused.example]", territory="world"))
    (folder / "dry.yaml").write_text(order_text(id="dry", names="[dry.example]", territory="world") + "mode: report\n")
    return folder


@contextlib.contextmanager
def running(*arguments):
    """Run a command with `--metrics`, and yield a function that returns the samples of its page."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cdnblock", *map(str, arguments), "--metrics", f"127.0.0.1:{port}"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    opener, event = urllib.request.build_opener(urllib.request.ProxyHandler({})), threading.Event()

    def told():
        for _ in range(400):
            with (
                contextlib.suppress(urllib.error.URLError, ConnectionError),
                opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as response,
            ):
                return samples(response.read().decode())
            assert process.poll() is None, process.stdout.read()
            event.wait(0.05)
        raise AssertionError(arguments)

    try:
        told()
        yield told
    finally:
        process.terminate()
        process.communicate(timeout=20)


def ask(port, name, patience=20):
    """Return the RCODE that a name server answers with, None where it says nothing."""
    labels = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(patience)
        sock.sendto(QUERY % labels, ("127.0.0.1", port))
        with contextlib.suppress(TimeoutError):
            return sock.recv(512)[3] & 15


def decided(found):
    """Return the counted decisions, by adapter, measure and action."""
    return {
        tuple(value for _, value in sorted(labels, key=lambda item: ["adapter", "measure", "action"].index(item[0]))): int(number)
        for (name, labels), number in found.items()
        if name == "cdnblock_decisions_total" and number
    }  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dns_front(orders, workers):
    """Refusals and dry runs of all workers, each counted once, beside how the orders fare."""
    port = free_port()
    with running(
        "dns", "--orders", orders, "--listen", f"127.0.0.1:{port}", "--upstream", "127.0.0.1:9", "--workers", workers
    ) as told:
        for number in range(7):
            assert ask(port, f"h{number}.refused.example") == 5
        for _ in range(3):
            ask(port, "www.dry.example", patience=0.05)  # whom nobody answers
        counted = {
            ("dns_server", "dns", "answer"): 7, ("dns_server", "dns", "pass"): 3, ("dns_server", "dns", "would"): 3,
        }  # fmt: skip
        found = told()
        for _ in range(200):  # those whom nobody answers may be on their way still
            if decided(found) == counted:
                break
            threading.Event().wait(0.05)
            found = told()
    assert decided(found) == counted
    assert value(found, "cdnblock_names_in_force") == 1
    assert value(found, "cdnblock_dns_workers") == workers


def test_no_counter_falls_when_a_worker_is_replaced():
    """What a worker had told before it died goes on counting; what it held at that moment does not."""
    totals = Totals()

    def worker(pid, number, **more):
        upstream = {
            "up": False,
            "timeouts": number,
            "network_errors": 0,
            "seconds": 0.5,
            "latency_buckets": {"1": number, "+Inf": 1},
        }
        counts = dict.fromkeys(("refused", "forwarded", "objected", "silent", "failed"), number)
        others = dict.fromkeys(
            ("unanswered", "dropped", "in_circles", "unasked_answers", "disbelieved_answers"), number
        )
        stream = {"queries": number, "connections": 3}
        return {
            "pid": pid,
            "revision": "r",
            "outstanding": 7,
            "queries": counts,
            "tcp": stream,
            "upstreams": [upstream],
            **others,
            **more,
        }

    def told(*workers):
        return dict_of(totals.rows({"restarts": 0, "workers": list(workers)}))

    def dict_of(rows):
        return {(name, *labels): number for name, labels, number in rows}

    both = told(worker(1, 100), worker(2, 10))
    one = told(worker(2, 11))
    again = told(worker(2, 11), worker(3, 1))
    after = told(worker(3, 2))
    shown = [found["cdnblock_dns_queries_total", "refused"] for found in (both, one, again, after)]
    assert shown == [110, 111, 112, 113]
    assert [found["cdnblock_dns_workers",] for found in (both, one, again, after)] == [2, 1, 2, 1]
    assert [found["cdnblock_dns_outstanding",] for found in (both, one, again, after)] == [14, 7, 14, 7]
    assert [found["cdnblock_dns_connections",] for found in (both, one, again, after)] == [6, 3, 6, 3]
    assert after["cdnblock_dns_upstream_seconds", "1"].counts == {"1": 113, "+Inf": 3}
    assert after["cdnblock_dns_upstream_seconds", "1"].seconds == 1.5
    assert after["cdnblock_dns_upstream_up", "1"] == 0


def test_mitmproxy(orders):
    """What the addon refuses, and what it only would."""
    pytest.importorskip("mitmproxy", reason="mitmproxy is not installed (extra `mitmproxy`)")
    port = free_port()
    with running("mitmproxy", "--orders", orders, "--mode", f"regular@{port}", "-q") as told:
        proxy = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{port}"}))
        for host, status in (("refused.example", 451), ("refused.example", 451), ("dry.example", 502)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                proxy.open(f"http://{host}/", timeout=60)
            assert refused.value.code == status
        found = told()
    assert decided(found) == {
        ("mitmproxy_addon", "proxy", "answer"): 2, ("mitmproxy_addon", "proxy", "would"): 1,
    }  # fmt: skip


def test_a_hidden_primary(orders, tmp_path):
    """The orders as they fare are told by whoever hands them to resolvers, too."""
    pytest.importorskip("dns", reason="dnspython is not installed (extra `dns`)")
    with running(
        "rpz-primary", "--orders", orders, "--state", tmp_path / "state", "--listen", f"127.0.0.1:{free_port()}",
        "--clients", "fr=FR", "--partial",
    ) as told:  # fmt: skip
        found = told()
    assert value(found, "cdnblock_orders", state="in force", mode="enforce") == 1
    assert value(found, "cdnblock_revision_info", revision=next(revisions(found))) == 1


def revisions(found):
    """Yield the revisions that a page tells."""
    return (dict(labels)["revision"] for name, labels in found if name == "cdnblock_revision_info")


def test_an_address_that_is_none(orders):
    """It ends the start, and says so."""
    done = subprocess.run(
        [sys.executable, "-m", "cdnblock", "dns", "--orders", orders, "--upstream", "127.0.0.1:9",
         "--listen", "127.0.0.1:0", "--metrics", "192.0.2.1:9"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search("cannot listen on 192.0.2.1 port 9", done.stderr)


def test_an_engine_that_is_kept_in_step(orders, tmp_path):
    """One that does not run goes by nothing; one that does is told with its dates."""
    shutil.which("nginx") or pytest.skip("nginx is not installed")
    (tmp_path / "nginx.conf").write_text("events {}\n")
    with running(
        "apply", "nginx", "--orders", orders, "--out", tmp_path / "out", "--no-probe", "--partial",
        "--engine", f"config={tmp_path / 'nginx.conf'}",
    ) as told:  # fmt: skip
        found = told()
    assert value(found, "cdnblock_apply_in_step", target="nginx") == 0
    assert value(found, "cdnblock_apply_last_timestamp_seconds", target="nginx") is None
    assert value(found, "cdnblock_names_in_force") == 1
    in_step = {
        "target": "nginx", "revision": "sha256:0", "failing": None, "missing": ["one"],
        "at": "2025-05-01T00:00:00+00:00", "until": "2025-05-02T00:00:00+00:00",
    }  # fmt: skip
    assert [*engine_rows(in_step)] == [
        ("cdnblock_apply_in_step", ("nginx",), 1), ("cdnblock_apply_missing", ("nginx",), 1),
        ("cdnblock_apply_last_timestamp_seconds", ("nginx",), 1_746_057_600.0),
        ("cdnblock_apply_until_timestamp_seconds", ("nginx",), 1_746_144_000.0),
    ]  # fmt: skip
