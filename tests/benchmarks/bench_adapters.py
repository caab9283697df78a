"""What the HTTP middlewares cost, and how fast they cut what runs, as Markdown tables.

    python tests/benchmarks/bench_adapters.py [--pairs 40] [--streams 1000] [--bystanders 100]

Each server has its application bare, with the middleware, and with two that show the least that one can cost, in one
process on one core: two processes of the same program differ by some percent for as long as they live. Another core
asks them by turns, in bursts, for a host that no order names. Times are CPU time of the server's process per request.
What follows the orders and the clock is in all of them: it takes 0.4 % of a CPU. Then streams are opened, an order begins
by the clock, and the time is taken until the last of them has ended.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from bursts import Server, compare, get, ratio
from free_ports import free_port, free_ports
from measuring import heading, table

from cdnblock.sources import control_socket

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
SERVER_CORE, CLIENT_CORE = 0, min(1, os.cpu_count() - 1)
RESTARTS = 10  # of each server: where its code lies in memory differs by a percent from start to start
BARE, GUARDED = "/bare", "/ours"  # the paths of the application without and with the middleware: equally long
EMPTY, FINDING = "/void", "/host"  # with a middleware that does nothing, and with one that only finds the Host line
AGAINST_BARE = {GUARDED: "throughput of bare", EMPTY: "of an empty one", FINDING: "of one that finds the host"}
ALL_PATHS = (GUARDED, BARE, EMPTY, FINDING)
PATHS = {"aiohttp": (GUARDED, BARE, EMPTY)}  # not all
FIELDS = {
    # as a browser has them
    "Host": "www.other.example",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Accept-Language": "fr,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
}
ORDER = """\
cdnblock: 1
id: {id}
court: Tribunal judiciaire de Paris
decided: 2025-03-28
legal_basis: Code du sport, art. L. 333-10
claimant: SECP
from: {begins}
until: 2195-01-01
territory: world
measures: {{proxy: terminate}}
names: [{names}]
"""
SERVERS = {
    "aiohttp": [sys.executable, str(HERE), "--serve-aiohttp"],  # and its ports
    "uvicorn, plain ASGI": "uvicorn --interface asgi3 --no-access-log --log-level error --port {port} bench_adapters:plain",
    "granian, plain ASGI": "granian --interface asgi --backlog 4096 --log-level error --port {port} bench_adapters:plain",
    "uvicorn, Starlette": "uvicorn --interface asgi3 --no-access-log --log-level error --port {port} bench_adapters:starlette",
    "uvicorn, FastAPI": "uvicorn --interface asgi3 --no-access-log --log-level error --port {port} bench_adapters:fastapi",
}
CUT = ("aiohttp", "uvicorn, plain ASGI", "granian, plain ASGI")
TICKS = {"/slow": 1.0, "/fast": 0.05}  # seconds between two lines of a stream: of those that are cut, of the others


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve-aiohttp", nargs="+", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--pairs", type=int, default=40, help="of bursts, after each start")
    parser.add_argument("--streams", type=int, default=1000, help="that an order cuts")
    parser.add_argument("--bystanders", type=int, default=100, help="streams of other hosts")
    arguments = parser.parse_args()
    if arguments.serve_aiohttp is not None:
        asyncio.run(serve_aiohttp(arguments.serve_aiohttp))
        return
    os.sched_setaffinity(0, {CLIENT_CORE})
    print(heading("HTTP middlewares"))
    if arguments.pairs:
        rows = [_cost(name, arguments) for name in arguments.servers]
        print(table(["µs of CPU per request", "bare", "with the middleware", *AGAINST_BARE.values()], rows))
    if arguments.streams:
        rows = [_cut(name, arguments) for name in CUT if name in arguments.servers]
        print(table([f"{arguments.streams} streams cut, ms", "first", "last", "bystanders' longest gap", "lost"], rows))


# The servers


def _gate():
    from cdnblock.enforcer import Enforcer
    from cdnblock.http_gate import HttpGate

    return HttpGate(Enforcer(os.environ["BENCH_ORDERS"], state=os.environ["BENCH_STATE"]))


def _beside(app):
    """Return an application that stands there bare and behind each middleware, by the path that is asked for."""
    from cdnblock.adapters.asgi_middleware import CdnblockMiddleware

    apps = {BARE: app, GUARDED: CdnblockMiddleware(app, _gate()), EMPTY: _Empty(app), FINDING: _Finding(app)}

    def choose(scope, receive, send):
        return apps.get(scope.get("path"), apps[GUARDED])(scope, receive, send)

    return choose


class _Empty:
    def __init__(self, app) -> None:
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        await self._app(scope, receive, send)


class _Finding(_Empty):
    """Does the least that a middleware must that goes by the host: two Host lines are none."""

    async def __call__(self, scope, receive, send) -> None:
        host = another = None
        for name, value in scope["headers"]:
            if name == b"host":
                host, another = value, host
        if host is None or another is not None:
            raise ValueError(scope)
        await self._app(scope, receive, send)


async def serve_aiohttp(ports: list[int]) -> None:
    """Serve an application at each port: with the middleware, bare, and with an empty one."""
    from aiohttp import web

    from cdnblock.adapters.aiohttp_middleware import CdnblockMiddleware

    async def answer(_request):
        return web.Response(body=b"The site.")

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        number = 0
        while True:
            number += 1
            await response.write(b"%d\n" % number)
            await asyncio.sleep(TICKS[request.path])

    @web.middleware
    async def empty(request, handler):
        return await handler(request)

    for port, path in zip(ports, PATHS["aiohttp"], strict=True):
        app = web.Application(middlewares=[empty] if path == EMPTY else [])
        for place, handler in {path: answer, **dict.fromkeys(TICKS, stream)}.items():
            app.router.add_get(place, handler)
        if path == GUARDED:
            CdnblockMiddleware(_gate()).install(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def _plain(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    start = {"type": "http.response.start", "status": 200}
    if scope["path"] in TICKS:
        await send({**start, "headers": [(b"content-type", b"text/plain")]})
        number = 0
        while True:
            number += 1
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
            await asyncio.sleep(TICKS[scope["path"]])
    await send({**start, "headers": [(b"content-type", b"text/plain"), (b"content-length", b"9")]})
    await send({"type": "http.response.body", "body": b"The site."})


def _starlette():
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def answer(_request):
        return PlainTextResponse("The site.")

    return Starlette(
        routes=[Route("/{page}", answer)]
    )  # one for both: the second of two would cost a look at the first


def _fastapi():
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/{page}")
    async def answer(page):
        return {"site": page}

    return app


def __getattr__(name: str):
    """Make an application when a server asks for it, once."""
    makers = {"plain": lambda: _plain, "starlette": _starlette, "fastapi": _fastapi}
    if name not in makers:
        raise AttributeError(name)
    return globals().setdefault(name, _beside(makers[name]()))


@contextmanager
def _serving(name: str, folder: Path):
    """Run a server on its core, with orders and state in a folder; yield process id and the port of each path."""
    paths, command = PATHS.get(name, ALL_PATHS), SERVERS[name]
    if isinstance(command, str):
        ports = [free_port()] * len(paths)
        command = [sys.executable, "-m", *command.format(port=ports[0]).split()]
    else:
        ports = free_ports(len(paths))
        command = [*command, *map(str, ports)]
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{ROOT}"}
    environment |= {"BENCH_ORDERS": str(folder / "orders"), "BENCH_STATE": str(folder / "state")}
    process = subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *command],
        env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", ports[-1]), 1).close()
                break
            time.sleep(0.05)
        yield process.pid, dict(zip(paths, ports, strict=True))
    finally:
        process.terminate()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:  # uvicorn waits for applications that do not see that nobody listens
            process.kill()
            process.wait()


def _write_orders(folder: Path) -> None:
    (folder / "orders").mkdir()
    (folder / "state").mkdir(mode=0o700)
    names = ", ".join(f"live{number}.example" for number in range(1000))
    (folder / "orders" / "bench.yaml").write_text(ORDER.format(id="bench", names=names, begins="2025-04-03T09:00"))


# What it costs


def _cost(name: str, arguments) -> list[str]:
    measured: dict[str, list[float]] = {path: [] for path in PATHS.get(name, ALL_PATHS)}
    for _ in range(min(RESTARTS, arguments.pairs)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _write_orders(folder)
            with _serving(name, folder) as (pid, ports):
                servers = {path: Server(port=ports[path], requests=(get(path, FIELDS),), pids=(pid,)) for path in ports}
                for path, costs in compare(servers, pairs=arguments.pairs).items():
                    measured[path] += costs
    parts = [f"{ratio(measured[BARE], measured[path]):.1%}" if path in measured else "" for path in AGAINST_BARE]
    return [name, *(f"{statistics.median(measured[path]):.1f}" for path in (BARE, GUARDED)), *parts]


# How fast it cuts


def _cut(name: str, arguments) -> list[str]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_orders(folder)
        with _serving(name, folder) as (_, ports):
            return [name, *asyncio.run(_watch(ports[GUARDED], folder, arguments.streams, arguments.bystanders))]


class _Stream(asyncio.Protocol):
    """One open stream: when it ended, and what it missed."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.at = 0.0
        self.gap = 0.0
        self.received = b""

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self.received:
            self.gap = max(self.gap, now - self.at)
        self.at = now
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(time.perf_counter())

    def lost(self) -> int:
        """Return how many lines are missing between the first and the last."""
        numbers = [int(line) for line in re.findall(rb"\r\n(\d+)\n\r\n", self.received)]
        return numbers[-1] - numbers[0] + 1 - len(numbers)


