"""As whom a server is asked if nobody says so: clients inside and outside the orders' territories, and of no place."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from cdnblock.errors import ConfigError
from cdnblock.geo.country import CountryTable, country_code, locate
from cdnblock.matching.ruleset import RuleSet
from cdnblock.verification.clients import Client, Told
from cdnblock.verification.places import Missing, find_places
from cdnblock.verification.servers import Server

_NOWHERE = ("none", "unknown", "")  # what stands for a country that cannot be told


def told_clients(
    table: CountryTable, rules: RuleSet, *, told: Told, header: str | None = None, source: str | None = None
) -> tuple[list[Client], list[Missing]]:
    """Return clients at places that the table knows, for servers that are told whose request it is."""
    places, missing = find_places(table, _first_countries(rules))
    clients = [
        Client(label=place.label, country=place.country, address=place.address, told=told, header=header, source=source)
        for place in places
    ]
    return clients, missing


def this_machine(server: Server, table: CountryTable) -> Client:
    """Return the client that this machine is to a server: its own address, and where the table has that.

    Raises:
        OSError: there is no way to the server.

    """
    (family, kind, _, _, address), *_ = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        own = str(probe.getsockname()[0])
    return Client(label="this machine", country=locate(table, own).country, address=own)


def read_client(text: str, table: CountryTable, *, told: Told, header: str | None, source: str | None) -> Client:
    """Return the client that `ADDRESS` or `ADDRESS=COUNTRY` describes.

    Raises:
        ConfigError: it describes none, or the address is not one of this machine's although that is how it is told.

    """
    address, equals, code = text.partition("=")
    if not equals:
        country = locate(table, address).country
    else:
        country = None if code.lower() in _NOWHERE else country_code(code.upper())
        if country is None and code.lower() not in _NOWHERE:
            raise ConfigError(f"client {text!r}: {code!r} is no country; right would be {address}=FR or {address}=none")
    if told is Told.SOURCE:
        check_own(address)
    elif not _is_address(address):
        raise ConfigError(f"client {text!r}: {address!r} is no address; right would be 192.0.2.1 or 192.0.2.1=FR")
    return Client(label=code or address, country=country, address=address, told=told, header=header, source=source)


def check_own(address: str) -> None:
    """Raise ConfigError where connections cannot come from an address."""
    if not _is_address(address):
        raise ConfigError(f"{address!r} is no address")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise ConfigError(
            f"{address} is no address of this machine ({error.strerror}); say how the server is told of it, such as"
            " --by x-forwarded-for"
        ) from None


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except OSError:
            continue
        return True
    return False


def _first_countries(rules: RuleSet) -> Iterable[str]:
    """Return a country of each territory."""
    return sorted({min(order.territory.countries) for order in rules.orders.values() if order.territory.countries})
