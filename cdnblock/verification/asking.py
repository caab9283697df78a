"""Puts probes to a server. Whatever the server does, an answer comes out in bounded time and memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from cdnblock.verification import dns_asking, http1
from cdnblock.verification.answers import CLOSED, Answer, HttpAnswer, Nothing
from cdnblock.verification.clients import Client
from cdnblock.verification.connections import HandshakeError, Request
from cdnblock.verification.probes import Probe, Way
from cdnblock.verification.servers import Edge, Server


async def ask(server: Server, probe: Probe, patience: float) -> Answer:
    """Return what a server says to a probe, within `patience` seconds. Never raises for anything a server does."""
    try:
        if isinstance(server, Edge):
            asks = _http2() if probe.way is Way.HTTP2 else http1.ask
            return await asks(server, probe.request(server.port), probe.client, patience)
        if probe.way is Way.UDP:
            return await dns_asking.ask_udp(server, probe.question(), probe.client, patience)
        async with asyncio.timeout(patience):
            return await dns_asking.ask_tcp(server, probe.question(), probe.client)
    except TimeoutError:
        return Nothing(why=f"no answer within {patience:g} s")
    except HandshakeError as error:
        return HttpAnswer(status=CLOSED, why=str(error))
    except OSError as error:
        return Nothing(why=f"not reached: {os.strerror(error.errno) if error.errno else error}", reached=False)


def speaks_http2() -> bool:
    """Tell whether HTTP/2 can be asked here: it needs h2."""
    try:
        _http2()
    except ImportError:
        return False
    return True


def _http2() -> Callable[[Edge, Request, Client, float], Awaitable[Answer]]:
    from cdnblock.verification import http2  # noqa: PLC0415 (needs h2, which not everybody has)

    return http2.ask
