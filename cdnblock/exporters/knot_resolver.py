"""Knot Resolver 5: a program in its own language for `dofile()`, and a file of orders that it watches.

    dofile('/etc/knot-resolver/cdnblock/cdnblock.lua')     -- in kresd.conf

It is no RPZ: kresd's own reader of such files (`policy.rpz`) holds every query up while it reads, 0.6 s for 100,000
names; has one refusal for all orders and places; and a name that is let go would no longer reach the rules behind it,
such as those that forward. Ours reads a little at a time, knows groups and places, and refuses as the front does: the
ordered RCODE, the orders in the extended error, an SOA with a negative answer, REFUSED to who tells a client's subnet.

All that changes is in one file, so it is one `rename` from one state to the next. Its first line is a digest of the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network, summarize_address_range
from typing import Final, TypeVar

from cdnblock.exporters._exporter import NAME_SERVER, Exporter, File, Options, Work, every
from cdnblock.exporters._plan import UNKNOWN, Group
from cdnblock.exporters._planner import orders_told
from cdnblock.exporters._rpz import extra_text
from cdnblock.exporters._territory import Network
from cdnblock.geo.addresses import IPV4, IPV6, placed
from cdnblock.measures.dns_refusal import CENSORED, NEGATIVE_TTL, SOA_RDATA
from cdnblock.orders.model import Measure

_PROGRAM: Final = ("_knot_resolver.lua", "_knot_names.lua")
_FREE: Final = "free"  # the group of names that are let go below others that are not
_TUNNELLED: Final = ("2002:", "64:ff9b::")  # the program takes addresses out of their tunnels


_Address = TypeVar("_Address", IPv4Address, IPv6Address)


def _render(work: Work) -> tuple[File, ...]:
    body = work.top("#") + "".join(f"{line}\n" for line in _lines(work))
    return (File("cdnblock.lua", _program(work.options)), File("cdnblock-orders.txt", _whole(body)))


def in_lua(text: str | bytes) -> str:
    """Return text or octets for the inside of quotes of Lua, whose escapes are decimal."""
    octets = text.encode() if isinstance(text, str) else text
    return "".join(
        chr(o) if chr(o).isascii() and (chr(o).isalnum() or chr(o) in "-_./") else f"\\{o:03}" for o in octets
    )


def in_line(text: str) -> str:
    """Return text as the rest of a line of the file of orders."""
    return "".join(f"%{ord(c):02X}" if c == "%" or ord(c) < ord(" ") else c for c in text)


def _whole(body: str) -> str:
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f"sha256:{digest}\n{body}stop {body.count(chr(10)) + 2}\n"


def _lines(work: Work) -> Iterator[str]:
    """Yield what is meant before what means it: outcomes, groups, networks, names."""
    plan = work.plan
    for outcome in plan.outcomes:
        yield f"outcome {outcome.id} {outcome.measures[Measure.DNS]} {in_line(extra_text(outcome, work.options))}"
    for group in plan.groups:
        for place, outcome in group.outcomes.items():
            yield f"group {group.id} {place} {outcome.id}"
    for network in work.networks:
        if not _is_tunnelled(network):
            yield f"network {network.cidr} {network.place}"
    yield from (f"placeless {network}" for network in _placeless())
    yield from (f"trusted {ip_network(text, strict=False)}" for text in work.options.trusted_proxies)
    yield f"names {len(plan.exact) + len(plan.suffixes)} {sum(map(len, (*plan.exact, *plan.suffixes)))}"
    for verb, table in (("exact", plan.exact), ("suffix", plan.suffixes)):
        for meant, names in _by_group(table).items():
            yield f"{verb} {meant} {len(names)}"
            yield from names


def _by_group(table: Mapping[str, Group | None]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, group in table.items():
        found.setdefault(group.id if group else _FREE, []).append(name)
    return dict(sorted(found.items()))


def _placeless() -> Iterator[IPv4Network | IPv6Network]:
    """Yield the networks of no place: a client whose subnet is said to be there has told none."""
    yield from _without(placed(IPV4), IPv4Address, 1 << 32)
    yield from _without(placed(IPV6), IPv6Address, 1 << 128)


def _without(spans: Iterable[tuple[int, int]], kind: type[_Address], end: int) -> Iterator[IPv4Network | IPv6Network]:
    reached = 0
    for first, after in (*spans, (end, end)):
        if reached < first:
            yield from summarize_address_range(kind(reached), kind(first - 1))
        reached = after


def _is_tunnelled(network: Network) -> bool:
    return network.place != UNKNOWN and network.cidr.startswith(_TUNNELLED)


def _program(options: Options) -> str:
    program, names = (
        resources.files("cdnblock.exporters").joinpath(name).read_text(encoding="utf-8") for name in _PROGRAM
    )
    filled = {
        "-- @NAMES@\n": names,
        "@ORDERS@": in_lua(options.path("cdnblock-orders.txt")),
        "@CENSORED@": str(CENSORED),
        "@NEGATIVE_TTL@": str(NEGATIVE_TTL),
        "@SOA@": in_lua(SOA_RDATA),
    }
    for mark, text in filled.items():
        program = program.replace(mark, text)
    return program


EXPORTER: Final = Exporter(
    name="knot-resolver",
    title="Knot Resolver 5.6, 5.7",
    carries=every(Measure.DNS),
    elsewhere=NAME_SERVER,
    tells=orders_told,
    render=_render,
)
