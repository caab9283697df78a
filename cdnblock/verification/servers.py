"""What is asked: an edge that speaks HTTP, or a resolver."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from cdnblock.errors import ConfigError

_PORTS: Final = {"http": 80, "https": 443, "dns": 53}
_PATH: Final = re.compile(r"/[!-~]*\Z")
_RIGHT: Final = "right would be http://192.0.2.1:8080, https://edge.example, dns://192.0.2.53 or 192.0.2.53"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A server of HTTP. Requests go to `host` and `port` whatever name they are for; over TLS that name is the SNI."""

    host: str
    port: int
    tls: bool = False
    path: str = "/"

    def __str__(self) -> str:
        """Return the URL."""
        return f"{'https' if self.tls else 'http'}://{_bracketed(self.host)}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """A name server, over UDP and TCP on one port."""

    host: str
    port: int = 53

    def __str__(self) -> str:
        """Return `dns://` with the address."""
        return f"dns://{_bracketed(self.host)}:{self.port}"


Server: TypeAlias = Edge | Resolver


def read_server(text: str) -> Server:
    """Return the server that a URL names, or an address with or without a port: that is a resolver.

    Raises:
        ConfigError: it names none; the message says what would be right.

    """
    if "://" not in text:
        text = _as_url(text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{text!r}: {error}; {_RIGHT}") from None
    if parts.scheme not in _PORTS or not host:
        raise ConfigError(f"{text!r} is neither a URL of an edge nor the address of a resolver; {_RIGHT}")
    if port == 0 or parts.username is not None or parts.fragment:
        raise ConfigError(f"{text!r}: a port, a path and a query may follow the host, and nothing else; {_RIGHT}")
    port = port or _PORTS[parts.scheme]
    if parts.scheme == "dns":
        if parts.path.strip("/") or parts.query:
            raise ConfigError(f"{text!r}: a resolver has no path; {_RIGHT}")
        return Resolver(host=host, port=port)
    return Edge(host=host, port=port, tls=parts.scheme == "https", path=_path(text, parts))


def resolved(server: Server) -> Server:
    """Return the server with an address in the place of its name, so that nobody is asked for it again.

    Raises:
        OSError: the name cannot be looked up.

    """
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"{server}: {error.strerror or error}") from None
    return replace(server, host=str(found[0][4][0]))


def _as_url(text: str) -> str:
    """Return an address, with a port or without, as a resolver's URL."""
    host, colon, port = text.rpartition(":")
    for candidate, rest in ((text, ""), (host, colon + port)):
        bare = candidate.removeprefix("[").removesuffix("]")
        with suppress(ValueError):
            ipaddress.ip_address(bare)
            return f"dns://{_bracketed(bare)}{rest}"
    raise ConfigError(f"{text!r} may be an edge or a resolver; {_RIGHT}")


def _path(text: str, parts: SplitResult) -> str:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _PATH.match(path):
        raise ConfigError(f"{text!r}: a path has visible ASCII alone; percent-encode the rest")
    return path


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
