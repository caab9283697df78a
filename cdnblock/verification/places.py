"""Where probing clients are: one real address for each place, as the geo table in use tells it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cdnblock.geo.country import CountryTable, locate
from cdnblock.verification.clients import subnet_of

_SCAN_STEP: Final = 2**16  # one address of each /16 is asked when no known one is where it should be


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a client is: `country` an ISO 3166-1 alpha-2 code, None where it cannot be told."""

    label: str
    country: str | None
    address: str

    @property
    def subnet(self) -> str:
        """The client's network as a resolver tells it in EDNS Client Subnet: /24 (RFC 7871 §11.1), /56 for IPv6."""
        return subnet_of(self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A place that the geo table does not know, and so cannot be probed from."""

    label: str
    reason: str


# For each place the networks of its access providers, in which a table that knows the place finds it.
_KNOWN: Final[tuple[tuple[str, str | None, tuple[str, ...]], ...]] = (
    ("metropolitan France", "FR", ("90.84.144.1", "80.10.10.1", "82.64.0.1")),
    ("La Réunion", "RE", ("102.35.0.1", "165.169.0.1", "154.67.0.1")),
    ("French Polynesia", "PF", ("123.50.64.1", "103.4.72.1", "202.3.225.1")),
    ("Germany", "DE", ("80.187.0.1", "217.0.0.1", "91.0.0.1")),
    ("unknown place", None, ("203.0.113.7", "100.64.0.1")),  # RFC 5737, RFC 6598: nobody's
)
_OF_TEST_TABLES: Final = ("192.0.2.7", "198.51.100.7", "203.0.113.7")  # RFC 5737: what small tables are made of


def find_places(table: CountryTable, countries: Iterable[str] = ()) -> tuple[list[Place], list[Missing]]:
    """Return the places with an address of each, and those for which the table has none; these countries besides."""
    found: list[Place] = []
    missing: list[Missing] = []
    known = {country for _, country, _ in _KNOWN}
    others = [(country, country, ()) for country in countries if country not in known]
    for label, country, candidates in (*_KNOWN, *others):
        address = _first_in(table, country, (*candidates, *_OF_TEST_TABLES))
        if address is None and country is not None:
            address = _first_in(table, country, _everywhere())
        if address is None:
            missing.append(
                Missing(label=label, reason=f"{table.description} has no address of {country or 'no country'}")
            )
        else:
            found.append(Place(label=label, country=country, address=address))
    return found, missing


def _first_in(table: CountryTable, country: str | None, candidates: Iterable[str]) -> str | None:
    for address in candidates:
        whole = Place(label="", country=country, address=address).subnet.partition("/")[0]
        if locate(table, address).country == country == locate(table, whole).country:
            return address
    return None


def _everywhere() -> Iterator[str]:
    for start in range(2**24, 224 * 2**24, _SCAN_STEP):  # unicast: 1.0.0.0 to 223.255.255.255
        yield str(ipaddress.IPv4Address(start + 1))
