"""Plays a scenario's steps on a running host, and tells everything that came out otherwise."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Self, TypeAlias
from urllib.parse import quote

from cdnblock.testing.scenarios import Action, Expect, Outcome, Protocol, Step
from cdnblock.testing.site import LARGE, MARK, TRACE
from cdnblock.testing.stage import Host, Stage, put_orders
from cdnblock.testing.wire import Answer, Http1, Request, Running, websocket_text
from cdnblock.testing.wire2 import Http2

Told: TypeAlias = Mapping[str, Any]

CUT_WITHIN: Final = 3.0  # seconds; how quickly it really is, benchmarks tell
_FLOWS: Final = 0.3  # seconds within which something that goes on must have shown that it does
_QUIET_END: Final = 3.0  # seconds within which a connection that is to be closed is closed
_WITNESS: Final = "witness.example"
_PLAIN_NAME: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+\Z")
_UNAVAILABLE, _SWITCHING, _OK = 451, 101, 200


class Play:
    """One scenario's connections and memories. `run` stands for `${run}` in what it puts on the stage."""

    def __init__(self, host: Host, stage: Stage, protocol: Protocol, run: str) -> None:
        self._host, self._stage, self._protocol, self._run = host, stage, protocol, run
        self._connections: dict[str, Http1 | Http2] = {}
        self._running: dict[str, tuple[Running, Http1 | Http2]] = {}
        self._numbers: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _running, connection in self._running.values():
            connection.close()
        for connection in self._connections.values():
            connection.close()

    def step(self, step: Step) -> Iterator[str]:
        """Do a step and yield what is wrong with what came of it."""
        try:
            match step.action:
                case Action.ASK:
                    yield from self._ask(step)
                case Action.OPEN:
                    yield from self._open(step)
                case Action.GOES_ON:
                    yield from (f"{label} ended" for label in step.labels if not self._goes_on(label))
                case Action.ENDS:
                    yield from self._ends(step)
                case Action.ORDER:
                    put_orders(self._stage.orders, step.orders, self._run)
                    self._host.reload()
                case Action.WAIT:
                    time.sleep(step.seconds)
        except (AssertionError, OSError) as error:
            yield f"{type(error).__name__}: {error}"

    def _ask(self, step: Step) -> Iterator[str]:
        trace = uuid.uuid4().hex
        request = _as_sent(step, trace)
        with self._connection(step) as connection:
            answer = connection.ask(request)
            seen = self._witness(trace)
            yield from _wrong(step.expect, request, answer, seen, self._stage.operator_url)
            if step.expect.outcome is Outcome.UPGRADED and answer.status == _SWITCHING:
                yield from _echoes(connection)
            if step.expect.outcome is Outcome.CLOSED and isinstance(connection, Http1):
                if not connection.is_at_end(_QUIET_END):
                    yield "the connection stays open"
            if step.expect.keeps and connection.ask(Request(hosts=(_WITNESS,))).status != _OK:
                yield "the connection cannot be used again"
        yield from self._compared(step, answer)

    def _open(self, step: Step) -> Iterator[str]:
        connection = self._connect(step)
        request = _as_sent(step, uuid.uuid4().hex)
        running = connection.start(request)
        assert step.label is not None, "what is opened needs a name: `as`"  # noqa: S101 (a mistake in a scenario)
        self._running[step.label] = running, connection
        wanted = _SWITCHING if step.expect.outcome is Outcome.UPGRADED else _OK
        if running.head.status != wanted:
            yield f"{step.label} did not begin: {running.head.status}"
        elif not self._goes_on(step.label):
            yield f"{step.label} did not flow"

    def _goes_on(self, label: str) -> bool:
        """Tell whether octets come; from a WebSocket, the echo of one message."""
        running, connection = self._running[label]
        deadline = time.monotonic() + 10 * _FLOWS
        while time.monotonic() < deadline and not running.is_over():
            if running.head.status == _SWITCHING and isinstance(connection, Http1):
                connection.send(websocket_text("still there"))
            if running.octets_within(_FLOWS / 3):
                return not running.is_over()
        return False

    def _ends(self, step: Step) -> Iterator[str]:
        deadline = time.monotonic() + CUT_WITHIN
        for label in step.labels:
            running, _ = self._running[label]
            while not running.is_over() and time.monotonic() < deadline:
                running.octets_within(0.05)
            if not running.is_over():
                yield f"{label} was not cut within {CUT_WITHIN:.0f} s"

    def _compared(self, step: Step, answer: Answer) -> Iterator[str]:
        number = ",".join(answer.of("x-answer"))
        if step.expect.same_as is not None and number != self._numbers[step.expect.same_as]:
            yield f"not the answer of {step.expect.same_as!r}: {number} instead of {self._numbers[step.expect.same_as]}"
        for label in step.expect.other_than:
            if number == self._numbers[label]:
                yield f"the very answer of {label!r}: number {number}"
        if step.label is not None:
            self._numbers[step.label] = number

    @contextlib.contextmanager
    def _connection(self, step: Step) -> Iterator[Http1 | Http2]:
        if step.connection is None:
            with self._connect(step) as connection:
                yield connection
        else:
            if step.connection not in self._connections:
                self._connections[step.connection] = self._connect(step)
            yield self._connections[step.connection]

    def _connect(self, step: Step) -> Http1 | Http2:
        sni = step.sni or next((name for name in step.request.hosts if _PLAIN_NAME.match(name)), "contract.example")
        if self._protocol is Protocol.HTTP2:
            assert self._host.tls is not None  # noqa: S101 (looked at before)
            return Http2(self._host.tls, source=step.peer, sni=sni)
        if step.sni is not None:
            assert self._host.tls is not None  # noqa: S101 (its scenario needs HTTP/2, and so TLS)
            return Http1(self._host.tls, source=step.peer, sni=sni)
        return Http1(self._host.address, source=step.peer)

    def _witness(self, trace: str) -> list[Told]:
        return [*seen_by_site(self._host, trace).values()]


