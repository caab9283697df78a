"""The hash chain of a trail: why a cut, changed, reordered or missing line shows. Pure.

    chain_0 = 32 octets 0
    chain_n = SHA-256(chain_n-1 || SHA-256(body_n))

The body is all of a line before `,"chain":"`. Since a record enters the chain by its digest alone, one that is
nobody's business can be left out of an evidence file, its 32 octets in its place, and the chain is still whole.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

START: Final = bytes(32)
"""The chain before the first record."""

_BEFORE: Final = b',"chain":"'
_AFTER: Final = b'"}'
_HEX: Final = 64
TAIL: Final = len(_BEFORE) + _HEX + len(_AFTER)
"""Octets of a line that are not its body."""

_FIRST: Final = b'{"seq":'
_MOST_DIGITS: Final = 18


class Line(NamedTuple):
    """A line as it stands: its number, what is chained, and the chain that it claims."""

    seq: int
    body: bytes
    chain: bytes


def link(before: bytes, digest: bytes) -> bytes:
    """Return the chain after a record of this body digest, `before` being the chain after the one before it."""
    return sha256(before + digest).digest()


def seal(before: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return the whole line of a body, newline included, and the chain after it."""
    chain = sha256(before + sha256(body).digest()).digest()
    return b'%b,"chain":"%b"}\n' % (body, chain.hex().encode()), chain


def read_line(line: bytes) -> Line | None:
    """Return the parts of a line (without its newline), None when it has not the form of a record."""
    at = len(line) - TAIL
    if at <= len(_FIRST) or line[at : at + len(_BEFORE)] != _BEFORE or line[-len(_AFTER) :] != _AFTER:
        return None
    seq = seq_of(line)
    claimed = line[at + len(_BEFORE) : -len(_AFTER)]
    if seq is None or claimed != claimed.lower():
        return None
    try:
        chain = bytes.fromhex(claimed.decode("ascii"))
    except ValueError:
        return None
    return Line(seq, line[:at], chain) if len(chain) == len(START) else None


def seq_of(line: bytes) -> int | None:
    """Return the number that a line begins with, None when it has none."""
    if not line.startswith(_FIRST):
        return None
    digits = line[len(_FIRST) : line.find(b",", len(_FIRST))]
    if not digits.isdigit() or len(digits) > _MOST_DIGITS or digits[:1] == b"0":
        return None
    return int(digits)


def anchor(seq: int, chain: bytes) -> str:
    """Return SEQ:CHAIN, the form in which a head is told, written down elsewhere, and expected."""
    return f"{seq}:{chain.hex()}"


def read_anchor(text: str) -> tuple[int, bytes]:
    """Return the number and the chain that SEQ:CHAIN names.

    Raises:
        ValueError: it does not have this form.

    """
    seq, _, chain = text.strip().partition(":")
    try:
        octets = bytes.fromhex(chain)
    except ValueError:
        octets = b""
    if not (seq.isascii() and seq.isdigit()) or len(seq) > _MOST_DIGITS or len(octets) != len(START):
        raise ValueError(f"{text!r} is no head of a trail; write it like 1234:followed by 64 hexadecimal digits")
    return int(seq), octets
