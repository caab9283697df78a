"""How `cdnblock mitmproxy` starts, and when it refuses to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from free_ports import free_ports
from mitmproxy_clients import request
from mitmproxy_process import ROOT, launch, wait_for, write_order

REVERSE = "--mode=reverse:http://127.0.0.1:9@127.0.0.1:{port}"
REFUSALS = {
    # what is wrong: (arguments, what must be said)
    "no orders": ([REVERSE], ["no orders to enforce"]),
    "bad orders": (["--orders", "bad", REVERSE], ["one.yaml:", "two.yaml:", "territory", "names"]),
    "no folder": (["--orders", "nowhere", REVERSE], ["nowhere"]),
    "unknown option": (["--orders", "orders", "--set", "cdnblock_trusted=x", REVERSE], ["cdnblock_trusted", "cdnblock_trusted_proxies"]),
    "bad network": (["--orders", "orders", "--trusted-proxies", "10.0.0.0/99", REVERSE], ["10.0.0.0/99"]),
    "bad table": (["--orders", "orders", "--geo", "orders/one.yaml", REVERSE], ["one.yaml"]),
    "bad policy": (["--orders", "orders", "--set", "cdnblock_on_error=maybe", REVERSE], ["maybe", "closed or open"]),
    "streamed requests": (["--orders", "orders", "--set", "stream_large_bodies=1m", REVERSE], ["stream_large_bodies"]),
    "lost host": (["--orders", "orders", "--set", "keep_host_header=false", REVERSE], ["keep_host_header"]),
    "smuggling": (["--orders", "orders", "--set", "validate_inbound_headers=false", REVERSE], ["validate_inbound_headers"]),
    "unseen hosts": (["--orders", "orders", "--ignore-hosts", "example", REVERSE], ["ignore_hosts"]),
    "raw hosts": (["--orders", "orders", "--tcp-hosts", "example", REVERSE], ["tcp_hosts"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """Start them all: what each said and its exit code."""
    folder = tmp_path_factory.mktemp("refusals")
    for name in ("orders", "bad"):
        (folder / name).mkdir()
    write_order(folder / "orders", "one", ["blocked.example"], {"proxy": "terminate"})
    write_order(folder / "bad", "one", ["blocked.example"], {"proxy": "terminate"}, territory="[XX]")
    write_order(folder / "bad", "two", ["not a name"], {"proxy": "terminate"})
    (port,) = free_ports(1)
    cases = [
        {"cwd": str(folder), "arguments": [f"--set=confdir={folder}", *[word.format(port=port) for word in arguments]]}
        for arguments, _ in REFUSALS.values()
    ]
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("start_many.py"))],
        input=json.dumps(cases), capture_output=True, text=True, timeout=120, check=True, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return dict(zip(REFUSALS, json.loads(run.stdout), strict=True))


@pytest.mark.parametrize("what", REFUSALS)
def test_refuses_to_start(refusals, what):
    """Exit code 1 and a message that names the option or every problem of the orders."""
    assert refusals[what]["code"] == 1, refusals[what]["said"]
    for words in REFUSALS[what][1]:
        assert words in refusals[what]["said"]
    assert "Traceback" not in refusals[what]["said"]


def test_settings_come_from_the_environment(tmp_path, origin, countries):
    """CDNBLOCK_ORDERS, CDNBLOCK_GEO and CDNBLOCK_TRUSTED_PROXIES are enough; SIGTERM ends it with 0."""
    (tmp_path / "orders").mkdir()
    write_order(tmp_path / "orders", "one", ["blocked.example"], {"proxy": "terminate"})
    (port,) = free_ports(1)
    proxy = launch(
        tmp_path, f"--mode=reverse:http://127.0.0.1:{origin.port}@127.0.0.1:{port}",
        CDNBLOCK_ORDERS="orders", CDNBLOCK_GEO=str(countries), CDNBLOCK_TRUSTED_PROXIES="10.0.0.0/8 127.0.0.1",
    )  # fmt: skip
    try:
        wait_for(proxy, port)
        assert request(port, "blocked.example").status == 451
        assert request(port, "other.example").status == 200
    finally:
        assert proxy.stop() == 0
    assert "error" not in proxy.said.lower()


def test_help_names_the_options():
    """`--help` has an example; mitmdump's own `--options` lists ours with their help."""
    run = lambda *arguments: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "cdnblock", "mitmproxy", *arguments],
        capture_output=True, text=True, timeout=60, check=True, env={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
    ).stdout  # fmt: skip
    assert "Example: cdnblock mitmproxy" in run("--help")
    options = run("--options")
    for name in ("orders", "geo", "trusted_proxies", "client_header", "operator_url", "contact", "on_error", "stream"):
        assert f"cdnblock_{name}:" in options


def test_nothing_else_imports_mitmproxy():
    """The library and the command line load without mitmproxy; the command says what to install."""
    code = (
        "import sys; sys.modules['mitmproxy'] = None\n"
        "import cdnblock, cdnblock.enforcer, cdnblock.cli.root, cdnblock.cli.mitmproxy\n"
        "from cdnblock.cli.root import root\n"
        "root(['mitmproxy', '--orders', 'x'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 1
    assert "install cdnblock[mitmproxy]" in run.stderr
    assert "Traceback" not in run.stderr
