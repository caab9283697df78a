"""Verifies a server: every name of the orders and many beside them, asked for at a bounded rate, by few at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from cdnblock.matching.ruleset import RuleSet
from cdnblock.verification.clients import Client
from cdnblock.verification.comparing import PATIENCE, Examiner, How, Subject, ways_of
from cdnblock.verification.expecting import Promises
from cdnblock.verification.findings import Finding, Open
from cdnblock.verification.following import Following
from cdnblock.verification.names import count, subjects
from cdnblock.verification.probes import MORE_FORMS, Kind, Way
from cdnblock.verification.servers import Edge, Resolver, Server

MOST_FINDINGS: Final = 10_000  # that are kept; all are counted
_GONE: Final = 50  # probes in a row that find nobody there: then it has gone
_MUTE: Final = 500  # probes in a row that get no answer: then nobody waits for thousands more
_EXAMPLES: Final = 5  # names that are told of what could not be judged
_ROUNDS: Final = 3  # times that names which came meanwhile are asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server is verified. `sample` names of each order are asked for in every form, with all that is near them.

    `origin` is where an edge gets the sites from, to compare with. `most` bounds the other names (None: all). `at_once` names are asked for at a time, with `rate` probes a second at
    most (0: any). `settle` is how many seconds the server may take to follow a change. `seed` is for the sample.
    """

    clients: Sequence[Client]
    ways: Sequence[Way] | None = None
    promises: Promises = field(default_factory=Promises)
    reference: Resolver | None = None
    origin: Edge | None = None
    protected: Iterable[str] = ()
    sample: int = 5
    most: int | None = None
    at_once: int = 16
    rate: float = 200.0
    patience: float = PATIENCE
    settle: float = 5.0
    seed: int = 0


@dataclass(slots=True, kw_only=True)
class Report:
    """What was found. `differences` counts all, `findings` has the first of them.

    `open` counts, by why, what could not be judged, and `examples` has some of the names. `names` counts names by what
    they are. `alarming` counts those of `open` that may well be differences, and `judged` the answers that told something:
    of clients that a measure concerns (True), and of those to be let through. `covered` counts probes about which a measure was decided, `placed` those of them where the client's place made
    the difference, `misplaced` those of these that were answered otherwise.
    `gone` is why it ended early, None if it did not.
    """

    server: Server
    clients: Sequence[Client]
    ways: Sequence[Way]
    findings: list[Finding] = field(default_factory=list)
    differences: int = 0
    open: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    alarming: int = 0
    judged: Counter[bool] = field(default_factory=Counter)
    names: Counter[Kind] = field(default_factory=Counter)
    asked: int = 0
    covered: int = 0
    placed: int = 0
    misplaced: int = 0
    revisions: Sequence[str] = ()
    seconds: float = 0.0
    gone: str | None = None

    def take(self, result: Finding | Open | None) -> None:
        """Count one result."""
        if isinstance(result, Finding):
            self.differences += 1
            if len(self.findings) < MOST_FINDINGS:
                self.findings.append(replace(result, answer=None))  # ten thousand bodies are not for keeping
        elif isinstance(result, Open):
            self.open[result.why] += 1
            self.alarming += result.alarming
            names = self.examples.setdefault(result.why, [])
            if len(names) < _EXAMPLES and result.probe.name not in names:
                names.append(result.probe.name)


async def verify(
    server: Server,
    rules: Callable[[], RuleSet],
    settings: Settings,
    tell: Callable[[int, int], None] = lambda _done, _expected: None,
    ended: asyncio.Event | None = None,
) -> Report:
    """Ask a server for everything, and return what it does otherwise than decided by the rules of the moment.

    `tell` hears how many names are done, and how many there are, about. With `ended` set it stops where it is.

    Raises:
        OSError: nobody is there, or a client's address is none of this machine's.

    """
    started = time.monotonic()
    following = Following(rules, settings.settle)
    ways = settings.ways or ways_of(server)
    how = How(
        clients=settings.clients,
        ways=ways,
        promises=settings.promises,
        patience=settings.patience,
        reference=settings.reference,
        origin=settings.origin,
        rate=settings.rate,
        unsettled=following.unsettled,
    )
    examiner = Examiner(server, following.decide, how)
    report = Report(server=server, clients=settings.clients, ways=ways)
    await examiner.prepare()
    run = _Run(examiner, report, settings, tell, ended or asyncio.Event())
    first = following.rules
    run.expected = count(first, settings.sample, settings.most)
    dice = random.Random(settings.seed)  # noqa: S311 (to be repeated, not guessed)
    await run.through(
        subjects(
            first,
            datetime.now(UTC),
            sample=settings.sample,
            protected=settings.protected,
            dice=dice,
            most=settings.most,
        )
    )
    for _ in range(_ROUNDS):
        if following.rules is first or report.gone is not None:
            break
        before, first = first, following.rules
        await run.through(_changed(before, first, settings.most))
    report.asked, report.covered = examiner.asked, examiner.covered
    report.judged = examiner.judged
    report.placed, report.misplaced = examiner.placed, examiner.misplaced
    report.revisions = tuple(following.revisions)
    report.seconds = time.monotonic() - started
    return report


class _Run:
    """Some workers that share one row of names."""

    def __init__(
        self,
        examiner: Examiner,
        report: Report,
        settings: Settings,
        tell: Callable[[int, int], None],
        ended: asyncio.Event,
    ) -> None:
        self.expected = 0
        self._examiner = examiner
        self._report = report
        self._settings = settings
        self._tell = tell
        self._ended = ended
        self._done = 0

    async def through(self, names: Iterator[Subject]) -> None:
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._settings.at_once):
                workers.create_task(self._work(names))

    async def _work(self, names: Iterator[Subject]) -> None:
        for subject in names:
            self._report.names[subject.kind] += 1
            async for result in self._examiner.examine(subject):
                if self._ended.is_set():
                    self._report.gone = "it was interrupted"
                elif self._examiner.unreached >= _GONE:
                    self._report.gone = f"{_GONE} probes in a row found nobody there"
                elif self._examiner.unanswered >= _MUTE:
                    self._report.gone = f"{_MUTE} probes in a row got no answer"
                if self._report.gone is not None:
                    return
                self._report.take(result)
            self._done += 1
            self._tell(self._done, max(self._done, self.expected))
            await asyncio.sleep(0)


def _changed(before: RuleSet, after: RuleSet, most: int | None) -> Iterator[Subject]:
    """Yield the names that came into force or were released between two rule sets."""
    at = datetime.now(UTC)
    for one, other, kind in ((after, before, Kind.NAMED), (before, after, Kind.PAST)):
        for number, name in enumerate(one.released_by(other, at)):
            if most is not None and number >= most:
                break
            yield Subject(name=name, kind=kind, more=MORE_FORMS)
