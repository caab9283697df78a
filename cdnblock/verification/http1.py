"""A client that speaks HTTP/1.1: one request on one connection, and of the answer no more than it takes to judge it."""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import replace
from typing import Final

from cdnblock.verification.answers import CLOSED, Answer, HttpAnswer, Nothing
from cdnblock.verification.clients import Client
from cdnblock.verification.connections import Request, connected
from cdnblock.verification.servers import Edge

MOST_OF_A_HEAD: Final = 65_536  # octets
MOST_OF_A_BODY: Final = 1_048_576  # octets that are read, so that a cache in between gets to store the answer
KEPT_OF_A_BODY: Final = 65_536  # octets that an answer holds: more than any notice of ours has
_FOR_A_BODY: Final = 2.0  # seconds
_MOST_INTERIM: Final = 8  # answers with 1xx before the real one
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?")
_INTERIM: Final = range(100, 200)
_BODILESS: Final = (204, 304)
_LAST_CHUNK: Final = b"0\r\n\r\n"


async def ask(edge: Edge, request: Request, client: Client, patience: float) -> Answer:
    """Return what an edge answers; `patience` is for its head, in seconds.

    Raises:
        TimeoutError: there is none in time.
        OSError: nobody takes connections there.

    """
    answer: Answer | None = None
    try:
        async with (
            asyncio.timeout(patience) as limit,
            connected(edge, client, request.server_name, "http/1.1") as (reader, writer),
        ):
            writer.write(_octets(edge, request, client))
            answer = await _answer(reader)
            if isinstance(answer, HttpAnswer) and request.method != "HEAD":
                limit.reschedule(asyncio.get_running_loop().time() + _FOR_A_BODY)
                body = bytearray()
                try:
                    await _read_body(reader, answer, body)
                finally:  # what has come when time is up is how it begins
                    answer = replace(answer, body=bytes(body))
    except TimeoutError:
        if answer is None:
            raise
    return answer


async def _answer(reader: asyncio.StreamReader) -> Answer:
    try:
        return await _head(reader)
    except asyncio.LimitOverrunError:
        return Nothing(why=f"a head of more than {MOST_OF_A_HEAD:,} octets")
    except asyncio.IncompleteReadError as error:
        return Nothing(why="an end in the middle of the head") if error.partial else HttpAnswer(status=CLOSED)
    except (ConnectionError, ssl.SSLError):
        return HttpAnswer(status=CLOSED)


def _octets(edge: Edge, request: Request, client: Client) -> bytes:
    target = edge.path
    if request.method == "CONNECT":
        target = request.host
    elif request.absolute is not None:
        target = f"{'https' if edge.tls else 'http'}://{request.absolute}{edge.path}"
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {request.host}"]
    if request.length is not None:
        lines.append(f"Content-Length: {request.length}")
    lines += [f"{name}: {value}" for name, value in (*request.fields(), *client.fields(), ("Connection", "close"))]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _head(reader: asyncio.StreamReader) -> HttpAnswer | Nothing:
    for _ in range(_MOST_INTERIM):
        octets = await reader.readuntil(b"\r\n\r\n")
        first, *lines = octets.removesuffix(b"\r\n\r\n").split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            return Nothing(why=f"no HTTP: {first[:60]!r}")
        if int(status[1]) not in _INTERIM:
            return HttpAnswer(status=int(status[1]), headers=tuple(map(_field, lines)))
    return Nothing(why=f"more than {_MOST_INTERIM} interim answers")


def _field(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip().lower(), value.strip()


async def _read_body(reader: asyncio.StreamReader, answer: HttpAnswer, body: bytearray) -> None:
    """Read a body to its end, or as far as is enough, and put into `body` how it begins."""
    length = answer.of("content-length")
    wanted = int(length[0]) if length and length[0].isdecimal() and len(length[0]) < len("1000000000000") else None
    chunked = any("chunked" in value.lower() for value in answer.of("transfer-encoding"))
    if answer.status in _BODILESS:
        return
    have, tail = 0, b""
    most = MOST_OF_A_BODY if wanted is None or chunked else min(wanted, MOST_OF_A_BODY)
    try:
        while have < most and not (chunked and tail.endswith(_LAST_CHUNK)):
            octets = await reader.read(MOST_OF_A_HEAD)
            if not octets:
                return
            body += octets[: max(0, KEPT_OF_A_BODY - have)]
            have, tail = have + len(octets), (tail + octets)[-len(_LAST_CHUNK) :]
    except (ConnectionError, ssl.SSLError):
        return
