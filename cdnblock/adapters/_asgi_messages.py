"""What the middleware itself says and hears in ASGI: answers, and the rest of a request that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

from cdnblock.measures.proxy_termination import Answer

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_LARGEST_REST: Final = 1 << 22  # octets of a refused upload that are still taken
_PATIENCE: Final = 2.0  # seconds that they may take


async def take_rest(scope: Scope, receive: Receive) -> None:
    """Read the body of a request that is refused: a server may reset the connection of a client that still sends.

    A client that waits for its answer before it sends is not told to.
    """
    names = {name.lower() for name, _ in scope["headers"]}
    if b"expect" in names or not names & {b"content-length", b"transfer-encoding"}:
        return
    octets = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while octets < _LARGEST_REST:
                message = await receive()
                octets += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def send_answer(answer: Answer, kind: str, send: Send) -> None:
    await send({"type": f"{kind}.response.start", "status": answer.status, "headers": as_octets(answer.headers)})
    await send({"type": f"{kind}.response.body", "body": answer.body, "more_body": False})


def as_octets(lines: Any) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in lines]


async def until_disconnected(receive: Receive) -> None:
    while not (await receive())["type"].endswith(".disconnect"):
        pass
