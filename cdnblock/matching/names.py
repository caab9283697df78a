"""The one canonical form of a host name: what a browser would look up, in ASCII and lower case.

Both the names of an order and the hosts of requests pass through here, so that no spelling can tell them apart.
UTS 46 and IP addresses (https://url.spec.whatwg.org/#host-parsing) are ada's work; plain ASCII names, nearly all of
them, never get that far.
"""

from __future__ import annotations

import re
from binascii import a2b_qp
from typing import Final

import ada_url

MAX_NAME: Final = 253  # RFC 1035 §2.3.4: 255 octets on the wire
MAX_LABEL: Final = 63  # RFC 1035 §2.3.4
_MOST_LABELS: Final = 127  # two octets each on the wire, at least

# Longer than any spelling of a 253-octet name: three percent-encoded UTF-8 octets per character, plus a port.
_MAX_SPELLING: Final = 253 * 9 + 8
# Without percent-escapes, port included. UTS 46 may drop or join some characters, but nobody spells a name with that many of them.
_MAX_UNESCAPED: Final = 300
# Of a host that is not all ASCII, escapes decoded. What UTS 46 costs grows with the square of a label, and clients send
# A-labels (RFC 3986 §3.2.2, RFC 9110 §4.2.3 have no Unicode in a host): nobody loses by it, and hostile text costs little.
MAX_UNICODE: Final = 64
_MAX_UTF8: Final = 4  # octets of a character
# What nearly every host is: a canonical name whose last label does not begin with a digit, so that it is no number.
_USUAL: Final = re.compile(r"(?:[a-z0-9_-]{1,63}+\.)*+[a-z_-][a-z0-9_-]{0,62}+\Z")
_NUMBER: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")  # WHATWG "ends in a number": then it is an IPv4 address
_MOST_DOTS_OF_IPV4: Final = 3  # more, and a name that ends in a number is none at all
_LABELS: Final = re.compile(rf"(?:[^.]{{1,{MAX_LABEL}}}+\.)*+[^.]{{1,{MAX_LABEL}}}+\Z")
_PORT: Final = re.compile(r":[0-9]*\Z")
_DIGITS: Final = b"0123456789"
_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyz-_." + _DIGITS
# What a URL parser would take for syntax, or silently drop, instead of refusing.
_SYNTAX: Final = bytes([*range(0x21), 0x7F]) + b"/\\?#@"
# WHATWG "forbidden domain code point"; UTS 46 leaves each as it is. The comma is not among them, but no name has it, and
# two Host lines that somebody joined do (RFC 9110 §5.3): those behind may go by either.
_FORBIDDEN: Final = _SYNTAX + b"%:<>[]^|,"


def canonical(host: str | bytes) -> str | None:
    """Return the canonical form of a host as a URL or an HTTP field spells it, or None if it is no host.

    Lower case; a port, one trailing dot and IPv6 brackets removed; UTS 46 to A-labels; percent-escapes decoded.
    An IP address comes out in its canonical text. Never raises. A name over 253 octets, or with an empty label or
    one over 63, is none (RFC 1035 §2.3.4); nor is what is spelled, once escapes are decoded, with more than 300
    characters, or with more than 64 where they are not all ASCII: longer names are written in A-labels.
    """
    if isinstance(host, bytes):
        if len(host) > _MAX_UTF8 * (_MAX_SPELLING if b"%" in host else _MAX_UNESCAPED):
            return None
        try:
            host = host.decode()
        except UnicodeDecodeError:
            return None
    if len(host) <= MAX_NAME and host.isascii() and _USUAL.match(name := host.lower()):
        return name
    if len(host) > (_MAX_SPELLING if "%" in host else _MAX_UNESCAPED):
        return None
    if ":" in host and (port := _PORT.search(host)) is not None:
        host = host[: port.start()]
    return _without_port(host)


def canonical_query_name(name: str) -> str | None:
    """Return the canonical form of a DNS query name, or None for the root and for what fits no DNS name.

    `name` is presentation text whose labels are separated by dots; it may hold U-labels, as some servers decode
    them. DNS names are no URLs: no port, nothing percent-encoded, and a label may hold any octet (RFC 2181 §11), so a
    label that is no host label stays as it is: what stands right of it can still be covered.
    """
    if len(name) <= MAX_NAME and name.isascii() and _USUAL.match(usual := name.lower()):
        return usual
    if len(name) > _MAX_SPELLING:
        return None
    labels = name.removesuffix(".").split(".")
    if not all(labels) or len(labels) > _MOST_LABELS:
        return None
    return ".".join([label.lower() if label.isascii() else _label_to_ascii(label) for label in labels])


