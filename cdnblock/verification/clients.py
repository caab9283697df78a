"""Who asks: where a client is, and how the server is told of it."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cdnblock.geo.proxy_protocol import V2_START

_V2_PROXY: Final = 0x21  # version 2, command PROXY
_V2_FAMILIES: Final = {4: 0x10, 6: 0x20}
_V2_STREAM, _V2_DATAGRAM = 1, 2
_PORT: Final = 40_000  # of a client that there is none of
_SUBNETS: Final = {4: 24, 6: 56}  # RFC 7871 §11.1


class Told(StrEnum):
    """How a server learns where a client is."""

    SOURCE = "source"  # by the address that the packets come from
    X_FORWARDED_FOR = "x-forwarded-for"  # by a header with nothing but the address, from a trusted proxy
    FORWARDED = "forwarded"  # RFC 7239
    PROXY_V1 = "proxy-v1"  # by a line before the first octet, from a trusted load balancer
    PROXY_V2 = "proxy-v2"
    CLIENT_SUBNET = "ecs"  # RFC 7871, from a trusted forwarder


OF_EDGES: Final = frozenset({Told.SOURCE, Told.X_FORWARDED_FOR, Told.FORWARDED, Told.PROXY_V1, Told.PROXY_V2})
OF_RESOLVERS: Final = frozenset({Told.SOURCE, Told.CLIENT_SUBNET, Told.PROXY_V2})


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client. `country` is where the server is to think that it is (ISO 3166-1 alpha-2), None if it cannot tell.

    `address` is the client's; told by SOURCE it is one of this machine's, or None for whichever the system takes. Told
    otherwise, connections come from `source` if there is one. `header` is the name of the field that holds the address
    alone, where it is not X-Forwarded-For.
    """

    label: str
    country: str | None
    address: str | None
    told: Told = Told.SOURCE
    header: str | None = None
    source: str | None = None

    @property
    def bound_to(self) -> str | None:
        """The address of this machine that connections come from, None for any."""
        return self.address if self.told is Told.SOURCE else self.source

    @property
    def subnet(self) -> str | None:
        """The network that a query tells, None if it tells none."""
        if self.told is not Told.CLIENT_SUBNET or self.address is None:
            return None
        return subnet_of(self.address)

    def fields(self) -> tuple[tuple[str, str], ...]:
        """Return the header lines of a request that tell of the client."""
        if self.address is None:
            return ()
        if self.told is Told.X_FORWARDED_FOR:
            return ((self.header or "X-Forwarded-For", self.address),)
        if self.told is Told.FORWARDED:
            node = f'"[{self.address}]"' if ":" in self.address else self.address  # RFC 7239 §6
            return (("Forwarded", f"for={node}"),)
        return ()

    def preamble(self, server: str, port: int, *, datagram: bool = False) -> bytes:
        """Return what goes before the first octet to a server at an address: a PROXY header, or nothing."""
        if self.address is None or self.told not in (Told.PROXY_V1, Told.PROXY_V2):
            return b""
        client, target = ipaddress.ip_address(self.address), ipaddress.ip_address(server)
        if client.version != target.version:  # a header has room for one family: any address of the client's will do
            target = client
        if self.told is Told.PROXY_V1:
            return f"PROXY TCP{client.version} {client} {target} {_PORT} {port}\r\n".encode()
        family = _V2_FAMILIES[client.version] | (_V2_DATAGRAM if datagram else _V2_STREAM)
        addresses = client.packed + target.packed + struct.pack("!HH", _PORT, port)
        return V2_START + struct.pack("!BBH", _V2_PROXY, family, len(addresses)) + addresses

    def __str__(self) -> str:
        """Return the label with the country and the address."""
        return f"{self.label} ({self.country or 'no country'}{f', {self.address}' if self.address else ''})"


def subnet_of(address: str) -> str:
    """Return a client's network as a resolver tells it in EDNS Client Subnet."""
    version = ipaddress.ip_address(address).version
    return str(ipaddress.ip_network(f"{address}/{_SUBNETS[version]}", strict=False))
