"""What the decision service costs, as Markdown tables: beside an empty aiohttp handler, and added to nginx.

    python tests/benchmarks/bench_service.py [--pairs 300] [--rounds 5] [--seconds 2]

Needs wrk and nginx. Servers run on one core and what loads them on another; what is compared takes turns. CPU time is
that of the server's own tasks, so that what else the machine does disturbs it least; the service's requests a second
are those of a core that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "real_peers"), str(Path(__file__).parent)]

from bursts import Server, compare, get, ratio
from free_ports import free_ports
from measuring import heading, table
from peers import deciding, program, started
from test_nginx import nginx

from cdnblock.testing.stage import open_stage

EMPTY = """
import asyncio, sys
from aiohttp import web

async def handle(request):
    return web.Response()

async def main():
    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""
ORIGIN = EMPTY.replace("web.Response()", 'web.Response(text="The site.", headers={"Cache-Control": "max-age=3600"})')
ORDER = {"names": ["blocked.example"], "measures": {"proxy": "terminate"}}
FIELDS = {
    # what is asked: (host, client)
    "no order names the host": ("www.other.example", "198.51.100.7"),
    "named, client elsewhere": ("www.blocked.example", "198.51.100.7"),
    "refused": ("www.blocked.example", "203.0.113.7"),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One server under load: its address and processes, and wrk's further arguments."""

    url: str
    pids: tuple[int, ...]
    headers: tuple[str, ...] = ()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=300, help="of bursts, for the service beside an empty handler")
    parser.add_argument("--rounds", type=int, default=5, help="of wrk, for nginx")
    parser.add_argument("--seconds", type=int, default=2, help="of load in each round, for each of what is compared")
    arguments = parser.parse_args()
    print(heading("The decision service"), end="\n\n")
    for measure in (_service, _nginx):
        with tempfile.TemporaryDirectory() as folder, stage_with_order(Path(folder)) as stage:
            measure(stage, arguments)


@contextlib.contextmanager
def stage_with_order(folder: Path):
    """Yield the contract's stage, with one order on it."""
    from cdnblock.testing.stage import put_orders

    with open_stage(folder, []) as stage:
        put_orders(stage.orders, {"bench": ORDER})
        yield stage


def _service(stage, arguments) -> None:
    asked, empty = free_ports(2)
    with deciding(stage, f"127.0.0.1:{asked}") as service, on_loopback(stage, EMPTY, empty) as handler:
        pin(service.process.pid, handler.process.pid)
        request = get("/nginx", {"Host": f"127.0.0.1:{empty}", **told(*FIELDS["refused"])})
        servers = {"an empty handler": Server(port=empty, requests=(request,), pids=(handler.process.pid,))}
        for what, asked_for in FIELDS.items():
            request = get("/nginx", {"Host": f"127.0.0.1:{asked}", **told(*asked_for)})
            servers[f"the service: {what}"] = Server(port=asked, requests=(request,), pids=(service.process.pid,))
        measured = compare(servers, pairs=arguments.pairs)
    first = measured["an empty handler"]
    shown = [
        [
            name,
            f"{statistics.median(costs):.1f}",
            f"{1e6 / statistics.median(costs):,.0f}",
            f"{ratio(first, costs):.0%}",
        ]
        for name, costs in measured.items()
    ]
    print(table(["one core, 32 connections", "CPU µs", "requests/s", "throughput of empty"], shown))


