"""Where the asked countries are, as networks that engines read. Pure over a country table handed in.

Look-ups of ours take an address out of its tunnel first (`cdnblock.geo.addresses`). Engines do not, so each IPv4
network of a country is also given as 6to4 and NAT64 write it, and so is each that belongs to no place, such as private
ones. Teredo cannot be: there the client's address stands at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv6Address, IPv6Network
from typing import Final, NamedTuple, Protocol

from cdnblock.exporters._plan import UNKNOWN
from cdnblock.geo.addresses import IPV4, IPV6, placed
from cdnblock.geo.interval_table import IPV6_SHIFT, IntervalTable

_BITS: Final = {IPV4: 32, IPV6: 128 - IPV6_SHIFT}  # of the numbers in an interval
_SHIFT: Final = {IPV4: 0, IPV6: IPV6_SHIFT}
# The /64 networks that hold IPv4-mapped and NAT64 addresses, and what in them carries an address of somewhere.
_CARRIERS: Final = {
    IPv6Network("::/64"): IPv6Network("::ffff:0:0/96"),
    IPv6Network("64:ff9b::/64"): IPv6Network("64:ff9b::/96"),
}

_SIX_TO_FOUR: Final = (0x2002 << 48, 0x2003 << 48)  # all of it carries addresses of somewhere


class ListableTable(Protocol):
    """A country table whose networks can be listed; both kinds that `open_geo_table` opens are."""

    @property
    def description(self) -> str:
        """Return what the table is and of which date."""

    def as_intervals(self) -> IntervalTable:
        """Return the whole table as intervals."""


class Network(NamedTuple):
    """A network in CIDR form, and the place that it is in: a country, or `unknown`."""

    cidr: str
    place: str


_LAST: Final[list[tuple[ListableTable, tuple[str, ...], bool, tuple[Network, ...]]]] = []
_REMEMBERED: Final = 4  # lists: a service asks for the same one at each change of the orders


def listed(table: ListableTable, countries: Collection[str], *, unknown: bool) -> tuple[Network, ...]:
    """Return what `networks` yields; at once when the same was asked for not long ago."""
    asked = tuple(countries)
    for of_table, of_countries, of_unknown, found in _LAST:
        if of_table is table and (of_countries, of_unknown) == (asked, unknown):
            return found
    found = tuple(networks(table, asked, unknown=unknown))
    _LAST[:] = [(table, asked, unknown, found), *_LAST[: _REMEMBERED - 1]]
    return found


class _Span(NamedTuple):
    start: int
    end: int
    place: str


def networks(table: ListableTable, countries: Collection[str], *, unknown: bool) -> Iterator[Network]:
    """Yield the networks of these countries, merged, IPv4 first; with `unknown` also all that are in no country.

    What is in none of them is in another country.
    """
    intervals = table.as_intervals()
    wanted: dict[str | None, str] = {country: country for country in countries}
    if unknown:
        wanted[None] = UNKNOWN
        for whole, carrying in _CARRIERS.items():
            yield from (Network(str(rest), UNKNOWN) for rest in whole.address_exclude(carrying))
    for version in (IPV4, IPV6):
        spans = [*_placed(intervals, version, wanted), *(_placeless(version) if unknown else ())]
        for span in _merged(sorted(spans)):
            yield from _cidrs(span, version)
    if unknown:
        for span in _placeless(IPV4):
            for network in _cidrs(span, IPV4):
                yield from _in_tunnels(network)


def _placed(table: IntervalTable, version: int, wanted: dict[str | None, str]) -> Iterator[_Span]:
    looked_up = _looked_up(version)
    for interval in table.intervals(version):
        place = wanted.get(interval.country)
        if place is not None:
            for first, after in looked_up:
                if interval.start < after and first < interval.end:
                    yield _Span(max(interval.start, first), min(interval.end, after), place)


def _placeless(version: int) -> Iterator[_Span]:
    numbers = [int(whole.network_address) >> IPV6_SHIFT for whole in _CARRIERS] if version == IPV6 else []
    carriers = [_SIX_TO_FOUR, *((number, number + 1) for number in numbers)] if version == IPV6 else []
    elsewhere = [*_looked_up(version), *carriers]
    reached = 0
    for first, after in (*sorted(elsewhere), (1 << _BITS[version], 0)):
        if reached < first:
            yield _Span(reached, first, UNKNOWN)
        reached = after


def _looked_up(version: int) -> list[tuple[int, int]]:
    return [(first >> _SHIFT[version], after >> _SHIFT[version]) for first, after in placed(version)]


def _merged(spans: list[_Span]) -> Iterator[_Span]:
    held: _Span | None = None
    for span in spans:
        if held is not None and (held.end, held.place) == (span.start, span.place):
            held = held._replace(end=span.end)
            continue
        if held is not None:
            yield held
        held = span
    if held is not None:
        yield held


def _cidrs(span: _Span, version: int) -> Iterator[Network]:
    start, bits = span.start, _BITS[version]
    while start < span.end:
        largest = (span.end - start).bit_length() - 1
        size = min(largest, (start & -start).bit_length() - 1) if start else largest
        length = bits - size
        if version == IPV6:
            yield Network(f"{IPv6Address(start << IPV6_SHIFT)}/{length}", span.place)
        else:
            yield from _ipv4_network(start, length, span.place)
        start += 1 << size


def _ipv4_network(number: int, length: int, place: str) -> Iterator[Network]:
    high, low = number >> 16, number & 0xFFFF
    network = Network(f"{high >> 8}.{high & 255}.{low >> 8}.{low & 255}/{length}", place)
    yield network
    if place != UNKNOWN:  # there are ten times as many that are in no country's, and nobody tunnels from there
        yield from _in_tunnels(network)


def _in_tunnels(network: Network) -> Iterator[Network]:
    address, _, length = network.cidr.partition("/")
    a, b, c, d = map(int, address.split("."))
    text = f"{a << 8 | b:x}:{c << 8 | d:x}"
    yield Network(f"2002:{text}::/{16 + int(length)}", network.place)  # 6to4, RFC 3056
    yield Network(f"64:ff9b::{text}/{96 + int(length)}", network.place)  # NAT64, RFC 6052
