"""`cdnblock rpz-primary` as people run it: a process, its options, signals, and what status says of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from order_texts import order_text

pytest.importorskip("dns", reason="dnspython is the oracle of these tests (extra `dns`)")

import dns.message
import dns.query
import dns.zone

from cdnblock.cli.root import root

ROOT = Path(__file__).parents[2]
NXDOMAIN = "{dns: nxdomain}"


def run(*arguments):
    return CliRunner().invoke(root, ["rpz-primary", *map(str, arguments)])


@pytest.fixture
def orders(tmp_path):
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "one.yaml").write_text(order_text(measures=NXDOMAIN, names="[one.example]"))
    return tmp_path / "orders"


WRONG = {
    "no state": (["--clients", "fr=FR"], 2, "Missing option '--state'"),
    "no clients": (["--state", "state"], 2, "Missing option '--clients'"),
    "no country": (["--state", "state", "--clients", "uk=UK"], 1, "'UK' is no country"),
    "no address": (["--state", "state", "--clients", "fr=FR", "--listen", "here"], 1, "is no address and port"),
    "no keys": (["--state", "state", "--clients", "fr=FR", "--keys", "none"], 1, "the keys cannot be read"),
    "no such key": (
        ["--state", "state", "--clients", "fr=FR", "--secondary", "127.0.0.1:53,key=x"], 1, "there is no key 'x'",
    ),
    "no such key for updates": (
        ["--state", "state", "--clients", "fr=FR", "--update", "127.0.0.1:53,key=x"], 1, "there is no such key",
    ),
    "no network": (["--state", "state", "--clients", "fr=FR", "--allow", "somewhere", "--partial"], 1, "somewhere"),
    "an order that wants REFUSED": (["--state", "state", "--clients", "fr=FR"], 1, "--partial agrees to NXDOMAIN"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "code", "message"), WRONG.values(), ids=WRONG)
def test_wrong_options_say_what_would_be_right(orders, tmp_path, monkeypatch, options, code, message):
    """Nothing is started, and nobody has to read a trace."""
    monkeypatch.chdir(tmp_path)
    (orders / "two.yaml").write_text(order_text(id="two", measures="{dns: refuse}"))
    done = run("--orders", orders, "--listen", "127.0.0.1:0", *options)
    assert (done.exit_code, message in done.output) == (code, True), done.output


def test_it_serves_follows_signals_and_tells_its_status(orders, tmp_path):
    """One line says what is served and where; SIGHUP has the orders reread, SIGTERM ends it with 0."""
    command = [
        sys.executable, "-m", "cdnblock", "rpz-primary", "--orders", orders, "--state", tmp_path / "state", "--listen",
        "127.0.0.1:0", "--clients", "fr=FR", "--clients", "rest=other+unknown", "--allow", "127.0.0.1",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            said = process.stderr.readline()
            assert "pass-fr (0 names), delta-fr (0 names), base-fr (1 names), pass-rest (0 names)" in said
            port = int(re.search(r"on 127\.0\.0\.1:(\d+)$", said)[1])
            (orders / "two.yaml").write_text(order_text(id="two", measures=NXDOMAIN, names="[two.example]"))
            process.send_signal(signal.SIGHUP)
            zone = dns.zone.Zone("delta-fr.")
            until = time.monotonic() + 20
            while "two.example" not in map(str, zone.nodes):
                assert time.monotonic() < until
                dns.query.inbound_xfr("127.0.0.1", zone, port=port)
            status = CliRunner().invoke(root, ["status", "--state", str(tmp_path / "state"), "--json"])
            told = json.loads(status.output)["rpz_primary"]
            assert told["zones"]["delta-fr"] == {"serial": zone.get_soa().serial, "names": 1, "changes": 1}
            assert told["revision"] == json.loads(status.output)["revision"]
        finally:
            process.terminate()
        assert process.wait(20) == 0
