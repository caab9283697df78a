"""`cdnblock serve`: its start, its signals and its end, as a process of its own."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from order_texts import order_text

from cdnblock.cli.root import root

ROOT = Path(__file__).parents[2]
FRANCE = "203.0.113.7"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("cdnblock", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self.path))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "motogp.yaml").write_text(order_text())
    return tmp_path


def command(folder, small_mmdb, *arguments):
    return [
        sys.executable, "-m", "cdnblock", "serve", "--orders", str(folder / "orders"), "--geo", str(small_mmdb),
        "--listen", f"unix:{folder / 'decide.sock'}", *arguments,
    ]  # fmt: skip


@contextmanager
def serving(folder, small_mmdb, *arguments):
    """Run it until leaving; yield the process when it is ready."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CDNBLOCK_")}
    process = subprocess.Popen(
        command(folder, small_mmdb, *arguments), env=environment | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        said = [process.stderr.readline()]
        while said[-1] and "deciding on unix:" not in said[-1]:
            said.append(process.stderr.readline())
        assert said[-1], "".join(said)
        process.said = said
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


def ask(folder, host, path="/traefik"):
    connection = UnixConnection(folder / "decide.sock")
    headers = {
        "X-Forwarded-Host": host, "X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/", "X-Forwarded-For": FRANCE,
    }  # fmt: skip
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return met


def test_it_decides_and_ends(folder, small_mmdb):
    """It answers on its socket, and SIGTERM ends it with exit code 0 and takes the socket away."""
    with serving(folder, small_mmdb) as process:
        assert ask(folder, "www.motogpstream.me")[0] == 451
        assert ask(folder, "other.example")[0] == 200
        assert ask(folder, "", "/readyz")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not (folder / "decide.sock").exists()


def test_sighup_rereads(folder, small_mmdb):
    """SIGHUP has the orders reread; nothing is interrupted by it."""
    with serving(folder, small_mmdb) as process:
        (folder / "orders" / "second.yaml").write_text(order_text(id="second", names="[second.example]"))
        process.send_signal(signal.SIGHUP)
        assert until(lambda: ask(folder, "second.example")[0] == 451)
        assert process.poll() is None


def test_what_was_asked_is_answered_before_it_ends(folder, small_mmdb):
    """Of many questions that are under way at SIGTERM, each whose request was read gets its whole answer."""
    wrong = []
    with serving(folder, small_mmdb) as process:

        def keep_asking():
            try:
                while True:
                    status, body = ask(folder, "www.motogpstream.me")
                    if status != 451 or b"motogpstream.me" not in body:
                        wrong.append((status, body))
            except (ConnectionRefusedError, FileNotFoundError, http.client.RemoteDisconnected, ConnectionResetError):
                return  # nobody listens any more, or nobody has read the question

        threads = [threading.Thread(target=keep_asking) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        for thread in threads:
            thread.join(10)
    assert wrong == []


def test_generations_survive_a_restart(folder, small_mmdb):
    """With a state folder the caches of hosts that no order means stay hot across a restart."""
    told = []
    for _ in range(2):
        with serving(folder, small_mmdb, "--state", str(folder / "state")):
            connection = UnixConnection(folder / "decide.sock")
            connection.request("GET", "/envoy/", headers={"Host": "other.example", "X-Forwarded-For": FRANCE})
            told.append(connection.getresponse().getheader("X-Cdnblock-Generation"))
            connection.close()
    assert told[0]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--listen", "127.0.0.1:0"), 1, "--trusted-caller"),
        (("--listen", "nonsense"), 1, "right would be `127.0.0.1:9451`"),
        (("--trusted-caller", "everybody"), 1, "is no network"),
        (("--socket-mode", "rw"), 2, "octal"),
        (("--on-failure", "perhaps"), 2, "--on-failure"),
    ],
)
def test_what_cannot_be_started(folder, small_mmdb, arguments, code, said):
    """Every mistake in the arguments ends it at once and says what would be right."""
    done = subprocess.run(
        command(folder, small_mmdb, *arguments), env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_invalid_orders(folder, small_mmdb):
    """An invalid order file keeps it from starting: exit 1, the problem with its place, and no socket left."""
    (folder / "orders" / "broken.yaml").write_text("cdnblock: 1\nid: [\n")
    done = subprocess.run(
        command(folder, small_mmdb), env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "broken.yaml:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "decide.sock").exists()


def test_an_address_in_use(folder, small_mmdb):
    """A second one on the same socket is refused, and the first one goes on."""
    with serving(folder, small_mmdb):
        done = subprocess.run(
            command(folder, small_mmdb), env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, "another process listens" in done.stderr) == (1, True)
        assert ask(folder, "www.motogpstream.me")[0] == 451


def test_settings_in_a_file(folder, small_mmdb):
    """cdnblock.toml gives every option by its name, those that all commands share included."""
    (folder / "settings.toml").write_text(
        f"""
orders = "{folder / "orders"}"
trusted_proxies = ["no network"]
[serve]
listen = ["127.0.0.1:0"]
trusted_caller = ["127.0.0.1"]
"""
    )
    done = CliRunner().invoke(root, ["--config", str(folder / "settings.toml"), "serve", "--geo", str(small_mmdb)])
    assert (done.exit_code, "'no network'" in done.output or "'no'" in done.output) == (1, True), done.output


def test_help():
    """`--help` has an example."""
    done = CliRunner().invoke(root, ["serve", "--help"])
    assert done.exit_code == 0
    assert "Example: cdnblock serve" in done.output
