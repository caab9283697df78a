"""From a saved file to the first refusal by a running engine, and what its clients notice of the change.

python tests/benchmarks/bench_apply.py [TARGET…] [--names 100000] [--changes 5]

An order lists the names; `cdnblock apply` runs as its own process, and so do the engine and a site behind it. Each change
adds one name: the file is replaced, and the name is asked for as a client in France until it is refused. Meanwhile some
connections ask for another host without a pause; what breaks on them counts as lost.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "real_peers"), str(TESTS.parent), str(Path(__file__).parent)]

import measuring
from apply_service import FRANCE, Service
from export_engines import stage_with
from test_apply import TestHAProxy, TestNginx

ENGINES = {"haproxy": TestHAProxy, "nginx": TestNginx}
CONNECTIONS = 4
PATIENCE = 120.0  # seconds


class Load(threading.Thread):
    """Asks over one kept connection without a pause, and counts what breaks."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.asked, self.lost, self.longest, self.ended = port, 0, 0, 0.0, False

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not self.ended:
            before = time.perf_counter()
            try:
                connection.request("HEAD", "/", headers={"Host": "uncovered.example"})
                connection.getresponse().read()
                self.asked += 1
            except (OSError, http.client.HTTPException):
                self.lost += 1
                connection.close()
            self.longest = max(self.longest, time.perf_counter() - before)
            time.sleep(0.01)
        connection.close()


def refused(port: int, host: str) -> bool:
    """Ask once, on a connection of its own, as a client in France."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(
            f"HEAD / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {FRANCE}\r\nConnection: close\r\n\r\n".encode()
        )
        return b" 451 " in connection.recv(4096).partition(b"\r\n")[0]


def measure(target: str, count: int, changes: int) -> list[str]:
    names = measuring.listable_names(count)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdnblock-bench-")))
        stage = stack.enter_context(stage_with(folder))
        annex = measuring.write_order(stage.orders, names)
        engine = stack.enter_context(ENGINES[target]().set_up(stage))
        service = Service(target, stage, engine)
        code, said = service.once()
        if code != 5:
            raise RuntimeError(said)
        engine.start()
        port = int(engine.url.rpartition(":")[2])
        with service.run():
            loads = [Load(port) for _ in range(CONNECTIONS)]
            for load in loads:
                load.start()
            time.sleep(1)
            took = [_change(annex, names, number, port) for number in range(changes)]
            time.sleep(1)
            for load in loads:
                load.ended = True
            for load in loads:
                load.join(30)
        for line in service.said.splitlines():
            print("   ", line, file=sys.stderr)
    return [
        target, f"{count:,}", f"{measuring.median(took):.2f} s", f"{max(took):.2f} s",
        f"{sum(load.asked for load in loads):,}", f"{sum(load.lost for load in loads):,}",
        f"{1000 * max(load.longest for load in loads):,.0f} ms",
    ]  # fmt: skip


def _change(annex: Path, names: list[str], number: int, port: int) -> float:
    host = f"addition{number}.example"
    names.append(host)
    beside = annex.with_name(".annex.new")
    beside.write_text("".join(f"{name}\n" for name in names))
    saved = time.perf_counter()
    beside.rename(annex)
    while not refused(port, host):
        if time.perf_counter() - saved > PATIENCE:
            raise TimeoutError(host)
        time.sleep(0.005)
    took = time.perf_counter() - saved
    time.sleep(2)
    return took


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("targets", nargs="*", default=[*ENGINES])
    arguments.add_argument("--names", type=int, default=100_000)
    arguments.add_argument("--changes", type=int, default=5)
    asked = arguments.parse_args()
    columns = ["engine", "names", "saved to refused, median", "longest", "requests meanwhile", "lost", "longest answer"]
    print(measuring.heading("One name more"))
    print()
    print(measuring.table(columns, [measure(target, asked.names, asked.changes) for target in asked.targets]))


if __name__ == "__main__":
    main()
