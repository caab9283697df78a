"""The servers that the tests of the HTTP adapters start: aiohttp on a loop of its own, ASGI servers as processes."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from aiohttp import web
from free_ports import free_port

ROOT = Path(__file__).parent.parent.parent
START = 30.0  # seconds that a slow machine may take to start a server


@asynccontextmanager
async def aiohttp_server(app):
    """Serve an application, or the bare `web.Server` that `app` makes, on a free port."""
    if isinstance(app, web.Application):
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    else:
        runner = web.ServerRunner(app(), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextmanager
def on_a_loop_of_its_own(context):
    """Enter an asynchronous context on a loop and thread of its own; leave it at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(10)
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def serving_aiohttp(app):
    """Serve with aiohttp beside the test; yield the address."""
    with on_a_loop_of_its_own(aiohttp_server(app)) as port:
        yield "127.0.0.1", port


@asynccontextmanager
async def _uvicorn_server(app):
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error", proxy_headers=False))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await serving


@contextmanager
def serving_asgi(app):
    """Serve an ASGI application with uvicorn beside the test, without lifespan; yield the address."""
    with on_a_loop_of_its_own(_uvicorn_server(app)) as port:
        yield "127.0.0.1", port


ASGI_SERVERS = {
    # name: arguments after `python -m`, with {app}, {port}
    "uvicorn-h11": "uvicorn --no-proxy-headers --http h11 --ws wsproto --port {port} --log-level warning {app}",
    "uvicorn-httptools": "uvicorn --no-proxy-headers --http httptools --ws wsproto --port {port} --log-level warning {app}",
    "granian": "granian --interface asgi --port {port} --log-level warning {app}",
}


@contextmanager
def asgi_server(server, app, *, folder, arguments=(), environment=None):
    """Run `app` (module:attribute, the module in `folder` or on the path) as a process; yield the address and its log."""
    port = free_port()
    command = [sys.executable, "-m", *ASGI_SERVERS[server].format(app=app, port=port).split(), *map(str, arguments)]
    log = folder / f"{server}.log"
    path = os.pathsep.join([str(folder), str(Path(__file__).parent), str(ROOT / "tests"), str(ROOT)])
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )  # fmt: skip
    try:
        _wait_for(process, port, log)
        yield ("127.0.0.1", port), log
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)


def _wait_for(process, port, log):
    end = time.monotonic() + START
    while True:
        with suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), 1).close()
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)
