"""What the sandbox's tests share: an origin and an edge on loopback, and clients in France and Germany."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from order_texts import order_text

from cdnblock.enforcer import Enforcer
from cdnblock.sandbox.edge import Edge
from cdnblock.sandbox.origin import Origin
from cdnblock.sources.staging_clock import StagingClock, stop_at

FRANCE, GERMANY, NOWHERE = "90.84.144.1", "80.187.0.1", "203.0.113.7"
BEGINS, ENDS = 1_743_663_600.0, 7_100_434_800.0  # 2025-04-03T09:00 and 2195-01-01, 24:00, in Paris
OPERATOR = "https://edge.example/blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client got; `number` is the origin's, empty when the answer is not from there."""

    status: int
    state: str
    number: str
    headers: aiohttp.typedefs.LooseHeaders
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A running edge and a way to ask it."""

    url: str
    edge: Edge
    enforcer: Enforcer
    orders: Path
    clock: Path
    session: aiohttp.ClientSession

    async def ask(self, host: str, client: str, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        asked = {"Host": host, "X-Forwarded-For": client, **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self.session.request(method, self.url + path, headers=asked, allow_redirects=False) as response:
            return Answer(
                status=response.status,
                state=response.headers.get("X-Cache", ""),
                number=response.headers.get("X-Answer", ""),
                headers=response.headers,
                body=await response.read(),
            )


@asynccontextmanager
async def staged(
    folder: Path, site: web.Application | None = None, at: float = BEGINS + 86_400, **changes: str
) -> AsyncIterator[Staged]:
    """Start an origin and an edge that enforces one order (`order_text`), at an instant of its life."""
    orders, clock = folder / "orders", folder / "clock"
    orders.mkdir()
    (orders / "order.yaml").write_text(order_text(**changes), encoding="utf-8")
    stop_at(clock, at)
    runner = web.AppRunner(Origin().application() if site is None else site, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    timer = StagingClock(clock)
    with Enforcer(orders, trusted_proxies=["127.0.0.1"], clock=timer) as enforcer:
        edge = Edge(f"http://127.0.0.1:{runner.addresses[0][1]}", enforcer, clock=timer, operator_url=OPERATOR)
        async with edge.serve() as port, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield Staged(
                url=f"http://127.0.0.1:{port}",
                edge=edge,
                enforcer=enforcer,
                orders=orders,
                clock=clock,
                session=session,
            )
    await runner.cleanup()


async def eventually(holds: Callable[[], Awaitable[bool]], within: float = 5.0) -> bool:
    """Wait until something holds; False if it does not in time (seconds)."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if await holds():
            return True
        await asyncio.sleep(0.02)
    return False
