"""Queries that go in circles: two fronts, or a front and a resolver, that are each other's upstream.

DNS has no limit of hops. What comes back is octet for octet what was sent, but for its id, and comes from where an upstream
is. There may be honest clients, too: so it is counted, and only what is outstanding too often is answered SERVFAIL. That
answer then goes back all the rounds that the query has made, and the circle has an end.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from cdnblock.adapters._dns_front.peers import Address
from cdnblock.adapters._dns_front.upstream_queries import servfail
from cdnblock.measures.dns_refusal import NO_REACHABLE_AUTHORITY

_MOST_ROUNDS: Final = 1_024  # one and the same query, from the addresses of upstreams, at a time
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where the kernel connects to
_LOG: Final = logging.getLogger("cdnblock.adapters.dns_server")

_Done: TypeAlias = Callable[[Any, bytes, bytes], None]


class Circles:
    """Forwards what comes from the addresses of upstreams (`hosts`), until it comes too often."""

    def __init__(self, forward: Callable[[bytes, _Done, object], None], upstreams: Iterable[Address]) -> None:
        self.hosts = frozenset(_reached(host) for host, _ in upstreams)
        self._forward = forward
        self._outstanding: Counter[bytes] = Counter()
        self.stopped = 0

    def forward(self, query: bytes, done: _Done, context: object) -> None:
        """Ask, and call `done(context, query, answer)`; at once, with SERVFAIL, when the query goes in circles."""
        rest = query[2:]
        if self._outstanding[rest] >= _MOST_ROUNDS:
            self._stop()
            done(context, query, servfail(query, NO_REACHABLE_AUTHORITY))
            return
        self._outstanding[rest] += 1
        self._forward(query, self._answered, (done, context))

    def _answered(self, kept: tuple[_Done, object], query: bytes, answer: bytes) -> None:
        rest = query[2:]
        self._outstanding[rest] -= 1
        if not self._outstanding[rest]:
            del self._outstanding[rest]
        done, context = kept
        done(context, query, answer)

    def _stop(self) -> None:
        if not self.stopped:
            _LOG.warning("cdnblock: queries go in circles: an upstream, or its upstream, asks this front")
        self.stopped += 1


def asks_itself(listen: Address, upstream: Address) -> bool:
    """Tell whether what is sent to an upstream would arrive where the front listens."""
    host, reached = listen[0], _reached(upstream[0])
    if listen[1] != upstream[1] or (":" in host) is not (":" in reached):
        return False
    return _is_of_this_machine(reached) if host in _WILDCARDS else _reached(host) == reached


def _reached(host: str) -> str:
    """Return the address that is reached, as the kernel writes it."""
    address = ipaddress.ip_address(_WILDCARDS.get(host, host).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _is_of_this_machine(address: str) -> bool:
    """Tell it without a packet: what this machine sends to itself has the same address at both ends."""
    if ipaddress.ip_address(address).is_loopback:
        return True
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 53))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == address)
