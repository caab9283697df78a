"""The front for HTTP: mitmproxy with the addon, as a child process that cannot outlive the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from cdnblock.audit.settings import Settings
from cdnblock.errors import ConfigError
from cdnblock.orders.model import Measure
from cdnblock.sandbox import front_script

LOOPBACK: Final = "127.0.0.1"
_START: Final = 60.0  # seconds that a slow machine may take to import mitmproxy
_STOP: Final = 5.0
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSettings:
    """What the front is told. `folder` is the sandbox's own, in which all else lies; a port of 0 means a free one."""

    orders: Path
    geo: Path | None
    folder: Path
    clock: Path
    operator_url: str
    edge_port: int
    http_port: int = 0
    broken: Measure | None = None
    report_only: bool = False
    audit: Path | None = None
    audit_settings: Settings = field(default_factory=Settings)


@asynccontextmanager
async def run_front(settings: FrontSettings) -> AsyncIterator[int]:
    """Start mitmproxy, yield its port when it answers, and end it on leaving.

    Raises `ConfigError` with mitmproxy's own words when it does not start.
    """
    if importlib.util.find_spec("mitmproxy") is None:
        raise ConfigError("the sandbox needs dnspython and mitmproxy; pip install 'cdnblock[all]'")
    for attempt in range(1, _ATTEMPTS + 1):
        port = settings.http_port or free_port()
        child = await _start(settings, port)
        said: deque[str] = deque(maxlen=40)
        ready = asyncio.Event()
        reading = asyncio.create_task(_read(child, said, ready))
        try:
            if await _listens(reading, ready):
                yield port
                return
            await _end(child)
            await reading
            if attempt == _ATTEMPTS or settings.http_port or not any("address already in use" in line for line in said):
                raise ConfigError(f"mitmproxy did not start:\n{''.join(said)}")
        finally:
            await _end(child)
            reading.cancel()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def _start(settings: FrontSettings, port: int) -> asyncio.subprocess.Process:
    options = {
        "cdnblock_clock": settings.clock,
        "cdnblock_operator_url": settings.operator_url,
        "confdir": settings.folder / "mitmproxy",  # certificates of the sandbox stay in the sandbox
    }
    arguments = [
        *("--orders", settings.orders.absolute(), "--trusted-proxies", LOOPBACK),
        *(() if settings.geo is None else ("--geo", settings.geo.absolute())),
        *(("--report-only",) if settings.report_only else ()),
        *_recording(settings),
        *("-q", "-s", front_script.__file__),
        *("--mode", f"reverse:http://{LOOPBACK}:{settings.edge_port}@{LOOPBACK}:{port}"),
        *(part for name, value in options.items() for part in ("--set", f"{name}={value}")),
    ]
    source = str(Path(front_script.__file__).parents[2])  # the child imports the package from where this one did
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CDNBLOCK_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cdnblock", "mitmproxy", *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,  # the lifeline, see front_script
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=settings.folder,  # where no cdnblock.toml lies
        env={
            **inherited,
            "PYTHONPATH": path,
            front_script.FOLDER: str(settings.folder),
            front_script.BREAK: settings.broken or "",
        },
        start_new_session=True,  # Ctrl-C is for the sandbox, which then ends the front
    )


def _recording(settings: FrontSettings) -> Iterator[str | Path]:
    if settings.audit is not None:
        kept = settings.audit_settings
        yield from ("--audit", settings.audit.absolute(), "--audit-clients", kept.clients, "--audit-fsync", kept.fsync)
        yield from ("--audit-retention", f"{kept.retention // timedelta(seconds=1)}s")


async def _listens(reading: asyncio.Task[None], ready: asyncio.Event) -> bool:
    """Wait until mitmproxy says that it listens; False if it ends first, or takes too long."""
    saying = asyncio.create_task(ready.wait())
    await asyncio.wait({reading, saying}, timeout=_START, return_when=asyncio.FIRST_COMPLETED)
    saying.cancel()
    return ready.is_set()


async def _read(child: asyncio.subprocess.Process, said: deque[str], ready: asyncio.Event) -> None:
    """Read what mitmproxy prints, to its end, so that it never waits for us."""
    assert child.stdout is not None  # noqa: S101 - asked for above
    with contextlib.suppress(ValueError):  # an endless line
        async for line in child.stdout:
            said.append(line.decode(errors="replace"))
            if front_script.READY in said[-1]:
                ready.set()


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        await asyncio.wait_for(child.wait(), _STOP)
    except TimeoutError:
        child.kill()
        await child.wait()
