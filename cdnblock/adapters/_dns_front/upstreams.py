"""The way to the upstream resolvers and back: queries go out as they came, but for an id that nobody can guess.

An answer is believed only when it comes from the address and port that was asked, to the port and with the id from
which it was asked, and to the same question (RFC 5452 §9.1). Ports are random too: each upstream has several sockets
at a time, and each of them is replaced every few seconds.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count, islice
from types import TracebackType
from typing import Final, Self

from cdnblock.adapters._dns_front.upstream_health import Address, Source, Upstream, next_to_ask, open_source
from cdnblock.adapters._dns_front.upstream_links import Link
from cdnblock.adapters._dns_front.upstream_queries import PROBE, Done, Waiting, ignore, resolve, servfail
from cdnblock.errors import ConfigError
from cdnblock.measures.dns_refusal import NETWORK_ERROR, NO_REACHABLE_AUTHORITY
from cdnblock.measures.dns_relay import is_answer_to, is_transfer

_SOURCES: Final = 8  # sockets per upstream: more make answers come in smaller batches, fewer are easier to guess
_SOURCE_LIFE: Final = 5.0  # seconds; a port that somebody has found out is of no use for long
_TICK: Final = 0.1  # seconds between two looks at what is late
_BATCH: Final = 64  # answers that are read in one go, before others have their turn
_DROPPED: Final = 64  # of the oldest queries, when there are too many
_MOST_OUTSTANDING: Final = 32_768  # half of the ids of one socket: a free one is found at the first or second try
_LARGEST_DATAGRAM: Final = 4_096  # octets of a query; more than 65,507 are an error that costs the socket
_TC: Final = 0x02  # in the third octet of a header


class Upstreams:
    """Asks the upstreams, the first that is well first; one event loop's. Use it as an asynchronous context manager.

    `timeout` is how long (seconds) one upstream may take before the next is asked. When none answers, the answer is
    SERVFAIL with the extended error 22 (nobody answered in time) or 23 (the network refused). No more than
    `outstanding` queries wait at a time: then the oldest get SERVFAIL. With `retry_truncated` an answer that came
    truncated is asked for once more, over TCP. `amend(query, answer)` returns an answer as it may be handed on.

    Raises ConfigError when there is no upstream, or when more may be outstanding than ids tell apart.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        timeout: float = 3.0,
        outstanding: int = 16_384,
        retry_truncated: bool = False,
        amend: Callable[[bytes, bytes], bytes] | None = None,
    ) -> None:
        if not addresses or not 0 < outstanding <= _MOST_OUTSTANDING:
            raise ConfigError(f"there must be an upstream, and from 1 to {_MOST_OUTSTANDING} outstanding queries")
        if not all(port for _, port in addresses):
            raise ConfigError("upstreams have no port 0; right would be a port from 1 to 65535, or none for 53")
        self.each = tuple(Upstream(address) for address in addresses)
        self._timeout = timeout
        self._most = outstanding
        self._retry_truncated = retry_truncated
        self._amend = amend
        self._waiting: dict[int, Waiting] = {}  # by the base of the socket and the id: the oldest first
        self._first = self.each[0]
        self._links = {upstream: Link(upstream.address) for upstream in self.each}
        self._retired: list[Source] = []
        self._bases = count(1)
        self._numbers: Iterator[int] = iter(())
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.TimerHandle | None = None
        self.dropped = self.unasked = self.disbelieved = self.unanswered = 0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        now = time.monotonic()
        for upstream in self.each:
            for number in range(_SOURCES):  # of all ages, so that they are not replaced all at once
                with suppress(OSError):
                    upstream.sources.append(self._open(upstream, now - _SOURCE_LIFE * number / _SOURCES))
        self._ticking = self._loop.call_later(_TICK, self._tick)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        for task in self._tasks:
            task.cancel()
        for upstream in self.each:
            self._links[upstream].close()
            self._retired += upstream.sources
            upstream.sources, upstream.uses = [], 0
        while self._retired:
            self._close(self._retired.pop())
        for query, done, context, *_ in [self._waiting.pop(key) for key in list(self._waiting)]:
            done(context, query, servfail(query, NO_REACHABLE_AUTHORITY))

    @property
    def outstanding(self) -> int:
        """How many queries wait for an answer."""
        return len(self._waiting) + len(self._tasks)

    def forward(self, query: bytes, done: Done, context: object) -> None:
        """Ask over UDP and call `done(context, query, answer)`. `query` must be sound (see `QueryJudge.judge`)."""
        if len(self._waiting) >= self._most:
            self._drop_the_oldest()
        self._send(query, done, context, self._first, ())

    async def ask(self, query: bytes, *, tcp: bool = False) -> bytes:
        """Return the answer: over TCP if that is wanted, if the query is large, or if the answer over UDP is truncated.

        `query` must be sound.
        """
        if not tcp and len(query) <= _LARGEST_DATAGRAM:
            future: asyncio.Future[bytes] = self._loop.create_future()
            self.forward(query, resolve, future)
            answer = await future
            if not answer[2] & _TC:
                return answer
        else:
            answer = servfail(query, NO_REACHABLE_AUTHORITY)
        return await self._ask_by_tcp(query) or answer

    def _send(
        self, query: bytes, done: Done, context: object, upstream: Upstream, before: tuple[Upstream, ...]
    ) -> None:
        waiting = self._waiting
        upstream.uses -= 1
        source = upstream.source if upstream.uses >= 0 else upstream.other_source()
        if source is None:
            self._fail(query, done, context, (*before, upstream), NETWORK_ERROR)
            return
        try:
            number = next(self._numbers)
        except StopIteration:
            self._numbers = iter(memoryview(os.urandom(16_384)).cast("H"))
            number = next(self._numbers)
        while (key := source.base | number) in waiting:
            number = secrets.randbits(16)
        waiting[key] = (query, done, context, time.monotonic() + self._timeout, (*before, upstream))
        try:
            source.socket.send(number.to_bytes(2, "big") + query[2:])
        except BlockingIOError:
            pass  # as if it were lost on the way
        except OSError:
            del waiting[key]
            self._network_refuses(upstream)
            self._discard(source)
            self._give_up(source.base)
            self._fail(query, done, context, (*before, upstream), NETWORK_ERROR)

    def _readable(self, source: Source) -> None:
        """Read answers (called by the event loop)."""
        receive, waiting, upstream, base = source.socket.recv, self._waiting, source.upstream, source.base
        now, timeout = time.monotonic(), self._timeout
        try:
            for _ in range(_BATCH):
                answer = receive(65_535)
                key = base | int.from_bytes(answer[:2], "big")
                found = waiting.get(key)
                if found is None:
                    self.unasked += 1
                    continue
                query, done, context, deadline, _ = found
                if not is_answer_to(query, answer):
                    self.disbelieved += 1
                    continue
                del waiting[key]
                upstream.answered(now, now - deadline + timeout)
                answer = query[:2] + answer[2:]
                if self._amend is not None:
                    answer = self._amend(query, answer)
                if self._retry_truncated and answer[2] & _TC:
                    self._retry_by_tcp(query, done, context, answer)
                else:
                    done(context, query, answer)
        except BlockingIOError:
            pass
        except OSError:  # ICMP says that nobody is there
            self._network_refuses(upstream)
            self._discard(source)
            self._give_up(base)

    def _discard(self, source: Source) -> None:
        """Close a socket that had an error: uvloop never looks at it again. Another one takes its place."""
        if source in source.upstream.sources:
            source.upstream.take_away(source)
            self._close(source)
        elif source in self._retired:
            self._retired.remove(source)
            self._close(source)

    def _give_up(self, base: int) -> None:
        """Ask others what was asked from a socket of which the network says that it leads nowhere."""
        here = [key for key in self._waiting if key & ~0xFFFF == base]
        for query, done, context, _, asked in [self._waiting.pop(key) for key in here]:
            self._fail(query, done, context, asked, NETWORK_ERROR)

    def _fail(self, query: bytes, done: Done, context: object, asked: tuple[Upstream, ...], info_code: int) -> None:
        upstream = next_to_ask(self.each, asked)
        if upstream is not None and query is not PROBE:
            self._send(query, done, context, upstream, asked)
            return
        self.unanswered += query is not PROBE
        done(context, query, servfail(query, info_code))

    def _network_refuses(self, upstream: Upstream) -> None:
        upstream.network_errors += 1
        upstream.failed(time.monotonic())
        self._first = next_to_ask(self.each, ()) or self.each[0]

    def _drop_the_oldest(self) -> None:
        for key in list(islice(self._waiting, _DROPPED)):
            query, done, context, *_ = self._waiting.pop(key)
            self.dropped += 1
            done(context, query, servfail(query, NO_REACHABLE_AUTHORITY))

    def _retry_by_tcp(self, query: bytes, done: Done, context: object, truncated: bytes) -> None:
        if len(self._tasks) >= self._most:
            done(context, query, truncated)
            return

        async def retry() -> None:
            done(context, query, await self._ask_by_tcp(query) or truncated)

        task = self._loop.create_task(retry())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_by_tcp(self, query: bytes) -> bytes | None:
        asked: list[Upstream] = []
        while upstream := next_to_ask(self.each, asked):
            asked.append(upstream)
            started = time.monotonic()
            answer = await self._links[upstream].ask(query, self._timeout)
            if answer is not None:
                upstream.answered(time.monotonic(), time.monotonic() - started)
                return answer if self._amend is None else self._amend(query, answer)
            upstream.timed_out(time.monotonic(), started)
        self.unanswered += 1
        return None

    def _tick(self) -> None:
        """Fail what is late, look at upstreams that are down, replace sockets."""
        self._ticking = self._loop.call_later(_TICK, self._tick)
        now = time.monotonic()
        late: list[int] = []
        for key, found in self._waiting.items():
            if found[3] > now:
                break
            late.append(key)
        for query, done, context, deadline, asked in [self._waiting.pop(key) for key in late]:
            if not is_transfer(query):  # no resolver has to answer those
                asked[-1].timed_out(now, deadline - self._timeout)
            self._fail(query, done, context, asked, NO_REACHABLE_AUTHORITY)
        self._first = next_to_ask(self.each, ()) or self.each[0]
        for upstream in self.each:
            if upstream.is_due(now):
                self._send(PROBE, ignore, None, upstream, ())
            self._renew(upstream, now)

    def _renew(self, upstream: Upstream, now: float) -> None:
        """Replace sockets that are old, or missing, and close those on which nobody waits any more.

        An old one stays until there is a new one: without file descriptors an old port is better than none.
        """
        sources = upstream.sources
        while len(sources) < _SOURCES or sources[0].opened + _SOURCE_LIFE <= now:
            try:
                sources.append(self._open(upstream, now))
            except OSError as error:
                upstream.has_no_socket(error)
                break
            if len(sources) > _SOURCES:
                source = sources[0]
                upstream.take_away(source)
                source.unused_from = now + self._timeout + _TICK
                self._retired.append(source)
        while self._retired and self._retired[0].unused_from <= now:
            self._close(self._retired.pop(0))

    def _open(self, upstream: Upstream, now: float) -> Source:
        source = open_source(upstream, next(self._bases) << 16, now)
        self._loop.add_reader(source.socket.fileno(), self._readable, source)
        return source

    def _close(self, source: Source) -> None:
        self._loop.remove_reader(source.socket.fileno())
        source.socket.close()
