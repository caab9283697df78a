"""Compares what a server does with what was decided, name by name.

    findings = compare_now(Edge(host="127.0.0.1", port=8080), names, clients, decide)

An empty list: as decided.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from cdnblock.matching.decision import Decision
from cdnblock.orders.model import Measure
from cdnblock.verification.answers import Answer, Nothing
from cdnblock.verification.asking import ask, speaks_http2
from cdnblock.verification.clients import Client
from cdnblock.verification.controls import Origin, Seen, among, beside
from cdnblock.verification.dns_judging import judge_dns
from cdnblock.verification.expecting import Difference, Judgement, Known, Promises, Unjudged
from cdnblock.verification.findings import Finding, Open, Result, told
from cdnblock.verification.http_judging import judge_http
from cdnblock.verification.probes import FORMS, Form, Kind, Probe, Way
from cdnblock.verification.servers import Edge, Resolver, Server, resolved

STRANGER: Final = "nobody-has-this.cdnblock-verify.invalid"
"""A name that no order names and nobody has (RFC 6761 §6.4): what a server gives for it, it gives for any such name."""

PATIENCE: Final = 5.0  # seconds for one answer
_AGAIN: Final = 3  # times that a probe is put again because the decision changed meanwhile
_AT_ONCE: Final = 8  # names

Decide: TypeAlias = Callable[[str, str | None], Decision]
"""Given a canonical name and a country, None if it cannot be told, what is decided now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A name, what it is to the orders, and the further forms in which it is asked for by each way.

    Otherwise than `as_every_client` it is asked for by one client of each kind that the decision knows.
    """

    name: str
    kind: Kind = Kind.NAMED
    more: Mapping[Way, tuple[Form, ...]] = field(default_factory=dict)
    as_every_client: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a server is asked, with `rate` probes a second at most, 0 for any.

    `reference` is an unfiltered resolver, `origin` where an edge gets the sites from.

    `unsettled` tells how many seconds a difference about a name has to be given, because the orders have just changed.
    """

    clients: Sequence[Client]
    ways: Sequence[Way]
    promises: Promises = field(default_factory=Promises)
    patience: float = PATIENCE
    reference: Resolver | None = None
    origin: Edge | None = None
    rate: float = 0.0
    unsettled: Callable[[str, str | None], float] = lambda _name, _country: 0.0


def compare_now(
    server: Server,
    names: Iterable[str],
    clients: Sequence[Client],
    decide: Decide,
    *,
    promises: Promises | None = None,
    ways: Sequence[Way] | None = None,
    patience: float = PATIENCE,
) -> list[Finding]:
    """Return `compare`'s findings, from a thread without an event loop."""
    return asyncio.run(compare(server, names, clients, decide, promises=promises, ways=ways, patience=patience))


async def compare(
    server: Server,
    names: Iterable[str],
    clients: Sequence[Client],
    decide: Decide,
    *,
    promises: Promises | None = None,
    ways: Sequence[Way] | None = None,
    patience: float = PATIENCE,
) -> list[Finding]:
    """Ask for each name as each client, then as the first again, and return what is not as decided.

    What one client put into a cache shows with the next. What may be the site's own doing is among the findings.

    Raises:
        OSError: nobody is there, or a client's address is none of this machine's.

    """
    how = How(clients=clients, ways=ways or ways_of(server), promises=promises or Promises(), patience=patience)
    examiner = Examiner(server, decide, how)
    await examiner.prepare()
    subjects = iter([Subject(name=name) for name in names])
    findings: list[Finding] = []

    async def work() -> None:
        for subject in subjects:
            async for found in examiner.examine(subject):
                if isinstance(found, Finding):
                    findings.append(found)
                elif isinstance(found, Open) and found.alarming and found.suspect is not None:
                    findings.append(found.suspect)

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    return findings


def ways_of(server: Server) -> tuple[Way, ...]:
    """Return by which ways a server is asked, if nothing else is said: HTTP/2 over TLS, where h2 is installed."""
    if isinstance(server, Resolver):
        return (Way.UDP, Way.TCP)
    return (Way.HTTP1, Way.HTTP2) if server.tls and speaks_http2() else (Way.HTTP1,)


