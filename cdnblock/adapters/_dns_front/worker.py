"""One worker of the front: a process with an event loop of its own, which enforces what its supervisor says.

It reads no orders folder: the supervisor sends the octets of the files in force, and when all workers have compiled
them, the word to switch. It ends when the supervisor does, however that ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from cdnblock.adapters._dns_front.front import FrontSettings, run, serve_front
from cdnblock.adapters._dns_front.hits import telling
from cdnblock.audit.tally import Tally
from cdnblock.deciding import Decider
from cdnblock.errors import ConfigError
from cdnblock.geo.country import CountryTable
from cdnblock.matching.ruleset import RuleSet, compile_orders
from cdnblock.shown import log_to_stderr
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import as_reported, parse_kept
from cdnblock.sources.slow_release import SlowRelease, breathe
from cdnblock.sources.staging_clock import StagingClock
from cdnblock.sources.state_folder import KeptFile

FOR_SUPERVISOR: Final = (signal.SIGINT, signal.SIGHUP)
"""Signals that a terminal or a service manager sends to all processes at once, and that are for the supervisor alone."""

_LOG: Final = logging.getLogger("cdnblock.adapters.dns_server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Compile these files; the reply is the revision that came of them, which has to be this one.

    With `report_only` every order is one in mode report.
    """

    revision: str
    files: tuple[KeptFile, ...]
    report_only: bool = False


@dataclass(frozen=True, slots=True)
class Switch:
    """Enforce what was loaded last, from now on; the reply is its revision."""


@dataclass(frozen=True, slots=True)
class Count:
    """The reply is the counters."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A reply: it could not be done, and why."""

    why: str


class ToldRules(Decider):
    """Decides by the rules that it was given last; what the judge needs of an enforcer."""

    def __init__(self, table: CountryTable, clock: Path | None) -> None:
        super().__init__(table, time.time if clock is None else StagingClock(clock))
        self._rules = compile_orders(())
        self.tally = Tally(clock=self._clock)
        self.tally.rules = lambda: self._rules

    def switch_to(self, rules: RuleSet) -> None:
        """Decide by these from now on."""
        self._rules = rules


def work(supervisor: Connection, settings: FrontSettings, hits: Connection | None = None) -> None:
    """Serve until the supervisor is gone or sends SIGTERM. The first reply is the addresses, or why there are none.

    What was refused goes down the line `hits`, where somebody wants to hear it.
    """
    for number in FOR_SUPERVISOR:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_SUPERVISOR)  # held since this process began
    log_to_stderr()
    try:
        rules = ToldRules(open_geo_table(settings.geo), settings.clock)
        with telling(hits, rules.tally):
            run(_serve(supervisor, settings, rules))
    except ConfigError as error:
        supervisor.send(Failed(str(error)))
    except (EOFError, BrokenPipeError):
        pass


async def _serve(supervisor: Connection, settings: FrontSettings, rules: ToldRules) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    first = supervisor.recv()
    rules.switch_to(_compiled(first))
    if rules.rules.revision != first.revision:
        raise ConfigError(f"the orders came out as {rules.rules.revision}, not as {first.revision}")
    async with serve_front(settings, rules, reuse_port=True) as front:
        supervisor.send(front.addresses)

        async def count() -> dict[str, object]:
            would = rules.tally.totals.get(("dns_server", "dns", "would"), 0)
            return {"pid": os.getpid(), "revision": rules.rules.revision, "would": would, **front.metrics()}

        def counted() -> dict[str, object]:
            return asyncio.run_coroutine_threadsafe(count(), loop).result()

        def obey() -> None:
            try:
                _obey(supervisor, rules, counted)
            finally:
                with suppress(RuntimeError):  # the loop has ended already: what was counted is still being told
                    loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=obey, name="cdnblock-obey", daemon=True).start()
        await ended.wait()


def _obey(supervisor: Connection, rules: ToldRules, count: Callable[[], dict[str, object]]) -> None:
    """Do what the supervisor says, beside the event loop, until it is gone.

    The counters come from the event loop: one that has stopped going round gives none, and that is noticed.
    """
    loaded = rules.rules
    slow = SlowRelease()
    while True:
        try:
            message = supervisor.recv()
        except (EOFError, OSError):
            return
        match message:
            case Load():
                loaded, reply = _load(message, rules.rules)
            case Switch():
                if loaded is not rules.rules:
                    slow.give(rules.rules, loaded)
                rules.switch_to(loaded)
                reply = loaded.revision
            case _:
                reply = count()
        supervisor.send(reply)
        slow.free()


def _load(message: Load, now: RuleSet) -> tuple[RuleSet, object]:
    """Return the rules that come of a message, and the reply to it; on a failure the rules of now."""
    try:
        rules = _compiled(message)
    except Exception as error:  # noqa: BLE001 (whatever it is, what is enforced stays enforced, and the supervisor is told)
        _LOG.exception("cdnblock: a worker cannot compile the orders")
        return now, Failed(f"{type(error).__name__}: {error}")
    return rules, rules.revision


def _compiled(message: Load) -> RuleSet:
    parsed = [parse_kept(Path(file.name), file.text, file.beside, pause=breathe) for file in message.files]
    if message.report_only:
        parsed = [as_reported(file) for file in parsed]
    return compile_orders(file.order for file in parsed if file.order is not None)