async def _watch(port: int, folder: Path, streams: int, bystanders: int) -> list[str]:
    covered = [await _open(port, "new.example", "/slow") for _ in range(streams)]
    others = [await _open(port, f"other{number}.example", "/fast") for number in range(bystanders)]
    while not all(stream.received for stream in (*covered, *others)):  # noqa: ASYNC110 (bytes tell it, no event)
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    for stream in others:
        stream.gap = 0.0
    starts = datetime.fromtimestamp(int(time.time()) + 3, UTC)
    (folder / "orders" / "new.yaml").write_text(ORDER.format(id="new", names="new.example", begins=starts.isoformat()))
    await asyncio.to_thread(control_socket.ask, folder / "state", {"command": "reload"}, 10)
    began = time.perf_counter() + starts.timestamp() - time.time()
    assert not any(stream.ended.done() for stream in covered), "cut too early"
    ended = await asyncio.wait_for(asyncio.gather(*(stream.ended for stream in covered)), 30)
    await asyncio.sleep(0.5)
    assert not any(stream.ended.done() for stream in others), "a bystander was cut"
    return [
        f"{(min(ended) - began) * 1000:.0f}", f"{(max(ended) - began) * 1000:.0f}",
        f"{max(stream.gap for stream in others) * 1000:.0f}", str(sum(stream.lost() for stream in others)),
    ]  # fmt: skip


async def _open(port: int, host: str, path: str) -> _Stream:
    transport, stream = await asyncio.get_running_loop().create_connection(_Stream, "127.0.0.1", port)
    transport.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return stream


if __name__ == "__main__":
    main()
