"""The sandbox's edge, broken on purpose: one class for each mistake that somebody's proxy has made or could make."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import re
import threading
from contextlib import contextmanager

from aiohttp import web

from cdnblock.enforcer import Enforcer
from cdnblock.matching.decision import Decision
from cdnblock.orders.model import Measure
from cdnblock.sandbox import edge as edge_module
from cdnblock.sandbox.edge import Edge
from cdnblock.testing import Host

NOTHING = Decision(measures={})
NOBODY = "other.example"
FRENCH = "203.0.113.7"
EVERYBODY = ("127.0.0.0/8",)


def at(text):
    """A clock that stands."""
    stands = dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()
    return lambda: stands


class Sound(Edge):
    """Nothing is broken. `deaf` does not reread; the other two go to the enforcer."""

    trusts = ("127.0.0.1/32",)
    clock = None
    deaf = False

    def _asked(self, authority, client, exchange):
        """Return the host and client that are decided about; None: nothing is decided."""
        return authority, client

    def _decide(self, exchange):
        asked = self._asked(exchange.target.authority, exchange.client, exchange)
        return NOTHING if asked is None else self._enforcer.decide(*asked)


class Undecided(Sound):
    """Decides nothing."""

    def _asked(self, authority, client, exchange):
        return None


class Suffix(Sound):
    """Compares ends of texts, not labels."""

    def _asked(self, authority, client, exchange):
        found = re.search(r"blocked-names\.example$", authority)
        return ("blocked-names.example" if found else authority), client


class NoSubdomains(Sound):
    """Knows only the names themselves."""

    def _asked(self, authority, client, exchange):
        return (authority if authority.count(".") == 1 else NOBODY), client


class AlwaysSubdomains(Sound):
    """Takes every name with all below it."""

    def _asked(self, authority, client, exchange):
        return authority.removeprefix("www."), client


class CaseSensitive(Sound):
    """Takes another case for another host."""

    def _asked(self, authority, client, exchange):
        return (authority if authority == authority.lower() else NOBODY), client


class PortSensitive(Sound):
    """Takes a port for a part of the name."""

    def _asked(self, authority, client, exchange):
        return (NOBODY if ":" in authority else authority), client


class DotSensitive(Sound):
    """Takes a final dot for a part of the name."""

    def _asked(self, authority, client, exchange):
        return (NOBODY if authority.partition(":")[0].endswith(".") else authority), client


class AsciiOnly(Sound):
    """Knows no A-labels."""

    def _asked(self, authority, client, exchange):
        return (NOBODY if "xn--" in authority.lower() else authority), client


class Careless(Sound):
    """Lets odd octets pass."""

    def _asked(self, authority, client, exchange):
        return (authority if re.fullmatch(r"[\w.:-]+", authority, re.ASCII) else NOBODY), client


class NoLiterals(Sound):
    """Wants names where addresses may stand."""

    async def _answer(self, exchange):
        if exchange.target.authority[:1] in "[0123456789":
            return web.Response(status=400)
        return await super()._answer(exchange)


class HostFirst(Sound):
    """Goes by Host where the target names another host, in everything."""

    async def _answer(self, exchange):
        target = dataclasses.replace(exchange.target, authority=exchange.request.headers["Host"])
        return await super()._answer(dataclasses.replace(exchange, target=target))


class HostDecides(Sound):
    """Decides by Host, and serves what the target names."""

    def _asked(self, authority, client, exchange):
        return exchange.request.headers["Host"], client


class BelievesForwardedHost(Sound):
    """Takes the host from X-Forwarded-Host."""

    def _asked(self, authority, client, exchange):
        return exchange.request.headers.get("X-Forwarded-Host", authority), client


class NoOldVersion(Sound):
    """Decides nothing for HTTP/1.0."""

    def _asked(self, authority, client, exchange):
        return None if exchange.request.version < (1, 1) else (authority, client)


class Smuggler(Sound):
    """Finds requests in bodies."""

    async def _answer(self, exchange):
        body = await exchange.request.content.read(10_000)
        if b"Host: hidden.example" in body:
            trace = re.search(rb"Trace: (\w+)", body)[1].decode()
            headers = {"Host": "hidden.example", "X-Contract-Trace": trace}
            async with self._session.get(self._origin, headers=headers):
                pass
        exchange.request.content.unread_data(body)
        return await super()._answer(exchange)


class BodyIsNext(Sound):
    """Takes what follows a refused head for the next request."""

    async def _answer(self, exchange):
        answer = await super()._answer(exchange)
        if answer.status == 451 and b"GET / " in (body := await exchange.request.content.read(10_000)):
            trace = re.search(rb"Trace: (\w+)", body)[1].decode()
            async with self._session.get(self._origin, headers={"Host": NOBODY, "X-Contract-Trace": trace}):
                pass
        return answer


class DropsFirst(Sound):
    """Removes what Connection names before it decides."""

    def _asked(self, authority, client, exchange):
        return authority, (None if "X-Forwarded-For" in exchange.request.headers.get("Connection", "") else client)


class OnlyGet(Sound):
    """Decides about GET and HEAD only."""

    def _asked(self, authority, client, exchange):
        return (authority, client) if exchange.request.method in ("GET", "HEAD") else None


class HeadIsEmpty(Sound):
    """Says that HEAD's answer would be empty."""

    def _terminate(self, exchange, decision):
        response = super()._terminate(exchange, decision)
        if exchange.request.method == "HEAD":
            response.headers["Content-Length"] = "0"
        return response


