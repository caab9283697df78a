"""TSIG (RFC 8945): keys as `tsig-keygen` writes them, what is signed checked, and what is sent signed."""

from __future__ import annotations

import binascii
import re
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from struct import Struct
from typing import Any, Final, TypeAlias

import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
from dns.rdtypes.ANY.TSIG import TSIG

from cdnblock.errors import ConfigError

Keys: TypeAlias = Mapping[dns.name.Name, dns.tsig.Key]

FUDGE: Final = 300
"""Seconds by which clocks may differ (RFC 8945 §10)."""

BADSIG, BADKEY, BADTIME = 16, 17, 18

_CLAUSE: Final = re.compile(r'key\s+"?([A-Za-z0-9._-]+)"?\s*\{([^}]*)\}\s*;?')
_COMMENT: Final = re.compile(r'("[^"\n]*")|/\*.*?\*/|//[^\n]*|#[^\n]*', re.DOTALL)  # base64 in quotes may have //
_VALUE: Final = re.compile(r'(algorithm|secret)\s+"?([^";\s]+)"?\s*;')
_ALGORITHMS: Final = ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
_SHORTEST: Final = 16  # octets of a secret
_RECORD: Final = Struct("!HHIH")
_COUNT: Final = Struct("!H")
_OTHERS_READ: Final = stat.S_IROTH | stat.S_IWOTH
_sign: Final[Any] = dns.tsig.sign  # dnspython has no types here
_record: Final[Any] = TSIG
_REMEMBERED: Final = 65_536  # signatures


def read_keys(path: Path) -> Keys:
    """Return the keys of a file, which may be BIND's own.

    Raises:
        ConfigError: it cannot be read, everybody may read it, or it has a key that is none.

    """
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no ASCII text"
        raise ConfigError(f"{path}: the keys cannot be read: {why}") from error
    if mode & _OTHERS_READ:
        raise ConfigError(f"{path}: everybody may read the keys; right would be `chmod o= {path}`")
    text = _COMMENT.sub(lambda found: found[1] or "", text)
    found = dict(_key(path, name, dict(_VALUE.findall(inside))) for name, inside in _CLAUSE.findall(text))
    if not found or _CLAUSE.sub("", text).strip():
        raise ConfigError(f"{path}: is no file of keys; `tsig-keygen NAME` writes one")
    return found


def _key(path: Path, name: str, values: Mapping[str, str]) -> tuple[dns.name.Name, dns.tsig.Key]:
    algorithm = values.get("algorithm", "").lower()
    try:
        secret = binascii.a2b_base64(values.get("secret", ""), strict_mode=True)
    except binascii.Error:
        secret = b""
    if algorithm not in _ALGORITHMS:
        raise ConfigError(f"{path}: key {name}: algorithm {algorithm or 'none'}; there are {', '.join(_ALGORITHMS)}")
    if len(secret) < _SHORTEST:
        raise ConfigError(f"{path}: key {name}: the secret is no base64 of at least {_SHORTEST} octets")
    owner = dns.name.from_text(name.lower())
    return owner, dns.tsig.Key(owner, secret, algorithm)


class Signer:
    """Signs the messages of one answer, or one message of ours. Without a key they stay as they are."""

    def __init__(self, key: dns.tsig.Key | None, request_mac: bytes = b"") -> None:
        self._key = key
        self._request_mac = request_mac
        self._context: Any = None
        self.mac = b""
        """The signature of what was signed last; answers to it are signed with that."""

    def sign(self, message: bytes) -> bytes:
        """Return a message with its signature (RFC 8945 §5.3.1: each message of a transfer has one)."""
        if self._key is None:
            return message
        unsigned = _tsig(self._key.algorithm, message)
        signed, self._context = _sign(
            message, self._key, unsigned, int(time.time()), self._request_mac, self._context, multi=True
        )
        self.mac = signed.mac
        return _with_record(message, self._key.name, signed)


def sign(message: bytes, key: dns.tsig.Key | None) -> bytes:
    """Return a message that asks for something, signed if there is a key."""
    return Signer(key).sign(message)


def complaint(message: bytes, request: dns.message.Message, error: int, key: dns.tsig.Key | None) -> bytes:
    """Return an answer to a request whose signature is wrong: unsigned, but for clocks that differ (RFC 8945 §5.2)."""
    if not request.tsig:
        return message
    asked: Any = request.tsig[0]
    now = int(time.time())
    other = now.to_bytes(6, "big") if error == BADTIME else b""
    answer = _tsig(asked.algorithm, message, error, other).replace(time_signed=asked.time_signed)
    if error == BADTIME and key is not None:
        answer, _ = _sign(message, key, answer, asked.time_signed, asked.mac)
    return _with_record(message, request.tsig.name, answer)


def _tsig(algorithm: dns.name.Name, message: bytes, error: int = 0, other: bytes = b"") -> Any:
    (number,) = _COUNT.unpack_from(message)
    return _record(dns.rdataclass.ANY, dns.rdatatype.TSIG, algorithm, 0, FUDGE, b"", number, error, other)


def _with_record(message: bytes, owner: dns.name.Name, record: Any) -> bytes:
    (additional,) = _COUNT.unpack_from(message, 10)
    rdata = record.to_wire()
    head = _RECORD.pack(dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(rdata))
    return b"".join((message[:10], _COUNT.pack(additional + 1), message[12:], owner.to_wire() or b"", head, rdata))


class Replays:
    """Signatures that have been seen: within the time that clocks may differ, somebody could send one once more."""

    def __init__(self) -> None:
        self._seen: dict[bytes, float] = {}

    def is_new(self, mac: bytes, now: float) -> bool:
        """Tell whether a signature is seen for the first time, and remember it. `now` is a monotonic clock's."""
        self._forget(now)
        if mac in self._seen:
            return False
        self._seen[mac] = now + 2 * FUDGE
        return True

    def _forget(self, now: float) -> None:
        stale: list[bytes] = []
        for mac, until in self._seen.items():  # in the order of their ends
            if until > now and len(self._seen) - len(stale) < _REMEMBERED:
                break
            stale.append(mac)
        for mac in stale:
            del self._seen[mac]


def names_of(keys: Iterable[dns.name.Name]) -> str:
    """Return the names of keys as people write them."""
    return ", ".join(sorted(name.to_text(omit_final_dot=True) for name in keys)) or "none"
