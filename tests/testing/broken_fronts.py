"""What stands in front of a sound edge and breaks it: relays that change octets, and one that ends TLS."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from contextlib import asynccontextmanager, contextmanager

from broken_edges import Sound, running, served_apart

from cdnblock.testing import Host


def first_host(head):
    """Keep the first Host line; where there is none, make one up."""
    lines = head.split(b"\r\n")
    hosts = [line for line in lines if line.lower().startswith(b"host:")]
    others = [line for line in lines if not line.lower().startswith(b"host:")]
    return b"\r\n".join([others[0], hosts[0] if hosts else b"Host: other.example", *others[1:]])


def server_name(head, name):
    """Put the name of the TLS handshake in the place of Host."""
    return re.sub(rb"Host: [^\r]+", b"Host: " + name.encode(), head) if name else head


@contextmanager
def relayed(stage, change, *, tls=False):
    """Run a sound edge behind a relay that changes each request's head; with `tls` beside one that ends TLS."""
    with running(Sound, stage) as host, contextlib.ExitStack() as stack:
        if tls:
            port = stack.enter_context(served_apart(_relay(host.address, change, stage.certificate)))
            yield Host(address=host.address, tls=("127.0.0.1", port), reload=host.reload)
        else:
            port = stack.enter_context(served_apart(_relay(host.address, lambda head, _: change(head))))
            yield Host(address=("127.0.0.1", port), reload=host.reload)


@asynccontextmanager
async def _relay(upstream, change, certificate=None):
    names = {}
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = lambda handshake, name, _context: names.update({id(handshake): name})

    async def one(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            name = names.get(id(writer.get_extra_info("ssl_object")))
            from_there, to_there = await asyncio.open_connection(*upstream)
            to_there.write(change(head, name))
            pumps = [asyncio.create_task(_pump(reader, to_there)), asyncio.create_task(_pump(from_there, writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            to_there.close()
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def _pump(reader, writer):
    with contextlib.suppress(ConnectionError):
        while octets := await reader.read(65536):
            writer.write(octets)
            await writer.drain()
