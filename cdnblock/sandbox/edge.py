"""The edge: a caching reverse proxy of two hundred lines, and how one asks an `Enforcer`.

Read `Edge._answer` first: one decision for each request, then the measures that apply, strictest first. Everything
that has to do with orders is in this file's dozen lines that name the enforcer or a measure; the rest is what any
reverse proxy does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from cdnblock.enforcer import Enforcer
from cdnblock.matching.decision import Decision
from cdnblock.matching.names import canonical
from cdnblock.matching.ruleset import RuleSet
from cdnblock.measures import cache_disable, proxy_termination
from cdnblock.noting import Acted, Notes
from cdnblock.orders.model import Measure
from cdnblock.sandbox.edge_cache import MAX_STORED_BODY, EdgeCache, Headers, Key, Stored, fresh_for, may_answer
from cdnblock.sandbox.forwarding import Target, end_to_end, relay_websocket, target_of, wants_websocket

_STATE: Final = "X-Cache"
_VIA: Final = ("Via", "1.1 cdnblock-edge")  # RFC 9110 §7.6.3
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exchange:
    """One request being answered: what is asked for, by whom, and the task that answers."""

    request: web.BaseRequest
    target: Target
    client: str | None
    task: asyncio.Task[object] | None


class Edge:
    """A reverse proxy with a cache in front of one origin (`http://host:port`).

    `clock` must be the enforcer's. `operator_url` is the page of whoever runs this edge, for the notice.
    """

    def __init__(
        self,
        origin: str,
        enforcer: Enforcer,
        *,
        cache: EdgeCache | None = None,
        clock: Callable[[], float] = time.time,
        operator_url: str | None = None,
    ) -> None:
        self.cache = EdgeCache() if cache is None else cache
        self._origin = origin.rstrip("/")
        self._enforcer = enforcer
        self._clock = clock
        self._operator_url = operator_url
        self._uncached = self._names_without_cache(enforcer.rules)
        self._running: set[Exchange] = set()
        self._notes = Notes(enforcer.tally, "sandbox_edge")

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
        """Listen, follow the orders, and yield the port; stop on leaving."""
        loop = asyncio.get_running_loop()

        def after_change(old: RuleSet, new: RuleSet) -> None:  # on the enforcer's own thread
            loop.call_soon_threadsafe(self._after_change, old, new)

        unsubscribe = self._enforcer.subscribe(after_change)
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        async with aiohttp.ClientSession(auto_decompress=False, timeout=_TIMEOUT) as self._session:
            try:
                await runner.setup()
                await web.TCPSite(runner, host, port).start()
                yield runner.addresses[0][1]
            finally:
                unsubscribe()
                for exchange in list(self._running):
                    _cut(exchange)
                await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target = target_of(request)
        if target is None:
            return _send(proxy_termination.bad_host(method=request.method))
        client = self._enforcer.client_address(request.remote, request.headers.items())
        exchange = Exchange(request=request, target=target, client=client, task=asyncio.current_task())
        self._running.add(exchange)
        try:
            return await self._answer(exchange)
        finally:
            self._running.discard(exchange)

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        decision = self._decide(exchange)
        if decision.malformed:
            return _send(proxy_termination.bad_host(method=exchange.request.method))
        if Measure.PROXY in decision.measures:
            self._note(exchange, decision, Acted.CLOSE if proxy_termination.closes(decision) else Acted.ANSWER)
            return self._terminate(exchange, decision)
        self._note(exchange, decision, Acted.UNCACHED if Measure.CDN in decision.measures else None)
        if exchange.request.method == "CONNECT":  # a reverse proxy has no tunnels
            return web.Response(status=405, headers={"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"})
        if wants_websocket(exchange.request):
            return await relay_websocket(self._session, self._origin, exchange.request, exchange.target)
        if Measure.CDN in decision.measures:
            return await self._forward(exchange, "BYPASS")
        stored = self._from_cache(exchange)
        return await self._forward(exchange, "MISS") if stored is None else stored

    def _decide(self, exchange: Exchange) -> Decision:
        return self._enforcer.decide(exchange.target.authority, exchange.client)

    def _note(self, exchange: Exchange, decision: Decision, acted: Acted | None) -> None:
        if acted is not None or decision.would:
            self._notes.http(decision, exchange.target.authority, exchange.client, acted)

    def _terminate(self, exchange: Exchange, decision: Decision) -> web.StreamResponse:
        if proxy_termination.closes(decision):
            return _broken_off(exchange, web.Response())
        request = exchange.request
        return _send(
            proxy_termination.notice(
                decision,
                accept=",".join(request.headers.getall("Accept", [])) or None,
                accept_language=",".join(request.headers.getall("Accept-Language", [])) or None,
                method=request.method,
                operator_url=self._operator_url,
            )
        )

    def _from_cache(self, exchange: Exchange) -> web.StreamResponse | None:
        if not may_answer(exchange.request.method, exchange.request.headers):
            return None
        found = self.cache.find(_key(exchange))
        if found is None:
            return None
        headers, stored = found
        response = web.Response(status=stored.status, reason=stored.reason, body=stored.body)
        _put(response, (*headers, _VIA, (_STATE, "HIT")))
        return response

    async def _forward(self, exchange: Exchange, state: str) -> web.StreamResponse:
        """Fetch from the origin, stream to the client, and keep a copy if that is allowed at the end, too."""
        request, response = exchange.request, None
        headers = end_to_end(request.headers.items(), without={"host", "content-length"})
        if state == "BYPASS":
            headers = cache_disable.request_headers(headers)
        try:
            async with self._session.request(
                request.method,
                URL(self._origin + exchange.target.path, encoded=True),
                headers=[*headers, ("Host", exchange.target.authority), _VIA],
                data=request.content if request.can_read_body else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            ) as upstream:
                received = tuple(end_to_end(upstream.headers.items()))
                response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
                sent = cache_disable.response_headers(received) if state == "BYPASS" else received
                _put(response, (*sent, _VIA, (_STATE, state)))
                await response.prepare(request)
                copy = await _stream(upstream, response)
                await response.write_eof()
        except (aiohttp.ClientError, TimeoutError):
            if response is None or not response.prepared:
                return web.Response(
                    status=502, text="The origin did not answer.\n", headers={"Cache-Control": "no-store"}
                )
            return _broken_off(exchange, response)  # a body cut short must not look whole
        if copy is not None and state == "MISS":
            self._keep(exchange, upstream.status, upstream.reason or "", received, copy)
        return response

    def _keep(self, exchange: Exchange, status: int, reason: str, headers: Headers, body: bytes) -> None:
        request = exchange.request
        seconds = fresh_for(request.method, status, headers)
        if not seconds or request.body_exists or not may_answer(request.method, request.headers):
            return
        # Asked again: an order may have come into force for this client while the body was on its way.
        if Measure.CDN not in self._decide(exchange).measures:
            stored = Stored(
                status=status, reason=reason, headers=headers, body=body, fresh_for=seconds, at=self.cache.timer()
            )
            self.cache.keep(_key(exchange), stored)

    def _after_change(self, old: RuleSet, rules: RuleSet) -> None:
        """Purge what the measure `cdn` now starts or stops to hold for, and cut what the measure `proxy` now covers.

        When the orders themselves have changed, the measure may hold for other clients of the same names: then
        everything that is stored of them goes.
        """
        uncached = self._names_without_cache(rules)
        names = cache_disable.to_purge(self._uncached, uncached) if old is rules else self._uncached | uncached
        self._uncached = uncached
        if names:
            self.cache.purge(lambda host: cache_disable.names_cover(names, host))
        for exchange in list(self._running):
            decision = self._decide(exchange)
            if Measure.PROXY in decision.measures:
                self._running.discard(exchange)
                _cut(exchange)
                self._note(exchange, decision, Acted.CUT)

    def _names_without_cache(self, rules: RuleSet) -> frozenset[tuple[str, bool]]:
        return rules.covered_names(Measure.CDN, datetime.fromtimestamp(self._clock(), UTC))


def _key(exchange: Exchange) -> Key:
    authority = exchange.target.authority.lower()
    return Key(name=canonical(authority) or authority, authority=authority, target=exchange.target.path)


def _send(answer: proxy_termination.Answer) -> web.Response:
    response = web.Response(status=answer.status, reason=answer.reason, body=answer.body)
    _put(response, answer.headers)
    return response


def _put(response: web.StreamResponse, headers: Iterable[tuple[str, str]]) -> None:
    """Give a response these headers; the framing is aiohttp's business."""
    pairs = list(headers)
    for name, _ in pairs:
        response.headers.popall(name, None)
    for name, value in pairs:
        response.headers.add(name, value)


async def _stream(upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> bytes | None:
    """Pass a body on as it comes, and return a copy of it, None if it is too large to be kept."""
    copy: bytearray | None = bytearray()
    async for chunk in upstream.content.iter_any():
        await response.write(chunk)
        if copy is not None:
            copy += chunk
            if len(copy) > MAX_STORED_BODY:
                copy = None
    return None if copy is None else bytes(copy)


def _broken_off(exchange: Exchange, response: web.StreamResponse) -> web.StreamResponse:
    """End the connection without another octet; the response is what aiohttp then fails to send, silently."""
    if exchange.request.transport is not None:
        exchange.request.transport.abort()
    return response


def _cut(exchange: Exchange) -> None:
    """End an answer that is under way: an order has taken effect in the middle of it."""
    if exchange.request.transport is not None:
        exchange.request.transport.abort()
    if exchange.task is not None:
        exchange.task.cancel()
