"""Asks an engine as its clients do: after a change and now and then, inside the territory and outside."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from random import randrange
from typing import Final, Protocol

from cdnblock.engines._blame import Actions, Blame, Own, blamed
from cdnblock.engines._engine import DownError, NotTakenError
from cdnblock.engines._samples import STRANGER, Sample, in_turn, sample
from cdnblock.exporters import Exporter, ListableTable
from cdnblock.exporters._exporter import Cannot
from cdnblock.exporters._plan import Plan
from cdnblock.geo.addresses import IPV4
from cdnblock.matching.decision import Decision
from cdnblock.verification.clients import Client, Told
from cdnblock.verification.comparing import compare_now
from cdnblock.verification.expecting import Promises
from cdnblock.verification.findings import Finding
from cdnblock.verification.servers import Server

PATIENCE: Final = 30.0  # seconds that an engine has until it answers as decided: nginx takes 14 for a million names

_MOST_COUNTRIES: Final = 4  # in which a client is made up
_NOWHERE: Final = "100.64.0.7"  # RFC 6598: behind a carrier's NAT, in no country
_ANSWER: Final = 2.0  # seconds for one answer: what an engine says itself comes sooner, and a slow site's is no matter
_SHOWN: Final = 3  # findings that a message holds
_GRAVITY: Final = (Blame.SITE, Blame.WORDS, Blame.DOUBT, Blame.ENGINE)
_MOST_KNOWN: Final = 64  # names that are known to get something else and asked for at each look

Decide = Callable[[str, str | None], Decision]
Judged = tuple[Finding, Blame]
_Key = tuple[str, str]  # a name, and as whom it was asked for


class Table(ListableTable, Protocol):
    """A country table that can be asked and listed."""

    def locate(self, address: str) -> str | None:
        """Return the country of an address."""


@dataclass(slots=True, kw_only=True)
class Prober:
    """Asks a running engine as its clients do. `clients` are those that the operator named, none for made-up ones.

    `told` is how the engine believes this machine where a client is, None if it does not. `own` is a request that it
    answers itself. `says_why`: its refusals carry an extended error; `links`: its notices say who blocks.
    """

    server: Server
    exporter: Exporter
    table: Table
    clients: Sequence[Client] = ()
    told: Told | None = None
    patience: float = PATIENCE
    own: Own | None = None
    says_why: bool = False
    links: bool = False
    _found: dict[tuple[str, ...], tuple[Client, ...]] = field(default_factory=dict)
    _known: dict[_Key, str] = field(default_factory=dict)  # what single names get otherwise, in words
    _turn: int = field(default_factory=lambda: randrange(1 << 30))  # noqa: S311 (so that runs that ask once do not all ask the same)

    @property
    def _promises(self) -> Promises:
        """What has to be there for a change to have arrived; how long an answer may be kept is for `verify`."""
        promises = Promises.of(self.exporter)
        return replace(promises, ede=self.says_why, negative_ttl=None, link=self.links, orders=True)

    def answers(self) -> bool:
        """Tell whether somebody takes connections there."""
        with suppress(OSError), socket.create_connection((self.server.host, self.server.port), _ANSWER):
            return True
        return False

    def look(self, plan: Plan, decide: Decide, patience: float, *, written: Iterable[str] | None = None) -> list[str]:
        """Do what `require` does with nothing changed, for the names as well whose turn it is.

        `written` are names that may be new to the engine, where nobody knows what it went by.
        """
        turns, self._turn = in_turn(plan, self._turn)
        turns += [*dict.fromkeys(name for name, _ in self._known)][:_MOST_KNOWN]
        return self._require(sample(None, plan, written=written, turns=turns), None, plan, decide, patience)

    def require(
        self,
        before: Plan | None,
        after: Plan,
        decide: Decide,
        patience: float | None = None,
        *,
        written: Iterable[str] | None = None,
    ) -> list[str]:
        """Return when the engine answers as decided, or only single names do not: then with what is wrong with these.

        `before` is the plan that it went by, None where nobody knows; `written` are the names in what its files say
        otherwise. An engine that goes by the new files for one name of those that changed has taken them, and if then
        another name is not as decided, that is no reason to take the orders of all others back.

        Raises:
            NotTakenError: nothing that changed is as decided after `patience` (s), or most of what did not change is not.
            DownError: it does not answer at all.

        """
        patience = self.patience if patience is None else patience
        return self._require(sample(before, after, written=written), before, after, decide, patience)

    def _require(self, some: Sample, before: Plan | None, after: Plan, decide: Decide, patience: float) -> list[str]:
        deadline = time.monotonic() + patience
        clients, actions = self._asking(after), _actions_of(before, after)
        names, pause = some.names, 0.01
        found: dict[_Key, tuple[Finding, Blame]] = {}
        while True:
            asked, down = self._ask(names, clients, decide, actions)
            gravest_last = sorted(asked, key=lambda judged: _GRAVITY.index(judged[1]))
            found = {_key(finding): (finding, blame) for finding, blame in gravest_last}
            new = [key for key in found if key not in self._known or key[0] in some.changed]
            if down is None and not new:
                break
            if time.monotonic() > deadline:
                break
            if new:
                names = [*dict.fromkeys(name for name, _ in found)]
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)
        if down is not None:
            raise DownError(f"nobody answers at {self.server}: {down}")
        self._judge(some, found, _moving(before, after), lambda names: self._ask(names, clients, decide, actions)[0])
        asked_now = {*some.names}
        self._known = {key: said for key, said in self._known.items() if key[0] not in asked_now} | {
            key: f"{finding} ({blame.value})" for key, (finding, blame) in found.items()
        }
        return [*self._known.values()]

    def _judge(
        self,
        some: Sample,
        found: Mapping[_Key, Judged],
        moves: Callable[[Finding], bool],
        ask: Callable[[Sequence[str]], Sequence[Judged]],
    ) -> None:
        """Raise NotTakenError where the engine itself is wrong, and not only what single names get.

        What is in doubt speaks against it for clients who fare otherwise than before; a site that imitates it for others
        does not.
        """

        def wrong(asked: Iterable[Judged]) -> set[str]:
            return {
                finding.probe.name
                for finding, blame in asked
                if blame is Blame.ENGINE or (blame is Blame.DOUBT and moves(finding))
            }

        new = {key: (finding, blame) for key, (finding, blame) in found.items() if blame is not Blame.WORDS}
        arrived = {*some.changed} - wrong(new.values())
        if some.changed and not arrived and some.reserve:
            arrived = {*some.reserve} - wrong(ask(some.reserve))
        proven = {key for key, (_, blame) in new.items() if blame is Blame.ENGINE and key not in self._known}
        steady = {name for name, _ in proven} & {*some.steady}
        everybody = any(name == STRANGER for name, _ in proven)
        if (some.changed and not arrived) or 2 * len(steady) > len(some.steady) or everybody:
            told = [str(finding) for finding, _ in new.values()]
            more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
            raise NotTakenError(f"{self.server} answers otherwise than decided: {'; '.join(told[:_SHOWN])}{more}")

    def _ask(
        self, names: Sequence[str], clients: Sequence[Client], decide: Decide, actions: Actions
    ) -> tuple[Sequence[Judged], OSError | None]:
        def decided(name: str, country: str | None) -> Decision:
            return as_carried(decide(name, country), self.exporter)

        try:
            found = compare_now(
                self.server, names=names, clients=clients, decide=decided, promises=self._promises,
                patience=_ANSWER,
            )  # fmt: skip
        except OSError as error:
            return (), error
        told = blamed(found, self.server, self.own, self._promises, actions, _ANSWER)
        return [(finding, blame) for finding, blame in told if blame is not Blame.SITE], None

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


def _moving(before: Plan | None, after: Plan) -> Callable[[Finding], bool]:
    """Return what tells whether the client of a finding is to fare otherwise than before; if nobody knows, than free."""

    def outcome(plan: Plan | None, finding: Finding) -> str:
        group = None if plan is None else plan.group_of(finding.probe.name)
        found = group and plan and group.outcomes.get(plan.place_of(finding.probe.client.country))
        return found.id if found else ""

    return lambda finding: outcome(before, finding) != outcome(after, finding)


def _key(finding: Finding) -> _Key:
    return finding.probe.name, finding.probe.client.label


def _actions_of(*plans: Plan | None) -> Actions:
    """Return what tells what is, or was, done about a name anywhere."""

    def actions(name: str) -> set[str]:
        groups = (plan.group_of(name) for plan in plans if plan is not None)
        return {outcome.action("") for group in groups if group for outcome in group.outcomes.values()}

    return actions


def as_carried(decision: Decision, exporter: Exporter) -> Decision:
    """Return a decision as far as a target can carry it: what it cannot was agreed to with `--partial`."""
    measures = {}
    for measure, variant in decision.measures.items():
        carriage = exporter.carries.get((measure, variant))
        given = carriage.instead if isinstance(carriage, Cannot) else variant
        if given is not None:
            measures[measure] = given
    return replace(decision, measures=measures)


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