def seen_by_site(host: Host, prefix: str) -> Mapping[str, Told]:
    """Return what the site behind a host was asked, by trace: all traces that begin like this."""
    with Http1(host.address) as connection:
        answer = connection.ask(Request(hosts=(_WITNESS,), target=f"/seen?trace={quote(prefix)}"))
    if answer.status != _OK or answer.of(MARK[0]) not in ([], [MARK[1]]):
        raise AssertionError(f"the site does not tell what it was asked: {answer.status} {answer.body[:200]!r}")
    told: Mapping[str, Told] = json.loads(answer.body)
    return told


def _as_sent(step: Step, trace: str) -> Request:
    lines = [*step.request.headers, *(("X-Forwarded-For", line) for line in step.forwarded_for), (TRACE, trace)]
    return dataclasses.replace(step.request, headers=tuple(lines))


def _wrong(expect: Expect, request: Request, answer: Answer, seen: list[Told], operator: str) -> Iterator[str]:
    """Yield what is wrong with an answer."""
    if answer.status >= 500 and answer.status not in (501, 505) or answer.status in (501, 505) and expect.outcome is not Outcome.UNSERVED:  # fmt: skip # noqa: PLR2004
        yield f"the host failed: {answer.status} {answer.body[:200]!r}"
        return
    yield from _JUDGES[expect.outcome](expect, request, answer, seen)
    if expect.outcome is Outcome.REFUSED and answer.status == _UNAVAILABLE:
        if f'<{operator}>; rel="blocked-by"' not in answer.of("link"):
            yield f"does not say who blocks (RFC 7725 §4): Link {answer.of('link')}"
    yield from _wrong_headers(expect, answer)
    yield from _wrong_body(expect, answer)
    for key, value in expect.saw.items():
        if [told.get(key) for told in seen] != [value]:
            yield f"the site was told {key} {[told.get(key) for told in seen]}, not {value!r}"


