"""Who may be connected: so many in all, and of them so many of one client. When all places are taken, the longest quiet goes."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Final

_NETWORK: Final = 8  # octets: what one client has of IPv6 is a /64 at least (RFC 6177)


class Places:
    """The connections of one kind, of one event loop; a `guest` is a connection's transport.

    A newcomer is turned away only for what is its own doing: because its client has `per_client` places already. When
    all are taken, whoever has been quiet for longest loses its place: so nobody can shut the door by sitting there.
    """

    def __init__(self, connections: int, per_client: int) -> None:
        self._most, self._per_client = connections, per_client
        self._guests: dict[asyncio.Transport, str | bytes] = {}  # the longest quiet first
        self._of_client: Counter[str | bytes] = Counter()
        self.turned_away = self.evicted = 0

    def __len__(self) -> int:
        return len(self._guests)

    def __iter__(self) -> Iterator[asyncio.Transport]:
        return iter(tuple(self._guests))

    def take(self, guest: asyncio.Transport, peer: str, *, is_one_client: bool) -> bool:
        """Give a place, False when its client has enough. A peer that is not one client may have any number."""
        client = _client(peer)
        if is_one_client and self._of_client[client] >= self._per_client:
            self.turned_away += 1
            return False
        if len(self._guests) >= self._most:
            quietest = next(iter(self._guests))
            self.leave(quietest)
            quietest.abort()
            self.evicted += 1
        self._guests[guest] = client
        self._of_client[client] += 1
        return True

    def moved(self, guest: asyncio.Transport) -> None:
        """Note that a guest is not quiet."""
        client = self._guests.pop(guest, None)
        if client is not None:
            self._guests[guest] = client

    def leave(self, guest: asyncio.Transport) -> None:
        """Make the place free, if it still has one."""
        client = self._guests.pop(guest, None)
        if client is not None:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]


def _client(peer: str) -> str | bytes:
    """Return what stands for all addresses that one client may have."""
    try:
        return socket.inet_pton(socket.AF_INET6, peer.partition("%")[0])[:_NETWORK]
    except OSError:
        return peer
