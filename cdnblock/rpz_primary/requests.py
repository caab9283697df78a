"""What somebody asks of the primary, and whether he may: a key, or a listed address. Nothing is answered else."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig

from cdnblock.geo.client_address import TrustedProxies
from cdnblock.matching.names import MAX_LABEL
from cdnblock.rpz_primary import wire
from cdnblock.rpz_primary.keys import BADKEY, BADSIG, BADTIME, Keys, Replays, Signer, complaint
from cdnblock.rpz_primary.serials import is_newer
from cdnblock.rpz_primary.zones import Version, incremental, whole

LARGEST_REQUEST: Final = 4_096
"""Octets; a request for a transfer is a question, one SOA and a signature."""

_LOG: Final = logging.getLogger("cdnblock.rpz")
_HEADER_SIZE: Final = 12
_QR: Final = 0x8000
_AA: Final = 0x0400
_OPCODE: Final = 0x7800
_KEPT: Final = 0x7900  # of a request's flags in its answer: opcode and RD
_SIGNATURE: Final = b"\0\xfa\0\xff"  # type TSIG, class ANY
_OPT: Final = b"\0" + wire.RECORD.pack(41, 1232, 0, 0)  # RFC 6891 §6.1.2
_SIGNATURE_ERRORS: Final = (
    (dns.message.UnknownTSIGKey, BADKEY),
    (dns.tsig.BadTime, BADTIME),
    (dns.tsig.BadAlgorithm, BADKEY),
    (dns.tsig.BadKey, BADKEY),
    (dns.tsig.BadSignature, BADSIG),
    (dns.tsig.PeerError, BADSIG),
)


class Rcode(IntEnum):
    """RFC 1035 §4.1.1, RFC 2136 §2.2."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NOTIMP = 4
    REFUSED = 5
    NOTAUTH = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may ask: whoever has one of the keys, and the listed addresses without one."""

    keys: Keys
    addresses: TrustedProxies


@dataclass(slots=True)
class Counters:
    """What was asked; all only ever grow."""

    answered: int = 0
    transfers: int = 0
    incremental: int = 0
    refused: int = 0
    wrong_signatures: int = 0
    replayed: int = 0
    malformed: int = 0
    ahead: int = 0
    """Requests of secondaries that have a later serial than we: they take nothing of ours."""


class Desk:
    """Answers requests about some zones. Whatever comes, this raises nothing."""

    def __init__(self, zones: Mapping[bytes, Any], access: Access) -> None:
        """Take zones by their names on the wire in lower case; each has a `version`."""
        self._zones = zones
        self._access = access
        self._replays = Replays()
        self._behind: set[bytes] = set()
        self.counters = Counters()

    def answers(self, packet: bytes, peer: str, *, stream: bool) -> Iterator[bytes] | None:
        """Return the messages of the answer, None for silence, which is for what is no request."""
        if len(packet) < _HEADER_SIZE or packet[2] & 0x80:
            return None
        if packet[4:6] != b"\0\1" or not (question := _question(packet)):
            self.counters.malformed += 1
            return _alone(_plain(packet, Rcode.FORMERR, b""))
        listed = self._access.addresses.trusts(peer)
        if not listed and _SIGNATURE not in packet:  # no need to look further, which takes long
            self.counters.refused += 1
            return _alone(_plain(packet, Rcode.REFUSED, question))
        return self._read(packet, question, stream=stream, listed=listed)

    def _read(self, packet: bytes, question: bytes, *, stream: bool, listed: bool) -> Iterator[bytes]:
        try:
            request = dns.message.from_wire(packet, keyring=self._access.keys)
        except tuple(kind for kind, _ in _SIGNATURE_ERRORS) as error:
            return _alone(self._wrong_signature(packet, question, error))
        except Exception:  # noqa: BLE001 (a hostile packet; dnspython raises more than its own errors)
            self.counters.malformed += 1
            return _alone(_plain(packet, Rcode.FORMERR, question))
        if not request.had_tsig and not listed:
            self.counters.refused += 1
            return _alone(_plain(packet, Rcode.REFUSED, question))
        key = request.keyring if request.had_tsig else None
        signer = Signer(key, request.mac or b"")
        if stream and request.mac and not self._replays.is_new(request.mac, time.monotonic()):
            # Datagrams are sent again by honest clients, and say no more than a serial.
            self.counters.replayed += 1
            return _alone(signer.sign(_plain(packet, Rcode.REFUSED, question)))
        return self._answered(packet, question, request, signer, stream=stream)

    def _answered(
        self, packet: bytes, question: bytes, request: dns.message.Message, signer: Signer, *, stream: bool
    ) -> Iterator[bytes]:
        if request.opcode() != dns.opcode.QUERY:
            return _alone(signer.sign(_plain(packet, Rcode.NOTIMP, question)))
        asked = request.question[0]
        zone = self._zones.get(question[:-4].lower())
        if zone is None or asked.rdclass != dns.rdataclass.IN:
            self.counters.refused += 1
            return _alone(signer.sign(_plain(packet, Rcode.NOTAUTH, question)))
        version: Version = zone.version
        opt = _OPT if request.edns >= 0 else b""
        self.counters.answered += 1
        match asked.rdtype:
            case wire.SOA:
                bodies = iter([(wire.soa(version.serial), 1)])
            case wire.IXFR if not stream:  # RFC 1995 §2: our serial alone, so that he comes back over TCP
                self._look_ahead(question, _serial(request), version.serial)
                bodies = iter([(wire.soa(version.serial), 1)])
            case wire.IXFR if (serial := _serial(request)) is not None:
                self.counters.incremental += 1
                self._look_ahead(question, serial, version.serial)
                bodies = incremental(version, serial)
            case wire.AXFR if stream:
                self.counters.transfers += 1
                bodies = whole(version)
            case _:
                return _alone(signer.sign(_plain(packet, Rcode.REFUSED, question)))
        return _messages(packet, question, bodies, opt, signer)

    def _look_ahead(self, question: bytes, theirs: int | None, ours: int) -> None:
        """Say once of each zone when somebody has a later serial than we: he takes nothing of ours any more."""
        zone = question[:-4].lower()
        if theirs is None or not is_newer(theirs, ours):
            return
        self.counters.ahead += 1
        if zone not in self._behind:
            self._behind.add(zone)
            _LOG.error(
                "cdnblock: a secondary has serial %d of %s, and ours is %d: was the state folder lost, or the clock"
                " wrong? It takes nothing until ours is later; have it transfer the zone anew",
                theirs, dns.name.from_wire(zone, 0)[0].to_text(omit_final_dot=True), ours,
            )  # fmt: skip

    def _wrong_signature(self, packet: bytes, question: bytes, error: Exception) -> bytes:
        self.counters.wrong_signatures += 1
        code = next(code for kind, code in _SIGNATURE_ERRORS if isinstance(error, kind))
        answer = _plain(packet, Rcode.NOTAUTH, question)
        try:
            request = dns.message.from_wire(packet, keyring=lambda *_: False)
        except Exception:  # noqa: BLE001 (what could be parsed up to its signature may be broken behind it)
            return answer
        key = self._access.keys.get(request.tsig.name) if request.tsig else None
        return complaint(answer, request, code, key)


def _messages(
    packet: bytes, question: bytes, bodies: Iterator[tuple[bytes, int]], opt: bytes, signer: Signer
) -> Iterator[bytes]:
    number, flags = int.from_bytes(packet[:2], "big"), _QR | _AA | int.from_bytes(packet[2:4], "big") & _KEPT
    for body, count in bodies:
        head = wire.HEADER.pack(number, flags, 1, count, 0, bool(opt))
        yield signer.sign(b"".join((head, question, body, opt)))
        opt = b""


def _plain(packet: bytes, rcode: Rcode, question: bytes) -> bytes:
    """Return an answer without records. It is never longer than what was asked."""
    number, flags = int.from_bytes(packet[:2], "big"), int.from_bytes(packet[2:4], "big")
    return wire.HEADER.pack(number, _QR | flags & _KEPT | rcode, bool(question), 0, 0, 0) + question


def _question(packet: bytes) -> bytes:
    """Return the question as it stands there, nothing where it is broken or compressed."""
    place = _HEADER_SIZE
    while place < len(packet) and packet[place]:
        if packet[place] > MAX_LABEL:
            return b""
        place += packet[place] + 1
    end = place + 5
    return packet[_HEADER_SIZE:end] if end <= len(packet) and end - _HEADER_SIZE <= 255 + 4 else b""


def _serial(request: dns.message.Message) -> int | None:
    """Return the serial that the asking server has, None where it does not say (RFC 1995 §3)."""
    for rrset in request.authority:
        if rrset.rdtype == dns.rdatatype.SOA and rrset:
            soa: Any = rrset[0]
            return int(soa.serial)
    return None


def _alone(message: bytes) -> Iterator[bytes]:
    return iter((message,))
