"""Addresses to listen on and to ask, and load balancers in front that say by the PROXY protocol whose query they bring."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from cdnblock.errors import ConfigError
from cdnblock.geo.addresses import parse_address
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.geo.proxy_protocol import proxy_protocol, proxy_protocol_may_follow

Address: TypeAlias = tuple[str, int]

_MAX_PORT: Final = 65_535
_PEERS: Final = 32_768  # addresses that are remembered
_LONGEST_PREFACE: Final = 1_024  # octets of a PROXY header; dnsdist adds a few values, nobody adds kilobytes


def read_address(text: str, port: int = 53) -> Address:
    """Return the address and port that a text names: `127.0.0.1:5353`, `[::1]:5353`, or an address alone.

    Raises:
        ConfigError: it names none.

    """
    host, colon, number = text.rpartition(":")
    if parse_address(text) is not None or text.endswith("]"):
        host, colon, number = text, "", ""
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    digits = number if colon else str(port)
    if parse_address(host) is None or not (digits.isascii() and digits.isdigit() and int(digits) <= _MAX_PORT):
        raise ConfigError(
            f"{text!r} is no address and port; right would be `127.0.0.1:5353`, `[::1]:5353`, or an address alone"
        )
    return host, int(digits)


class Preface:
    """Takes the PROXY header off what comes from the load balancers in `networks`; they must always send it.

    From everybody else it is never taken, whatever their octets look like.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        listed = list(networks)
        self.expected_of_some = bool(listed)
        self._trusted = TrustedProxies(listed, called="load balancer")
        self._known: dict[str, bool] = {}

    def is_expected_of(self, peer: str) -> bool:
        """Tell whether a peer is such a load balancer."""
        if not self.expected_of_some:
            return False
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= _PEERS:
                self._known.clear()
            known = self._known[peer] = self._trusted.trusts(peer)
        return known

    def read_datagram(self, packet: bytes, peer: str) -> tuple[bytes, str]:
        """Return a packet without its header, and whose it is; no octets at all when the header is missing or broken.

        A load balancer that speaks for itself (LOCAL, its health checks) is its own client.
        """
        if not self.is_expected_of(peer):
            return packet, peer
        found = proxy_protocol(packet)
        return (packet[found.consumed :], found.address or peer) if found.consumed else (b"", peer)

    def read_stream(self, received: bytes, peer: str) -> tuple[int, str] | None:
        """Return how many octets the header at the start of a stream has, and whose stream it is.

        0 octets mean that more must come first; None that no header will come of it.
        """
        found = proxy_protocol(received[:_LONGEST_PREFACE])
        if found.consumed:
            return found.consumed, found.address or peer
        may_follow = len(received) < _LONGEST_PREFACE and proxy_protocol_may_follow(received)
        return (0, peer) if may_follow else None
