"""The probing clients: they ask over real sockets and say in two words what they got.

They judge by what arrives, never by what a server says of itself: a cache works when two answers carry one number, a
refusal is one when its code and its EDE are on the wire, a notice when it may not be stored and says who blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

import aiohttp

from cdnblock.matching.names import canonical
from cdnblock.sandbox.probes import Channel, Probe
from cdnblock.verification import dns_asking
from cdnblock.verification.answers import Answer, DnsAnswer
from cdnblock.verification.clients import Client, Told
from cdnblock.verification.dns_packets import QTYPES, RCODES, Question
from cdnblock.verification.places import Place
from cdnblock.verification.servers import Resolver

_LOOPBACK: Final = "127.0.0.1"
_TIMEOUT: Final = 5.0  # seconds for one answer
_GONE: Final = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError)


class Clients:
    """Clients at all places. Where each is, the servers learn from this machine, a proxy and resolver they trust."""

    def __init__(self, *, front: int, edge: int, resolver: int) -> None:
        self._front = f"http://{_LOOPBACK}:{front}"
        self._edge = f"http://{_LOOPBACK}:{edge}"
        self._resolver = Resolver(host=_LOOPBACK, port=resolver)
        self._uncached: set[str] = set()  # numbers of answers that clients inside got
        self._cached: set[str] = set()  # and that clients outside got

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT, sock_read=_TIMEOUT)
        self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, probe: Probe) -> str:
        """Return what a probe that asks gets."""
        try:
            match probe.channel:
                case Channel.DNS:
                    return await self._ask_resolver(probe)
                case Channel.FRONT:
                    return (await self._fetch(self._front, probe))[0]
                case Channel.EDGE:
                    return await self._ask_edge_twice(probe)
                case Channel.STORED:
                    return (await self._fetch(self._edge, probe))[1]
                case Channel.STREAM | Channel.SOCKET:
                    raise AssertionError("what runs is opened, not asked")
        except TimeoutError:  # aiohttp's is one, too
            return "no answer"

    async def open(self, probe: Probe) -> Running:
        """Start the download or WebSocket that a probe will look at later."""
        running: Running
        if probe.channel is Channel.STREAM:
            running = Download(self._session, f"{self._edge}/stream", _headers(probe.host, probe.place))
        else:
            running = Conversation(self._session, f"{self._front}/socket", _headers(probe.host, probe.place))
        await running.open()
        return running

    async def _ask_resolver(self, probe: Probe) -> str:
        """Ask for A over UDP and for HTTPS over TCP: an answered type 65 leaks addresses, too."""
        client = Client(
            label=probe.place.label,
            country=probe.place.country,
            address=probe.place.address,
            told=Told.CLIENT_SUBNET,
        )
        name = probe.host if probe.host.isascii() else canonical(probe.host) or probe.host
        query = Question(name=name, subnet=client.subnet)
        by_udp = _judge_dns(await dns_asking.ask_udp(self._resolver, query, client, _TIMEOUT))
        async with asyncio.timeout(_TIMEOUT):
            query = replace(query, qtype=QTYPES["HTTPS"])
            by_tcp = _judge_dns(await dns_asking.ask_tcp(self._resolver, query, client))
        return by_udp if by_udp == by_tcp else f"A {by_udp}; HTTPS over TCP {by_tcp}"

    async def _ask_edge_twice(self, probe: Probe) -> str:
        first, number = await self._fetch(self._edge, probe)
        second, again = await self._fetch(self._edge, probe)
        if first != second:
            return f"{first}, then {second}"
        if not first.startswith("200"):
            return first
        if number == again:
            self._cached.add(number)
            return "cached, from a client inside" if number in self._uncached else "cached"
        self._uncached |= {number, again}
        if self._cached & {number, again}:
            return "uncached, but from the cache"
        return "uncached" if first == "200 no-store" else "uncached here, but may be stored elsewhere"

    async def _fetch(self, server: str, probe: Probe) -> tuple[str, str]:
        """Return the judged status, and the number of the origin's answer."""
        headers = _headers(probe.host, probe.place)
        try:
            async with self._session.get(f"{server}/", headers=headers, allow_redirects=False) as response:
                await response.read()
        except TimeoutError:
            raise
        except _GONE:
            return "closed", ""
        if response.status == 451:  # noqa: PLR2004 - RFC 7725
            return _judge_notice(response), ""
        number = response.headers.get("X-Answer", "")
        if response.status != 200 or not number:  # noqa: PLR2004 - the origin's only status
            return f"{response.status} from nobody", ""
        no_store = probe.channel is Channel.EDGE and _may_not_be_stored(response)
        return "200 no-store" if no_store else "200", number


class Running(ABC):
    """Something that runs while the clock moves on. `ended` is set when it is over."""

    def __init__(self, session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> None:
        self._session = session
        self._url = url
        self._headers = headers
        self._started = asyncio.Event()
        self._signs = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    async def open(self) -> None:
        """Start, and return when it runs or has failed."""
        self._task = asyncio.create_task(self._run())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._started.wait(), _TIMEOUT)

    async def fate(self) -> str:
        """Return whether it still gives a sign of life."""
        if not self._started.is_set():
            return "never ran"
        if self.ended.is_set():
            return "cut"
        self._signs.clear()
        with contextlib.suppress(TimeoutError, *_GONE):
            await asyncio.wait_for(self._poke(), _TIMEOUT)
        return "cut" if self.ended.is_set() else "goes on" if self._signs.is_set() else "hangs"

    async def close(self) -> None:
        """End it from this side."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                await self._stay()
        finally:
            self.ended.set()
            self._signs.set()

    @abstractmethod
    async def _stay(self) -> None:
        """Run until the other side ends it; set `_started` at the start and `_signs` at each sign of life."""

    async def _poke(self) -> None:
        await self._signs.wait()


class Download(Running):
    """A body without end."""

    async def _stay(self) -> None:
        async with self._session.get(self._url, headers=self._headers) as response:
            async for _ in response.content.iter_any():
                if response.status == 200:  # noqa: PLR2004 - a notice is no download
                    self._started.set()
                    self._signs.set()


class Conversation(Running):
    """An open WebSocket."""

    async def _stay(self) -> None:
        async with self._session.ws_connect(self._url, headers=self._headers, receive_timeout=None) as self._socket:
            self._started.set()
            async for _ in self._socket:
                self._signs.set()

    async def _poke(self) -> None:
        await self._socket.send_str("still there?")
        await self._signs.wait()


def _headers(host: str, place: Place) -> dict[str, str]:
    return {"Host": host, "X-Forwarded-For": place.address, "Accept": "text/html", "Accept-Language": "en"}


def _judge_dns(answer: Answer) -> str:
    if not isinstance(answer, DnsAnswer):
        return "no answer"
    said = answer.reading
    if said.authenticated:
        return "claims to be authenticated"
    if said.rcode == 0:
        return "answered" if said.answers else "no data"
    return "+".join([RCODES.get(said.rcode, str(said.rcode)).lower(), *map(str, said.codes)])


def _judge_notice(response: aiohttp.ClientResponse) -> str:
    if 'rel="blocked-by"' not in response.headers.get("Link", ""):  # RFC 7725 §4
        return "451 that does not say who blocks"
    return "451" if _may_not_be_stored(response) else "451 that may be stored"


def _may_not_be_stored(response: aiohttp.ClientResponse) -> bool:
    fields = [response.headers.getall(name, []) for name in ("Cache-Control", "CDN-Cache-Control")]
    return fields == [["no-store"], ["no-store"]]
