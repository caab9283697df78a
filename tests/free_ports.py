"""Ports for servers that cannot be asked which one they got."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator

# Linux gives connections ports from 32,768 on: what is free there now may be a client's own in the next moment.
BELOW_EPHEMERAL = (10_000, 30_000)
# Tests run side by side, and between the finding of a port and its opening anybody may take it: each process has its
# own ports. A server that another one's client reaches may answer it, and then go away.
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES

_given: set[int] = set()  # that somebody was told about, and may not have opened yet


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free now, for TCP and UDP; none of them is told twice by this process."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(BELOW_EPHEMERAL[0] + _PROCESS, BELOW_EPHEMERAL[1], _PROCESSES)
        if port in _given:
            continue
        with contextlib.suppress(OSError), _held(port):
            _given.add(port)
            found.append(port)
    return found


def free_port() -> int:
    """Return one of them."""
    return free_ports(1)[0]


@contextlib.contextmanager
def _held(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)), socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", port))
        yield
