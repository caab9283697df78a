"""RFC 2136: zones of a primary that the operator runs already are kept as ours are, by updates.

What that primary has is asked once, by a transfer, and again whenever it did not take an update; all else is told as it
changes. The zones are there and are ours alone: whatever else is in them goes, but for their SOA and NS records.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig

from cdnblock.adapters._dns_front.peers import Address, read_address
from cdnblock.errors import ConfigError
from cdnblock.rpz_primary import wire
from cdnblock.rpz_primary.keys import Keys, Signer, names_of
from cdnblock.rpz_primary.policies import Policy
from cdnblock.rpz_primary.zone_sets import Zone
from cdnblock.rpz_primary.zones import changed

_LOG: Final = logging.getLogger("cdnblock.rpz")
_UPDATE: Final = 5 << 11  # RFC 2136 §1.3
_PATIENCE: Final = 30.0  # seconds for an answer
_AGAIN: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds after which what failed is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A primary that takes updates: where, and with which key."""

    address: Address
    key: dns.tsig.Key | None = None

    @classmethod
    def read(cls, text: str, keys: Keys) -> Target:
        """Return what `192.0.2.1:53,key=NAME` says.

        Raises:
            ConfigError: it says nothing of the kind, or names a key that there is not.

        """
        where, comma, rest = text.partition(",")
        name = rest.removeprefix("key=")
        key = keys.get(dns.name.from_text(name.lower())) if comma else None
        if comma and (key is None or name == rest):
            raise ConfigError(f"--update {text!r}: there is no such key; there are {names_of(keys)}")
        return cls(address=read_address(where), key=key)


class RefusedError(Exception):
    """The other primary did not take an update."""


class Updater:
    """Keeps one primary's zones as ours are, on a thread of its own."""

    def __init__(self, target: Target, zones: Sequence[Zone]) -> None:
        self._target = target
        self._zones = zones
        self._theirs: dict[str, Mapping[str, Policy] | None] = {}
        self._failing = ""
        self._woken = threading.Event()
        self._woken.set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cdnblock-rpz-updates", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have a look at the zones: some have changed."""
        self._woken.set()

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self._woken.set()
        self._thread.join(timeout=5)

    def status(self) -> dict[str, Any]:
        """Return how far the other primary is as JSON has it."""
        host, port = self._target.address
        behind = [zone.name for zone in self._zones if self._theirs.get(zone.name) is not zone.version.policies]
        return {"primary": f"{host} port {port}", "behind": behind, "failing": self._failing}

    def _run(self) -> None:
        failures = 0
        while True:
            self._woken.wait(None if not failures else _AGAIN[min(failures, len(_AGAIN)) - 1])
            self._woken.clear()
            if self._closing.is_set():
                return
            try:
                for zone in self._zones:
                    self._bring_up(zone)
                failures, self._failing = 0, ""
            except (OSError, EOFError, dns.exception.DNSException, RefusedError) as error:
                failures += 1
                if str(error) != self._failing:
                    _LOG.error("cdnblock: updates of %s port %d: %s; tried again", *self._target.address, error)
                self._failing = str(error)
                self._theirs.clear()
            except Exception:  # noqa: BLE001 (logged with its trace; tried again)
                failures += 1
                _LOG.exception("cdnblock: updates of %s port %d", *self._target.address)
                self._theirs.clear()

    def _bring_up(self, zone: Zone) -> None:
        """Tell the other primary what its zone lacks."""
        wanted = zone.version.policies
        theirs = self._theirs.get(zone.name)
        if theirs is wanted:
            return
        if theirs is None:
            gone, come = self._compared(zone, wanted)
        else:
            gone, come = wire.changed_records(changed(theirs, wanted))
        self._theirs[zone.name] = None
        self._send(zone, gone, come)
        self._theirs[zone.name] = wanted

    def _compared(self, zone: Zone, wanted: Mapping[str, Policy]) -> tuple[list[bytes], list[bytes]]:
        """Return what differs from what the other primary has, by a transfer."""
        has = {*self._transferred(zone)}
        wants = {record for name, of in wanted.items() for record in wire.records_of(name, of)}
        return sorted(has - wants), sorted(wants - has)

    def _transferred(self, zone: Zone) -> Iterator[bytes]:
        host, port = self._target.address
        origin, _ = dns.name.from_wire(zone.wire, 0)
        key = self._target.key
        ring = None if key is None else {key.name: key}
        messages = dns.query.xfr(host, origin, port=port, keyring=ring, relativize=False, timeout=_PATIENCE)
        for message in messages:
            for rrset in message.answer:
                owner = rrset.name.labels[: -len(origin.labels)]
                if rrset.rdtype not in (dns.rdatatype.SOA, dns.rdatatype.NS):
                    for rdata in rrset:
                        yield wire.record(owner, rrset.rdtype, rrset.ttl, rdata.to_wire() or b"")

    def _send(self, zone: Zone, gone: Iterable[bytes], come: Iterable[bytes]) -> None:
        """Send what goes before what comes, record by record; one update is one change for whoever has the zone."""
        records = [*map(wire.deletion, gone), *come]
        for body, count in wire.packed(records):
            number = secrets.randbits(16)
            head = wire.HEADER.pack(number, _UPDATE, 1, 0, count, 0)
            question = zone.wire + wire.SOA.to_bytes(2, "big") + wire.IN.to_bytes(2, "big")
            signer = Signer(self._target.key)
            message = signer.sign(head + question + body)
            with socket.create_connection(self._target.address, timeout=_PATIENCE) as connection:
                connection.sendall(len(message).to_bytes(2, "big") + message)
                answer = self._understood(_received(connection), signer.mac)
            if answer.id != number or answer.rcode():
                raise RefusedError(f"{zone.name}: the update was answered with {dns.rcode.to_text(answer.rcode())}")

    def _understood(self, answer: bytes, mac: bytes) -> dns.message.Message:
        """Return an answer whose signature is right, where there is a key."""
        key = self._target.key
        ring = None if key is None else {key.name: key}
        message = dns.message.from_wire(answer, keyring=ring, request_mac=mac)
        if key is not None and not message.had_tsig and not message.rcode():
            raise RefusedError("an update was answered without a signature")
        return message


def _received(connection: socket.socket) -> bytes:
    """Return the message that comes on a connection."""
    with connection.makefile("rb") as stream:
        size = int.from_bytes(stream.read(2), "big")
        message = stream.read(size)
    if len(message) < wire.HEADER.size or len(message) < size:
        raise EOFError("the connection was closed in the middle of an answer")
    return message
