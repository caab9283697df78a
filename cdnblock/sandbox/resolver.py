"""The resolver behind the DNS front: a name server that knows every name.

Whatever is asked, the answer is this machine: so every name of every order can be looked up and opened here, and none
of these questions ever leaves the machine. UDP and TCP on one port.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, cast

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rdatatype
import dns.rrset

_TTL: Final = 60
_ANSWERS: Final = {
    dns.rdatatype.A: "127.0.0.1",
    dns.rdatatype.AAAA: "::1",
    dns.rdatatype.TXT: '"answered by the resolver of the sandbox"',
    dns.rdatatype.HTTPS: "1 . alpn=h2 ipv4hint=127.0.0.1 ipv6hint=::1",
}


def answer(query: bytes) -> bytes | None:
    """Return the answer to one packet, or None for what is no query."""
    try:
        message = dns.message.from_wire(query)
    except dns.exception.DNSException:
        return None
    if message.flags & dns.flags.QR or message.opcode() != dns.opcode.QUERY or len(message.question) != 1:
        return None
    response = dns.message.make_response(message, recursion_available=True)
    question = message.question[0]
    data = _ANSWERS.get(question.rdtype)
    if data is not None:
        response.answer.append(dns.rrset.from_text(question.name, _TTL, question.rdclass, question.rdtype, data))
    return response.to_wire()


class Resolver(asyncio.DatagramProtocol):
    """Serves `answer` on one address, over UDP and TCP."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1") -> int:
        """Listen on a free port, the same for UDP and TCP, and return it."""
        loop = asyncio.get_running_loop()
        while True:
            self._server = await asyncio.start_server(self._converse, host, 0)
            port: int = self._server.sockets[0].getsockname()[1]
            try:
                await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
            except OSError:  # free for TCP, taken for UDP: try another
                self._server.close()
            else:
                return port

    def close(self) -> None:
        """Free the port."""
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket to answer by (asyncio.DatagramProtocol)."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one packet (asyncio.DatagramProtocol)."""
        response = answer(data)
        if response is not None and self._transport is not None:
            self._transport.sendto(response, addr)

    @staticmethod
    async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                size = int.from_bytes(await reader.readexactly(2))  # RFC 1035 §4.2.2
                response = answer(await reader.readexactly(size))
                if response is None:
                    return
                writer.write(len(response).to_bytes(2) + response)
                await writer.drain()
