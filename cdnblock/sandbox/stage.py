"""The stage: origin, edge, name server and the fronts before them, up together, with one clock that can be set."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiohttp import web

from cdnblock.adapters import dns_server
from cdnblock.audit.settings import Settings
from cdnblock.enforcer import Enforcer
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Measure
from cdnblock.sandbox.edge import Edge
from cdnblock.sandbox.front import LOOPBACK, FrontSettings, run_front
from cdnblock.sandbox.origin import Origin
from cdnblock.sandbox.resolver import Resolver
from cdnblock.sandbox.sabotage import forget
from cdnblock.sources import staging_clock
from cdnblock.sources.staging_clock import StagingClock

OPERATOR_URL: Final = "https://edge.example/blocked"
_PATIENCE: Final = 600.0  # seconds that a connection may be idle: a rehearsal may take its time
_NOTICED: Final = 3.0  # seconds within which a follower must have noticed the clock


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """What is staged. `broken` names the measure that is broken on purpose; ports of 0 mean free ones.

    With `report_only` every order is read as one in mode report. `audit` is a folder for two trails: `edge`, with the
    name server's, and `proxy`, mitmproxy's.
    """

    orders: Path
    geo: Path | None = None
    http_port: int = 0
    edge_port: int = 0
    dns_port: int = 0
    broken: Measure | None = None
    report_only: bool = False
    audit: Path | None = None
    audit_settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPorts:
    """Where the fronts listen: for HTTP, and for DNS by UDP and TCP."""

    http: int
    dns: int


class Stage:
    """The running sandbox: the caching edge, and the fronts, mitmproxy before the edge and ours before the resolver."""

    def __init__(self, enforcer: Enforcer, clock: Path, edge_port: int, front: FrontPorts) -> None:
        self.enforcer = enforcer
        self.edge_port = edge_port
        self.front = front
        self._clock = clock
        self._turned = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # Subscribed after the edge, so told after it: what the edge does on a change is done when `_turned` is set.
        enforcer.subscribe(self._after_change)

    async def stop_clock(self, at: datetime) -> None:
        """Make it this instant for everybody, and return when the edge has done what the orders want done then."""
        earlier, later = sorted((self.now(), at))
        self._turned.clear()
        staging_clock.stop_at(self._clock, at.timestamp())
        change = self.enforcer.rules.next_change(earlier)
        if change is not None and change <= later:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._turned.wait(), _NOTICED)

    async def run_clock(self, at: datetime) -> None:
        """Make it this instant, as `stop_clock` does, and let the clock run on from there."""
        await self.stop_clock(at)
        staging_clock.run_from(self._clock, at.timestamp())

    def now(self) -> datetime:
        """Return the staged time."""
        return datetime.fromtimestamp(StagingClock(self._clock)(), UTC)

    def _after_change(self, _old: RuleSet, _new: RuleSet) -> None:
        self._loop.call_soon_threadsafe(self._turned.set)


@asynccontextmanager
async def open_stage(settings: StageSettings) -> AsyncIterator[Stage]:
    """Start everything, with the clock standing in 1970, before any order; take everything down on leaving.

    Raises `OrderError` and `ConfigError` as `Enforcer` does, and `ConfigError` when the front does not start.
    """
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="cdnblock-sandbox-", ignore_cleanup_errors=True))
        )
        staging_clock.stop_at(folder / "clock", 0.0)
        clock = StagingClock(folder / "clock")
        enforcer = stack.enter_context(
            Enforcer(
                settings.orders,
                geo=settings.geo,
                trusted_proxies=[LOOPBACK],
                report_only=settings.report_only,
                audit=None if settings.audit is None else settings.audit / "edge",
                audit_settings=settings.audit_settings,
                clock=clock,
            )
        )
        if settings.broken is not None:
            forget(settings.broken)
        origin_port = await stack.enter_async_context(_serve_origin())
        edge = Edge(f"http://{LOOPBACK}:{origin_port}", enforcer, clock=clock, operator_url=OPERATOR_URL)
        edge_port = await stack.enter_async_context(edge.serve(LOOPBACK, settings.edge_port))
        dns_port = await stack.enter_async_context(_serve_dns(enforcer, settings.dns_port))
        http_port = await stack.enter_async_context(
            run_front(
                FrontSettings(
                    orders=settings.orders,
                    geo=settings.geo,
                    folder=folder,
                    clock=folder / "clock",
                    operator_url=OPERATOR_URL,
                    edge_port=edge_port,
                    http_port=settings.http_port,
                    broken=settings.broken,
                    report_only=settings.report_only,
                    audit=None if settings.audit is None else settings.audit / "proxy",
                    audit_settings=settings.audit_settings,
                )
            )
        )
        yield Stage(enforcer, folder / "clock", edge_port, FrontPorts(http=http_port, dns=dns_port))


@asynccontextmanager
async def _serve_dns(enforcer: Enforcer, port: int) -> AsyncIterator[int]:
    """Serve our DNS front before the resolver that knows every name; probes tell their place by a client subnet."""
    resolver = Resolver()
    settings = dns_server.FrontSettings(
        listen=((LOOPBACK, port),),
        upstreams=((LOOPBACK, await resolver.start(LOOPBACK)),),
        trusted_forwarders=(LOOPBACK,),
        limits=dns_server.StreamLimits(idle=_PATIENCE),
    )
    try:
        async with dns_server.serve_front(settings, enforcer) as front:
            yield front.addresses[0][1]
    finally:
        resolver.close()


@asynccontextmanager
async def _serve_origin() -> AsyncIterator[int]:
    runner = web.AppRunner(Origin().application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