def _not_refused(_expect: Expect, request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status != _UNAVAILABLE:
        yield f"not refused: {_shown(answer)}"
    elif answer.of(MARK[0]):
        yield "a 451 that comes from the site"
    elif not answer.whole:
        yield "a 451 whose body is not as long as it says"
    elif (answer.body == b"") != (request.method == "HEAD"):
        yield f"a body of {len(answer.body)} octets for {request.method}"
    for name in ("Cache-Control", "CDN-Cache-Control"):
        if answer.status == _UNAVAILABLE and answer.of(name) != ["no-store"]:
            yield f"a 451 that may be stored (RFC 7725 §3): {name} {answer.of(name)}"
    yield from _heard(seen)


def _not_closed(_expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status:
        yield f"not closed without an answer: {_shown(answer)}"
    yield from _heard(seen)


def _not_bad(_expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status not in (0, 400):
        yield f"not answered with 400: {_shown(answer)}"
    yield from _heard(seen)


def _not_unserved(_expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if not (answer.status == 0 or 400 <= answer.status < 500 or answer.status in (501, 505)):  # noqa: PLR2004
        yield f"served: {_shown(answer)}"
    yield from _heard(seen)


def _not_served(expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status != _OK or answer.of(MARK[0]) != [MARK[1]]:
        yield f"not served by the site: {_shown(answer)}"
    elif not answer.whole:
        yield "the body is cut short"
    elif expect.same_as is None and len(seen) != 1:
        yield f"the site was asked {len(seen)} times"


def _not_harmless(expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    for told in seen:
        names = [*told["hosts"], re.sub(r"^https?://|/.*", "", told["target"], flags=re.IGNORECASE)]
        if any(name.lower().partition(":")[0].rstrip(".") == expect.never_as for name in names):
            yield f"the site was asked for {expect.never_as}: {told['method']} {told['target']}, Host {told['hosts']}"
    if answer.status == _OK and not seen:
        yield f"somebody else than the site has answered: {_shown(answer)}"


def _not_upgraded(_expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status != _SWITCHING or len(seen) != 1:
        yield f"no WebSocket: {_shown(answer)}"


_JUDGES: Final[Mapping[Outcome, Callable[[Expect, Request, Answer, list[Told]], Iterator[str]]]] = {
    Outcome.REFUSED: _not_refused,
    Outcome.CLOSED: _not_closed,
    Outcome.BAD: _not_bad,
    Outcome.UNSERVED: _not_unserved,
    Outcome.SERVED: _not_served,
    Outcome.HARMLESS: _not_harmless,
    Outcome.UPGRADED: _not_upgraded,
}


def _heard(seen: list[Told]) -> Iterator[str]:
    for told in seen:
        yield f"the site heard of it: {told['method']} {told['target']}, Host {told['hosts']}"


def _wrong_headers(expect: Expect, answer: Answer) -> Iterator[str]:
    for name, lines in expect.headers.items():
        if tuple(answer.of(name)) != lines:
            yield f"{name}: {answer.of(name)}, not {[*lines]}"
    for name in expect.absent:
        if answer.of(name):
            yield f"{name}: {answer.of(name)}, where there should be none"


def _wrong_body(expect: Expect, answer: Answer) -> Iterator[str]:
    whole = {"empty": b"", "large": LARGE}.get(expect.body or "", (expect.body or "").encode())
    if expect.body is not None and answer.body != whole:
        yield f"another body: {len(answer.body)} octets instead of {len(whole)}"
    text = answer.body.decode("utf-8", "replace")
    yield from (f"the body lacks {part!r}: {text[:300]!r}" for part in expect.body_has if part not in text)
    yield from (f"the body has {part!r}" for part in expect.body_lacks if part in text)
    if expect.interim is not None and tuple(answer.interim) != expect.interim:
        yield f"interim answers {answer.interim}, not {[*expect.interim]}"


def _echoes(connection: Http1 | Http2) -> Iterator[str]:
    assert isinstance(connection, Http1)  # noqa: S101 (101 is HTTP/1's)
    connection.send(websocket_text("hello"))
    if not connection.octets_within(_FLOWS):
        yield "the WebSocket does not echo"


def _shown(answer: Answer) -> str:
    whose = "the site's" if answer.of(MARK[0]) else "the host's own"
    return f"{whose} {answer.status} {answer.reason} {answer.body[:120]!r}" if answer.status else "closed, no answer"
