"""aiohttp servers as hosts: a middleware for applications, and what a reverse proxy built on aiohttp asks.

    from aiohttp import web
    from cdnblock import Enforcer
    from cdnblock.adapters.aiohttp_middleware import CdnblockMiddleware
    from cdnblock.http_gate import HttpGate

    enforcer = Enforcer("orders/", trusted_proxies=["10.0.0.0/8"])
    app = web.Application()
    CdnblockMiddleware(HttpGate(enforcer)).install(app)
    web.run_app(app)

A reverse proxy without an application asks through the same object:

    guard = CdnblockMiddleware(HttpGate(enforcer))

    async def forward(request):                                     # only what may be served comes here
        stored = None if guard.uncached(request) else cache.get(request)
        ...
        headers = guard.to_origin(request, request.headers.items()) # before it fetches upstream
        ...
        headers = guard.to_client(request, upstream.headers.items())

    server = web.Server(functools.partial(guard, handler=forward))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from aiohttp import HttpVersion10, hdrs, web
from multidict import CIMultiDict

from cdnblock.adapters._aiohttp_connections import Task, are_as_known, is_answered, request_of, shows
from cdnblock.adapters._running_exchanges import Asked, Changed, RunningExchanges
from cdnblock.errors import ConfigError
from cdnblock.http_gate import Action, HttpGate, Name, Verdict, names_of
from cdnblock.measures import cache_disable
from cdnblock.measures.proxy_termination import Answer

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Headers: TypeAlias = Iterable[tuple[str, str]]
_Changed: TypeAlias = Changed[Task, web.BaseRequest]

_ADAPTER: Final = "aiohttp_middleware"  # in records and metrics


class CdnblockMiddleware:
    """Decides about each request of an aiohttp server, and cuts what runs when an order takes effect.

    Decided is by the request's own target, before any rewrite of yours: `install` puts it before everything.
    """

    def __init__(self, gate: HttpGate) -> None:
        self._gate = gate
        self._exchanges = RunningExchanges(gate, _asked, self._tell, _ADAPTER, each=self._each_running)
        # By the task of their connection, which serves one request at a time: a request may be cloned on its way. The
        # last request of a connection stays until the next one comes, or until the connection ends.
        self._running: dict[Task, web.BaseRequest] = self._exchanges.by_key
        # Connections whose every request is one of ours, and which tell themselves which one they have: what is kept
        # of each request costs more than all that is asked about it.
        self._telling: set[Task] = set()
        # What was let through under a verdict, with the writer of its response: clones of a request share it, and the
        # next request of a connection has another one.
        self._concerned: dict[Task, tuple[object, tuple[Name, ...], str | None]] = {}
        # By the writer too: what was refused is over, also while a connection waits for a body that nobody will read.
        self._refused: dict[Task, object] = {}

    def install(self, app: web.Application, *, sub_application: bool = False) -> None:
        """Put this before the router and all middlewares of an application that has not started.

        That is the application which is run, and holds for what it has below. Where it cannot be had, and one of its
        sub-applications alone is to be guarded, say so: then it is the first of that one's middlewares.
        Starting raises ConfigError where an application turns out to be a sub-application, and it was not said.
        """
        if sub_application:
            app.middlewares.insert(0, self._in_application)
        else:
            # aiohttp has no public place before the router, where a request costs the least, has not been told `100
            # Continue`, and has not met the redirects of `normalize_path_middleware` and the like.
            object.__setattr__(app, "_handle", self._entrance(app._handle))  # noqa: SLF001
            app.on_startup.append(_is_run)

    def __call__(self, request: web.BaseRequest, handler: Handler) -> Awaitable[web.StreamResponse]:
        """Answer a request, or have the handler answer it."""
        self._keep(request.task, request)
        if self._passes(request):
            return handler(request)  # type: ignore[arg-type]  # a proxy's handler takes what its server makes
        return self._judge(request, handler)

    @web.middleware
    def _in_application(self, request: web.BaseRequest, handler: Handler) -> Awaitable[web.StreamResponse]:
        return self(request, handler)

    def _entrance(self, handler: Handler) -> Handler:
        """Return what each request of a whole application goes through.

        Nearly all cost no coroutine of their own, no call and no look into `self`: on a machine whose branches are all
        new to it after each system call, what is not done at all counts, more than how long it takes.
        """
        if not are_as_known():
            return lambda request: self(request, handler)
        telling, tells, passes, judge = self._telling, self._tells, self._passes, self._judge
        gate, enforcer, host = self._gate, self._gate.enforcer, hdrs.HOST
        unnamed: object = None  # what the rules say of a host that no order names, as last seen

        def enter(request: web.Request) -> Awaitable[web.StreamResponse]:
            nonlocal unnamed
            task = request._task  # noqa: SLF001 (here and below: past the properties)
            if task not in telling and not tells(task, request):
                return self(request, handler)
            try:
                (name,) = request._headers.getall(host)  # noqa: SLF001
                is_passing = enforcer._rules.hosts[name] is unnamed and request._message.path[0] == "/"  # noqa: SLF001
            except Exception:  # noqa: BLE001 (no host, several, or no decision: it is judged, and that tells)
                is_passing = False
            if is_passing:
                return handler(request)
            if passes(request):
                unnamed = gate._unnamed  # noqa: SLF001 (as in `concerns`)
                return handler(request)
            return judge(request, handler)

        return enter

    def _passes(self, request: web.BaseRequest) -> bool:
        """Tell whether a request is nobody's business: it names one host and no other, which no order names."""
        hosts = request.headers.getall(hdrs.HOST, ())
        return len(hosts) == 1 and request.raw_path[:1] == "/" and not self._gate.concerns(hosts[0])

    def uncached(self, request: web.BaseRequest) -> bool:
        """Tell whether measure `cdn` applies to a request now; ask before each look into a cache, and before storing."""
        asked = self._concerned.get(request.task)
        return asked is not None and asked[0] is request.writer and self._gate.uncached(*asked[1:])

    def to_origin(self, request: web.BaseRequest, headers: _Headers, *, added_by_cache: Iterable[str] = ()) -> _Headers:
        """Return the header lines for the origin: under measure `cdn` without the validators that a cache has added."""
        if not self.uncached(request):
            return headers
        return cache_disable.request_headers(headers, added_by_cache=tuple(added_by_cache))

    def to_client(self, request: web.BaseRequest, headers: _Headers) -> _Headers:
        """Return the header lines for the client: under measure `cdn` such that nobody stores the response."""
        return cache_disable.response_headers(headers) if self.uncached(request) else headers

    async def _judge(self, request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        asked = _asked(request.task, request)
        if asked is None:
            return await handler(request)  # type: ignore[arg-type]  # as above
        verdict = self._gate.judge(method=request.method, hosts=asked.names, peer=asked.peer, headers=asked.headers)
        if verdict.answer is not None or verdict.action is Action.CLOSE:
            self._refused[request.task] = request.writer
        if verdict.answer is not None:
            self._exchanges.notes.acted(asked.names, verdict)
            return _response(verdict.answer)
        if verdict.action is Action.CLOSE:
            _abort(request)
            self._exchanges.notes.acted(asked.names, verdict)
            return web.Response()  # never sent: there is nobody to send it to
        self._let_through(request.task, request, asked.names, verdict)
        return await handler(request)  # type: ignore[arg-type]  # as above

    def _let_through(self, task: Task, request: web.BaseRequest, names: tuple[Name, ...], verdict: Verdict) -> None:
        known = self._concerned.get(task)
        self._concerned[task] = request.writer, names, verdict.client
        if known is None or known[0] is not request.writer:  # once, however many orders change while it runs
            self._uncache_headers(request)
        self._exchanges.acted(task, request, names, verdict)

    def _uncache_headers(self, request: web.BaseRequest) -> None:
        """Change the headers of a response as late as can be: after all that the application does to them.

        Whatever a rewrite makes of a request, and whoever prepares its response, they all write through one writer.
        """
        writer = request.writer
        write_headers = writer.write_headers

        async def write(status_line: str, headers: CIMultiDict[str]) -> None:
            if self.uncached(request):
                headers = CIMultiDict(cache_disable.response_headers(headers.items()))
            await write_headers(status_line, headers)

        writer.write_headers = write  # type: ignore[method-assign]

    # What runs

    def _keep(self, task: Task, request: web.BaseRequest) -> None:
        if task in self._telling:
            return
        if task not in self._running:
            task.add_done_callback(self._forget)
        self._running[task] = request

    def _tells(self, task: Task, request: web.BaseRequest) -> bool:
        """Tell whether a connection shows which request it has, and have it asked from now on if it does."""
        if task in self._running or not shows(task, request):
            return False
        self._telling.add(task)
        task.add_done_callback(self._forget)
        return True

    def _each_running(self) -> Iterator[tuple[Task, web.BaseRequest]]:
        in_a_step: dict[asyncio.AbstractEventLoop, list[Task]] = {}
        for task in [*self._running, *self._telling]:
            request = self._request(task)
            if request is not None:
                yield task, request
            elif task in self._telling and request_of(task) is None:
                in_a_step.setdefault(task.get_loop(), []).append(task)
        for loop, tasks in in_a_step.items():
            with suppress(RuntimeError):  # closed
                loop.call_soon_threadsafe(self._look_again, tasks)

    def _look_again(self, tasks: list[Task]) -> None:
        """Look at connections that showed nothing to another thread, now that they wait."""
        found = [(task, request) for task in tasks if (request := self._request(task)) is not None]
        self._exchanges.look_at(found)

    def _request(self, task: Task) -> web.BaseRequest | None:
        """Return the last of our requests on a connection, None where it was refused or has made way for another's."""
        current = request_of(task)
        request = current if task in self._telling else self._running.get(task)
        if request is None or self._refused.get(task) is request.writer:
            return None
        return request if current is None or current.writer is request.writer else None

    def _forget(self, task: Task) -> None:
        self._telling.discard(task)
        self._running.pop(task, None)
        self._concerned.pop(task, None)
        self._refused.pop(task, None)
        self._exchanges.forget(task)

    def _tell(self, changes: list[_Changed]) -> None:
        for loop in {changed.key.get_loop() for changed in changes}:
            with suppress(RuntimeError):  # closed with connections open: the other loops are to be told all the same
                loop.call_soon_threadsafe(self._act, [changed for changed in changes if changed.key.get_loop() is loop])

    def _act(self, changes: list[_Changed]) -> None:
        """End connections first, all of them, and then the handlers that are left without one: that takes longer."""
        running = [each for each in changes if self._request(each.key) is each.value and not is_answered(each.value)]
        ending = [changed for changed in running if changed.ends]
        for changed in ending:
            _abort(changed.value)
        for changed in running:
            if not changed.ends:
                self._let_through(changed.key, changed.value, changed.names, changed.verdict)
        for changed in ending:
            self._running.pop(changed.key, None)  # it is not found again before it has ended
            self._telling.discard(changed.key)
            self._exchanges.notes.cut(changed.names, changed.verdict)
            changed.key.get_loop().call_soon(changed.key.cancel)


async def _is_run(app: web.Application) -> None:
    """Refuse to start with a guard that would never be asked."""
    if app.on_response_prepare.frozen:
        raise ConfigError(
            "cdnblock is installed on a sub-application, which has no requests of its own: install it on the application"
            " that is run, or with `sub_application=True`"
        )


def _asked(_task: Task, request: web.BaseRequest) -> Asked | None:
    if is_answered(request):
        return None
    headers = request.headers
    names = names_of(
        host_fields=headers.getall(hdrs.HOST, ()),
        target=request.raw_path,
        method=request.method,
        http_1_0=request.version <= HttpVersion10,
    )
    return None if names is None else Asked(names=names, peer=request.remote, headers=headers)


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


def _response(answer: Answer) -> web.Response:
    headers = CIMultiDict(answer.headers)
    return web.Response(status=answer.status, reason=answer.reason, headers=headers, body=answer.body)