def to_unicode(name: str) -> str:
    """Return a canonical name as people write it (U-labels), or the name itself where it has none."""
    if "xn--" not in name:
        return name
    try:
        return ada_url.idna.decode(name)
    except ValueError:
        return name


def _without_port(host: str) -> str | None:
    if "%" in host:
        return _of_escaped(host)
    if not host.isascii():
        return _of_unicode(host)
    if host.startswith("["):
        return _by_url_rules(host) if _is_free_of(_SYNTAX, host.encode()) else None
    return _of_ascii(host)


def _of_escaped(host: str) -> str | None:
    try:
        octets = host.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return None
    unescaped = _unescaped(octets) if _is_free_of(_SYNTAX, octets) else None
    try:
        host = "" if unescaped is None else unescaped.decode()
    except UnicodeDecodeError:
        return None
    if len(host) > _MAX_UNESCAPED:
        return None
    return _of_ascii(host, verify="xn--" in host.lower()) if host.isascii() else _of_unicode(host)


def _unescaped(octets: bytes) -> bytes | None:
    """Return octets with their percent-escapes decoded, None where a `%` is no escape."""
    # The decoder of quoted-printable is the only one in C; what is special to it alone stands aside meanwhile.
    aside = octets.replace(b"=", b"%3D") if b"=" in octets else octets
    decoded = a2b_qp(aside.replace(b"%", b"="))
    if len(decoded) != len(aside) - 2 * aside.count(b"%"):
        return None
    return decoded


def _of_ascii(host: str, *, verify: bool = False) -> str | None:
    """Return the canonical form of ASCII text; `verify` has A-labels looked at, as UTS 46 does."""
    name = host.lower().removesuffix(".")
    octets = name.encode()
    if not _is_free_of(_FORBIDDEN, octets):
        return None
    if _ends_in_number(name):
        return None if name.count(".") > _MOST_DOTS_OF_IPV4 else _by_url_rules(host)
    if not _fits(name):
        return None
    if "xn--" in name and (verify or octets.translate(None, _PLAIN)):
        return _by_url_rules(host)
    return name


def _of_unicode(host: str) -> str | None:
    text = _to_ascii(host)
    if not text:
        return None
    name = text.removesuffix(".")
    if len(name) <= MAX_NAME and _USUAL.match(name):
        return name
    if not _is_free_of(_FORBIDDEN, text.encode()):
        return None
    if _ends_in_number(name):
        return _by_url_rules(text)
    return name if _fits(name) else None


def _to_ascii(text: str) -> str | None:
    """Return text as UTS 46 has it, non-transitional, whatever its length; None or nothing where that is no name."""
    if len(text) > MAX_UNICODE or "\0" in text:  # ada takes C strings
        return None
    try:
        return ada_url.idna.encode(text).decode("ascii")
    except ValueError:
        return None


def _is_free_of(characters: bytes, octets: bytes) -> bool:
    return len(octets.translate(None, characters)) == len(octets)


def _fits(name: str) -> bool:
    """Tell whether a name and each of its labels has the length that it may have."""
    return len(name) <= MAX_NAME and _LABELS.match(name) is not None


def _ends_in_number(name: str) -> bool:
    return _NUMBER.match(name, name.rfind(".") + 1) is not None


def _by_url_rules(host: str) -> str | None:
    """Return what a URL parser makes of a host that holds none of the URL's syntax."""
    try:
        parsed = ada_url.URL(f"http://{host}/").hostname
    except (ValueError, UnicodeError):
        return None
    if parsed.startswith("["):
        return parsed[1:-1]
    name = parsed.removesuffix(".")
    return name if _fits(name) else None


def _label_to_ascii(label: str) -> str:
    text = _to_ascii(label)
    if not text or not _is_free_of(_FORBIDDEN, text.encode()) or not _fits(text):
        return label.lower()
    return text
