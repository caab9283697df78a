"""What the audit trail costs the aiohttp adapter when one request in a hundred is refused, as Markdown tables.

    python tests/benchmarks/bench_recording.py [--pairs 150] [--instructions]

One process on one core serves an application twice behind the middleware, without a trail and with one, and is asked by
turns, in bursts, for a host that no order names; one request in a hundred is for one of a hundred that orders refuse.
Times are CPU time per request. What the trail's own thread takes meanwhile is added to the second one. The trail is in
memory where there is such a file system, so that nobody waits for this machine's disk.

Then one refusal is told over and over. `--instructions` counts what that executes, by `valgrind --tool=cachegrind`,
which no neighbour disturbs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from bench_adapters import FIELDS, ORDER
from bursts import Server, compare, cpu, get, ratio
from free_ports import free_port
from measuring import heading, table

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
SERVER_CORE, CLIENT_CORE = 0, min(1, os.cpu_count() - 1)
RESTARTS = 3
REFUSED = 100  # hosts that rare requests are for
PER_BURST = 10  # requests of a connection
NOTES = 100_000
MEMORY = Path("/dev/shm")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--note", type=int, metavar="TIMES", help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=int, default=150, help="of bursts, after each start")
    parser.add_argument("--instructions", action="store_true", help="count those of a note, by valgrind")
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(int(arguments.serve[0]), Path(arguments.serve[1])))
    elif arguments.note is not None:
        note(arguments.note)
    else:
        os.sched_setaffinity(0, {CLIENT_CORE})
        print(heading("the audit trail"))
        columns = ["µs of CPU per request, 1 % refused", "no trail", "with a trail", "its thread", "throughput left"]
        print(table(columns, [_cost(arguments.pairs)]))
        rows = [
            ["ns", _run(["--note", str(NOTES)])],
            *([["instructions", _instructions()]] if arguments.instructions else []),
        ]
        print(table(["to tell one more refusal", "aiohttp"], rows))


async def serve(port: int, folder: Path) -> None:
    """Serve without a trail at a port, and with one at the next; write down which thread is the trail's."""
    from aiohttp import web

    from cdnblock.adapters.aiohttp_middleware import CdnblockMiddleware
    from cdnblock.enforcer import Enforcer
    from cdnblock.http_gate import HttpGate

    async def answer(_request):
        return web.Response(body=b"The site.")

    for number, audit in enumerate([None, folder / "audit"]):
        app = web.Application()
        app.router.add_get("/", answer)
        CdnblockMiddleware(HttpGate(Enforcer(folder / "orders", audit=audit))).install(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port + number).start()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "cdnblock-audit"]
    (folder / "thread").write_text(str(thread.native_id))
    await asyncio.Event().wait()


def _cost(pairs: int) -> list[str]:
    without, audited, threads = [], [], []
    for _ in range(min(RESTARTS, pairs)):
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as temporary:
            folder = Path(temporary)
            _write_orders(folder)
            with _serving(folder) as (pid, port):
                thread = int((folder / "thread").read_text())
                rare = tuple(get("/", FIELDS | {"Host": f"www.live{number}.example"}) for number in range(REFUSED))
                servers = {
                    name: Server(
                        port=port + number, requests=(get("/", FIELDS),), pids=(pid,), rare=rare, besides=(thread,)
                    )
                    for number, name in enumerate(["without", "audited"])
                }
                before = _of_thread(pid, thread)
                costs = compare(servers, pairs=pairs, requests=PER_BURST)
                asked = (len(costs["audited"]) + 20) * PER_BURST * servers["audited"].connections
                threads.append((_of_thread(pid, thread) - before) / 1000 / asked)
                without += costs["without"]
                audited += costs["audited"]
    thread = statistics.median(threads)
    left = ratio(without, [cost + thread for cost in audited])
    medians = (statistics.median(without), statistics.median(audited))
    return ["aiohttp", *(f"{cost:.1f}" for cost in medians), f"{thread:.2f}", f"{left:.1%}"]


def _of_thread(pid: int, thread: int) -> int:
    return cpu(pid) - cpu(pid, besides=(thread,))


@contextmanager
def _serving(folder: Path):
    """Run the server on its core; yield process id and port."""
    port = free_port()
    process = subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), sys.executable, str(HERE), "--serve", str(port), str(folder)],
        env=ENVIRONMENT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while not (folder / "thread").exists() and time.monotonic() < end:
            time.sleep(0.05)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def _write_orders(folder: Path) -> None:
    (folder / "orders").mkdir()
    names = ", ".join(f"live{number}.example" for number in range(1000))
    (folder / "orders" / "bench.yaml").write_text(ORDER.format(id="bench", names=names, begins="2025-04-03T09:00"))


# One note


def note(times: int) -> None:
    """Refuse one request, and tell it so many times more, five times over; print the best time of one (ns)."""
    from cdnblock.enforcer import Enforcer
    from cdnblock.http_gate import HttpGate
    from cdnblock.http_noting import HttpNotes

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_orders(folder)
        enforcer = Enforcer(folder / "orders", follow=False)
        enforcer.tally.recording = True  # without the thread that drains it, which would be measured as well
        gate = HttpGate(enforcer)
        notes, hosts = HttpNotes(gate, "aiohttp_middleware"), ("www.live7.example",)
        verdict = gate.judge(method="GET", hosts=hosts, peer="198.51.100.7", headers=())
        notes.acted(hosts, verdict)
        best = []
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(times):
                notes.acted(hosts, verdict)
            best.append((time.perf_counter() - started) / times)
        print(f"{min(best) * 1e9:.0f}")


def _instructions() -> str:
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    few, many = (_counted(times) for times in (1, 20_001))
    return f"{(many - few) / (5 * 20_000):,.0f}"


def _counted(times: int) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={temporary}/out"]
        command = [*tool, sys.executable, str(HERE), "--note", str(times)]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        found = re.search(r"I\s+refs:\s+([0-9,]+)", done.stderr)
        return int(found[1].replace(",", ""))


def _run(arguments: list[str]) -> str:
    command = [sys.executable, str(HERE), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
