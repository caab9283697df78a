"""The one canonical form of a host name: what a browser would look up, in ASCII and lower case.

Both the names of an order and the hosts of requests pass through here, so that no spelling can tell them apart.
Full WHATWG host parsing (https://url.spec.whatwg.org/#host-parsing, UTS 46) is done by ada; plain ASCII names, nearly
all of them, never get that far.
"""

from __future__ import annotations

import re
from typing import Final

import ada_url

MAX_NAME: Final = 253  # RFC 1035 §2.3.4: 255 octets on the wire
MAX_LABEL: Final = 63  # RFC 1035 §2.3.4

# Longer than any spelling of a 253-octet name: three percent-encoded UTF-8 octets per character, plus a port.
_MAX_SPELLING: Final = 253 * 9 + 8
# Without percent-escapes, port included. UTS 46 may drop or join some characters, but nobody spells a name with that many of them.
_MAX_UNESCAPED: Final = 300
# What nearly every host is: a canonical name whose last label does not begin with a digit, so that it is no number.
_USUAL: Final = re.compile(r"(?:[a-z0-9_-]{1,63}+\.)*+[a-z_-][a-z0-9_-]{0,62}+\Z")
_PLAIN: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")
_PORT: Final = re.compile(r":[0-9]*\Z")
# What a URL parser would take for syntax, or silently drop, instead of refusing: it must not reach ada.
_NOT_IN_A_HOST: Final = re.compile(r"[\x00-\x20\x7f/\\?#@]")
_MOST_DOTS_OF_IPV4: Final = 3  # more, and a name that ends in a number is none at all
_NUMBER: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")  # WHATWG "ends in a number": then it is an IPv4 address


def canonical(host: str | bytes) -> str | None:
    """Return the canonical form of a host as a URL or an HTTP field spells it, or None if it is no host.

    Lower case; a port, one trailing dot and IPv6 brackets removed; UTS 46 to A-labels; percent-escapes decoded.
    An IP address comes out in its canonical text. Never raises. A name over 253 octets, or with an empty label or
    one over 63, is none (RFC 1035 §2.3.4).
    """
    if isinstance(host, bytes):
        try:
            host = host.decode()
        except UnicodeDecodeError:
            return None
    if len(host) <= MAX_NAME and host.isascii() and _USUAL.match(name := host.lower()):
        return name
    if len(host) > (_MAX_SPELLING if "%" in host else _MAX_UNESCAPED):
        return None
    port = _PORT.search(host)
    if port is not None:
        host = host[: port.start()]
    if host.isascii():
        name = host.lower().removesuffix(".")
        if _PLAIN.match(name) and len(name) <= MAX_NAME:
            if not _ends_in_number(name):
                return name
            if name.count(".") > _MOST_DOTS_OF_IPV4:
                return None
    # Not lowered here: str.lower() and UTS 46 differ (a final sigma, a capital sharp s).
    return _by_url_rules(host)


def canonical_query_name(name: str) -> str | None:
    """Return the canonical form of a DNS query name, or None for the root and for what fits no DNS name.

    `name` is presentation text whose labels are separated by dots; it may hold U-labels, as some servers decode
    them. DNS names are no URLs: no port, nothing percent-encoded, and a label may hold any octet (RFC 2181 §11), so a
    label that is no host label stays as it is: what stands right of it can still be covered.
    """
    if len(name) > _MAX_SPELLING:
        return None
    labels = name.removesuffix(".").split(".")
    if not all(labels):
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


def _ends_in_number(name: str) -> bool:
    return _NUMBER.match(name, name.rfind(".") + 1) is not None


def _by_url_rules(host: str) -> str | None:
    if not host or _NOT_IN_A_HOST.search(host):
        return None
    if host[0] != "[" and ":" in host:
        return None
    if (name := _by_idna(host)) is not None:
        return name
    try:
        parsed = ada_url.URL(f"http://{host}/").hostname
    except (ValueError, UnicodeError):
        return None
    if parsed.startswith("["):
        return parsed[1:-1]
    name = parsed.removesuffix(".")
    if not name or len(name) > MAX_NAME:
        return None
    return name if all(0 < len(label) <= MAX_LABEL for label in name.split(".")) else None


def _by_idna(host: str) -> str | None:
    """Return what URL rules would, at half the time, where there is nothing but UTS 46 to apply; else None."""
    if host.isascii() or "%" in host:
        return None
    try:
        name = ada_url.idna.encode(host).decode("ascii")
    except ValueError:
        return None
    return name if len(name) <= MAX_NAME and _USUAL.match(name) else None


def _label_to_ascii(label: str) -> str:
    return _by_url_rules(label) or label.lower()
