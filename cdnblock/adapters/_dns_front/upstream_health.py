"""One upstream resolver as the front sees it: its address, its sockets, and how it has been doing. Counters only grow."""

from __future__ import annotations

import logging
import secrets
import socket
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Address: TypeAlias = tuple[str, int]

LATENCIES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Upper bounds in seconds of the buckets in which latencies are counted; what is slower is in one more."""

USES: Final = 32
"""How many queries go out from a socket before the next one is chosen."""

_BUFFER: Final = 4 * 1024 * 1024  # octets of answers that the kernel may hold for a socket
_TOO_MANY: Final = 3  # failures with no answer in between, after which the others are asked first
_BACKOFF: Final = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds between two looks at one that is down

_LOG: Final = logging.getLogger("cdnblock.adapters.dns_server")


@dataclass(slots=True, eq=False)
class Source:
    """A socket that is connected to an upstream, from a port that the kernel chose at random.

    The kernel hands over only what comes from the upstream's address and port. `base` tells the queries that went out
    here from those of any other socket; `opened` and `unused_from` are instants of the monotonic clock.
    """

    socket: socket.socket
    base: int
    upstream: Upstream
    opened: float
    unused_from: float = 0.0


@dataclass(slots=True, eq=False)
class Upstream:
    """One upstream. It is down when it failed several times in a row; then it is asked only when all others are too."""

    address: Address
    sources: list[Source] = field(default_factory=list)
    source: Source | None = None
    uses: int = 0
    answers: int = 0
    timeouts: int = 0
    network_errors: int = 0
    seconds: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCIES) + 1))
    heard: float = 0.0
    in_a_row: int = 0
    look_again: float = 0.0
    complained: bool = False

    @property
    def is_down(self) -> bool:
        """Whether it has failed too often since its last answer."""
        return self.in_a_row >= _TOO_MANY

    def other_source(self) -> Source | None:
        """Return the socket for the next `USES` queries, chosen at random, None when there is none at all.

        Answers come back in batches that way, which is half the cost, and nobody outside can tell which socket it is.
        """
        self.source = secrets.choice(self.sources) if self.sources else None
        self.uses = USES
        return self.source

    def take_away(self, source: Source) -> None:
        """Send no more queries from a socket."""
        self.sources.remove(source)
        self.uses = 0

    def has_no_socket(self, error: OSError) -> None:
        """Say once that there is no new socket to be had."""
        if not self.complained:
            self.complained = True
            kept = "cdnblock: no new socket towards upstream %s, the old ones stay: %s"
            _LOG.warning(kept if self.sources else "cdnblock: no way to upstream %s: %s", self, error.strerror)

    def answered(self, now: float, seconds: float) -> None:
        """Count an answer that took so long."""
        self.heard = now
        if self.in_a_row:
            if self.is_down:
                _LOG.warning("cdnblock: upstream %s answers again", self)
            self.in_a_row = 0
        self.answers += 1
        self.seconds += seconds
        self.latencies[bisect_left(LATENCIES, seconds)] += 1

    def timed_out(self, now: float, sent: float) -> None:
        """Count a query without an answer; a failure only if nothing else has been heard since it was sent."""
        self.timeouts += 1
        if self.heard < sent:
            self.failed(now)

    def failed(self, now: float) -> None:
        """Count a failure."""
        self.in_a_row += 1
        if self.in_a_row == _TOO_MANY:
            _LOG.warning("cdnblock: upstream %s does not answer; the others are asked first", self)
        if self.is_down:
            self.look_again = now + _BACKOFF[min(self.in_a_row - _TOO_MANY, len(_BACKOFF) - 1)]

    def is_due(self, now: float) -> bool:
        """Tell whether it is down and should be looked at; then not again before the next failure or a while."""
        if not self.is_down or now < self.look_again:
            return False
        self.look_again = now + _BACKOFF[-1]
        return True

    def metrics(self) -> dict[str, object]:
        """Return the counters, as JSON has them."""
        buckets = {str(bound): count for bound, count in zip((*LATENCIES, "+Inf"), self.latencies, strict=True)}
        return {
            "address": str(self),
            "up": not self.is_down,
            "answers": self.answers,
            "timeouts": self.timeouts,
            "network_errors": self.network_errors,
            "seconds": round(self.seconds, 6),
            "latency_buckets": buckets,
        }

    def __str__(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_source(upstream: Upstream, base: int, now: float) -> Source:
    """Return a new socket for an upstream. Raises OSError when there is none to be had."""
    host, _ = upstream.address
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        opened.connect(upstream.address)
    except OSError:
        opened.close()
        raise
    return Source(opened, base, upstream, now)


def next_to_ask(upstreams: Iterable[Upstream], asked: Iterable[Upstream]) -> Upstream | None:
    """Return the first upstream that was not asked yet and is not down, else the first that was not asked, else None."""
    left = [upstream for upstream in upstreams if upstream not in asked]
    return next((upstream for upstream in left if not upstream.is_down), left[0] if left else None)
