"""Which names an engine is asked for after a change, and as whom: as a client inside the territory, and one outside."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import islice
from typing import Final, Protocol

from cdnblock.engines._engine import DownError, NotTakenError
from cdnblock.exporters import Exporter, ListableTable
from cdnblock.exporters._exporter import Cannot
from cdnblock.exporters._plan import Group, Plan
from cdnblock.geo.addresses import IPV4
from cdnblock.matching.decision import Decision
from cdnblock.verification.clients import Client, Told
from cdnblock.verification.comparing import Finding, compare_now
from cdnblock.verification.expecting import Promises
from cdnblock.verification.servers import Server

PATIENCE: Final = 30.0  # seconds that an engine has until it answers as decided: nginx takes 14 for a million names

_OF_A_KIND: Final = 2  # names asked for of those that changed alike
_MOST_CHANGED: Final = 16
_MOST_STEADY: Final = 8
_MOST_COUNTRIES: Final = 4  # in which a client is made up
_STRANGER: Final = "nobody.cdnblock.invalid"  # a host that no order names
_NOWHERE: Final = "100.64.0.7"  # RFC 6598: behind a carrier's NAT, in no country
_ANSWER: Final = 5.0  # seconds for one answer
_SHOWN: Final = 3  # findings that a message holds

Decide = Callable[[str, str | None], Decision]


class Table(ListableTable, Protocol):
    """A country table that can be asked and listed."""

    def locate(self, address: str) -> str | None:
        """Return the country of an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prober:
    """Asks a running engine as its clients do. `clients` are those that the operator named, none for made-up ones.

    `told` is how the engine believes this machine where a client is, None if it does not.
    """

    server: Server
    exporter: Exporter
    table: Table
    clients: Sequence[Client] = ()
    told: Told | None = None
    patience: float = PATIENCE
    _found: dict[tuple[str, ...], tuple[Client, ...]] = field(default_factory=dict)

    @property
    def _promises(self) -> Promises:
        """What has to be there for a change to have arrived; whether an answer also says why is for `verify`."""
        return replace(Promises.of(self.exporter), ede=False, negative_ttl=None, link=False)

    def answers(self) -> bool:
        """Tell whether somebody takes connections there."""
        with suppress(OSError), socket.create_connection((self.server.host, self.server.port), _ANSWER):
            return True
        return False

    def require(self, before: Plan | None, after: Plan, decide: Decide, patience: float | None = None) -> None:
        """Return when the engine answers as decided; `before` is the plan that it went by, None where nobody knows.

        Raises:
            NotTakenError: it still answers otherwise after `patience` (s).
            DownError: it does not answer at all.

        """
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        names, clients = names_to_ask(before, after), self._asking(after)
        pause = 0.01
        while True:
            findings, down = self._ask(names, clients, decide)
            if not findings and down is None:
                return
            if time.monotonic() > deadline:
                break
            if findings:
                names = [*dict.fromkeys(finding.probe.name for finding in findings)]
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)
        if down is not None:
            raise DownError(f"nobody answers at {self.server}: {down}")
        more = f"; and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
        raise NotTakenError(
            f"{self.server} answers otherwise than decided: {'; '.join(map(str, findings[:_SHOWN]))}{more}"
        )

    def _ask(
        self, names: Sequence[str], clients: Sequence[Client], decide: Decide
    ) -> tuple[Sequence[Finding], OSError | None]:
        def decided(name: str, country: str | None) -> Decision:
            return as_carried(decide(name, country), self.exporter)

        try:
            found = compare_now(
                self.server, names=names, clients=clients, decide=decided, promises=self._promises,
                patience=_ANSWER,
            )  # fmt: skip
        except OSError as error:
            return (), error
        return found, None

    def _asking(self, plan: Plan) -> Sequence[Client]:
        if not self.clients and plan.countries not in self._found:
            self._found[plan.countries] = self._made_up(plan)
        return self.clients or self._found[plan.countries]

    def _made_up(self, plan: Plan) -> tuple[Client, ...]:
        """Return a client in each of some countries that the orders mention, one elsewhere and one of nowhere."""
        if self.told is None:
            address = _own_address(self.server)
            country = None if address is None else self.table.locate(address)
            return (Client(label="this machine", country=country, address=None),)
        wanted = [*plan.countries[:_MOST_COUNTRIES]]
        found = {country: address for address, country in _one_of_each(self.table, wanted, plan.countries)}
        clients: list[tuple[str, str | None, str]] = [(code, code, found[code]) for code in wanted if code in found]
        clients += [(f"outside, {code}", code, address) for code, address in found.items() if code not in wanted]
        clients.append(("nowhere", None, _NOWHERE))
        return tuple(
            Client(label=label, country=country, address=address, told=self.told) for label, country, address in clients
        )


def names_to_ask(before: Plan | None, after: Plan) -> list[str]:
    """Return some names of each kind of change, then some of each group that stayed, then one that nobody names."""
    changed: dict[tuple[str, str], list[str]] = {}
    if before is not None:
        for name, old, new in _changes(before, after):
            alike = changed.setdefault((old, new), [])
            if len(alike) < _OF_A_KIND:
                alike.append(name)
    first = list(islice((name for names in changed.values() for name in names), _MOST_CHANGED))
    steady: dict[str, str] = {}
    for name, group in (*after.exact.items(), *after.suffixes.items()):
        if group is not None and group.id not in steady and len(steady) < _MOST_STEADY:
            steady[group.id] = name
    return [*dict.fromkeys((*first, *steady.values(), _STRANGER))]


def as_carried(decision: Decision, exporter: Exporter) -> Decision:
    """Return a decision as far as a target can carry it: what it cannot was agreed to with `--partial`."""
    measures = {}
    for measure, variant in decision.measures.items():
        carriage = exporter.carries.get((measure, variant))
        given = carriage.instead if isinstance(carriage, Cannot) else variant
        if given is not None:
            measures[measure] = given
    return replace(decision, measures=measures)


def _changes(before: Plan, after: Plan) -> Iterator[tuple[str, str, str]]:
    """Yield each host of the tables that fares otherwise, with its group of before and of now; those of now first."""
    for tables in ((after.suffixes, before.suffixes), (after.exact, before.exact)):
        for one, other in (tables, tables[::-1]):
            for name, group in one.items():
                if name not in other or _id(other[name]) != _id(group):
                    old, new = _id(before.group_of(name)), _id(after.group_of(name))
                    if old != new:
                        yield name, old, new


def _id(group: Group | None) -> str:
    return group.id if group else ""


def _own_address(server: Server) -> str | None:
    """Return the address of this machine that a server sees."""
    with suppress(OSError):
        family, kind, protocol, _, address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as asking:
            asking.connect(address)
            return str(asking.getsockname()[0])
    return None


def _one_of_each(table: Table, wanted: Sequence[str], named: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield an address of each wanted country, and of one that no order names."""
    open_ones, outside = {*wanted}, True
    for interval in table.as_intervals().intervals(IPV4):
        country = interval.country
        if country is None or not (country in open_ones or (outside and country not in named)):
            continue
        address = str(IPv4Address((interval.start + interval.end) // 2))
        if table.locate(address) != country:
            continue
        yield address, country
        if country in open_ones:
            open_ones.discard(country)
        else:
            outside = False
        if not open_ones and not outside:
            return
