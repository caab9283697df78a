"""ASGI servers as hosts: a middleware for any ASGI 3 application, HTTP and WebSocket, with no framework in it.

    from starlette.applications import Starlette
    from cdnblock import Enforcer
    from cdnblock.adapters.asgi_middleware import CdnblockMiddleware
    from cdnblock.http_gate import HttpGate

    enforcer = Enforcer("orders/", trusted_proxies=["10.0.0.0/8"])
    app = CdnblockMiddleware(Starlette(), HttpGate(enforcer))   # uvicorn example:app, granian --interface asgi example:app

Put it around the whole application, as here: then it decides before any rewrite, and reaches the server itself. In a
framework's own list of middlewares it decides all the same, but cannot close connections without an answer.

What no order concerns passes with the server's own `receive` and `send`. ASGI has no word for ending a connection:

| server | measure `proxy: close` | what runs is cut | such that the client sees it is not whole |
|---|---|---|---|
| uvicorn | closes | aborts the connection | yes |
| uvicorn, inside a framework's list | sends the notice | ends the application's task, and uvicorn the connection | yes |
| granian | sends the notice | ends the response | yes, except where it had to be ended as below |

What the connection still holds when the application has returned is cut too under uvicorn, but for the last 64 KiB (TLS:
512 KiB). Granian, and a framework's list, let no one at what they were given: a body in one message goes out whole, so
send large ones in pieces. The extension `http.response.pathsend`, which no cut can reach, is hidden from applications.
One that swallows its cancellation there is cancelled three times; then its response is ended as if it were whole, and
the log says so. What an application does after a complete response, such as Starlette's background tasks, goes on; in a
framework's list it cannot be told apart, and is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import get_ident
from typing import Any, Final, TypeAlias

from cdnblock.adapters._asgi_messages import (
    Message,
    Receive,
    Scope,
    Send,
    as_octets,
    send_answer,
    take_rest,
    until_disconnected,
)
from cdnblock.adapters._asgi_servers import (
    abort_rest,
    is_complete,
    tasks_by_send,
    took_all,
    transport_of,
    until_sent,
)
from cdnblock.adapters._running_exchanges import Asked, Changed, RunningExchanges
from cdnblock.http_gate import Action, HttpGate, Name, Verdict, names_of
from cdnblock.measures import cache_disable
from cdnblock.measures.proxy_termination import CLOSE_CODE, Answer

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
_Changed: TypeAlias = Changed[Send, Scope]
_Exchanges: TypeAlias = RunningExchanges[Send, Scope]

_ADAPTER: Final = "asgi_middleware"  # in records and metrics
_LOG: Final = logging.getLogger(__name__)
_CUT: Final[Scope] = {}
"""Stands in the place of the scope of an exchange that was cut."""

_ABORT_AFTER: Final = 0.05  # seconds that a Close frame has to leave
_CANCELS: Final = 3  # of an application that takes a cancellation for a nuisance
_CANCEL_EVERY: Final = 0.3  # seconds: one that does not still has something to put away
_HTTP_1_0: Final = ("1.0", "1")  # as uvicorn and granian write it


class CdnblockMiddleware:
    """Decides about each request and WebSocket of an ASGI application, and cuts what runs when an order takes effect.

    Lifespan, and scopes of types that are not known here, go through untouched.
    """

    def __init__(self, app: App, gate: HttpGate) -> None:
        self._app = app
        self._gate = gate
        self._concerns = gate.concerns
        self._exchanges: dict[asyncio.AbstractEventLoop, _Exchanges] = {}
        # By thread, each of which runs one loop: to ask for the loop itself is a system call on Python 3.11.
        self._running: dict[int, dict[Send, Scope]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        if scope["type"] not in ("http", "websocket"):
            self._follow()  # a server that begins with lifespan may run another loop than the one before
            return await self._app(scope, receive, send)
        try:
            running = self._running[get_ident()]
        except KeyError:
            running = self._follow()
        running[send] = scope
        if "extensions" in scope:
            scope["extensions"].pop("http.response.pathsend", None)  # granian would send the file past every cut
        try:
            # Nearly all requests go this way, so nothing is called that need not be: one host, no authority in the
            # target (uvicorn with h11 leaves it in the path), and no order that names it.
            host = another = None
            for name, value in scope["headers"]:
                if name == b"host":
                    host, another = value, host
            if another is None and host is not None and scope["path"][:1] == "/" and not self._concerns(host):
                await self._app(scope, receive, send)
            else:
                await self._judge(scope, receive, send)
            # A large answer has only been handed over when the application returns: uvicorn's buffer still holds it.
            flow = getattr(getattr(send, "__self__", None), "flow", None)
            if flow is not None and flow.write_paused:
                await until_sent(send, flow)
        except (Exception, asyncio.CancelledError):
            if running.pop(send, None) is not _CUT:
                raise
            await self._after_cut(scope, receive, send)
        finally:
            running.pop(send, None)

    async def _judge(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _asked(send, scope)
        if asked is None:
            return await self._app(scope, receive, send)
        transport, exchanges = transport_of(send), self._exchanges[asyncio.get_running_loop()]
        verdict = self._verdict(scope, asked, can_close=transport is not None)
        if verdict.action is Action.CLOSE and transport is not None:
            transport.abort()
            exchanges.notes.acted(asked.names, verdict)
            await until_disconnected(receive)
        elif verdict.answer is not None:
            exchanges.notes.acted(asked.names, verdict)
            await _refuse(verdict.answer, scope, receive, send)
        else:
            exchanges.acted(send, scope, asked.names, verdict)
            try:
                await self._app(scope, receive, self._uncaching(exchanges, scope, asked.names, verdict, send))
            finally:
                exchanges.forget(send)
        return None

    def _verdict(self, scope: Scope, asked: Asked, *, can_close: bool) -> Verdict:
        method = scope.get("method", "GET")
        return self._gate.judge(
            method=method, hosts=asked.names, peer=asked.peer, headers=asked.headers, can_close=can_close
        )

    def _uncaching(
        self, exchanges: _Exchanges, scope: Scope, names: tuple[Name, ...], verdict: Verdict, send: Send
    ) -> Send:
        """Return a `send` that asks once more when the response begins, and then changes its headers if need be."""

        async def send_uncached(message: Message) -> None:
            if message["type"] == "http.response.start" and self._gate.uncached(names, verdict.client):
                if verdict.action is not Action.PASS_UNCACHED:
                    exchanges.acted(send, scope, names, self._gate.judge_running(names, verdict.client))
                lines = (
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", ())
                )
                message = {**message, "headers": as_octets(cache_disable.response_headers(lines))}
            await send(message)

        return send_uncached

    # What runs

    def _follow(self) -> dict[Send, Scope]:
        """Return what runs on this loop, which this thread has begun to run."""
        loop = asyncio.get_running_loop()
        for other in [other for other in self._exchanges if other.is_closed()]:
            del self._exchanges[other]
        if loop not in self._exchanges:
            self._exchanges[loop] = RunningExchanges(
                self._gate, _asked, lambda changes: loop.call_soon_threadsafe(self._cut, loop, changes), _ADAPTER
            )
        running = self._running[get_ident()] = self._exchanges[loop].by_key
        return running

    def _cut(self, loop: asyncio.AbstractEventLoop, changes: list[_Changed]) -> None:
        exchanges, tasks = self._exchanges[loop], tasks_by_send(loop, CdnblockMiddleware.__call__.__code__)
        running = exchanges.by_key
        for changed in changes:
            send, scope = changed.key, changed.value
            if changed.ends and running.get(send) is scope:
                try:
                    if is_complete(send):  # what still runs serves nobody: it is the application's own
                        if abort_rest(send):
                            exchanges.notes.cut(changed.names, changed.verdict)
                    elif (transport := transport_of(send)) is None:
                        _keep(loop.create_task(self._end_answer(exchanges, changed, tasks.get(send))))
                    else:
                        running[send] = _CUT
                        self._end_connection(loop, send, scope, transport, tasks.get(send))
                        exchanges.notes.cut(changed.names, changed.verdict)
                except Exception:  # noqa: BLE001 (logged with its trace; the others must be cut all the same)
                    _LOG.exception("cdnblock: what runs could not be cut")

    def _end_connection(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Send,
        scope: Scope,
        transport: asyncio.WriteTransport,
        task: asyncio.Task[Any] | None,
    ) -> None:
        if scope["type"] == "websocket":
            _keep(loop.create_task(self._say_goodbye(scope, send)))
            loop.call_later(_ABORT_AFTER, transport.abort)
            return
        transport.abort()
        # An application that waits for nothing but `send` would go on for ever: to uvicorn's, nobody is no error.
        # It ends when all connections have: that takes longer.
        if task is not None:
            loop.call_soon(task.cancel)

    async def _end_answer(self, exchanges: _Exchanges, changed: _Changed, task: asyncio.Task[Any] | None) -> None:
        """Cut where no connection can be seen."""
        send, scope, running = changed.key, changed.value, exchanges.by_key
        if (scope["type"] == "http" and await took_all(send)) or running.get(send) is not scope:
            return
        running[send] = _CUT
        exchanges.notes.cut(changed.names, changed.verdict)
        if task is not None:
            for _ in range(_CANCELS):
                if not task.cancel():
                    break
                await asyncio.sleep(_CANCEL_EVERY)
                if running.get(send) is not _CUT:
                    return
            else:
                _LOG.error("cdnblock: an application goes on after it was cancelled %s times", _CANCELS)
        await self._say_goodbye(scope, send, and_end=True)

    async def _after_cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See that the server has noticed the end, or that the client is told what can still be told."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        if transport_of(send) is None:
            await self._say_goodbye(scope, send)
        elif scope["type"] == "http":
            await until_disconnected(receive)

    async def _say_goodbye(self, scope: Scope, send: Send, *, and_end: bool = False) -> None:
        """Say what can still be said to the client of an exchange that was cut: a Close, or the notice.

        `and_end`: end a response that has begun; then it looks whole. Otherwise the server does when the application
        returns, and shows that it is not.
        """
        answer = None
        if scope["type"] == "http" and (asked := _asked(send, scope)) is not None:
            answer = self._verdict(scope, asked, can_close=False).answer
        with suppress(Exception):  # servers raise what they like: the response has begun, the client has gone
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": CLOSE_CODE})
            elif answer is not None:
                await send_answer(answer, "http", send)
                return
        if and_end and scope["type"] == "http":
            with suppress(Exception):
                await send({"type": "http.response.body", "body": b"", "more_body": False})


_TASKS: Final[set[asyncio.Task[None]]] = set()  # the event loop itself keeps no strong reference to its tasks


def _keep(task: asyncio.Task[None]) -> None:
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)


def _asked(_send: Send, scope: Scope) -> Asked | None:
    if scope is _CUT:
        return None
    headers = scope["headers"]
    names = names_of(
        host_fields=[value for name, value in headers if name.lower() == b"host"],
        target=scope.get("raw_path") or scope["path"],
        method=scope.get("method", "GET"),
        http_1_0=scope.get("http_version") in _HTTP_1_0,
    )
    client = scope.get("client")
    return None if names is None else Asked(names=names, peer=None if client is None else client[0], headers=headers)


async def _refuse(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await take_rest(scope, receive)
        await send_answer(answer, "http", send)
        return
    await receive()  # websocket.connect
    if "websocket.http.response" in scope.get("extensions", {}):
        await send_answer(answer, "websocket.http", send)
    else:
        await send({"type": "websocket.close", "code": CLOSE_CODE})
