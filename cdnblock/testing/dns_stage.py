"""What a resolver under the contract is given, and where its clients are.

A resolver knows its clients by their source address, and from loopback none but 127.0.0.0/8 and ::1 can be one. These
are in no country, so what is written for the stage's countries is moved there: see `on_loopback`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, TypeVar

from cdnblock.exporters import Exporter
from cdnblock.exporters._plan import UNKNOWN
from cdnblock.exporters._territory import Network

CLIENTS: Final[Mapping[str, str]] = {
    # as scenarios call the place: the source address of a client there; who is not here cannot ask from loopback
    "france": "127.10.0.1",
    "france-6": "::1",
    "reunion": "127.11.0.1",
    "guadeloupe": "127.12.0.1",
    "germany": "127.20.0.1",
    "nowhere": "127.0.0.1",
}
NETWORKS: Final[Mapping[str, str]] = {
    # network of the stage's country table: where its clients are on loopback
    "203.0.113.0/24": "127.10.0.0/16",
    "192.0.2.0/25": "127.11.0.0/16",
    "192.0.2.128/25": "127.12.0.0/16",
    "198.51.100.0/24": "127.20.0.0/16",
    "2001:db8:f::/48": "::1/128",
}
COUNTRY_OF: Final[Mapping[str, str | None]] = {
    "france": "FR",
    "france-6": "FR",
    "reunion": "RE",
    "guadeloupe": "GP",
    "germany": "DE",
    "nowhere": None,
}
_CLIENTS_BY_IPV4: Final = [IPv4Network(text) for text in NETWORKS.values() if "." in text]
_CLIENTS_BY_IPV6: Final = [IPv6Network(text) for text in NETWORKS.values() if ":" in text]
_Whole = TypeVar("_Whole", IPv4Network, IPv6Network)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsStage:
    """What a resolver is started with.

    `orders` is the folder to enforce, `geo` an MMDB, `upstream` the address that every other query is to be forwarded
    to, by UDP and TCP, without DNSSEC. `folder` is one for anything else. A resolver must not keep answers longer than
    their TTL, and must take clients from 127.0.0.0/8.
    """

    orders: Path
    geo: Path
    upstream: tuple[str, int]
    folder: Path
    operator_url: str = "https://edge.example/blocked"
    trusted_proxies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsHost:
    """A resolver that runs. `address` takes queries over UDP and TCP, `address6` the same at ::1, if it does.

    `reload` makes the orders folder as it is now take effect, and returns when it has. `plain` is the same engine with
    the same upstream and without our configuration; then all that is not covered is compared with what that answers.
    """

    address: tuple[str, int]
    address6: tuple[str, int] | None = None
    plain: tuple[str, int] | None = None
    reload: Callable[[], object]


def on_loopback(exporter: Exporter) -> Exporter:
    """Return the exporter of the same texts, but that the stage's countries are where its clients are."""
    return replace(exporter, render=lambda work: exporter.render(replace(work, networks=tuple(_moved(work.networks)))))


def _moved(networks: Iterable[Network]) -> Iterator[Network]:
    for network in networks:
        if network.place != UNKNOWN:
            yield network._replace(cidr=NETWORKS.get(network.cidr, network.cidr))
        elif ":" in network.cidr:  # loopback is of unknown location, but for those to whom a country was given
            yield from _replaced(network, _without(IPv6Network(network.cidr), _CLIENTS_BY_IPV6))
        else:
            yield from _replaced(network, _without(IPv4Network(network.cidr), _CLIENTS_BY_IPV4))


def _replaced(network: Network, parts: Iterable[object]) -> Iterator[Network]:
    return (network._replace(cidr=str(part)) for part in parts)


def _without(whole: _Whole, several: Iterable[_Whole]) -> list[_Whole]:
    left = [whole]
    for taken in several:
        halves = (part.address_exclude(taken) if taken.subnet_of(part) else [part] for part in left)
        left = sorted(rest for parts in halves for rest in parts)
    return left
