"""Networks as spans of addresses in hexadecimal, for engines that search by bisection in one long text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Network, ip_network
from typing import Final, NamedTuple

from cdnblock.exporters._plan import UNKNOWN
from cdnblock.exporters._territory import Network

UNKNOWN_CODE: Final = "--"
"""What stands for `unknown` where countries have two letters."""

# Such an engine takes addresses out of their tunnels by itself: a country has none of these.
_TUNNELS: Final = ("2002:", "64:ff9b::")
_WIDTH: Final = (
    64  # bits; what is narrower lies beside the addresses that are carried in ::/64 and 64:ff9b::/64, nowhere
)


class _Span(NamedTuple):
    first: int
    last: int
    place: str


def spans(networks: Iterable[Network]) -> tuple[str, str]:
    """Return lines for IPv4 and for IPv6: first and last address, the latter to 64 bits, and the place, two letters."""
    v4: list[_Span] = []
    v6: list[_Span] = []
    for cidr, place in networks:
        code = UNKNOWN_CODE if place == UNKNOWN else place
        if ":" not in cidr:
            v4.append(_ipv4(cidr, code))
        elif place == UNKNOWN or not cidr.startswith(_TUNNELS):
            network = IPv6Network(cidr)
            if network.prefixlen > _WIDTH:
                continue
            v6.append(_Span(int(network.network_address) >> 64, int(network.broadcast_address) >> 64, code))
    return _lines(v4, 8), _lines(v6, 16)


def trusted_spans(networks: Iterable[str]) -> tuple[str, str]:
    """Return lines for IPv4 and for IPv6, whole addresses; IPv4-mapped networks are IPv4's."""
    found: dict[int, list[_Span]] = {4: [], 6: []}
    for text in networks:
        network = ip_network(text)
        first, last = int(network.network_address), int(network.broadcast_address)
        mapped = network.version == 6 and first >> 32 == last >> 32 == 0xFFFF  # noqa: PLR2004 (::ffff:0:0/96)
        span = (
            _Span(first & 0xFFFF_FFFF, last & 0xFFFF_FFFF, UNKNOWN_CODE) if mapped else _Span(first, last, UNKNOWN_CODE)
        )
        found[4 if mapped else network.version].append(span)
    return _lines(found[4], 8), _lines(found[6], 32)


def _ipv4(cidr: str, code: str) -> _Span:
    address, _, length = cidr.partition("/")
    a, b, c, d = address.split(".")
    first = int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)
    return _Span(first, first + (1 << 32 - int(length)) - 1, code)


def _lines(found: Iterable[_Span], width: int) -> str:
    return "".join(f"{first:0{width}x}{last:0{width}x}{code}\n" for first, last, code in _merged(sorted(found)))


def _merged(found: Iterable[_Span]) -> Iterator[_Span]:
    held: _Span | None = None
    for span in found:
        if held is not None and span.place == held.place and span.first <= held.last + 1:
            held = held._replace(last=max(held.last, span.last))
            continue
        if held is not None:
            yield held
        held = span
    if held is not None:
        yield held
