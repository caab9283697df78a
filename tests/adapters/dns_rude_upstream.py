"""An upstream that misbehaves as the name asked for says, and everything that was sent to it."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from typing import Self

HONEST, FORGED = b"\xc0\0\2\1", b"\x06\x06\x06\x06"
_TC = 0x0200


class RudeUpstream:
    """Serves UDP and TCP on one port. What it does is how the first label of a name begins, up to its first digit or dash:

    `slow`: answers after so many tenths of a second as the digits say; `silent`: never answers; `cut`: TC over UDP;
    `id`, `question`, `count`, `port`, `query`: forged answers come first, then the honest one; `drop`: closes the
    connection; `late`: over UDP nothing. All else is answered honestly.
    """

    def __init__(self) -> None:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._other.bind(("127.0.0.1", 0))
        self.asked: list[tuple[str, bytes, tuple[str, int]]] = []
        self.connections = 0
        self._connected: list[socket.socket] = []
        for work in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        for sock in (self._udp, self._tcp, self._other, *self._connected):
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve_udp(self) -> None:
        while True:
            try:
                query, sender = self._udp.recvfrom(65_535)
            except OSError:
                return
            self.asked.append(("udp", query, sender))
            threading.Thread(target=self._answer_udp, args=(query, sender), daemon=True).start()

    def _answer_udp(self, query: bytes, sender: tuple[str, int]) -> None:
        what, number = manner(query)
        forged = answer(query, FORGED)
        match what:
            case "silent" | "late":
                return
            case "slow":
                time.sleep(number / 10)
            case "id":
                for step in range(1, 200):
                    self._udp.sendto(((int.from_bytes(query[:2]) + step) & 0xFFFF).to_bytes(2) + forged[2:], sender)
            case "question":
                other = query[:13] + b"x" + query[14:]
                self._udp.sendto(answer(other, FORGED), sender)
                self._udp.sendto(answer(query[:-2] + b"\0\3", FORGED), sender)
            case "count":
                self._udp.sendto(forged[:4] + b"\0\0" + forged[6:], sender)
                self._udp.sendto(forged[:4] + b"\0\2" + forged[6:], sender)
            case "port":
                self._other.sendto(forged, sender)
            case "query":
                self._udp.sendto(query, sender)
                self._udp.sendto(query[:11], sender)
                self._udp.sendto(b"", sender)
            case "cut":
                self._udp.sendto(answer(query, b"", flags=_TC), sender)
                return
        if what in ("id", "question", "count", "port", "query"):
            time.sleep(0.05)
        self._udp.sendto(answer(query, HONEST), sender)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            self.connections += 1
            self._connected.append(connection)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        sending = threading.Lock()

        def reply(query: bytes) -> None:
            what, number = manner(query)
            if what == "silent":
                return
            if what == "slow":
                time.sleep(number / 10)
            whole = answer(query, HONEST)
            with sending:
                connection.sendall(len(whole).to_bytes(2) + whole)

        with connection.makefile("rb") as stream:
            while len(length := stream.read(2)) == 2:
                query = stream.read(int.from_bytes(length))
                self.asked.append(("tcp", query, connection.getpeername()))
                if manner(query)[0] == "drop":
                    connection.close()
                    return
                threading.Thread(target=reply, args=(query,), daemon=True).start()


def manner(query: bytes) -> tuple[str, int]:
    """Return the letters and the number of the first label of what is asked for."""
    label = query[13 : 13 + query[12]].decode("latin-1").lower()
    found = re.match(r"([a-z]*)(\d{0,2})", label, re.ASCII)
    return found[1], int(found[2] or 0)


def answer(query: bytes, address: bytes, *, flags: int = 0) -> bytes:
    """Return an answer with one A record, or none."""
    end = query.index(b"\0", 12) + 5
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + address if address else b""
    header = struct.pack("!2s5H", query[:2], 0x8180 | flags, 1, bool(address), 0, 0)
    return header + query[12:end] + record
