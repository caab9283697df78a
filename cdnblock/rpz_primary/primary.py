"""The primary as a whole: an enforcer's orders as zones, on some addresses, and everybody told who is to be told.

async with serve_primary(settings, enforcer) as primary:
print(primary.addresses)
await asyncio.Event().wait()
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cdnblock.adapters._dns_front.peers import Address
from cdnblock.enforcer import Enforcer
from cdnblock.errors import UnsupportedError
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.rpz_primary.keys import Keys
from cdnblock.rpz_primary.notifying import Notifier, Secondary
from cdnblock.rpz_primary.policies import Clients
from cdnblock.rpz_primary.publisher import Pace, Publisher, refusals
from cdnblock.rpz_primary.requests import Access, Desk
from cdnblock.rpz_primary.server import Limits, PrimaryServer
from cdnblock.rpz_primary.updating import Target, Updater
from cdnblock.rpz_primary.zone_sets import Zone


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimarySettings:
    """What the operator says. `folder` is where zones are kept, for this primary alone.

    `refuses_otherwise` agrees that names which are to be REFUSED are answered NXDOMAIN: policy zones know no REFUSED.
    `suffix` stands behind the zones' short names, such as `.cdnblock`.
    """

    listen: tuple[Address, ...]
    clients: tuple[Clients, ...]
    folder: Path
    keys: Keys = field(default_factory=dict)
    secondaries: tuple[Secondary, ...] = ()
    targets: tuple[Target, ...] = ()
    allowed: tuple[str, ...] = ()
    suffix: str = ""
    refuses_otherwise: bool = False
    pace: Pace = field(default_factory=Pace)
    limits: Limits = field(default_factory=Limits)


class Primary:
    """A primary that is serving."""

    def __init__(self, publisher: Publisher, desk: Desk, server: PrimaryServer, addresses: tuple[Address, ...]) -> None:
        self.addresses = addresses
        self._publisher = publisher
        self._desk = desk
        self._server = server
        self.notifier: Notifier | None = None
        self.updaters: tuple[Updater, ...] = ()

    @property
    def zones(self) -> Iterable[Zone]:
        """The zones that are served."""
        return self._publisher.zones.values()

    def status(self) -> dict[str, Any]:
        """Return state and counters as JSON has them."""
        counters = asdict(self._desk.counters) | {"connections": self._server.connections}
        notified = dict(self.notifier.counters) if self.notifier is not None else {}
        updates = {"updates": [updater.status() for updater in self.updaters]} if self.updaters else {}
        return self._publisher.status() | counters | notified | updates


@asynccontextmanager
async def serve_primary(
    settings: PrimarySettings, enforcer: Enforcer, clock: Callable[[], float] = time.time
) -> AsyncIterator[Primary]:
    """Serve until leaving.

    Raises:
        ConfigError: an address or the folder cannot be used.
        UnsupportedError: an order wants REFUSED, and nobody agreed to anything else.

    """
    if not settings.refuses_otherwise and (objections := refusals(enforcer.rules)):
        raise UnsupportedError("\n".join(objections))
    unsigned = [secondary.address[0] for secondary in settings.secondaries if secondary.key is None]
    access = Access(keys=settings.keys, addresses=TrustedProxies([*settings.allowed, *unsigned]))
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        publisher = await asyncio.to_thread(
            lambda: Publisher(
                enforcer,
                settings.clients,
                settings.folder,
                suffix=settings.suffix,
                pace=settings.pace,
                clock=clock,
                refuses_otherwise=settings.refuses_otherwise,
            )
        )
        stack.push_async_callback(asyncio.to_thread, publisher.close)
        desk = Desk(publisher.zones, access)
        server = PrimaryServer(desk, listen=settings.listen, limits=settings.limits)
        addresses = await stack.enter_async_context(server.serve())
        primary = Primary(publisher, desk, server, addresses)
        notifier = primary.notifier = Notifier(settings.secondaries, server.datagrams)
        server.heard = notifier.heard
        stack.callback(notifier.close)
        primary.updaters = tuple(Updater(target, [*publisher.zones.values()]) for target in settings.targets)
        for updater in primary.updaters:
            stack.push_async_callback(asyncio.to_thread, updater.close)

        def tell(zones: Sequence[Zone]) -> None:
            notifier.tell([(zone.clients, zone.wire, zone.version.serial) for zone in zones])

        def published(zones: list[Zone]) -> None:
            for updater in primary.updaters:
                updater.wake()
            loop.call_soon_threadsafe(tell, zones)

        tell([*publisher.zones.values()])
        publisher.start(published)
        enforcer.report("rpz_primary", primary.status)
        yield primary
