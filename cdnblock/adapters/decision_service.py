"""The decision service: what any proxy can ask about a request, over HTTP, before it serves it.

    cdnblock serve --orders orders/ --listen unix:/run/cdnblock/decide.sock

How each proxy asks is a row in `_decision_dialects.DIALECTS`; working configurations are in examples/decision_service.
The verdict is in the status and in two fields: `X-Cdnblock-Action` and `X-Cdnblock-Generation`. In a program:

>>> import asyncio, aiohttp, pathlib
>>> from cdnblock.enforcer import Enforcer
>>> from cdnblock.http_gate import HttpGate
>>> async def ask(port, **fields):
...     headers = {name.replace("_", "-"): value for name, value in fields.items()}
...     async with aiohttp.request("GET", f"http://127.0.0.1:{port}/traefik", headers=headers) as response:
...         return response.status, response.headers["X-Cdnblock-Action"]
>>> async def main():
...     then = 1746093600.0  # 1 May 2025: the example orders are in force
...     orders = pathlib.Path("examples/orders")
...     with Enforcer(orders, trusted_proxies=["127.0.0.1"], clock=lambda: then) as enforcer:
...         service = DecisionService(callers=Callers(("127.0.0.1",)))
...         service.decide_by(HttpGate(enforcer), Generations(enforcer, folder=None, clock=lambda: then))
...         async with service.serve([Listen(host="127.0.0.1")]) as (port,):
...             request = {"X_Forwarded_Method": "GET", "X_Forwarded_Uri": "/", "X_Forwarded_For": "90.84.144.1"}
...             print(await ask(port, X_Forwarded_Host="www.motogpstream.me", **request))
...             print(await ask(port, X_Forwarded_Host="www.example.org", **request))
>>> asyncio.run(main())
(451, 'answer')
(200, 'pass')
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from aiohttp import web

from cdnblock.adapters import _decision_pages as pages
from cdnblock.adapters._decision_answers import NOT_STORED, Answers, plain
from cdnblock.adapters._decision_dialects import CLIENT, DIALECTS, Clients, Dialect, read
from cdnblock.adapters._decision_door import Door, Seldom, Unreadable
from cdnblock.adapters._decision_generations import Generations
from cdnblock.adapters._decision_listening import SOCKET_MODE, Callers, Listen, listening
from cdnblock.http_gate import Action, HttpGate, Name, Verdict
from cdnblock.http_noting import HttpNotes
from cdnblock.measures import proxy_termination
from cdnblock.metrics import Collector

WORDS: Final[Mapping[Action, str]] = {
    Action.PASS: "pass",
    Action.PASS_UNCACHED: "uncached",
    Action.ANSWER: "answer",
    Action.CLOSE: "close",
}
"""What each action is called in `X-Cdnblock-Action`."""

_MISASKED: Final = 500  # no proxy takes it for a verdict that opens anything
_DRAIN: Final = 10.0  # seconds within which what is being answered at the end must be
_LONGEST: Final = 1 << 16  # octets of a target or field: what a proxy has taken from its client comes here as well
_NEGOTIATED: Final = ("Accept", "Accept-Language")
_NOBODYS_BUSINESS: Final = Verdict(action=Action.PASS)  # no order names the host
_LOG: Final = logging.getLogger(__name__)
_UNREADABLE: Final = logging.getLogger(f"{__name__}.unreadable")
_UNREADABLE.addFilter(Unreadable())


class DecisionService:
    """Answers proxies. Before `decide_by` has told by what, it is not ready and lets nothing pass."""

    def __init__(self, *, callers: Callers) -> None:
        self.counts: dict[str, int] = dict.fromkeys((*WORDS.values(), "misasked", "untrusted", "crowded", "unready"), 0)
        self._collector = Collector(None, lambda: pages.rows(self.counts))
        self._callers = callers
        self._gate: HttpGate | None = None
        self._notes: HttpNotes | None = None
        self._generations: Generations | None = None
        self._clients = Clients()
        self._answers = Answers()
        self._servers: list[web.Server] = []
        self._draining = False
        self._seldom = Seldom()

    def decide_by(self, gate: HttpGate, generations: Generations) -> None:
        """Be ready: decide by these from now on."""
        self._collector.enforcer = gate.enforcer
        self._notes = HttpNotes(gate, "decision_service")
        self._gate, self._generations = gate, generations

    @asynccontextmanager
    async def serve(self, where: Iterable[Listen], *, mode: int = SOCKET_MODE) -> AsyncIterator[list[int]]:
        """Listen, and yield the ports (0 for unix sockets); on leaving, answer what was asked and stop.

        Raises ConfigError where nobody can listen.
        """
        async with AsyncExitStack() as opened:
            ports = []
            for address in where:
                listener = opened.enter_context(listening(address, mode=mode))
                opened.push_async_callback(await self._opened(listener, DIALECTS.get(address.dialect or "")))
                ports.append(0 if address.path else listener.getsockname()[1])
            try:
                yield ports
            finally:
                self._draining = True

    async def _opened(self, listener: socket.socket, dialect: Dialect | None) -> Callable[[], Awaitable[None]]:
        """Answer on a listener from now on; return what ends that."""
        doors: list[Door] = []
        server = web.Server(
            functools.partial(self._handle, dialect, doors),
            access_log=None, logger=_UNREADABLE, max_line_size=_LONGEST, max_field_size=_LONGEST,
        )  # fmt: skip
        runner = web.ServerRunner(server, shutdown_timeout=_DRAIN)
        await runner.setup()
        self._servers.append(server)
        doors.append(Door(server, self._callers, self.counts, self._connections))
        accepting = asyncio.create_task(doors[0].accept(listener))

        async def end() -> None:
            accepting.cancel()
            with suppress(asyncio.CancelledError):
                await accepting
            await runner.cleanup()

        return end

    def _connections(self) -> int:
        return sum(len(server.connections) for server in self._servers)

    async def _handle(self, dialect: Dialect | None, doors: list[Door], request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request: a question, or one of the pages for whoever runs this."""
        doors[0].asked(request.protocol)
        page = pages.PAGES.get(request.raw_path) if dialect is None else None
        if page is not None:
            accept = request.headers.get("Accept")
            state = pages.State(gate=self._gate, collector=self._collector, draining=self._draining, accept=accept)
            return await asyncio.to_thread(page, state)
        if self._gate is None or self._generations is None:
            self.counts["unready"] += 1
            return _failed(request)
        asked = read(request, dialect)
        if isinstance(asked, str):
            return self._misasked(asked)
        return self._decided(self._gate, self._generations, *asked, request)

    def _decided(
        self,
        gate: HttpGate,
        generations: Generations,
        dialect: Dialect,
        names: tuple[Name, ...],
        request: web.BaseRequest,
    ) -> web.StreamResponse:
        standing = generations.standing  # before the decision: looked at again after it, the two belong together
        concerned = not names or any(map(gate.concerns, names))
        verdict = self._judged(gate, names, request, dialect) if concerned else _NOBODYS_BUSINESS
        if concerned and not dialect.again and self._notes is not None:
            self._notes.acted(names, verdict)
        action, name = verdict.action, names[0] if names else ""
        if action is Action.PASS and not standing.holds(gate.enforcer.rules, generations.clock()):
            # Something is changing: what it may mean is neither read from a cache nor put into one.
            action = Action.PASS_UNCACHED if concerned or standing.ever_meant(name) else action
        self.counts[WORDS[action]] += not dialect.again
        status, word, generation = dialect.answers, WORDS[action], standing.of(name)
        if action is Action.PASS or action is Action.PASS_UNCACHED:
            status = dialect.passes if action is Action.PASS else dialect.uncached
            if status is None:
                return _failed(request)
        elif status is None and verdict.answer is not None:
            return self._answers.respond(request, verdict.answer.status, word, generation, verdict.answer)
        return self._answers.respond(request, status or proxy_termination.UNAVAILABLE[0], word, generation)

    def _judged(self, gate: HttpGate, names: tuple[Name, ...], request: web.BaseRequest, dialect: Dialect) -> Verdict:
        """Ask the gate about a host that an order names, with a client that most often is remembered."""
        headers, peer = request.headers, request.remote or None
        try:
            client = self._clients.told(gate.enforcer, peer, headers.getall(CLIENT))
        except Exception:  # noqa: BLE001 (the gate meets it, too, and has a policy for it)
            return gate.judge(method=request.method, hosts=names, peer=peer, headers=headers.items())
        lines = ((field, line) for field in _NEGOTIATED for line in headers.getall(field, ()))
        return gate.judge_client(
            method=request.method, hosts=names, client=client, headers=lines, with_notice=dialect.answers is None
        )

    def _misasked(self, lacking: str) -> web.Response:
        self.counts["misasked"] += 1
        text = f"The question lacks {lacking}: see examples/decision_service for how your proxy asks.\n"
        if self._seldom():
            _LOG.error("cdnblock: a proxy asks wrongly and gets no verdict (told once a minute): %s", text.strip())
        return web.Response(status=_MISASKED, text=text, headers=NOT_STORED)


def _failed(request: web.BaseRequest) -> web.Response:
    answer = proxy_termination.failure(method=request.method)
    return plain(answer.status, {}, answer)