class AsksFirst(Sound):
    """Asks the site before it refuses."""

    async def _answer(self, exchange):
        answer = await super()._answer(exchange)
        if answer.status == 451:
            headers = {
                "Host": exchange.target.authority,
                "X-Contract-Trace": exchange.request.headers["X-Contract-Trace"],
            }
            async with self._session.get(self._origin, headers=headers):
                pass
        return answer


class SocketsUndecided(Sound):
    """Decides nothing about WebSockets."""

    def _asked(self, authority, client, exchange):
        return None if "Upgrade" in exchange.request.headers else (authority, client)


class NoSockets(Sound):
    """Knows no WebSockets."""

    async def _answer(self, exchange):
        upgrade = "Upgrade" in exchange.request.headers
        return web.Response(status=403) if upgrade else await super()._answer(exchange)


class TrustsEverybody(Sound):
    """Believes whoever connects."""

    trusts = EVERYBODY


class LeftMost(Sound):
    """Takes the left-most address for the client."""

    def _asked(self, authority, client, exchange):
        chain = ",".join(exchange.request.headers.getall("X-Forwarded-For", []))
        return authority, chain.partition(",")[0].strip() or client


class LastLineLost(Sound):
    """Reads only the first of several lines."""

    def _asked(self, authority, client, exchange):
        return authority, exchange.request.headers.get("X-Forwarded-For", client).rpartition(",")[2].strip()


