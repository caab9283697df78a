"""Plays a scenario's steps on a running host, and tells everything that came out otherwise."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final, Self
from urllib.parse import quote

from cdnblock.testing.counting import Counted
from cdnblock.testing.judging import OK, SWITCHING, Told, wrong_beside, wrong_with
from cdnblock.testing.scenarios import Action, Outcome, Protocol, Scenario, Step
from cdnblock.testing.site import MARK, TRACE
from cdnblock.testing.stage import Host, Stage, put_orders
from cdnblock.testing.wire import Answer, Http1, Request, Running, websocket_text
from cdnblock.testing.wire2 import Http2

CUT_WITHIN: Final = 3.0  # seconds; how quickly it really is, benchmarks tell
_FLOWS: Final = 3.0  # seconds within which something that goes on must have shown that it does
_ON_ITS_WAY: Final = 0.1  # seconds that octets may be on their way to us
_COUNTED_WITHIN: Final = 2.0  # seconds
_QUIET_END: Final = 3.0  # seconds within which a connection that is to be closed is closed
WITNESS: Final = "witness.example"
"""A host that no scenario's order names: by it the site is asked."""

_PLAIN_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))+\Z")


def play(scenario: Scenario, protocol: Protocol, host: Host, stage: Stage) -> Iterator[str]:
    """Play a scenario; yield every complaint as it comes, with the step that it is about. None: it holds."""
    run = re.sub(r"[^a-z0-9]", "-", protocol)
    with Play(host, stage, protocol, run) as playing:
        for number, step in enumerate(scenario.play_for(run), 1):
            names = ascii(" ".join((*step.request.hosts, *step.labels, *step.orders)))
            for complaint in playing.step(step):
                yield f"step {number} ({step.says or step.action} {names}): {complaint}"
        yield from playing.miscounted()


