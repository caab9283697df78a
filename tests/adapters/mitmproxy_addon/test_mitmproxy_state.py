"""A running proxy with a state folder: status, reload, SIGHUP, and a start with a broken file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from free_ports import free_ports
from mitmproxy_clients import request
from mitmproxy_process import launch, until, wait_for, write_order

MEASURES = {"proxy": "terminate"}


def cdnblock(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cdnblock", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def start(tmp_path, origin, countries):
    """Start a proxy over tmp_path/orders with the state folder tmp_path/state; all are stopped at the end."""
    started = []

    def launched():
        (port,) = free_ports(1)
        proxy = launch(
            tmp_path, "--orders", "orders", "--geo", str(countries), "--state", str(tmp_path / "state"),
            "--mode", f"reverse:http://127.0.0.1:{origin.port}@127.0.0.1:{port}",
        )  # fmt: skip
        started.append(proxy)
        wait_for(proxy, port)
        return proxy, port

    (tmp_path / "orders").mkdir()
    yield launched
    for proxy in started:
        proxy.stop()


def test_a_running_proxy_is_asked_told_and_restarted(tmp_path, start):
    """`cdnblock status`, a held release, `reload --accept-release`, SIGHUP, and the last good set after a restart."""
    orders, state = tmp_path / "orders", str(tmp_path / "state")
    write_order(orders, "one", ["one.example"], MEASURES, territory="world")
    write_order(orders, "two", ["two.example"], MEASURES, territory="world")
    proxy, port = start()
    assert request(port, "one.example").status == 451
    told = json.loads(cdnblock("status", "--state", state, "--json").stdout)
    assert (told["pid"], told["names_in_force"]) == (proxy.process.pid, 2)

    (orders / "two.yaml").unlink()
    held = cdnblock("reload", "--state", state)
    assert held.returncode == 1, held.stdout + held.stderr
    assert request(port, "two.example").status == 451
    assert cdnblock("reload", "--state", state, "--accept-release").returncode == 0
    assert request(port, "two.example").status == 200

    write_order(orders, "three", ["three.example"], MEASURES, territory="world")
    proxy.process.send_signal(signal.SIGHUP)
    assert until(lambda: request(port, "three.example").status == 451)
    proxy.stop()

    (orders / "one.yaml").write_text("half an ord")
    _, port = start()
    assert request(port, "one.example").status == 451
    assert request(port, "three.example").status == 451
    assert cdnblock("status", "--state", state).returncode == 1
