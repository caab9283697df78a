"""Addresses as numbers: read strictly, taken out of their tunnels, and which of them have a country at all. Pure.

`ipaddress` would do the same at three times the cost; its results are the tests' yardstick.
"""

from __future__ import annotations

import re
from bisect import bisect
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

IPV4: Final = 4
IPV6: Final = 6

# The longest IPv6 text is 45 characters; an interface name after `%` has at most 15 on Linux, more elsewhere.
_MAX_TEXT: Final = 100
_OCTETS: Final = {str(number): number for number in range(256)}  # strict: no leading zero, no other digits than 0-9
_HEX_AND_COLONS: Final = re.compile(r"[0-9A-Fa-f:]{2,}\Z")
_GROUPS: Final = 8
_ZEROS: Final = ("0",) * _GROUPS
_MAX_GROUP: Final = 4

# IPv4 addresses that belong to no place: each pair is the first such address and the first one after it.
_PLACELESS_IPV4: Final = (
    ("0.0.0.0", "1.0.0.0"),  # "this network", RFC 791; holds the unspecified address
    ("10.0.0.0", "11.0.0.0"),  # private, RFC 1918
    ("100.64.0.0", "100.128.0.0"),  # shared by carrier-grade NAT, RFC 6598
    ("127.0.0.0", "128.0.0.0"),  # loopback, RFC 1122
    ("169.254.0.0", "169.255.0.0"),  # link-local, RFC 3927
    ("172.16.0.0", "172.32.0.0"),  # private, RFC 1918
    ("192.168.0.0", "192.169.0.0"),  # private, RFC 1918
)
_FIRST_MULTICAST: Final = int(IPv4Address("224.0.0.0"))  # from here: multicast, reserved, broadcast (RFC 1112)
# Starts at even positions and ends at odd ones, so the parity of a bisection says inside or outside.
_EDGES: Final = [int(IPv4Address(edge)) for pair in _PLACELESS_IPV4 for edge in pair] + [_FIRST_MULTICAST]
_GLOBAL_UNICAST: Final = 0b001  # 2000::/3, all that was ever given out; loopback, ULA and link-local lie outside

_MAPPED: Final = 0xFFFF  # ::ffff:0:0/96
_NAT64: Final = 0x0064_FF9B_0000_0000_0000_0000  # 64:ff9b::/96
_SIX_TO_FOUR: Final = 0x2002  # 2002::/16
_TEREDO: Final = 0x2001_0000  # 2001::/32
_IPV4_BITS: Final = 0xFFFF_FFFF


class Tunnel(StrEnum):
    """The ways in which an IPv6 address carries the client's IPv4 address."""

    MAPPED = "IPv4-mapped"  # RFC 4291 §2.5.5.2
    SIX_TO_FOUR = "6to4"  # RFC 3056
    NAT64 = "NAT64"  # RFC 6052, well-known prefix only: a network's own prefix cannot be recognised
    TEREDO = "Teredo"  # RFC 4380 §4: the client's address stands in the last 32 bits, each of them inverted


class Address(NamedTuple):
    """An address as its version, 4 or 6, and its number."""

    version: int
    number: int

    def __str__(self) -> str:
        """Return the canonical text, RFC 5952 for IPv6."""
        number = self.number
        if self.version == IPV4:
            return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return str(IPv6Address(number))


def parse_address(text: str) -> Address | None:
    """Return the address that a text spells, or None.

    Strict: four decimal numbers without leading zeros, or RFC 4291 §2.2 text. An IPv6 zone (`%eth0`) is cut off; no
    port, bracket or space is allowed. Never raises.
    """
    if len(text) > _MAX_TEXT:
        return None
    if ":" in text:
        number = _ipv6_number(text)
        return None if number is None else Address(IPV6, number)
    number = _ipv4_number(text)
    return None if number is None else Address(IPV4, number)


def tunnel_of(address: Address) -> Tunnel | None:
    """Return how an IPv6 address carries an IPv4 address, None where it carries none."""
    version, number = address
    if version == IPV4:
        return None
    if number >> 32 == _MAPPED:
        return Tunnel.MAPPED
    if number >> 112 == _SIX_TO_FOUR:
        return Tunnel.SIX_TO_FOUR
    if number >> 96 == _TEREDO:
        return Tunnel.TEREDO
    return Tunnel.NAT64 if number >> 32 == _NAT64 else None


def unwrap(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address carries, else the address itself."""
    tunnel = tunnel_of(address)
    if tunnel is None:
        return address
    number = address.number
    if tunnel is Tunnel.SIX_TO_FOUR:
        return Address(IPV4, number >> 80 & _IPV4_BITS)
    return Address(IPV4, (~number if tunnel is Tunnel.TEREDO else number) & _IPV4_BITS)


def unmap(address: Address) -> Address:
    """Return the IPv4 address behind an IPv4-mapped one, else the address itself.

    That is a matter of how a socket writes its peer. The other tunnels are claims that any sender can make up, so
    trust is never decided on what they carry.
    """
    return Address(IPV4, address.number & _IPV4_BITS) if address.number >> 32 == _MAPPED else address


def has_no_country(address: Address) -> bool:
    """Tell whether an address, already taken out of its tunnel, belongs to no place: private, loopback and the like.

    Documentation ranges (RFC 5737, RFC 3849) do not count: examples and tests put them in their own tables.
    """
    version, number = address
    if version == IPV4:
        return bisect(_EDGES, number) & 1 == 1
    return number >> 125 != _GLOBAL_UNICAST


def placed(version: int) -> tuple[tuple[int, int], ...]:
    """Return where addresses are looked up in a table: spans (first, first after it) of what is no tunnel and no private."""
    if version == IPV4:
        edges = [0, *_EDGES]  # what is before the first edge is empty: a span of no address
        return tuple((start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end)
    first, after = _GLOBAL_UNICAST << 125, (_GLOBAL_UNICAST + 1) << 125
    tunnels = ((_TEREDO << 96, (_TEREDO + 1) << 96), (_SIX_TO_FOUR << 112, (_SIX_TO_FOUR + 1) << 112))
    return ((first, tunnels[0][0]), (tunnels[0][1], tunnels[1][0]), (tunnels[1][1], after))


def _ipv4_number(text: str) -> int | None:
    try:
        first, second, third, fourth = text.split(".")
        return _OCTETS[first] << 24 | _OCTETS[second] << 16 | _OCTETS[third] << 8 | _OCTETS[fourth]
    except (KeyError, ValueError):
        return None


def _ipv6_number(text: str) -> int | None:
    if "%" in text:
        text, _, zone = text.partition("%")
        if not zone:
            return None
    if "." in text:
        text, colon, dotted = text.rpartition(":")
        low = _ipv4_number(dotted)
        if low is None:
            return None
        text += f"{colon}{low >> 16:x}:{low & 0xFFFF:x}"
    if not _HEX_AND_COLONS.match(text):
        return None
    head, gap, tail = text.partition("::")
    groups = head.split(":") if head else []
    after = tail.split(":") if tail else []
    missing = _GROUPS - len(groups) - len(after)
    if (missing < 1) if gap else (missing != 0):
        return None
    number = 0
    for group in (*groups, *_ZEROS[:missing], *after):
        if not 0 < len(group) <= _MAX_GROUP:
            return None
        number = number << 16 | int(group, 16)
    return number
