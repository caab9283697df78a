"""Where the contract's clients are: documentation addresses (RFC 5737, RFC 3849), and an MMDB that knows them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from ipaddress import IPv6Network, ip_network
from typing import Any, Final

PLACES: Final[Mapping[str, str]] = {
    # as scenarios call it: the client's address
    "france": "203.0.113.7",
    "france-6": "2001:db8:f::7",
    "reunion": "192.0.2.7",
    "guadeloupe": "192.0.2.200",
    "germany": "198.51.100.7",
    "germany-6": "2001:db8:d::7",
    "nowhere": "100.64.0.7",  # RFC 6598: behind a carrier's NAT, in no country
}
COUNTRIES: Final[Mapping[str, str]] = {
    "203.0.113.0/24": "FR",
    "2001:db8:f::/48": "FR",
    "192.0.2.0/25": "RE",
    "192.0.2.128/25": "GP",
    "198.51.100.0/24": "DE",
    "2001:db8:d::/48": "DE",
}
"""Network: the country that the table tells for it (ISO 3166-1 alpha-2)."""

_IPV4: Final = 96  # bits before an IPv4 address in a tree for IPv6
_RECORD: Final = 3  # octets
_SEPARATOR: Final = bytes(16)
_MARKER: Final = b"\xab\xcd\xefMaxMind.com"
_STRING, _UINT16, _UINT32, _MAP, _UINT64, _ARRAY = 2, 5, 6, 7, 9, 11  # https://maxmind.github.io/MaxMind-DB/


def country_table(countries: Mapping[str, str] = COUNTRIES) -> bytes:
    """Return an MMDB (version 2, `country.iso_code`) that tells these countries for these networks.

    The networks must not overlap.
    """
    tree: list[list[int | str | None]] = [[None, None]]
    for text, country in countries.items():
        _insert(tree, text, country)
    data, offsets = b"", {}
    for country in sorted(set(countries.values())):
        offsets[country] = len(data)
        data += _value({"country": {"iso_code": country}})

    def record(branch: int | str | None) -> bytes:
        if isinstance(branch, str):
            number = len(tree) + len(_SEPARATOR) + offsets[branch]
        else:
            number = len(tree) if branch is None else branch
        return number.to_bytes(_RECORD, "big")

    nodes = b"".join(record(left) + record(right) for left, right in tree)
    return nodes + _SEPARATOR + data + _MARKER + _metadata(len(tree))


def _insert(tree: list[list[int | str | None]], text: str, country: str) -> None:
    network = ip_network(text)
    if isinstance(network, IPv6Network):
        bits, length = int(network.network_address), network.prefixlen
    else:
        bits, length = int(network.network_address), network.prefixlen + _IPV4
    node = 0
    for depth in range(length):
        side = bits >> (127 - depth) & 1
        if depth == length - 1:
            tree[node][side] = country
            return
        below = tree[node][side]
        if not isinstance(below, int):
            tree.append([None, None])
            tree[node][side] = below = len(tree) - 1
        node = below


def _metadata(nodes: int) -> bytes:
    return _value(
        {
            "binary_format_major_version": (_UINT16, 2),
            "binary_format_minor_version": (_UINT16, 0),
            "build_epoch": (_UINT64, int(time.time())),
            "database_type": "cdnblock-contract-Country",
            "description": {"en": "The countries of documentation addresses"},
            "ip_version": (_UINT16, 6),
            "languages": ["en"],
            "node_count": (_UINT32, nodes),
            "record_size": (_UINT16, _RECORD * 8),
        }
    )


def _value(value: Any) -> bytes:
    match value:
        case str():
            return _control(_STRING, len(value)) + value.encode()
        case list():
            return _control(_ARRAY, len(value)) + b"".join(map(_value, value))
        case (kind, number):
            octets: bytes = number.to_bytes((number.bit_length() + 7) // 8, "big")
            return _control(kind, len(octets)) + octets
        case dict():
            pairs = (_value(key) + _value(item) for key, item in value.items())
            return _control(_MAP, len(value)) + b"".join(pairs)
    raise TypeError(f"no MMDB value: {value!r}")


def _control(kind: int, size: int) -> bytes:
    long, rest = divmod(size - 29, 256) if size >= 29 else (None, None)  # noqa: PLR2004 (from 29 on, size - 29 follows)
    if long:
        raise ValueError(f"too long for this writer: {size}")
    short = size if rest is None else 29
    head = bytes([kind << 5 | short]) if kind < 8 else bytes([short, kind - 7])  # noqa: PLR2004 (three bits)
    return head if rest is None else head + bytes([rest])
