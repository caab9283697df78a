"""`cdnblock apply` as its own process, the engine that it keeps in step, and what both can be asked."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export_engines import ROOT, running

from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import put_orders

SOON = 40.0  # seconds that a change may take on a slow machine
FRANCE, GERMANY = PLACES["france"], PLACES["germany"]


@dataclass(kw_only=True)
class Running:
    """An engine as the operator has set it up, not started yet.

    `arguments` are those of `cdnblock apply` that say how it is reached, `start` and `stop` return when it runs or does
    not, `refuses(host, client)` tells what a client gets.
    """

    out: Path
    arguments: list[str]
    start: Callable[[], object]
    stop: Callable[[], object]
    refuses: Callable[[str, str], bool]
    url: str = ""
    program: tuple[str, ...] = ("-m", "cdnblock")


class Process:
    """A server that is started and stopped."""

    def __init__(self, command, port, log):
        self.command, self.port, self.log = command, port, log
        self.stack = contextlib.ExitStack()

    def start(self):
        self.stack.enter_context(running(self.command, self.port, self.log))

    def stop(self):
        self.stack.close()


class Service:
    """`cdnblock apply` as its own process."""

    def __init__(self, target, stage, engine, *more, wrap=(), env=None):
        self.said = ""
        self.command = [
            *wrap, sys.executable, *engine.program, "apply", target, "--orders", str(stage.orders), "--geo", str(stage.geo),
            "--out", str(engine.out), *engine.arguments, *more,
        ]  # fmt: skip
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | (env or {})

    def once(self):
        done = subprocess.run([*self.command, "--once"], env=self.env, capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    @contextlib.contextmanager
    def run(self):
        with subprocess.Popen(
            self.command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as self.process:
            reader = threading.Thread(target=self._read, daemon=True)
            reader.start()
            try:
                self.until("in step with")
                yield self
            finally:
                if self.process.poll() is None:
                    self.process.terminate()
                    try:
                        self.process.wait(30)
                    except subprocess.TimeoutExpired:
                        self.process.kill()
                reader.join(10)

    def until(self, text, times=1):
        """Wait until it has said something so many times."""
        eventually(lambda: len(re.findall(re.escape(text), self.said)) >= times or self._is_over(), lambda: self.said)
        assert len(re.findall(re.escape(text), self.said)) >= times, self.said

    def _is_over(self):
        return self.process.poll() is not None

    def _read(self):
        for line in self.process.stdout:
            self.said += line.decode(errors="replace")


def eventually(holds, complaint=lambda: "", within=SOON):
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.03)


class Asking(threading.Thread):
    """Asks for a host that nobody named, again and again on one connection, until it is ended."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.host, self.port = url.removeprefix("http://").split(":")
        self.served = self.lost = 0
        self.ended = threading.Event()

    def run(self):
        connection = http.client.HTTPConnection(self.host, int(self.port), timeout=20)
        while not self.ended.wait(0.005):
            try:
                connection.request("HEAD", "/", headers={"Host": "uncovered.example"})
                connection.getresponse().read()
                self.served += 1
            except (OSError, http.client.HTTPException):
                self.lost += 1
                connection.close()
        connection.close()

    def end(self):
        self.ended.set()
        self.join(30)


class World:
    """A stage, an engine on it, and what they can be asked."""

    def __init__(self, target, stage, engine, measures):
        self.target, self.stage, self.engine, self.measures = target, stage, engine, measures

    def service(self, *more, **how):
        return Service(self.target, self.stage, self.engine, *more, **how)

    def order(self, **orders):
        put_orders(self.stage.orders, {name: {"measures": self.measures} | keys for name, keys in orders.items()})

    def refuses(self, host):
        return self.engine.refuses(host, FRANCE), self.engine.refuses(host, GERMANY)

    def until_refused(self, host, *, refused=True):
        """Wait until it is so for good: an engine's old and new processes may answer side by side for a moment."""
        eventually(
            lambda: all(self.refuses(host) == (refused, False) for _ in range(5)),
            lambda: f"refused is still not {refused}: {host}",
        )

    def texts(self, out=None):
        """Return what is in the folder that the engine reads."""
        return {path.name: path.read_bytes() for path in (out or self.engine.out).iterdir() if path.is_file()}
