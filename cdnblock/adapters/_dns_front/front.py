"""The whole front of one process: judge, upstreams and listeners, as `cdnblock dns` sets them up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cdnblock.adapters._dns_front.circles import asks_itself
from cdnblock.adapters._dns_front.encrypted import EncryptedSettings, serve_encrypted
from cdnblock.adapters._dns_front.memos import Decides
from cdnblock.adapters._dns_front.peers import Address
from cdnblock.adapters._dns_front.queries import QueryJudge
from cdnblock.adapters._dns_front.server import DnsServer
from cdnblock.adapters._dns_front.streams import StreamLimits
from cdnblock.adapters._dns_front.upstreams import Upstreams
from cdnblock.errors import ConfigError

_OWN_FILES: Final = 96  # what a process needs besides its connections
_UPSTREAM_FILES: Final = 24  # sockets that one upstream may have, old and new
_NO_NEWS: Final = ("SSL connection is closed", "socket.send() raised exception.")
_LOG: Final = logging.getLogger("cdnblock.adapters.dns_server")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSettings:
    """What the front is told; all of it can be sent to another process. `timeout` is in seconds.

    `geo` and `clock` are files, None for the table in the package and for the real time. These two and `report_only` are
    what the enforcer is made with.
    """

    listen: tuple[Address, ...]
    upstreams: tuple[Address, ...]
    timeout: float = 3.0
    outstanding: int = 16_384
    retry_truncated: bool = False
    trusted_forwarders: tuple[str, ...] = ()
    load_balancers: tuple[str, ...] = ()
    contact: str | None = None
    fails_open: bool = False
    limits: StreamLimits = field(default_factory=StreamLimits)
    encrypted: EncryptedSettings = field(default_factory=EncryptedSettings)
    geo: Path | None = None
    report_only: bool = False
    clock: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A front that serves: where it listens, and a function that returns its counters as JSON has them."""

    addresses: tuple[Address, ...]
    metrics: Callable[[], dict[str, object]]


@asynccontextmanager
async def serve_front(settings: FrontSettings, decides: Decides, *, reuse_port: bool = False) -> AsyncIterator[Front]:
    """Serve until the context ends.

    Raises:
        ConfigError: an address cannot be listened on, a network is none, or a certificate is not usable.

    """
    for host, port in settings.listen:
        for upstream in settings.upstreams:
            if asks_itself((host, port), upstream):
                raise ConfigError(f"the front would ask itself: {upstream[0]} port {port} is listened on, too")
    judge = QueryJudge(
        decides,
        contact=settings.contact,
        trusted_forwarders=settings.trusted_forwarders,
        fails_open=settings.fails_open,
    )
    upstreams = Upstreams(
        settings.upstreams,
        timeout=settings.timeout,
        outstanding=settings.outstanding,
        retry_truncated=settings.retry_truncated,
        amend=judge.amend,
    )
    server = DnsServer(
        judge,
        upstreams,
        listen=settings.listen,
        load_balancers=settings.load_balancers,
        limits=settings.limits,
        reuse_port=reuse_port,
    )
    encrypted = serve_encrypted(settings.encrypted, judge, upstreams, settings.limits, reuse_port=reuse_port)
    async with upstreams, server.serve() as addresses, encrypted as counted:
        yield Front(addresses=addresses, metrics=lambda: server.metrics() | counted())


def fitting(settings: FrontSettings) -> FrontSettings:
    """Return the settings with no more connections than the process may have open files; say so when that is fewer."""
    try:
        import resource  # noqa: PLC0415 (not to be had everywhere)
    except ImportError:
        return settings
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    encrypted = settings.encrypted
    kinds = 1 + bool(encrypted.tls) + bool(encrypted.https or encrypted.http)
    most = max(1, (files - _OWN_FILES - _UPSTREAM_FILES * len(settings.upstreams)) // kinds)
    if files == resource.RLIM_INFINITY or most >= settings.limits.connections:
        return settings
    _LOG.warning("cdnblock: %d open files are enough for %d connections of each kind, not more", files, most)
    return replace(settings, limits=replace(settings.limits, connections=most))


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run an event loop: uvloop's where it is installed."""
    make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 (an extra, and not to be had everywhere)

        make = uvloop.new_event_loop
    logging.getLogger("asyncio").addFilter(_is_news)
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main)


def _is_news(record: logging.LogRecord) -> bool:
    """Tell it of what event loops log: that clients go before their answers is none, and they choose how often."""
    return record.msg not in _NO_NEWS
