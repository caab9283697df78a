"""HAProxy with the configuration that `cdnblock export haproxy` writes, under the contract of every host."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import asked, at_each_turn, export_for, free_ports, needs, running, started_example, wait_until

from cdnblock.testing import AdapterContract, Host, Need

pytestmark = needs("haproxy", "haproxy")

CONFIGURATION = """
global
  stats socket {folder}/api.sock mode 600 level admin expose-fd listeners
defaults base
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  timeout tunnel 20s
cache edge
  total-max-size 8
  max-age 600
"""
FRONTEND = """
frontend edge from cdnblock
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{tls} ssl crt {certificate} alpn h2,http/1.1
  http-request cache-use edge if {{ path /cached }} !{{ var(txn.cdnblock_action) -m str uncached }}
  http-response cache-store edge if !{{ var(txn.cdnblock_action) -m str uncached }}
  default_backend site
backend site from base
{rewrites}
  server site {origin}
"""
MAPS = ("hosts", "territory", "actions", "notices")
CHUNK = 15_000  # octets of a command


class HAProxy:
    """A HAProxy that is changed by its runtime API where that is enough, else by a reload without a gap."""

    def __init__(self, stage):
        self.stage = stage
        self.out = stage.folder / "cdnblock"
        self.port, self.tls = free_ports(2)
        self.changing = threading.Lock()
        self.files = [stage.folder / "base.cfg", self.out / "cdnblock.cfg", stage.folder / "edge.cfg"]
        export_for(stage, "haproxy", self.out, defaults="base")
        self.files[0].write_text(CONFIGURATION.format(folder=stage.folder))
        self.files[2].write_text(
            FRONTEND.format(
                rewrites="\n".join(
                    f"  http-request set-header Host {new} if {{ req.hdr(host) {old} }}"
                    for old, new in stage.rewrites.items()
                ),
                port=self.port,
                tls=self.tls,
                certificate=stage.certificate,
                origin=stage.origin.removeprefix("http://"),
            )
        )

    @property
    def arguments(self):
        return [argument for file in self.files for argument in ("-f", str(file))]

    def check(self):
        done = subprocess.run(
            ["haproxy", "-c", *self.arguments], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr, done.stderr

    @contextmanager
    def run(self):
        self.check()
        with (
            running(
                ["haproxy", "-W", "-db", *self.arguments], self.port, self.stage.folder / "haproxy.log"
            ) as self.process,
            at_each_turn(self.stage, self.reload),
        ):
            yield

    def reload(self):
        with self.changing:
            self.change()

    def change(self):
        changed = export_for(self.stage, "haproxy", self.out, defaults="base")
        self.check()
        if "cdnblock.cfg" in changed or "cdnblock.lua" in changed:
            self.restart()
        else:
            for name in MAPS:
                if f"cdnblock-{name}.map" in changed:
                    self.replace(self.out / f"cdnblock-{name}.map")

    def restart(self):
        before = self.worker()
        self.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: self.worker() not in (None, before))

    def worker(self):
        try:
            return dict(line.split(": ", 1) for line in self.ask("show info\n").splitlines() if ": " in line)["Pid"]
        except (OSError, KeyError):
            return None

    def replace(self, path):
        """Replace a map as one transaction: nobody sees half of it."""
        version = self.ask(f"prepare map {path}\n").split(":")[1].strip()
        lines = [line + "\n" for line in path.read_text().splitlines() if line and not line.startswith("#")]
        while lines:
            size, count = 0, 0
            while count < len(lines) and (count == 0 or size + len(lines[count].encode()) < CHUNK):
                size, count = size + len(lines[count].encode()), count + 1
            assert self.ask(f"add map @{version} {path} <<\n{''.join(lines[:count])}\n").strip() == ""
            lines = lines[count:]
        assert self.ask(f"commit map @{version} {path}\n").strip() == ""

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as api:
            api.settimeout(10)
            api.connect(str(self.stage.folder / "api.sock"))
            api.sendall(command.encode())
            return b"".join(iter(lambda: api.recv(65536), b"")).decode()


class TestHAProxy(AdapterContract):
    """One HAProxy with a cache of its own, HTTP/1.1 in clear and both versions over TLS."""

    random_requests = 2_000

    cannot = {
        Need.ABSOLUTE_FORM: "HAProxy answers 400 where the target names another host than Host",
        Need.FORWARDED: "HAProxy before 2.8 does not read Forwarded; the exported rules go by X-Forwarded-For",
        Need.CACHE: "HAProxy's cache is purged by a new process alone, and then of everything",
        Need.STREAM_CLOSE: "HAProxy's reject ends the whole connection of HTTP/2",
        Need.CUT: "HAProxy decides a request when it begins, and no rule ends what runs",
    }

    @contextmanager
    def serve(self, stage):
        haproxy = HAProxy(stage)
        with haproxy.run():
            yield Host(address=("127.0.0.1", haproxy.port), tls=("127.0.0.1", haproxy.tls), reload=haproxy.reload)


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/haproxy/start.sh` exports, starts, refuses a client in France and serves one in Germany."""
    with started_example("haproxy", tmp_path) as port:
        status, headers, body = asked(port, "www.motogpstream.me", "90.84.144.1")
        assert (status, headers["link"]) == (451, '<https://edge.example/blocked>; rel="blocked-by"')
        assert "tjp-2025-03-28-motogp" in body
        assert asked(port, "www.motogpstream.me", "80.187.0.1")[::2] == (200, "site www.motogpstream.me")
        assert asked(port, "other.example", "90.84.144.1")[::2] == (200, "site other.example")
