"""Ports for servers that cannot be asked which one they got."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

# Linux gives connections ports from 32,768 on: what is free there now may be a client's own in the next moment.
BELOW_EPHEMERAL = (10_000, 30_000)


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free now, for TCP and UDP, and that no connection takes meanwhile."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(*BELOW_EPHEMERAL)
        with contextlib.suppress(OSError), _held(port):
            found += [port] if port not in found else []
    return found


def free_port() -> int:
    """Return one of them."""
    return free_ports(1)[0]


@contextlib.contextmanager
def _held(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)), socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", port))
        yield
