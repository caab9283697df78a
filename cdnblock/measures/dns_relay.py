"""What is handed on between clients and an upstream resolver: as it came, as far as the orders and the room allow.

Bytes in, bytes out. A query in these signatures is a sound one, as `QueryJudge` forwards them; an answer may be anything.
"""

from __future__ import annotations

from struct import error as struct_error
from typing import Final

from cdnblock.measures import dns_message as wire

_FOUR: Final = 4  # octets of an option's code and length (RFC 6891 §6.1.2), and of a question's type and class
_SCOPE: Final = 3  # where SCOPE PREFIX-LENGTH stands in the option's data (RFC 7871 §6)


def is_answer_to(query: bytes, answer: bytes) -> bool:
    """Tell whether a packet can be the answer to a sound query, ids aside: a standard answer to the same question.

    An upstream that understood nothing answers with a header alone: that is believed when it says that it failed,
    even where the header promises a question.
    """
    if len(answer) < wire.HEADER.size or (answer[2] & 0xF8) != wire.QR >> 8:
        return False
    if len(answer) == wire.HEADER.size:
        return answer[3] & 0xF not in (wire.NOERROR, wire.NXDOMAIN)
    end = wire.HEADER.size
    while length := query[end]:
        end += length + 1
    if answer[12 : end + 5] == query[12 : end + 5]:
        return answer[4:6] == b"\0\1"
    same_name = answer[12 : end + 1].lower() == query[12 : end + 1].lower()
    return same_name and answer[end + 1 : end + 5] == query[end + 1 : end + 5] and answer[4:6] == b"\0\1"


def is_transfer(query: bytes) -> bool:
    """Tell whether a sound query asks for a zone: AXFR or IXFR (RFC 5936, RFC 1995)."""
    end = wire.HEADER.size
    while length := query[end]:
        end += length + 1
    return query[end + 1 : end + 3] in (b"\0\xfb", b"\0\xfc")


def udp_room(query: bytes) -> int:
    """Return how many octets a client takes over UDP: what its OPT record says, at least 512 (RFC 6891 §6.2.3)."""
    asked = wire.read_query(query)
    return wire.SMALLEST_UDP if asked is None else max(wire.SMALLEST_UDP, asked.udp_size or 0)


def truncated(query: bytes, answer: bytes) -> bytes:
    """Return an answer of an upstream cut down to header and question, with TC and the client's own kind of OPT.

    For clients that have less room than the upstream took (RFC 2181 §9: what stands in a truncated answer is not used).
    """
    asked = wire.read_query(query)
    number, flags, *_ = wire.HEADER.unpack_from(answer)
    question = asked.question if asked is not None else b""
    opt = b""
    if asked is not None and asked.udp_size is not None:
        opt = wire.opt_record(b"", dnssec_ok=asked.dnssec_ok)
    return wire.HEADER.pack(number, flags | wire.TC, bool(question), 0, 0, bool(opt)) + question + opt


def for_subnet_alone(answer: bytes, subnet: wire.Subnet) -> bytes:
    """Return an answer that a cache behind the query keeps for the client's network alone (RFC 7871 §7.3.1).

    SCOPE PREFIX-LENGTH becomes at least the query's SOURCE; the option is added where the upstream left it out, which
    would mean "for everybody". An answer that cannot be read stays as it is: nobody will keep it.
    """
    option = wire.option(wire.CLIENT_SUBNET, _with_scope(subnet.echo, subnet.source))
    try:
        found = _find_opt(answer)
        if found is None:
            additionals = int.from_bytes(answer[10:12], "big") + 1
            opt = wire.opt_record(option, dnssec_ok=False)
            return answer[:10] + additionals.to_bytes(2, "big") + answer[12:] + opt
        start, end = found
        offset = start
        while offset < end:
            code, length = answer[offset : offset + 2], int.from_bytes(answer[offset + 2 : offset + _FOUR], "big")
            data = answer[offset + _FOUR : offset + _FOUR + length]
            if int.from_bytes(code, "big") == wire.CLIENT_SUBNET and length > _SCOPE:
                scope = max(data[_SCOPE], subnet.source)
                return answer[: offset + _FOUR] + _with_scope(data, scope) + answer[offset + _FOUR + length :]
            offset += _FOUR + length
    except (IndexError, struct_error):
        return answer
    size = (end - start + len(option)).to_bytes(2, "big")
    return answer[: start - 2] + size + answer[start:end] + option + answer[end:]


def _with_scope(data: bytes, scope: int) -> bytes:
    return data[:_SCOPE] + bytes([scope]) + data[_SCOPE + 1 :]


def _find_opt(packet: bytes) -> tuple[int, int] | None:
    """Return where the options of a message's OPT record begin and end; raises where it cannot be read."""
    _, _, questions, *counts = wire.HEADER.unpack_from(packet)
    offset = wire.HEADER.size
    for _ in range(questions):
        offset = wire.after_name(packet, offset) + _FOUR
    for _ in range(sum(counts)):
        offset = wire.after_name(packet, offset) + wire.RECORD.size
        kind, _, _, length = wire.RECORD.unpack_from(packet, offset - wire.RECORD.size)
        if kind == wire.OPT:
            return offset, offset + length
        offset += length
    return None
