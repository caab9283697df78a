"""The rehearsal: the clock goes through the orders' turns, and at each the probes are sent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from cdnblock.sandbox.clients import Clients, Running
from cdnblock.sandbox.probes import Channel, Probe, Step
from cdnblock.sandbox.stage import Stage

_CUT_WITHIN: Final = 3.0  # seconds
_LOOKS_BACK: Final = (Channel.STORED, Channel.STREAM, Channel.SOCKET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A probe and what it got."""

    probe: Probe
    got: str

    @property
    def ok(self) -> bool:
        """Whether it got what its order says."""
        return self.got == self.probe.expected


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """What was stored and what was running when the clock was about to move on."""

    stored: dict[Probe, str]
    running: dict[Probe, Running]


async def rehearse(stage: Stage, steps: list[Step], *, tell: Callable[[Result], object]) -> list[Result]:
    """Send every probe at its instant, tell each result as it comes, and return them all in the plan's order."""
    results: dict[Probe, Result] = {}

    def note(probe: Probe, got: str) -> None:
        results[probe] = Result(probe=probe, got=got)
        tell(results[probe])

    async with (
        Clients(front=stage.front.http, edge=stage.edge_port, resolver=stage.front.dns) as clients,
        contextlib.AsyncExitStack() as still_open,
    ):
        prepared = _Prepared(stored={}, running={})
        for step, following in pairwise([*steps, None]):
            assert step is not None  # noqa: S101 - only the last `following` is None
            await stage.stop_clock(step.at)
            await _look_back(clients, prepared, note)
            await _ask(clients, step.probes, note)
            if following is not None:
                prepared = await _prepare(clients, following.probes)
                for running in prepared.running.values():
                    still_open.push_async_callback(running.close)
    return [results[probe] for step in steps for probe in step.probes]


async def _ask(clients: Clients, probes: Iterable[Probe], note: Callable[[Probe, str], None]) -> None:
    """Send the probes: DNS beside HTTP, but HTTP one by one, because two requests at once may both miss the cache."""

    async def one_by_one(*channels: Channel) -> None:
        for probe in probes:
            if probe.channel in channels:
                note(probe, await clients.ask(probe))

    await asyncio.gather(one_by_one(Channel.DNS), one_by_one(Channel.EDGE, Channel.FRONT))


async def _prepare(clients: Clients, probes: Iterable[Probe]) -> _Prepared:
    stored = {probe: await clients.ask(probe) for probe in probes if probe.channel is Channel.STORED}
    starting = [probe for probe in probes if probe.channel in (Channel.STREAM, Channel.SOCKET)]
    running = await asyncio.gather(*(clients.open(probe) for probe in starting))
    return _Prepared(stored=stored, running=dict(zip(starting, running, strict=True)))


async def _look_back(clients: Clients, prepared: _Prepared, note: Callable[[Probe, str], None]) -> None:
    for probe, number in prepared.stored.items():
        now = await clients.ask(probe)
        note(probe, "nothing stored" if not number else "kept" if now == number else "purged")
    doomed = [running for probe, running in prepared.running.items() if probe.expected == "cut"]
    deadline = time.monotonic() + _CUT_WITHIN
    for running in doomed:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running.ended.wait(), max(0.01, deadline - time.monotonic()))
    for probe, running in prepared.running.items():
        note(probe, await running.fate())
        await running.close()
