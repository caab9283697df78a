"""PowerDNS Recursor 4.8 and later, by its Lua hooks.

    lua-dns-script=/etc/powerdns/cdnblock/cdnblock-powerdns.lua
    extended-resolution-errors=yes

A script of the operator's own goes on working: its last line is then `dofile` of ours. The program never changes with
the orders. They are one file, whole at any moment, that each of the Recursor's threads looks at every second; a file
that is not sound is complained of, and what was in force stays. (`rec_control reload-lua-script` would leave 4.8 and
later without any hooks then, and needs more time than a second look.)

Response policy zones of the Recursor know no REFUSED, judge the targets of aliases too, and have one text for all
orders of a zone, so names are looked up by the hooks: hashed into buckets of one long text, which is read in a moment
where a table of a million names stalls a thread for a second. Each client's place is a part of the packet cache's key:
its tag. What the Recursor hands to `gettag` costs twice a cached answer, so ours is `gettag_ffi`, unless there is no
LuaJIT, or the operator has a `gettag` whose tag goes into it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import accumulate, chain
from typing import Final

from cdnblock.exporters._answers import answer_of
from cdnblock.exporters._exporter import NAME_SERVER, Exporter, File, Work, every
from cdnblock.exporters._kinds import kinds
from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Plan, labels
from cdnblock.exporters._planner import orders_told
from cdnblock.measures.dns_refusal import NEGATIVE_TTL
from cdnblock.orders.model import Measure

FREE: Final = "free"
"""What a name maps to that is let go below one that is not."""

_ORDERS: Final = "cdnblock-powerdns.orders"
_DIGITS: Final = 16  # of a digest
_SOA: Final = f"blocked.invalid. nobody.invalid. 1 3600 600 604800 {NEGATIVE_TTL}"
_TUNNELLED: Final = ("2002:", "64:ff9b:")  # the program takes an address out of its tunnel itself, Teredo's too


def _render(work: Work) -> tuple[File, ...]:
    return (File("cdnblock-powerdns.lua", _program(work)), File(_ORDERS, _orders(work)))


def _program(work: Work) -> str:
    program = resources.files("cdnblock.exporters").joinpath("_powerdns.lua").read_text(encoding="utf-8")
    values = {
        '"@ORDERS@"': f'"{work.options.path(_ORDERS)}"',
        '"@TRUSTED@"': ", ".join(f'"{network}"' for network in work.options.trusted_proxies),
        "@SOA@": _SOA,
        "@TTL@": str(NEGATIVE_TTL),
    }
    for mark, value in values.items():
        program = program.replace(mark, value)
    return program


def _orders(work: Work) -> str:
    """Return the file: its first line has the digest of what follows the comments, and the octets of it all."""
    sections = "".join(chain(_answers(work), _territory(work), _names(work.plan), ("end\n",)))
    rest = work.top("#") + sections
    head = f"cdnblock-powerdns 1 {_digest(sections)} "
    octets = len(head) + _DIGITS + 1 + len(rest.encode())
    return f"{head}{octets:0{_DIGITS}}\n{rest}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _answers(work: Work) -> Iterator[str]:
    meant = {kind for place, kind in kinds(work.plan).items() if kind == place}
    lines = [
        f"{place} {group.id} {answer.rcode} {'soa' if answer.soa else '-'} {answer.text}\n"
        for group in work.plan.groups
        for place, outcome in group.outcomes.items()
        if place in meant
        for answer in (answer_of(outcome, work.options.contact),)
    ]
    yield f"answers {len(lines)}\n"
    yield from lines


def _territory(work: Work) -> Iterator[str]:
    """Yield where each kind of place but `other` is: IPv4 by numbers, in their order, then IPv6 by networks.

    Those of unknown location come last: they hold tunnels, and so others.
    """
    kind = kinds(work.plan)
    asked = sorted({*kind.values()} - {OTHER}, key=lambda name: (name == UNKNOWN, name))
    found = [(network.cidr, kind[network.place]) for network in work.networks if kind[network.place] != OTHER]
    spans = sorted((*_span(cidr), name) for cidr, name in found if ":" not in cidr)
    networks = [
        (cidr, name) for cidr, name in found if ":" in cidr and (name == UNKNOWN or not cidr.startswith(_TUNNELLED))
    ]
    lines = [f"{first} {last} {name}\n" for first, last, name in spans]
    lines += [f"- {cidr} {name}\n" for cidr, name in networks]
    text = "".join(lines)
    yield f"territory {len(lines)} {_digest(','.join(asked) + text)} {','.join(asked) or '-'}\n"
    yield text


def _span(cidr: str) -> tuple[int, int]:
    """Return the first and the last address of an IPv4 network as numbers."""
    octets, _, length = cidr.partition("/")
    first = int.from_bytes(map(int, octets.split(".")))
    return first, first + (1 << 32 - int(length)) - 1


def _names(plan: Plan) -> Iterator[str]:
    """Yield a table of names: where each bucket begins, in eight hexadecimal digits, and the buckets.

    A name's octets are a number, and its remainder is the number of its bucket. What holds of a name without what is
    below it stands behind a space, which no name has in it.
    """
    size = _prime(len(plan.exact) + len(plan.suffixes))
    buckets: list[str] = [""] * size
    for mark, table in ((" ", plan.exact), ("", plan.suffixes)):
        for name, group in table.items():
            buckets[int.from_bytes(name.encode()) % size] += f"{mark}{name} {_id(group)}\n"
    starts = accumulate(map(len, buckets), initial=0)
    yield f"names {size} {_depths(plan.suffixes)} {_depths(plan.exact)}\n"
    yield "".join([f"{start:08x}" for start in starts]) + "\n"
    yield from buckets


def _id(group: Group | None) -> str:
    return group.id if group else FREE


def _depths(names: Iterable[str]) -> str:
    """Return how many labels names have, so that no other suffix is looked up."""
    return ",".join(map(str, sorted({labels(name) for name in names}))) or "-"


def _prime(least: int) -> int:
    number = max(least, 3) | 1
    while any(number % divisor == 0 for divisor in range(3, int(number**0.5) + 1, 2)):
        number += 2
    return number


EXPORTER: Final = Exporter(
    name="powerdns",
    title="PowerDNS Recursor ≥ 4.8",
    carries=every(Measure.DNS),
    elsewhere=NAME_SERVER,
    tells=orders_told,
    render=_render,
)