class Examiner:
    """Asks one server, and judges its answers."""

    def __init__(self, server: Server, decide: Decide, how: How) -> None:
        self.asked = 0
        """Probes sent, without those of `prepare`."""
        self.covered = self.placed = self.misplaced = 0
        """Probes about which a measure was decided; those of them where the client's place made the difference; and of
        these, those that were not answered so."""
        self.unreached = self.unanswered = 0
        """How many of the last probes in a row found nobody there, and how many got no answer."""
        self.judged: Counter[bool] = Counter()
        """Answers that told something: of clients that a measure concerns (True), and of those to be let through."""
        self._server = server
        self._decide = decide
        self._how = how
        self._strangers: dict[tuple[Client, Way, Form], Answer] = {}
        self._origin = None if how.origin is None else Origin(how.origin, how.patience)
        self._next = 0.0

    async def prepare(self) -> None:
        """Find out whether anybody is there, and what each client gets there for a name that nobody has.

        Raises:
            OSError: nobody is there, or a client's address is none of this machine's.

        """
        self._server = await asyncio.to_thread(resolved, self._server)
        for client in self._how.clients:
            for way in self._how.ways:
                for form in FORMS[way]:
                    probe = Probe(name=STRANGER, kind=Kind.STRANGER, client=client, way=way, form=form)
                    answer = await ask(self._server, probe, self._how.patience)
                    if isinstance(answer, Nothing) and not answer.reached:
                        raise OSError(f"{self._server}, {way}, as {client}: {answer}")
                    self._strangers[client, way, form] = answer
        if isinstance(self._server, Resolver) and all(isinstance(found, Nothing) for found in self._strangers.values()):
            raise OSError(f"{self._server}: {next(iter(self._strangers.values()))}")

    def each_probe(self, subject: Subject) -> list[Probe]:
        """Return what is asked about a name, in order."""
        clients = self._clients_for(subject)
        once = [(client, False) for client in clients]
        return [
            Probe(name=subject.name, kind=subject.kind, client=client, way=way, form=form, again=again)
            for way in self._how.ways
            for forms, asking in (
                (FORMS[way], [*once, (clients[0], True)] if len(clients) > 1 else once),
                (subject.more.get(way, ()), once),
            )
            for form in forms
            for client, again in asking
        ]

    def _clients_for(self, subject: Subject) -> list[Client]:
        if subject.as_every_client:
            return [*self._how.clients]
        by_measures: dict[tuple[tuple[Measure, str], ...], Client] = {}
        for client in self._how.clients:
            measures = self._carried(self._decide(subject.name, client.country))
            by_measures.setdefault(tuple(measures.items()), client)
        return [*by_measures.values()]

    async def examine(self, subject: Subject) -> AsyncIterator[Result]:
        """Ask all about one name; yield for each probe what is not as decided, what tells nothing, or None.

        What shows again when the same client asks again is told once.
        """
        before: set[tuple[Probe, str]] = set()
        seen: list[Seen] = []
        for probe in self.each_probe(subject):
            one = await self._settled(probe)
            seen.append(one)
            if isinstance(one.result, Finding):
                twice = (replace(probe, again=False), one.result.came)
                yield None if twice in before else one.result
                before.add(twice)
            elif one.suspect is None:
                yield one.result
        for result in among(seen):
            yield result

    async def _settled(self, probe: Probe) -> Seen:
        one = await self._once(probe)
        if isinstance(one.result, Finding):
            left = self._how.unsettled(probe.name, probe.client.country)
            if left > 0:
                await asyncio.sleep(left)
                one = await self._once(probe)
        return one

    def _count(self, probe: Probe, decision: Decision, found: Judgement) -> None:
        measures = self._carried(decision)
        if not isinstance(found, Unjudged) and not probe.form.may_be_turned_down:
            self.judged[bool(measures)] += 1
        if measures and not probe.form.may_be_turned_down:
            placed = self._carried(self._decide(probe.name, None)) != measures
            self.covered += 1
            self.placed += placed
            self.misplaced += placed and isinstance(found, Difference)

    def _carried(self, decision: Decision) -> dict[Measure, str]:
        """Return what of a decision is this server's."""
        promises = self._how.promises
        if isinstance(self._server, Resolver):
            carried = {Measure.DNS: promises.dns}
        else:
            carried = {Measure.CDN: promises.caching, Measure.PROXY: promises.proxy}
        return {measure: variant for measure, variant in decision.measures.items() if carried.get(measure)}

    async def _once(self, probe: Probe) -> Seen:
        for _ in range(_AGAIN):
            before = self._decide(probe.name, probe.client.country)
            answer = await self._ask(probe)
            decision = self._decide(probe.name, probe.client.country)
            if decision.measures == before.measures:
                break
        measures = self._carried(decision)
        known = Known(
            stranger=self._stranger(probe), reference=await self._reference(probe), near=self._near(probe.name)
        )
        judge = judge_dns if probe.way in (Way.UDP, Way.TCP) else judge_http
        found = judge(probe, decision, answer, self._how.promises, known)
        if self._origin is not None and not measures and found is not None:
            found = beside(await self._origin.says(probe), answer, found)
        self._count(probe, decision, found)
        return Seen(probe=probe, measures=measures, answer=answer, result=told(probe, decision, answer, found))

    def _near(self, name: str) -> frozenset[tuple[Measure, str]]:
        """Return what is decided about a name for any of the clients."""
        decisions = (self._decide(name, client.country) for client in self._how.clients)
        return frozenset(pair for decision in decisions for pair in self._carried(decision).items())

    async def _ask(self, probe: Probe) -> Answer:
        await self._pace()
        self.asked += 1
        answer = await ask(self._server, probe, self._how.patience)
        self.unanswered = self.unanswered + 1 if isinstance(answer, Nothing) else 0
        self.unreached = self.unreached + 1 if isinstance(answer, Nothing) and not answer.reached else 0
        return answer

    async def _pace(self) -> None:
        """Wait for this probe's turn."""
        if self._how.rate > 0:
            now = time.monotonic()
            turn = self._next = max(now, self._next + 1 / self._how.rate)
            await asyncio.sleep(turn - now)

    def _stranger(self, probe: Probe) -> Answer | None:
        usual = FORMS[probe.way][0]
        key = (probe.client, probe.way, probe.form)
        return self._strangers.get(key, self._strangers.get((probe.client, probe.way, usual)))

    async def _reference(self, probe: Probe) -> Answer | None:
        if self._how.reference is None or isinstance(self._server, Edge) or probe.form.may_be_turned_down:
            return None
        plain = Client(label="the reference's", country=None, address=None)
        asked = Probe(name=probe.name, kind=probe.kind, client=plain, way=Way.UDP, form=probe.form)
        return await ask(self._how.reference, asked, self._how.patience)
