"""The handler that anybody would write first: asyncio, dnspython, a set of names. Here to be compared with.

python tests/benchmarks/dnspython_handler.py PORT NAME...
"""

from __future__ import annotations

import asyncio
import sys

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode

CENSORED = dns.edns.EDEOption(dns.edns.EDECode.CENSORED, "order bench")


def answer(packet: bytes, names: set[dns.name.Name]) -> bytes | None:
    """Return a refusal for a name at or under one of the names, NXDOMAIN for every other."""
    try:
        query = dns.message.from_wire(packet)
    except dns.exception.DNSException:
        return None
    if query.flags & dns.flags.QR or len(query.question) != 1:
        return None
    response = dns.message.make_response(query, recursion_available=True)
    name, covered = query.question[0].name, False
    while name != dns.name.root and not covered:
        covered, name = name in names, name.parent()
    response.set_rcode(dns.rcode.REFUSED if covered else dns.rcode.NXDOMAIN)
    if covered and query.edns >= 0:
        response.use_edns(0, payload=1232, options=[CENSORED])
    return response.to_wire()


class Handler(asyncio.DatagramProtocol):
    """Answers each packet as it comes."""

    def __init__(self, names: set[dns.name.Name]) -> None:
        self._names = names

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if response := answer(data, self._names):
            self._transport.sendto(response, addr)


async def main() -> None:
    """Answer for ever."""
    names = {dns.name.from_text(name) for name in sys.argv[2:]}
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Handler(names), ("127.0.0.1", int(sys.argv[1])))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
