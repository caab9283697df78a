"""dnsdist 1.7 and later, in front of any resolver.

    dofile("/etc/dnsdist/cdnblock/cdnblock-dnsdist.lua")  -- before your own rules

Names are in a constant database that dnsdist looks at every second, so orders come and go without a reload. Where
clients are is not, nor whether there are names without their sub-domains at all: when the program or its networks
change, run it once more on the console. Then the database has
another name too, so that no half of a change is ever in force. A new database is put in the place of the old one, which
dnsdist has open until then; what somebody else puts there and cannot be read is not believed: until it can be, the one
counts that was there when the program was run last. Nobody should write into the file: dnsdist has it in its memory, and
believes what it can read, or dies where the file has become shorter. The answer is written by the program itself, octet for
octet as the library writes it: before 1.9 no action of dnsdist's can add an extended error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import resources
from typing import Final

from cdnblock.exporters._answers import answer_of
from cdnblock.exporters._cdb import database, records
from cdnblock.exporters._exporter import NAME_SERVER, Exporter, File, Work, every
from cdnblock.exporters._kinds import kinds
from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Plan
from cdnblock.exporters._planner import orders_told
from cdnblock.measures.dns_refusal import NEGATIVE_TTL, SOA_RDATA
from cdnblock.orders.model import Measure

_GROUP: Final = " {}"
"""A group's key. In what clients ask for a space is `\\032`, so nobody can ask for a group as if it were a name."""
_FREE: Final = _GROUP.format("free")
"""What a name maps to that is let go below one that is not."""
_COMMENT: Final = _GROUP.format("#")
_SOUND: Final = (bytes(4), bytes(16))
"""What every client's address is with no bit left of it: while a database cannot be read, these are not found in it."""
_PROGRAM: Final = "cdnblock-dnsdist.lua"
_NETWORKS: Final = "cdnblock-networks.txt"
_DIGITS: Final = 10  # of a digest
_USUALLY: Final = 2  # labels of a name at least; not of those that there are, which come and go


def _render(work: Work) -> tuple[File, ...]:
    asked = _asked(work.plan)
    networks = "".join(_networks(work))
    names = f"cdnblock-{_digest(networks, *asked, str(_labels(work.plan)), str(bool(work.plan.exact)))}.cdb"
    return (
        File(names, data=database(_records(work))),
        File(_NETWORKS, networks),
        File(_PROGRAM, _program(work, asked, names)),
    )


def _asked(plan: Plan) -> list[str]:
    """Return the kinds of places in the order in which they are asked for, without `other` if it is let through.

    Countries come before unknown location, whose networks hold theirs where they are tunnels; then the rest.
    """
    left = {OTHER} if all(OTHER not in group.outcomes for group in plan.groups) else set()
    return sorted({*kinds(plan).values()} - left, key=lambda kind: (kind == OTHER, kind == UNKNOWN, kind))


def _networks(work: Work) -> Iterator[str]:
    kind = kinds(work.plan)
    for network in work.networks:
        if kind[network.place] != OTHER:
            yield f"{network.cidr} {kind[network.place]}\n"


def _records(work: Work) -> Iterator[tuple[bytes, bytes]]:
    """Yield names with their groups, and groups with their answers in each kind of place.

    A name alone is a key in text, one with all below it in wire form, as dnsdist asks for them.
    """
    yield _COMMENT.encode(), work.top("#").encode()
    yield from ((key, b"1") for key in _SOUND)
    for name, group in work.plan.exact.items():
        yield name.encode(), _key(group)
    for name, group in work.plan.suffixes.items():
        yield _wire(name), _key(group)
    meant = {kind for place, kind in kinds(work.plan).items() if kind == place}
    for group in work.plan.groups:
        lines = [
            f"\n{place} {answer.rcode} {'soa' if answer.soa else '-'} {answer.text}"
            for place, outcome in group.outcomes.items()
            if place in meant
            for answer in (answer_of(outcome, work.options.contact),)
        ]
        yield _key(group), ("".join(lines) + "\n").encode()


def names_in(octets: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names in a database of ours and what they map to. Raises ValueError where it is none."""
    for key, value in records(octets):
        name = _read(key) if key.endswith(b"\0") else key.decode()
        if name and not name.startswith(_GROUP.format("")):
            yield name, value


def _read(wire: bytes) -> str:
    labels, place = [], 0
    while place < len(wire) and (length := wire[place]):
        labels.append(wire[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(labels)


def _key(group: Group | None) -> bytes:
    return (_GROUP.format(group.id) if group else _FREE).encode()


def _wire(name: str) -> bytes:
    return b"".join([bytes((len(label),)) + label.encode() for label in name.split(".")]) + b"\0"


def _labels(plan: Plan) -> int:
    """Return how many labels have to be left of what is looked up: two, unless there are names of one."""
    return min([_USUALLY, *plan.depths()])


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:_DIGITS]


def _program(work: Work, asked: list[str], names: str) -> str:
    program = resources.files("cdnblock.exporters").joinpath("_dnsdist.lua").read_text(encoding="utf-8")
    values = {
        "@PROGRAM@": work.options.path(_PROGRAM),
        "@DATABASE@": work.options.path(names),
        "@NETWORKS@": work.options.path(_NETWORKS),
        '"@KINDS@"': ", ".join(f'"{kind}"' for kind in asked),
        "@LABELS@": str(_labels(work.plan)),
        "@SOME_ALONE@": "true" if work.plan.exact else "false",
        '"@TRUSTED@"': ", ".join(f'"{network}"' for network in work.options.trusted_proxies),
        "@SOA@": "".join(f"\\{octet:03}" for octet in SOA_RDATA),
        "@TTL@": str(NEGATIVE_TTL),
        "@FREE@": _FREE,
        "@COMMENT@": _COMMENT,
    }
    for mark, value in values.items():
        program = program.replace(mark, value)
    return program


EXPORTER: Final = Exporter(
    name="dnsdist",
    title="dnsdist ≥ 1.7",
    carries=every(Measure.DNS),
    elsewhere=NAME_SERVER,
    tells=orders_told,
    render=_render,
)
