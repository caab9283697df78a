"""NOTIFY (RFC 1996): whoever has a zone is told at once that there is a newer one, until he says that he has heard."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dns.name
import dns.tsig

from cdnblock.adapters._dns_front.peers import Address, read_address
from cdnblock.errors import ConfigError
from cdnblock.rpz_primary import wire
from cdnblock.rpz_primary.keys import Keys, names_of, sign

_WAITS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds after which it is said again. Whoever hears none of it asks himself (SOA REFRESH)."""
_NOTIFY_AA: Final = 0x2400  # flags of a notification (RFC 1996 §3.7): opcode 4, AA
_QR_AND_OPCODE: Final = 0xF8  # of the third octet of a message
_NOTIFIED: Final = 0xA0  # an answer to a notification


@dataclass(frozen=True, slots=True, kw_only=True)
class Secondary:
    """A resolver that is told of changes: where, with which key, and of which clients' zones (none: of all)."""

    address: Address
    key: dns.tsig.Key | None = None
    clients: frozenset[str] = frozenset()

    @classmethod
    def read(cls, text: str, keys: Keys) -> Secondary:
        """Return what `192.0.2.1:53,key=NAME,clients=fr+re` says; all but the address may be left out.

        Raises:
            ConfigError: it says nothing of the kind, or names a key that there is not.

        """
        where, *rest = text.split(",")
        said = dict(part.partition("=")[::2] for part in rest)
        if strange := said.keys() - {"key", "clients"}:
            raise ConfigError(
                f"--secondary {text!r}: {min(strange)!r} means nothing; write `192.0.2.1:53,key=NAME,clients=fr`"
            )
        key = None
        if name := said.get("key"):
            key = keys.get(dns.name.from_text(name.lower()))
            if key is None:
                raise ConfigError(f"--secondary {text!r}: there is no key {name!r}; there are {names_of(keys)}")
        clients = frozenset(filter(None, said.get("clients", "").split("+")))
        return cls(address=read_address(where), key=key, clients=clients)


class Notifier:
    """Tells secondaries, from the primary's own sockets. To be used on the event loop's thread."""

    def __init__(self, secondaries: Sequence[Secondary], transports: Sequence[asyncio.DatagramTransport]) -> None:
        self._secondaries = secondaries
        self._by_family = {":" in str(t.get_extra_info("sockname")[0]): t for t in reversed(transports)}
        self._waiting: dict[tuple[bytes, str], asyncio.Event] = {}
        self._telling: dict[tuple[Address, bytes], asyncio.Task[None]] = {}
        self.told = self.unheard = 0

    def tell(self, zones: Iterable[tuple[str, bytes, int]]) -> None:
        """Tell everybody whom it concerns that zones (their clients, names on the wire, serials) are as new as this."""
        for clients, zone, serial in zones:
            for secondary in self._secondaries:
                if not secondary.clients or clients in secondary.clients:
                    key = (secondary.address, zone)
                    if (running := self._telling.get(key)) is not None:
                        running.cancel()  # what he has not heard yet is not news any more
                    self._telling[key] = asyncio.get_running_loop().create_task(self._tell(secondary, zone, serial))

    def heard(self, packet: bytes, sender: Any) -> None:
        """Take the answer to a notification. A false one costs nothing: the secondary asks by himself in a minute."""
        waiting = self._waiting.get((packet[:2], sender[0]))
        if waiting is not None and packet[2] & _QR_AND_OPCODE == _NOTIFIED:
            waiting.set()

    def close(self) -> None:
        """Stop telling."""
        for task in self._telling.values():
            task.cancel()

    @property
    def counters(self) -> Mapping[str, int]:
        """What was said, and what nobody answered."""
        return {"notifications": self.told, "unheard": self.unheard}

    async def _tell(self, secondary: Secondary, zone: bytes, serial: int) -> None:
        transport = self._by_family.get(":" in secondary.address[0])
        if transport is None:
            return
        self.told += 1
        for seconds in _WAITS:
            number = secrets.token_bytes(2)
            body = zone + wire.SOA.to_bytes(2, "big") + wire.IN.to_bytes(2, "big") + wire.soa(serial)
            head = wire.HEADER.pack(int.from_bytes(number, "big"), _NOTIFY_AA, 1, 1, 0, 0)
            heard = self._waiting[number, secondary.address[0]] = asyncio.Event()
            try:
                transport.sendto(sign(head + body, secondary.key), secondary.address)
                async with asyncio.timeout(seconds):
                    await heard.wait()
            except TimeoutError:
                continue
            else:
                return
            finally:
                del self._waiting[number, secondary.address[0]]
        self.unheard += 1
