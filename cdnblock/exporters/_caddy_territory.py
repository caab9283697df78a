"""Networks as a tree of Caddy's routes: its `client_ip` compares one network after the other, so no list may be long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import count
from typing import Final, NamedTuple, TypeAlias

from cdnblock.exporters._caddyfile import block, words
from cdnblock.exporters._plan import OTHER, UNKNOWN
from cdnblock.exporters._territory import Network

_IN_A_LEAF: Final = 200  # networks: about 3 µs
_BITS: Final = 4  # by which a branch is narrower: 16 of them at most
_ROOTS: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))

_Net: TypeAlias = IPv4Network | IPv6Network


class _Placed(NamedTuple):
    number: int
    length: int
    cidr: str
    place: str


def place(networks: Iterable[Network]) -> Iterator[str]:
    """Yield what sets `cdnblock_place` by Caddy's `client_ip`."""
    by_version: dict[int, list[_Placed]] = {4: [], 6: []}
    for cidr, where in networks:
        version = 6 if ":" in cidr else 4
        by_version[version].append(_placed(cidr, where))
        if version == 4 and where != UNKNOWN:  # noqa: PLR2004 (IPv4)
            by_version[6].append(_mapped(cidr, where))
    numbers = count(1)
    yield f"vars cdnblock_place {UNKNOWN}"  # stays where no address is one
    for root in _ROOTS:
        lines = (f"vars cdnblock_place {OTHER}", *_branch(root, sorted(by_version[root.version]), numbers))
        yield from _route(f"{root}", lines, numbers)


def _placed(cidr: str, where: str) -> _Placed:
    network = ip_network(cidr)
    return _Placed(int(network.network_address), network.prefixlen, cidr, where)


def _mapped(cidr: str, where: str) -> _Placed:
    """Return the same network as IPv6 maps it (RFC 4291 §2.5.5.2): Caddy takes that for another address."""
    address, _, length = cidr.partition("/")
    return _placed(f"::ffff:{address}/{int(length) + 96}", where)


def _branch(prefix: _Net, found: list[_Placed], numbers: Iterator[int]) -> Iterator[str]:
    here = found if len(found) <= _IN_A_LEAF else [item for item in found if item.length < prefix.prefixlen + _BITS]
    # Those that are unknown come first: the whole of 6to4 is, but for what lies in a country.
    for where in sorted({item.place for item in here}, key=lambda place: (place != UNKNOWN, place)):
        name = f"cdnblock_net_{next(numbers)}"
        cidrs = [item.cidr for item in here if item.place == where]
        yield from block(f"@{name}", words("client_ip", cidrs))
        yield f"vars @{name} cdnblock_place {where}"
    if len(here) < len(found):
        shift = prefix.max_prefixlen - prefix.prefixlen - _BITS
        parts: dict[int, list[_Placed]] = {}
        for item in found:
            if item.length >= prefix.prefixlen + _BITS:
                parts.setdefault(item.number >> shift, []).append(item)
        for number, inside in sorted(parts.items()):
            part = type(prefix)((number << shift, prefix.prefixlen + _BITS))
            yield from _route(str(part), _branch(part, inside, numbers), numbers)


def _route(cidr: str, lines: Iterable[str], numbers: Iterator[int]) -> Iterator[str]:
    name = f"cdnblock_net_{next(numbers)}"
    yield f"@{name} client_ip {cidr}"
    yield from block(f"route @{name}", lines)
