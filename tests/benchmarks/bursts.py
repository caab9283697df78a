"""Load in bursts of some ms, so that what is compared takes turns faster than a busy machine changes its mind.

A ratio of a few percent drowns where rounds take seconds: the clock rate, the caches and the neighbours change meanwhile.
Here each pair of bursts gives a ratio, and the median of hundreds of pairs is what is told.
"""

from __future__ import annotations

import select
import socket
import statistics
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 32
_PATIENCE = 30.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a server is asked, with which requests in turn, and whose CPU time counts: of processes `besides` some threads.

    One request in a hundred is one of the `rare` ones, in turn, if there are any.
    """

    port: int
    requests: tuple[bytes, ...]
    pids: tuple[int, ...]
    connections: int = CONNECTIONS
    rare: tuple[bytes, ...] = ()
    besides: tuple[int, ...] = ()


def get(target: str, fields: dict[str, str]) -> bytes:
    """Return a request that keeps its connection."""
    return "\r\n".join(
        [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    ).encode()


def compare(servers: dict[str, Server], *, pairs: int, requests: int = 10) -> dict[str, list[float]]:
    """Return the µs of CPU that a request costs each server, burst by burst; they take turns.

    `requests` is how many each connection sends in a burst, one after the other.
    """
    measured: dict[str, list[float]] = {name: [] for name in servers}
    with ExitStack() as stack:
        loads = {name: stack.enter_context(_Load(server)) for name, server in servers.items()}
        for load in loads.values():
            load.burst(requests * 20)
        for number in range(pairs):
            for name in list(loads)[:: 1 if number % 2 else -1]:
                before = _spent(servers[name])
                count = loads[name].burst(requests)
                measured[name].append((_spent(servers[name]) - before) / count / 1000)
    return measured


def ratio(first: list[float], other: list[float]) -> float:
    """Return the throughput of the other, as a part of the first's: the median of all pairs."""
    return statistics.median(a / b for a, b in zip(first, other, strict=True))


def _spent(server: Server) -> int:
    return sum(cpu(pid, besides=server.besides) for pid in server.pids)


def cpu(pid: int, *, besides: tuple[int, ...] = ()) -> int:
    """Return the CPU time of a process, its threads and its children, in ns, besides that of some of its threads."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if int(task.name) in besides:
            continue
        with suppress(OSError):
            spent += int((task / "schedstat").read_text().split()[0])
            spent += sum(map(cpu, map(int, (task / "children").read_text().split())))
    return spent


class _Load:
    """Open connections to one server, each with one request under way at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sockets: dict[int, socket.socket] = {}
        self._epoll = select.epoll()
        self._ends: dict[bytes, bytes] = {}
        self._sent = 0

    def __enter__(self):
        for _ in range(self._server.connections):
            connection = socket.create_connection(("127.0.0.1", self._server.port), _PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._ends:
                for request in (*self._server.requests, *self._server.rare):
                    self._ends[request] = _end_of_answer(connection, request)
            self._sockets[connection.fileno()] = connection
            self._epoll.register(connection.fileno(), select.EPOLLIN)
        return self

    def __exit__(self, *_) -> None:
        self._epoll.close()
        for connection in self._sockets.values():
            connection.close()

    def burst(self, requests: int) -> int:
        """Send so many on each connection, and return how many that were; an answer ends as the first of its kind did."""
        left = {number: [self._next() for _ in range(requests)] for number in self._sockets}
        ends, received = {}, dict.fromkeys(self._sockets, b"")
        for number in self._sockets:
            ends[number] = self._send(number, left[number].pop())
        running = len(left)
        while running:
            for number, _ in self._epoll.poll(_PATIENCE) or _silent():
                received[number] += self._sockets[number].recv(1 << 16) or _silent()
                if not received[number].endswith(ends[number]):
                    continue
                if left[number]:
                    received[number] = b""
                    ends[number] = self._send(number, left[number].pop())
                else:
                    running -= 1
        return requests * len(self._sockets)

    def _send(self, number: int, request: bytes) -> bytes:
        self._sockets[number].send(request)
        return self._ends[request]

    def _next(self) -> bytes:
        self._sent += 1
        requests, rare = self._server.requests, self._server.rare
        if rare and self._sent % 100 == 0:
            return rare[self._sent // 100 % len(rare)]
        return requests[self._sent % len(requests)]


def _end_of_answer(connection: socket.socket, request: bytes) -> bytes:
    """Return what the answer ends with: its body. Headers such as Age grow with time."""
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1 << 16) or _silent()
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(1 << 16) or _silent()
    return body or b"\r\n\r\n"


def _silent():
    raise ConnectionError("the server under load does not answer")