def _nginx(stage, arguments) -> None:
    """Load nginx's cache with the example, and with the same example without its question."""
    asked, origin = free_ports(2)
    stage = dataclasses.replace(stage, origin=f"http://127.0.0.1:{origin}")
    with (
        on_loopback(stage, ORIGIN, origin),
        deciding(stage, f"127.0.0.1:{asked}") as service,
        nginx(stage, asked) as (port, _),
    ):
        (bare,) = free_ports(1)
        config = (stage.folder / "nginx.conf").read_text()
        (stage.folder / "bare").mkdir()
        config = re.sub(r" (auth_request(_set)? |if )[^;]*;( })?", "", config).replace(
            f"127.0.0.1:{port}", f"127.0.0.1:{bare}"
        )
        config = re.sub(r"listen [^;]*ssl[^;]*;|ssl_cert[^;]*;", "", config).replace(
            "/scratch/nginx/", "/scratch/bare/"
        )
        (stage.folder / "bare.conf").write_text(config.replace("$cdnblock_generation ", ""))
        command = (
            program("nginx", "apt"),
            "-e",
            stage.folder / "bare" / "start.log",
            "-g",
            "daemon off;",
            "-c",
            stage.folder / "bare.conf",
        )
        with started(stage.folder, *command, ports=(bare,)) as without:
            ours = next(pid for pid in children_of(os.getpid()) if "nginx.conf" in command_of(pid))
            pin(service.process.pid, *children_of(ours), *children_of(without.process.pid))
            headers = ("Host: www.other.example", "X-Forwarded-For: 198.51.100.7")
            measured = run({
                "nginx, from its cache": Case(url=f"http://127.0.0.1:{bare}/", pids=children_of(without.process.pid), headers=headers),
                "the same, asking": Case(url=f"http://127.0.0.1:{port}/", pids=(*children_of(ours), service.process.pid), headers=headers),
            }, arguments, connections=8)  # fmt: skip
    print()
    print(
        table(
            ["one core for both, 8 connections", "requests/s", "of the first", "CPU µs", "of the first", "p99 ms"],
            list(rows(measured)),
        )
    )
    first, second = ([sample[2] for sample in samples] for samples in measured.values())
    print(f"\np99 added to nginx by auth_request: {statistics.median(second) - statistics.median(first):.2f} ms")


@contextlib.contextmanager
def on_loopback(stage, program_text: str, port: int) -> Iterator:
    """Run a small server."""
    with started(stage.folder, sys.executable, "-c", program_text, port, ports=(port,)) as running:
        yield running


def told(host: str, client: str) -> dict[str, str]:
    """Return what nginx tells of a request."""
    return {
        "X-Forwarded-Host": host,
        "X-Forwarded-Method": "GET",
        "X-Forwarded-Uri": "/a/page",
        "X-Forwarded-For": client,
    }


def run(cases: dict[str, Case], arguments, *, connections: int = 32) -> dict[str, list[tuple[float, float, float]]]:
    """Return for each case and round: requests a second, µs of CPU a request, p99 in ms."""
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in cases}
    for name in [*cases, *list(cases) * arguments.rounds]:
        measured[name].append(_load(cases[name], arguments.seconds, connections))
    return {name: samples[1:] for name, samples in measured.items()}  # the first round was to warm up


def _load(case: Case, seconds: int, connections: int) -> tuple[float, float, float]:
    headers = [part for header in case.headers for part in ("-H", header)]
    before = sum(map(cpu, case.pids))
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *headers, case.url]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 + seconds).stdout
    used = sum(map(cpu, case.pids)) - before
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
    requests = int(re.search(r"(\d+) requests in", said)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    return rate, used / requests / 1000, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def rows(measured) -> Iterator[list[str]]:
    """Yield the table's rows; the first case is what the others are compared with, round by round."""
    first = next(iter(measured.values()))
    for name, samples in measured.items():
        rates = [sample[0] / other[0] for sample, other in zip(samples, first, strict=True)]
        costs = [sample[1] / other[1] for sample, other in zip(samples, first, strict=True)]
        rate, used, p99 = (statistics.median(column) for column in zip(*samples, strict=True))
        yield [
            name,
            f"{rate:,.0f}",
            f"{statistics.median(rates):.0%}",
            f"{used:.1f}",
            f"{statistics.median(costs):.0%}",
            f"{p99:.2f}",
        ]


def cpu(pid: int) -> int:
    """Return the ns of CPU that a process has had so far."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def pin(*pids: int) -> None:
    """Keep processes to the first core; the second is for what loads them."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {0})


def children_of(pid: int) -> tuple[int, ...]:
    """Return the processes that a process has started."""
    return tuple(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def command_of(pid: int) -> str:
    """Return a process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


if __name__ == "__main__":
    main()
