"""What a record holds of a client: a network, a keyed pseudonym, or nothing; never the whole address.

A pseudonym is HMAC-SHA256 of the address under a key of this folder. While the key lives, whoever has it can tell
whether a known address is meant; once it is deleted nobody can.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from cdnblock.audit.folder import Folder
from cdnblock.audit.segments import KEYS
from cdnblock.audit.settings import ClientForm
from cdnblock.errors import ConfigError

_NETWORKS: Final = {4: 24, 6: 48}
_OF_6TO4: Final = 16 + 24  # RFC 3056: the /48 of a client is 2002: and its whole IPv4 address
_KEY_OCTETS: Final = 32
_SHOWN: Final = 16  # hexadecimal digits of a pseudonym: 64 bits tell all clients apart
_LONGEST: Final = 64  # characters of an address
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def network_of(client: str | None) -> str | None:
    """Return the /24 or /48 that an address is in, of 6to4 the /40 with a /24 in it; None for what is no address."""
    address = _address(client)
    if address is None:
        return None
    is_6to4 = isinstance(address, ipaddress.IPv6Address) and address.sixtofour is not None
    length = _OF_6TO4 if is_6to4 else _NETWORKS[address.version]
    return str(ipaddress.ip_network((address, length), strict=False))


def _address(client: str | None) -> _Address | None:
    if not isinstance(client, str) or len(client) > _LONGEST:
        return None
    try:
        address = ipaddress.ip_address(client.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@dataclass(frozen=True, slots=True)
class Key:
    """One key: since when it is used and, once another one is, since when it is not (seconds since 1970)."""

    id: str
    key: str
    since: float
    until: float | None = None


class Keys:
    """The keys of pseudonyms in their file, which only this user may read; `folder` is where the trail is now.

    Raises:
        ConfigError: the file cannot be read, or others may read it.

    """

    def __init__(self, folder: Callable[[], Folder], every: timedelta, kept: timedelta) -> None:
        self._folder = folder
        self._every = every.total_seconds()
        self._kept = kept.total_seconds()
        self._keys = _read(folder())

    @property
    def current(self) -> Key | None:
        """The key in use."""
        return next((key for key in self._keys if key.until is None), None)

    def rotate(self, now: float) -> dict[str, Any] | None:
        """Make a new key and delete old ones, where it is time; return the fields of the record that tells so.

        Raises:
            OSError: the file could not be written; the keys are those of before.

        """
        current = self.current
        due = current is None or not 0 <= now - current.since < self._every
        over = [key for key in self._keys if key.until is not None and not 0 <= now - key.until < self._kept]
        if not due and not over:
            return None
        keys = [key for key in self._keys if key not in over]
        if due:
            keys = [Key(key.id, key.key, key.since, now) if key is current else key for key in keys]
            keys.append(Key(secrets.token_hex(4), secrets.token_hex(_KEY_OCTETS), now))
            if not self._kept:
                over += [key for key in keys if key.until is not None]
                keys = [key for key in keys if key.until is None]
        self._folder().put(KEYS, json.dumps([asdict(key) for key in keys]).encode())
        self._keys = keys
        return {"key": keys[-1].id, "deleted": [key.id for key in over]}

    def pseudonym(self, client: str | None) -> str | None:
        """Return the pseudonym of an address under the key in use, None for what is no address."""
        address, key = _address(client), self.current
        if address is None or key is None:
            return None
        digest = hmac.digest(bytes.fromhex(key.key), address.packed, "sha256")
        return f"{key.id}:{digest.hex()[:_SHOWN]}"


class Clients:
    """Addresses as a trail's records hold them."""

    def __init__(self, form: ClientForm, keys: Keys | None) -> None:
        self._form = form
        self._keys = keys

    def told(self, client: str | None) -> str | None:
        """Return what a record holds of a client."""
        match self._form:
            case ClientForm.NETWORK:
                return network_of(client)
            case ClientForm.PSEUDONYM:
                return None if self._keys is None else self._keys.pseudonym(client)
            case ClientForm.NONE:
                return None


def _read(folder: Folder) -> list[Key]:
    where = f"{folder.path / KEYS}"
    try:
        octets = folder.take(KEYS)
        if octets is None:
            return []
        if os.stat(KEYS, dir_fd=folder.fd, follow_symlinks=False).st_mode & _OTHERS:
            raise ConfigError(f"{where}: others may read it; make it chmod 600, or remove it to begin with a new key")
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror or error}") from error
    try:
        keys = [Key(**item) for item in json.loads(octets)]
        usable = all(len(bytes.fromhex(key.key)) == _KEY_OCTETS and key.since >= 0 for key in keys)
    except (ValueError, TypeError, KeyError, RecursionError):
        usable = False
    if not usable:
        raise ConfigError(f"{where}: holds no keys; remove it to begin with a new key")
    return keys
