"""Which country an address is in, and how that was told. Pure over a table handed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

from cdnblock.geo.addresses import has_no_country, parse_address, unwrap

# The codes under which geo tables know the places of the French Republic: `FR` is the mainland and Corsica only.
FRENCH_CODES: Final = ("FR", "GP", "MQ", "GF", "RE", "YT", "PM", "BL", "MF", "WF", "PF", "NC", "TF")

# What looks like a country in some tables and is none: regions of registries, anonymising networks, placeholders.
_NO_COUNTRIES: Final = frozenset({"AA", "AP", "EU", "UN", "ZZ"})
_XK: Final = "XK"  # Kosovo: user-assigned, and yet what every geo table says

Find: TypeAlias = Callable[[int, int], str | None]
"""Given an IP version and an address as its number, the country that a table holds for it."""


class Location(NamedTuple):
    """A client's country, ISO 3166-1 alpha-2 or None when unknown; and in words how, or why not, it was told."""

    country: str | None
    told_by: str


class CountryTable(Protocol):
    """Anything that knows where addresses are. `open_geo_table` makes one; an operator may bring another."""

    @property
    def description(self) -> str:
        """Return what the table is and of which date, such as `iptoasn of 2026-06-17`."""

    def locate(self, address: str) -> str | None:
        """Return the country of an address in text form, None when it cannot be told. Never raises."""


def locate(table: CountryTable, address: str | None) -> Location:
    """Return where an address is according to a table, and how that was told. Never raises.

    A table that breaks its promise and raises, or that answers with what is no country code, leaves the location
    unknown and says so.
    """
    if address is None:
        return Location(None, "no address")
    try:
        answer = table.locate(address)
        description = table.description
    except Exception as error:  # noqa: BLE001 - an operator's own table may fail; the request must not
        return Location(None, f"the country table failed: {type(error).__name__}")
    if answer is None:
        return Location(None, _why_unknown(address, description))
    country = country_code(answer)
    if country is None:
        return Location(None, f"no country code in {description}")
    return Location(country, description)


def country_of(address: str, find: Find) -> str | None:
    """Return the country that `find` knows for an address in text form, or None.

    This is what every table of the package does around its own search: the address is parsed strictly and taken out
    of a tunnel; private, loopback and other placeless addresses have no country.
    """
    parsed = parse_address(address)
    if parsed is None:
        return None
    client = unwrap(parsed)
    return None if has_no_country(client) else find(client.version, client.number)


def country_code(text: object) -> str | None:
    """Return a table's text if it can be a country: two upper-case letters that name none of the known non-places.

    ISO 3166-1 leaves AA, QM to QZ, XA to XZ and ZZ to users: in tables they mean "unknown", except XK.
    """
    if not isinstance(text, str) or len(text) != len("FR") or not text.isascii() or not text.isalpha():
        return None
    if not text.isupper() or text in _NO_COUNTRIES or "QM" <= text <= "QZ":
        return None
    return text if text[0] != "X" or text == _XK else None


def _why_unknown(address: str, description: str) -> str:
    parsed = parse_address(address)
    if parsed is None:
        return "not an address"
    return "an address of no place" if has_no_country(unwrap(parsed)) else f"not in {description}"
