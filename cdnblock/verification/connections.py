"""What both versions of HTTP have in common: a request, and a connection with whatever goes before its first octet."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from cdnblock.verification.clients import Client
from cdnblock.verification.servers import Edge

_LIMIT: Final = 65_536  # octets of a head, and what is read ahead
_CLOSING: Final = 0.5  # seconds that the end of a connection may take

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `host` is spelled as it is to be sent; `server_name` is for the TLS handshake.

    With `absolute` the target is in absolute form and names that host; `host` is then what stands in the Host field.
    CONNECT is for `host`, which has a port then. `length` announces so many octets of a body, none of which is ever sent.
    """

    host: str
    server_name: str
    method: str = "GET"
    absolute: str | None = None
    length: int | None = None

    def fields(self) -> tuple[tuple[str, str], ...]:
        """Return the header lines that all requests have."""
        return (("User-Agent", "cdnblock-verify"), ("Accept", "text/html,*/*;q=0.5"), ("Accept-Language", "en"))


class HandshakeError(ConnectionError):
    """A connection came about, and TLS on it did not."""


@asynccontextmanager
async def connected(edge: Edge, client: Client, server_name: str, protocol: str) -> AsyncIterator[Streams]:
    """Connect as a client; over TLS for a server name and a protocol. Whatever happens, nothing stays open.

    Raises:
        HandshakeError: TLS did not come about.
        OSError: nobody takes connections there, or the client's address is none of this machine's.

    """
    local = (client.bound_to, 0) if client.bound_to else None
    reader, writer = await asyncio.open_connection(edge.host, edge.port, local_addr=local, limit=_LIMIT)
    try:
        writer.write(client.preamble(edge.host, edge.port))
        if edge.tls:
            try:
                await writer.start_tls(_any_certificate(protocol), server_hostname=server_name)
            except (OSError, EOFError) as error:
                raise HandshakeError(f"in the TLS handshake: {getattr(error, 'reason', None) or 'closed'}") from error
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError, TimeoutError, EOFError):
            await asyncio.wait_for(writer.wait_closed(), _CLOSING)


@lru_cache
def _any_certificate(protocol: str) -> ssl.SSLContext:
    """Return TLS settings that take whatever certificate comes: a name under an order need not have one here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context
