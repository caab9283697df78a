"""What HTTP and TLS have to know of a DNS message on its way: how long it holds, and how long it may be made. Pure.

RFC 8484 §5.1 wants the smallest TTL, RFC 7830 wants an answer padded when its query was.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from cdnblock.measures import dns_message as wire

PADDING: Final = 12  # RFC 7830 §3
BLOCK: Final = 468  # octets: what the length of a padded answer is a multiple of (RFC 8467 §4.1)
LONGEST: Final = 65_535  # octets of a message

_OPTION: Final = struct.Struct("!HH")  # RFC 6891 §6.1.2: code and length
_LONGEST_TTL: Final = 0x7FFF_FFFF  # a greater one counts as 0 (RFC 2181 §8)


class _Record(NamedTuple):
    kind: int
    ttl: int
    start: int  # of its RDATA
    end: int


def smallest_ttl(answer: bytes) -> int:
    """Return the smallest TTL (s) of the records in ANSWER; 0 when there are none, or when they cannot be read."""
    records = _records(answer) or []
    ttls = [record.ttl for record in records[: wire.HEADER.unpack_from(answer)[3]]] if records else []
    return min((ttl if ttl <= _LONGEST_TTL else 0 for ttl in ttls), default=0)


def padded(query: bytes, answer: bytes) -> bytes:
    """Return the answer, filled up to a whole number of blocks when its query was padded (RFC 7830 §4).

    An answer without OPT at its end, or that is padded already, stays as it is: behind OPT stand only signatures.
    """
    asked, given = _opt(query), _opt(answer)
    if asked is None or given is None or given.end != len(answer):
        return answer
    if not _has_padding(query, asked) or _has_padding(answer, given):
        return answer
    bare = len(answer) + _OPTION.size
    length = min(-(-bare // BLOCK) * BLOCK, LONGEST) - bare
    if length < 0:
        return answer
    options = given.end - given.start + _OPTION.size + length
    before = answer[: given.start - 2] + options.to_bytes(2, "big")
    return before + answer[given.start :] + _OPTION.pack(PADDING, length) + bytes(length)


def _records(packet: bytes) -> list[_Record] | None:
    """Return all records of a message, None when they cannot be read."""
    found = []
    try:
        _, _, questions, *counts = wire.HEADER.unpack_from(packet)
        offset = wire.HEADER.size
        for _ in range(questions):
            offset = wire.after_name(packet, offset) + _OPTION.size
        for _ in range(sum(counts)):
            offset = wire.after_name(packet, offset)
            kind, _, ttl, length = wire.RECORD.unpack_from(packet, offset)
            start = offset + wire.RECORD.size
            offset = start + length
            found.append(_Record(kind, ttl, start, offset))
    except (IndexError, struct.error):
        return None
    return found if offset <= len(packet) else None


def _opt(packet: bytes) -> _Record | None:
    return next((record for record in _records(packet) or [] if record.kind == wire.OPT), None)


def _has_padding(packet: bytes, opt: _Record) -> bool:
    offset = opt.start
    while offset + _OPTION.size <= opt.end:
        code, length = _OPTION.unpack_from(packet, offset)
        if code == PADDING:
            return True
        offset += _OPTION.size + length
    return False
