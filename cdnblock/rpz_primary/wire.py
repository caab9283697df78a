"""Zones on the wire: records of policies, and the bodies of transfers (RFC 1035, 5936, 1995). Pure.

A million names want to be written in about a second, so nothing here makes an object for a record. Owners are written
relative to the zone, whose name stands in the question of every message, twelve octets from its start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from struct import Struct
from typing import Final, TypeAlias

from cdnblock.exporters._rpz import NEGATIVE, PASSTHRU
from cdnblock.measures.dns_refusal import NEGATIVE_TTL
from cdnblock.rpz_primary.policies import POLICIES, Action, Policy, below_of, own_of

IN: Final = 1
NONE_CLASS: Final = 254
ANY: Final = 255
CNAME: Final = 5
NS: Final = 2
SOA: Final = 6
IXFR: Final = 251
AXFR: Final = 252

REFRESH: Final = 60
"""Seconds between two questions of a secondary that NOTIFY does not reach."""
RETRY: Final = 10
EXPIRE: Final = 604_800
"""Seconds after which a secondary without us gives a zone up: a week. Longer would enforce what has ended, if we end."""

Body: TypeAlias = tuple[bytes, int]
"""Records as they stand in a message, and how many they are."""

HEADER: Final = Struct("!HHHHHH")
RECORD: Final = Struct("!HHIH")
LARGEST_BODY: Final = 60_000  # octets; a message has 65,535 at most, and its signature wants a place
_AT_ONCE: Final = 400  # names that are written at once: a usual message has 25 kB
_ZONE: Final = b"\xc0\x0c"
_MNAME: Final = b"\7blocked\7invalid\0"  # names that can never exist (RFC 6761 §6.4)
_RNAME: Final = b"\6nobody\7invalid\0"
_WILDCARD: Final = b"\1*"


def labels(name: str) -> bytes:
    """Return a canonical name's labels on the wire, without the root."""
    return b"".join([bytes((len(label),)) + label for label in name.encode().split(b".")])


def zone_wire(name: str) -> bytes:
    """Return a zone's name on the wire."""
    return labels(name) + b"\0"


def _cname(target: str) -> bytes:
    rdata = (labels(target.rstrip(".")) if target != "." else b"") + b"\0"
    return _ZONE + RECORD.pack(CNAME, IN, NEGATIVE_TTL, len(rdata)) + rdata


_TAILS: Final[Mapping[Action, bytes]] = {
    # What stands behind the owner's own labels.
    Action.NXDOMAIN: _cname(NEGATIVE["nxdomain"]),
    Action.NODATA: _cname(NEGATIVE["nodata"]),
    Action.PASS: _cname(PASSTHRU),
}
_OF_POLICY: Final[Mapping[Policy, tuple[bytes, bytes]]] = {
    of: (_TAILS.get(own_of(of), b""), _TAILS.get(below_of(of), b"")) for of in POLICIES
}


def records_of(name: str, of: Policy) -> list[bytes]:
    """Return the records of a name: its own, and its wildcard's."""
    own, below = _OF_POLICY[of]
    written = labels(name)
    return [owner + tail for owner, tail in ((written, own), (_WILDCARD + written, below)) if tail]


def record(owner: Iterable[bytes], kind: int, ttl: int, rdata: bytes) -> bytes:
    """Return a record of the zone with an owner of these labels, as `records_of` would write it."""
    written = b"".join([bytes((len(label),)) + label.lower() for label in owner])
    return written + _ZONE + RECORD.pack(kind, IN, ttl, len(rdata)) + rdata


def deletion(of: bytes) -> bytes:
    """Return what has an update take a record out (RFC 2136 §2.5.4)."""
    place = 0
    while of[place] < _ZONE[0]:
        place += of[place] + 1
    place += len(_ZONE)
    kind, _class, _ttl, size = RECORD.unpack_from(of, place)
    return of[:place] + RECORD.pack(kind, NONE_CLASS, 0, size) + of[place + RECORD.size :]


def changed_records(names: Iterable[tuple[str, Policy, Policy]]) -> tuple[list[bytes], list[bytes]]:
    """Return which records go and which come with names and their policies before and after."""
    gone: list[bytes] = []
    come: list[bytes] = []
    for name, before, after in names:
        old, new = records_of(name, before), records_of(name, after)
        gone += [record for record in old if record not in new]
        come += [record for record in new if record not in old]
    return gone, come


def soa(serial: int) -> bytes:
    """Return the SOA record of a zone."""
    rdata = _MNAME + _RNAME + Struct("!5I").pack(serial, REFRESH, RETRY, EXPIRE, NEGATIVE_TTL)
    return _ZONE + RECORD.pack(SOA, IN, NEGATIVE_TTL, len(rdata)) + rdata


def name_server() -> bytes:
    """Return the NS record that every zone must have."""
    return _ZONE + RECORD.pack(NS, IN, NEGATIVE_TTL, len(_RNAME)) + _RNAME


def bodies_of(zone: Mapping[str, Policy]) -> Iterator[Body]:
    """Yield a zone's policies as bodies of messages."""
    rest = iter(zone.items())
    while some := [*islice(rest, _AT_ONCE)]:
        written: list[bytes] = []
        count = 0
        for name, of in some:
            own, below = _OF_POLICY[of]
            wire = labels(name)
            if own:
                written.append(wire + own)
            if below:
                written.append(_WILDCARD + wire + below)
        count = len(written)
        body = b"".join(written)
        if len(body) <= LARGEST_BODY:
            yield body, count
        else:
            yield from packed(written)


def packed(records: Iterable[bytes]) -> Iterator[Body]:
    """Yield records as few bodies, each small enough for a message."""
    held: list[bytes] = []
    size = 0
    for record in records:
        if size + len(record) > LARGEST_BODY:
            yield b"".join(held), len(held)
            held, size = [], 0
        held.append(record)
        size += len(record)
    if held:
        yield b"".join(held), len(held)
