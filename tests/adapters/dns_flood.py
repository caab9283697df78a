"""Queries of random names, each from a port of its own: what a flood of random subdomains looks like to the front."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Sequence

_AT_ONCE = 100  # sockets that are open at the same time
_PATIENCE = 0.2  # seconds for the answers to one lot of queries
_OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
_HALF_COVERED = 2  # one query in so many is under a covered name


def flood(port: int, covered: Sequence[str], *, until: float, seed: int | None = None) -> int:
    """Ask until then (time.monotonic), and return how many queries were asked."""
    chance = random.Random(seed)
    asked = 0
    while time.monotonic() < until:
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(_AT_ONCE)]
        for number, sock in enumerate(sockets):
            parent = chance.choice(covered) if number % _HALF_COVERED else "forwarded.example"
            sock.sendto(query(f"{chance.randbytes(8).hex()}.{parent}", chance.getrandbits(16)), ("127.0.0.1", port))
        asked += len(sockets)
        _read(sockets)
        for sock in sockets:
            sock.close()
    return asked


def query(name: str, number: int = 0, *, kind: int = 1) -> bytes:
    """Return a query with an OPT record."""
    labels = b"".join(bytes((len(label),)) + label for label in name.encode().split(b"."))
    counts = b"\x01\0\0\x01\0\0\0\0\0\x01"
    return number.to_bytes(2) + counts + labels + b"\0" + kind.to_bytes(2) + b"\0\x01" + _OPT


def _read(sockets: list[socket.socket]) -> None:
    """Read the answers, as long as any come; those that come later find nobody."""
    waiting = set(sockets)
    end = time.monotonic() + _PATIENCE
    while waiting and (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select(list(waiting), [], [], left)
        if not ready:
            return
        for sock in ready:
            sock.recv(65535)
            waiting.discard(sock)
