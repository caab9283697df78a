"""Real proxies with the configurations of examples/decision_service, and the service that they ask."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from free_ports import free_ports

from cdnblock.testing import Host, reload_by_state

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "decision_service"
SECONDS = 30.0  # within which whatever is started must listen


def program(name: str, package: str) -> str:
    """Return where a program is, on the path or in this environment; skip where it is not installed."""
    beside = Path(sys.executable).parent / name
    found = (
        str(beside) if beside.exists() else shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    )
    if found is None:
        pytest.skip(f"{name} is not installed ({package})")
    return found


def rendered(name: str, into: Path, changes: Mapping[str, str]) -> Path:
    """Write an example with these texts replaced, each of which it must have; return the file."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    path = into / name
    path.write_text(text, encoding="utf-8")
    return path


@dataclass
class Running:
    """A process that was started here, and what it says."""

    process: subprocess.Popen
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, seconds: float = 3) -> int:
        """End it, by force if it does not go; return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def wait_until(self, condition, what: str) -> None:
        until = time.monotonic() + SECONDS
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
            assert time.monotonic() < until, f"{what}: {self.said}"
            time.sleep(0.02)


@contextlib.contextmanager
def started(folder: Path, *command: object, ports: tuple[int, ...] = (), **environment: str) -> Iterator[Running]:
    """Run a program until leaving; yield it when it listens on all these ports."""
    log = folder / f"{Path(str(command[0])).name}-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, env={**os.environ, "HOME": str(folder), **environment},
        )  # fmt: skip
    running = Running(process, log)
    try:
        for port in ports:
            running.wait_until(lambda port=port: listens(port), f"nobody listens on {port}")
        yield running
    finally:
        running.stop()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def answers(port: int) -> bool:
    """Tell whether a proxy serves what the site behind it has."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/", headers={"Host": "witness.example"})
        return connection.getresponse().getheader("X-Origin") == "site"
    return False


@contextlib.contextmanager
def deciding(stage, address: str) -> Iterator[Running]:
    """Run `cdnblock serve` on a stage of the contract, until leaving."""
    kept = {name: "" for name in os.environ if name.startswith("CDNBLOCK_")}
    command = [
        sys.executable, "-m", "cdnblock", "serve", "--listen", address, "--orders", stage.orders, "--geo", stage.geo,
        "--state", stage.state, "--trusted-caller", "127.0.0.1", "--operator-url", stage.operator_url,
        *(part for network in stage.trusted_proxies for part in ("--trusted-proxies", network)),
    ]  # fmt: skip
    environment = {key: value for key, value in {**kept, "PYTHONPATH": str(ROOT)}.items() if value}
    with started(stage.folder, *command, **environment) as service:
        service.wait_until(lambda: "deciding on" in service.said, "the service does not get ready")
        yield service


def origin_of(stage) -> str:
    """Return the address of the site behind the proxy, as host:port."""
    return stage.origin.removeprefix("http://")


@contextlib.contextmanager
def host(stage, proxy, *, dialect: str = "") -> Iterator[Host]:
    """Run the service, and the proxy that asks it: `proxy(stage, asked)` yields the ports of HTTP and TLS (or None)."""
    (asked,) = free_ports(1)
    with deciding(stage, f"{dialect}127.0.0.1:{asked}"), proxy(stage, asked) as (plain, tls):
        secure = None if tls is None else ("127.0.0.1", tls)
        yield Host(address=("127.0.0.1", plain), tls=secure, reload=lambda: reload_by_state(stage))