class OnlyPlainIPv4(Sound):
    """Reads dotted quads and nothing else."""

    def _asked(self, authority, client, exchange):
        last = ",".join(exchange.request.headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip()
        return authority, (last if re.fullmatch(r"[\d.]+", last) else None)


class SkipsGarbage(Sound):
    """Goes on to the left where it cannot read."""

    def _asked(self, authority, client, exchange):
        chain = ",".join(exchange.request.headers.getall("X-Forwarded-For", [])).split(",")
        return authority, client or chain[0].strip()


class BelievesRealIp(Sound):
    """Prefers X-Real-IP."""

    def _asked(self, authority, client, exchange):
        return authority, exchange.request.headers.get("X-Real-IP", client)


class NoForwarded(Sound):
    """Does not know RFC 7239."""

    def _asked(self, authority, client, exchange):
        return authority, (client if "X-Forwarded-For" in exchange.request.headers else None)


class EverybodyIsFrench(Sound):
    """Forgets the territory."""

    def _asked(self, authority, client, exchange):
        return authority, FRENCH


class OverseasIsFrench(Sound):
    """Takes FR for the whole Republic."""

    def _asked(self, authority, client, exchange):
        return authority, (FRENCH if str(client).startswith("192.0.2.") else client)


class UnknownIsAbroad(Sound):
    """Takes who is nowhere for a foreigner."""

    def _asked(self, authority, client, exchange):
        return authority, ("198.51.100.7" if client in (None, "100.64.0.7") else client)


class UnknownIsFrench(Sound):
    """Takes who is nowhere for a Frenchman."""

    def _asked(self, authority, client, exchange):
        return authority, (FRENCH if client in (None, "100.64.0.7", "127.0.0.2") else client)


class Late(Sound):
    """Lives after most orders."""

    clock = staticmethod(at("2089-02-01"))


class Early(Sound):
    """Lives in an earlier time."""

    clock = staticmethod(at("2025-05-01T12:00"))


class Stopped(Sound):
    """Has a clock that stands today."""

    clock = staticmethod(at(dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")))


class Deaf(Sound):
    """Rereads nothing."""

    deaf = True


class EnglishOnly(Sound):
    """Does not look at what the client reads."""

    def _terminate(self, exchange, decision):
        response = super()._terminate(exchange, decision)
        response.headers["Content-Language"] = "en"
        return response


class Storable(Sound):
    """Sends a 451 that caches keep."""

    def _terminate(self, exchange, decision):
        response = super()._terminate(exchange, decision)
        response.headers["Cache-Control"] = "max-age=60"
        return response


class Anonymous(Sound):
    """Does not say who blocks."""

    def _terminate(self, exchange, decision):
        response = super()._terminate(exchange, decision)
        response.headers.pop("Link", None)
        return response


class HangsUp(Sound):
    """Closes after each refusal."""

    def _terminate(self, exchange, decision):
        response = super()._terminate(exchange, decision)
        response.force_close()
        return response


class NeverCloses(Sound):
    """Answers where it should say nothing."""

    async def _answer(self, exchange):
        decision = self._decide(exchange)
        if decision.measures.get(Measure.PROXY) == "close":
            return web.Response(status=451)
        return await super()._answer(exchange)


class DnsIsEverything(Sound):
    """Refuses whatever an order names."""

    async def _answer(self, exchange):
        return web.Response(status=451) if self._decide(exchange) else await super()._answer(exchange)


class CdnFirst(Sound):
    """Serves without caching what should be refused."""

    async def _answer(self, exchange):
        if Measure.CDN in self._decide(exchange).measures:
            return await self._forward(exchange, "BYPASS")
        return await super()._answer(exchange)


class CdnForgotten(Sound):
    """Passes what it should mark, from the cache or not."""

    def _asked(self, authority, client, exchange):
        asked = self._enforcer.decide(authority, client)
        return None if Measure.CDN in asked.measures and Measure.PROXY not in asked.measures else (authority, client)


class CdnForAll(Sound):
    """Marks everything."""

    async def _forward(self, exchange, state):
        return await super()._forward(exchange, "BYPASS")


class NoCache(Sound):
    """Stores nothing."""

    def _keep(self, exchange, *stored):
        pass


class StoresInside(Sound):
    """Stores what was fetched for a client inside."""

    async def _forward(self, exchange, state):
        if state == "BYPASS":
            return await super()._forward(exchange, "MISS")
        return await super()._forward(exchange, state)

    def _keep(self, exchange, *stored):
        decide, self._decide = self._decide, lambda _: NOTHING
        super()._keep(exchange, *stored)
        self._decide = decide


class CacheFirst(Sound):
    """Looks into its cache before it decides."""

    async def _answer(self, exchange):
        stored = self._from_cache(exchange)
        return await super()._answer(exchange) if stored is None else stored


class NeverPurges(Sound):
    """Leaves stored what is stored."""

    def _after_change(self, old, rules):
        purge, self.cache.purge = self.cache.purge, lambda _: None
        super()._after_change(old, rules)
        self.cache.purge = purge


class PurgesAll(Sound):
    """Throws its whole cache away."""

    def _after_change(self, old, rules):
        super()._after_change(old, rules)
        self.cache.purge(lambda _: True)


class NeverCuts(Sound):
    """Lets run what runs."""

    def _after_change(self, old, rules):
        self._running, running = set(), self._running
        super()._after_change(old, rules)
        self._running = running


class CutsAll(Sound):
    """Cuts whatever runs."""

    def _after_change(self, old, rules):
        super()._after_change(old, rules)
        for exchange in [*self._running]:
            edge_module._cut(exchange)


class Rewriting(Sound):
    """Asks the site for another host than the client did, and decides by what the client asked for."""

    rewrites = None

    async def _forward(self, exchange, state):
        authority = self.rewrites.get(exchange.target.authority, exchange.target.authority)
        target = dataclasses.replace(exchange.target, authority=authority)
        return await super()._forward(dataclasses.replace(exchange, target=target), state)


class RewritesFirst(Rewriting):
    """Decides by what it made of the request."""

    def _asked(self, authority, client, exchange):
        return self.rewrites.get(authority, authority), client


class LosesLines(Sound):
    """Keeps the first of several lines with one name."""

    async def _forward(self, exchange, state):
        put, edge_module._put = (
            edge_module._put,
            lambda response, lines: put(response, {**dict([*lines][::-1])}.items()),
        )
        try:
            return await super()._forward(exchange, state)
        finally:
            edge_module._put = put


class ForgetsPorts(Sound):
    """Asks the site without the port."""

    async def _forward(self, exchange, state):
        target = dataclasses.replace(exchange.target, authority=exchange.target.authority.partition(":")[0])
        return await super()._forward(dataclasses.replace(exchange, target=target), state)


class CutsShort(Sound):
    """Passes a megabyte."""

    async def _answer(self, exchange):
        if exchange.target.path == "/large":
            return web.Response(body=b"x" * 2**20, headers={"X-Origin": "site"})
        return await super()._answer(exchange)


class Collects(Sound):
    """Passes a body on when it is whole."""

    async def _answer(self, exchange):
        if exchange.target.path in ("/events", "/stream"):
            await asyncio.sleep(60)
        return await super()._answer(exchange)


class NoTrailers(Sound):
    """Stops where trailers are announced."""

    async def _answer(self, exchange):
        if exchange.target.path == "/trailers":
            return web.Response(body=b"one two ", headers={"X-Origin": "site"})
        return await super()._answer(exchange)


class ClosesAlways(Sound):
    """Serves one request on a connection."""

    async def _answer(self, exchange):
        response = await super()._answer(exchange)
        response.force_close()
        return response


class NoLeave(Sound):
    """Has no patience with who asks before."""

    async def _answer(self, exchange):
        waits = "Expect" in exchange.request.headers
        return web.Response(status=417) if waits else await super()._answer(exchange)


class ManyLabels(Sound):
    """Gives up on names of many labels."""

    def _asked(self, authority, client, exchange):
        return (NOBODY if authority.count(".") > 50 else authority), client


class FailsSometimes(Sound):
    """Fails for one field that nobody thought of."""

    async def _answer(self, exchange):
        return web.Response(status=500) if "Range" in exchange.request.headers else await super()._answer(exchange)


class HangsSometimes(Sound):
    """Never answers some requests."""

    async def _answer(self, exchange):
        if exchange.request.headers.get("Accept") == ";;;":
            await asyncio.sleep(60)
        return await super()._answer(exchange)


class DropsSometimes(Sound):
    """Ends the connection of some requests."""

    async def _answer(self, exchange):
        if exchange.request.method == "PATCH":
            exchange.request.transport.abort()
        return await super()._answer(exchange)


class SidesSometimes(Sound):
    """Is on the wrong side for long labels."""

    def _asked(self, authority, client, exchange):
        return (NOBODY if len(authority.partition(".")[0]) == 12 else authority), client


@contextmanager
def running(kind, stage):
    """Run an edge of this kind on a loop of its own."""
    options = {"clock": kind.clock} if kind.clock else {}
    if issubclass(kind, Rewriting):
        kind.rewrites = stage.rewrites
    with Enforcer(
        stage.orders, geo=stage.geo, trusted_proxies=kind.trusts, follow=not kind.deaf, **options
    ) as enforcer:
        edge = kind(stage.origin, enforcer, operator_url=stage.operator_url, **options)
        with served_apart(edge.serve()) as port:
            yield Host(address=("127.0.0.1", port), reload=(lambda: None) if kind.deaf else enforcer.reload)


@contextmanager
def served_apart(serving):
    """Enter an asynchronous context on a loop and thread of its own; leave it at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(10)
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