class Play:
    """One scenario's connections and memories. `run` stands for `${run}` in what it puts on the stage."""

    def __init__(self, host: Host, stage: Stage, protocol: Protocol, run: str) -> None:
        self._host, self._stage, self._protocol, self._run = host, stage, protocol, run
        self._connections: dict[str, Http1 | Http2] = {}
        self._begun: dict[str, Callable[[], Answer]] = {}
        self._opened: dict[str, _Opened] = {}
        self._before: dict[str, Answer] = {}
        self._leaving = contextlib.ExitStack()
        self._counted = None if host.counted is None else host.counted()
        self._came = Counted()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.close()

    def step(self, step: Step) -> Iterator[str]:
        """Do a step and yield what is wrong with what came of it."""
        try:
            match step.action:
                case Action.ASK:
                    yield from self._ask_within(step)
                case Action.BEGIN:
                    connection = self._connect(step) if step.connection is None else self._named(step)
                    self._begun[_label(step)] = connection.begin(_as_sent(step, uuid.uuid4().hex))
                    time.sleep(_ON_ITS_WAY)
                case Action.ANSWERED | Action.DENIED:
                    yield from self._answers(step)
                case Action.OPEN:
                    yield from self._open(step)
                case Action.GOES_ON:
                    yield from (f"{opened.label} {said}" for opened in self._those(step) if (said := opened.stops()))
                case Action.ENDS:
                    yield from self._ends(step)
                case Action.ORDER:
                    put_orders(self._stage.orders, step.orders, self._run)
                    self._host.reload()
                case Action.WAIT:
                    time.sleep(step.seconds)
        except (AssertionError, OSError) as error:
            yield f"{type(error).__name__}: {error}"

    def miscounted(self) -> Iterator[str]:
        """Yield what the host has counted otherwise than it came: an enforcement that it missed, or counted twice."""
        if self._counted is None or self._host.counted is None:
            return
        deadline = time.monotonic() + _COUNTED_WITHIN
        while (wrong := [*self._came.differing(self._counted, self._host.counted())]) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield from wrong

    def _ask_within(self, step: Step) -> list[str]:
        """Ask; where the step leaves time for it, again until nothing is wrong."""
        deadline = time.monotonic() + step.seconds
        while (wrong := [*self._ask(step)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return wrong

    def _those(self, step: Step) -> list[_Opened]:
        if missing := [label for label in step.labels if label not in self._opened]:
            raise AssertionError(f"never began: {', '.join(missing)}")
        return [self._opened[label] for label in step.labels]

    def _ask(self, step: Step) -> Iterator[str]:
        trace = uuid.uuid4().hex
        request = _as_sent(step, trace)
        with self._connection(step) as connection:
            answer = connection.ask(request)
            self._came.take(answer, step.expect.outcome)
            seen: list[Told] = ask_site(self._host, "seen", trace).get(trace, [])
            yield from wrong_with(step.expect, request, answer, seen, self._stage.operator_url)
            if step.expect.outcome is Outcome.UPGRADED and answer.status == SWITCHING and not _echoes(connection):
                yield "the WebSocket does not echo"
            if step.expect.outcome is Outcome.CLOSED and isinstance(connection, Http1) and not answer.status:
                yield from () if connection.is_at_end(_QUIET_END) else ["the connection stays open"]
            if step.expect.keeps and connection.ask(Request(hosts=(WITNESS,))).status != OK:
                yield "the connection cannot be used again"
        yield from wrong_beside(step.expect, answer, self._before)
        if step.label is not None:
            self._before[step.label] = answer

    def _answers(self, step: Step) -> Iterator[str]:
        for label in step.labels:
            answer = self._begun[label]()
            self._came.take(answer, None if step.action is Action.ANSWERED else Outcome.CLOSED)
            served = answer.status == OK and answer.of(MARK[0]) == [MARK[1]] and answer.whole
            if served != (step.action is Action.ANSWERED):
                yield f"{label} got {answer.status} {answer.body[:100]!r}"

    def _open(self, step: Step) -> Iterator[str]:
        label = _label(step)
        connection = self._connect(step) if step.connection is None else self._named(step)
        running = connection.start(_as_sent(step, uuid.uuid4().hex))
        self._opened[label] = opened = _Opened(label, running, connection)
        self._came.take(running.head, None)
        wanted = SWITCHING if step.expect.outcome is Outcome.UPGRADED else OK
        if running.head.status != wanted:
            yield f"{label} did not begin: {running.head.status}"
        elif said := opened.stops():
            yield f"{label} did not begin: {said}"

    def _ends(self, step: Step) -> Iterator[str]:
        deadline = time.monotonic() + CUT_WITHIN
        for opened in self._those(step):
            while not opened.running.is_over() and time.monotonic() < deadline:
                opened.take(0.05)
            self._came.ended += opened.running.is_over()
            if not opened.running.is_over():
                yield f"{opened.label} was not cut within {CUT_WITHIN:.0f} s"

    @contextlib.contextmanager
    def _connection(self, step: Step) -> Iterator[Http1 | Http2]:
        if step.connection is not None:
            yield self._named(step)
            return
        connection = self._connect(step)
        try:
            yield connection
        finally:
            connection.close()

    def _named(self, step: Step) -> Http1 | Http2:
        name = step.connection or ""
        if name not in self._connections:
            self._connections[name] = self._connect(step)
        return self._connections[name]

    def _connect(self, step: Step) -> Http1 | Http2:
        sni = step.sni or next((name for name in step.request.hosts if _PLAIN_NAME.match(name)), "contract.example")
        connection: Http1 | Http2
        if self._protocol is Protocol.HTTP2 and self._host.tls is not None:
            connection = Http2(self._host.tls, source=step.peer, sni=sni)
        elif step.sni is not None and self._host.tls is not None:
            connection = Http1(self._host.tls, source=step.peer, sni=sni)
        elif step.sni is not None or self._protocol is Protocol.HTTP2:
            raise AssertionError("the host has no TLS, and has not said that it cannot")
        else:
            connection = Http1(self._host.address, source=step.peer)
        self._leaving.callback(connection.close)
        return connection


class _Opened:
    """Something that goes on, and what came of it so far."""

    def __init__(self, label: str, running: Running, connection: Http1 | Http2) -> None:
        self.label = label
        self.running = running
        self._connection = connection
        self._came = b""

    def take(self, seconds: float) -> bytes:
        octets = self.running.octets_within(seconds)
        self._came += octets
        return octets

    def stops(self) -> str:
        """Return what is wrong if it does not go on without a gap; from a WebSocket, a message must come back."""
        self.take(_ON_ITS_WAY)  # what was sent before proves nothing
        deadline = time.monotonic() + _FLOWS
        while time.monotonic() < deadline and not self.running.is_over():
            if self.running.head.status == SWITCHING and isinstance(self._connection, Http1):
                self._connection.send(websocket_text("still there"))
            if self.take(0.1):
                break
        if self.running.is_over():
            return "ended"
        if time.monotonic() >= deadline:
            return f"has sent nothing for {_FLOWS:.0f} s"
        numbers = [int(line) for line in re.findall(rb"(?<![0-9])([0-9]{9})\n", self._came)]
        return "" if numbers == [*range(1, len(numbers) + 1)] else "has a gap"


def ask_site(host: Host, page: str, prefix: str) -> Any:
    """Ask the site behind a host what it was asked: `seen` for everything, `traces` for the bare traces, by prefix."""
    with Http1(host.address) as connection:
        answer = connection.ask(Request(hosts=(WITNESS,), target=f"/{page}?trace={quote(prefix)}"))
    if answer.status != OK or answer.of(MARK[0]) != [MARK[1]] or not answer.whole:
        raise AssertionError(f"the site does not tell what it was asked: {answer.status} {answer.body[:200]!r}")
    return json.loads(answer.body)


def _label(step: Step) -> str:
    if step.label is None:
        raise AssertionError("what goes on needs a name: `as`")
    return step.label


def _as_sent(step: Step, trace: str) -> Request:
    lines = [*step.request.headers, *(("X-Forwarded-For", line) for line in step.forwarded_for), (TRACE, trace)]
    body = step.request.body.replace(b"${trace}", trace.encode())
    return dataclasses.replace(step.request, headers=tuple(lines), body=body)


def _echoes(connection: Http1 | Http2) -> bool:
    """Tell whether a WebSocket that has just been opened sends a message back."""
    if not isinstance(connection, Http1):
        return False
    connection.send(websocket_text("hello"))
    return len(connection.octets_within(_FLOWS, enough=1)) > 0
