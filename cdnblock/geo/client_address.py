"""Whose request this is: the peer, or what trusted proxies say about it. Pure.

Only a trusted peer is believed, and of what it hands on only what it, or another trusted proxy behind it, has written
itself: the right-most untrusted address of the chain is the client's. Who is trusted is decided on addresses as
sockets show them; the answer is then taken out of its tunnel, since it is there to tell a country.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import chain
from typing import Final, TypeAlias

from cdnblock.errors import ConfigError
from cdnblock.geo.addresses import IPV4, IPV6, Address, has_no_country, parse_address, unmap, unwrap
from cdnblock.geo.forwarded import forwarded_nodes, node_address, x_forwarded_for_nodes

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]

UNIX: Final = "unix"
"""Stands among trusted networks for peers that have no address: a proxy that connects over a Unix socket."""

_X_FORWARDED_FOR: Final = "x-forwarded-for"
_FORWARDED: Final = "forwarded"
_NO_HEADER: Final = "none"
# A proxy that appends to X-Forwarded-For hands a client's forged Forwarded on untouched, and more proxies do that than
# the reverse: where nothing is configured, X-Forwarded-For wins whenever it is there, and the two are never mixed.
_HEADERS_UNLESS_TOLD: Final = (_X_FORWARDED_FOR, _FORWARDED)
_CHAINS: Final = {_X_FORWARDED_FOR: x_forwarded_for_nodes, _FORWARDED: forwarded_nodes}
_MAX_HOPS: Final = 256
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+\Z")  # RFC 9110 §5.1
_SEPARATORS: Final = re.compile(r"[\s,]+")
_BITS: Final = {IPV4: 32, IPV6: 128}
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_Network: TypeAlias = IPv4Network | IPv6Network


class TrustedProxies:
    """The proxies whose word about their clients is believed, and the header in which they give it.

    `networks` are addresses and CIDR networks; `unix` stands for peers without an address. `header` is
    `x-forwarded-for`, `forwarded`, a header that holds one address (`cf-connecting-ip`, `x-real-ip`), or `none`;
    unless given, X-Forwarded-For where a request has it, else Forwarded. `called` is what a message calls one of them.

    Raises ConfigError for what is no network and for what cannot be a header's name.
    """

    def __init__(self, networks: Iterable[str], header: str | None = None, *, called: str = "trusted proxy") -> None:
        texts = _SEPARATORS.split(networks.strip(" ,")) if isinstance(networks, str) else [*networks]
        texts = [text for text in texts if text]
        self._edges = _edges([_network(text, called) for text in texts if text != UNIX])
        self._trusts_unix = UNIX in texts
        self._headers = _HEADERS_UNLESS_TOLD if header is None else _header(header)

    def trusts(self, peer: str | None) -> bool:
        """Tell whether a peer's PROXY header, forwarded headers or client subnet are to be believed. Never raises."""
        address = None if peer is None else parse_address(peer)
        return self._trusts_unix if address is None else self._trusts(unmap(address))

    def client_address(self, peer: str | None, headers: Headers | None = ()) -> str | None:
        """Return the client's address in canonical text, out of its tunnel; None when it cannot be told. Never raises.

        What a proxy wrote and cannot be read (`unknown`, garbage) hides the client: nothing left of it is vouched for.
        """
        address = None if peer is None else parse_address(peer)
        client = None if address is None else unmap(address)
        if self._trusts_unix if client is None else self._trusts(client):
            client = self._forwarded(client, headers or ())
        return None if client is None else str(unwrap(client))

    def ecs_client(self, peer: str | None, ecs_address: str | None, source_prefix_length: int) -> str | None:
        """Return whose DNS query this is, given the EDNS Client Subnet option (RFC 7871) of the query. Never raises.

        The subnet counts only when a trusted forwarder sends it and it tells a place; a SOURCE PREFIX-LENGTH of 0
        means that the client wants none told (§7.1.2): then it is the peer.
        """
        if ecs_address is not None and source_prefix_length > 0 and self.trusts(peer):
            subnet = parse_address(ecs_address)
            if subnet is not None and source_prefix_length <= _BITS[subnet.version]:
                client = unwrap(subnet)
                if not has_no_country(client):
                    return str(client)
        return self.client_address(peer)

    def _trusts(self, address: Address) -> bool:
        return bisect(self._edges[address.version], address.number) & 1 == 1

    def _forwarded(self, peer: Address | None, headers: Headers) -> Address | None:
        lines = _lines(headers, self._headers)
        for name in self._headers:
            if lines[name]:
                nodes = _CHAINS[name](lines[name]) if name in _CHAINS else _single(lines[name])
                return self._first_untrusted(peer, nodes)
        return peer

    def _first_untrusted(self, peer: Address | None, nodes: Iterator[str | None]) -> Address | None:
        client = peer
        for hop, node in enumerate(nodes):
            address = None if node is None or hop >= _MAX_HOPS else node_address(node)
            if address is None:
                return None
            client = unmap(address)
            if not self._trusts(client):
                return client
        return client


def _network(text: str, called: str) -> _Network:
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        raise ConfigError(
            f"{called} {text!r} is no network ({error}); right would be `10.0.0.0/8`, `2001:db8::/32`,"
            f" one address, or `{UNIX}`"
        ) from error
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - _MAPPED.prefixlen))
    return network


def _edges(networks: Iterable[_Network]) -> dict[int, list[int]]:
    """Return for each IP version where trust begins and ends by turns, so that the parity of a bisection tells it."""
    v4 = collapse_addresses(network for network in networks if isinstance(network, IPv4Network))
    v6 = collapse_addresses(network for network in networks if isinstance(network, IPv6Network))
    return {version: [*chain.from_iterable(map(_ends, part))] for version, part in ((IPV4, v4), (IPV6, v6))}


def _ends(network: _Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address) + 1


def _header(text: str) -> tuple[str, ...]:
    name = text.strip().lower()
    if not _FIELD_NAME.match(name):
        raise ConfigError(
            f"client header {text!r} is no header's name; right would be `x-forwarded-for`, `forwarded`,"
            " a header that holds one address such as `cf-connecting-ip`, or `none`"
        )
    return () if name == _NO_HEADER else (name,)


def _lines(headers: Headers, wanted: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the values of each wanted header in order, as text. What is neither text nor bytes is an unreadable one."""
    lines: dict[str, list[str]] = {name: [] for name in wanted}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        key = _text(name).lower()
        if key in lines:
            lines[key].append(_text(value))
    return lines


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else "unknown"


def _single(lines: list[str]) -> Iterator[str | None]:
    """Yield the one address of a header that may hold only one; duplicates and lists are not to be read."""
    text = lines[0].strip(" \t") if len(lines) == 1 else None
    if text != "":
        yield text
