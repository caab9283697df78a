"""Rules, place and time behind one method: what proxy code imports.

with Enforcer("orders/", trusted_proxies=["10.0.0.0/8"]) as enforcer:
    decision = enforcer.decide("www.motogpstream.me", "90.84.144.1")
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

from cdnblock.errors import Problem
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.geo.country import CountryTable, Location, locate
from cdnblock.matching.coverage import Coverage
from cdnblock.matching.decision import Decision
from cdnblock.matching.ruleset import RuleSet, Uncovered
from cdnblock.sources.follower import Follower
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.live_orders import LiveOrders

_MEMO_SIZE: Final = 65_536  # addresses; about 10 MB when full
_MEMO_MAX_ADDRESS: Final = 64  # longer than any address; longer texts are hostile and not remembered

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
Subscriber: TypeAlias = Callable[[RuleSet, RuleSet], None]


class Enforcer:
    """Loads an orders folder, follows its changes, and decides.

    `orders` is a folder of order files (or one file); `geo` an MMDB file, a table of your own, or None for the dated
    table in the package; `trusted_proxies` the networks whose forwarded headers are believed, `client_header` the
    one header they use. `follow=False` loads once. `clock` gives seconds since 1970 and is there for staging.

    `decide` never blocks, never does I/O and never raises; it may be called from any number of threads.

    Raises:
        OrderError: an order file is invalid; `.problems` lists everything.
        ConfigError: a path, network or geo table is not usable.

    """

    def __init__(
        self,
        orders: Path | str,
        *,
        geo: Path | str | CountryTable | None = None,
        trusted_proxies: Iterable[str] = (),
        client_header: str | None = None,
        follow: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = open_geo_table(geo) if geo is None or isinstance(geo, (str, Path)) else geo
        self._proxies = TrustedProxies(trusted_proxies, header=client_header)
        self._clock = clock
        self._locations: dict[str, Location] = {}
        self._subscribers: list[Subscriber] = []
        self._subscribing = threading.Lock()
        self._live = LiveOrders(orders)
        self._rules = self._live.rules
        self._follower = Follower(self._live, clock, self._changed) if follow else None

    @property
    def rules(self) -> RuleSet:
        """What is enforced now."""
        return self._rules

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files as they are now, warnings included."""
        return self._live.problems

    @property
    def geo(self) -> CountryTable:
        """The table that tells the country."""
        return self._table

    def decide(self, host: str | bytes, client: str | None) -> Decision:
        """Return the decision for a request now.

        `host` in any spelling that a URL or a Host field may have, `client` the client's address as text (see
        `client_address`), None when it is not known. What is no address has no country. Never raises.
        """
        return self._decide(self._rules.find(host), client)

    def decide_query_name(self, name: str, client: str | None) -> Decision:
        """Return the decision for a DNS query now; `name` as `names.canonical_query_name` takes it. Never raises."""
        return self._decide(self._rules.find_query_name(name), client)

    def client_address(self, peer: str | None, headers: Headers = ()) -> str | None:
        """Return the client's address: the peer, or what trusted proxies say of it. Never raises."""
        return self._proxies.client_address(peer, headers)

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback(old, new)` after each change; return the function that ends it.

        Called on the follower's thread when the files have changed, and with `old is new` at each instant at which
        an order starts, ends, or opens or closes a window: whatever still runs may have to be cut then.
        """
        with self._subscribing:
            self._subscribers.append(callback)

        def unsubscribe() -> None:
            with self._subscribing:
                if callback in self._subscribers:
                    self._subscribers.remove(callback)

        return unsubscribe

    def close(self) -> None:
        """Stop following; decisions go on with the rules as they are."""
        if self._follower is not None:
            self._follower.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decide(self, coverage: Coverage | Uncovered, client: str | None) -> Decision:
        if isinstance(coverage, Uncovered):
            return coverage.decision
        country, told_by = self._locate(client)
        return coverage.decide(country, told_by, self._clock())

    def _locate(self, client: str | None) -> Location:
        try:
            return self._locations[client]  # type: ignore[index]  # None is never a key: that is the point
        except KeyError:
            pass
        except TypeError:  # unhashable, so no text
            return locate(self._table, None)
        location = locate(self._table, client if isinstance(client, str) else None)
        if isinstance(client, str) and len(client) <= _MEMO_MAX_ADDRESS:
            if len(self._locations) >= _MEMO_SIZE:
                self._locations.clear()
            self._locations[client] = location
        return location

    def _changed(self, old: RuleSet, new: RuleSet) -> None:
        self._rules = new
        with self._subscribing:
            subscribers = tuple(self._subscribers)
        for callback in subscribers:
            callback(old, new)
