"""What ASGI has no word for, and what uvicorn and granian show of it all the same.

Everything here looks at the inner life of a server, found through its own `send`; where a server shows nothing, as
behind a framework's `send`, the answer is that nothing is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import CodeType, CoroutineType
from typing import Any, Final

from cdnblock.adapters._asgi_messages import Send

_SAYS: Final = 0.05  # seconds: a `send` waits while the client reads nothing, and that is no end


def transport_of(send: Send) -> asyncio.WriteTransport | None:
    """Return the connection behind `send`: uvicorn's is a method of what holds it. None if there is none to be seen."""
    transport: asyncio.WriteTransport | None = getattr(getattr(send, "__self__", None), "transport", None)
    return transport if hasattr(transport, "abort") else None  # uvloop's are of no class of asyncio's


def is_complete(send: Send) -> bool:
    """Tell whether uvicorn has been given the whole response: then the application has only other things to do."""
    return getattr(getattr(send, "__self__", None), "response_complete", False) is True


def abort_rest(send: Send) -> bool:
    """End uvicorn's connection if something of a complete response is still in its write buffer; tell whether it was.

    Not if a later response has been begun on it: uvicorn begins none before the buffer is nearly empty.
    """
    transport: Any = transport_of(send)
    if transport is None or not transport.get_write_buffer_size():
        return False
    latest = getattr(transport.get_protocol(), "cycle", None)
    if latest is not getattr(send, "__self__", None) and getattr(latest, "response_started", False):
        return False
    transport.abort()
    return True


async def until_sent(send: Send, flow: Any) -> None:
    """Wait until the write buffer of uvicorn's connection is nearly empty, or the connection has ended."""
    if is_complete(send):
        await flow.drain()


async def took_all(send: Send) -> bool:
    """Tell whether granian has been given the whole response: it takes nothing more then, not even nothing.

    False of all other servers, and of one that does not say within a twentieth of a second.
    """
    if not hasattr(getattr(send, "__self__", None), "sent_response_code"):
        return False
    try:
        async with asyncio.timeout(_SAYS):
            await send({"type": "http.response.body", "body": b"", "more_body": True})
    except Exception as error:  # noqa: BLE001 (a server raises what it likes)
        return any(word in str(error) for word in ("already finished", "closed"))
    return False


def tasks_by_send(loop: asyncio.AbstractEventLoop, code: CodeType) -> dict[Send, asyncio.Task[Any]]:
    """Return the task of each call of the function with this code: looked for when something is cut, not before."""
    found: dict[Send, asyncio.Task[Any]] = {}
    try:
        tasks = asyncio.all_tasks(loop)
    except RuntimeError:  # granian's own tasks (`--task-impl rust`) are none of asyncio's, and it stumbles over them
        return found
    for task in tasks:
        for coroutine in _awaited(task.get_coro()):
            if coroutine.cr_code is code and coroutine.cr_frame is not None:
                found[coroutine.cr_frame.f_locals["send"]] = task
    return found


def _awaited(coroutine: object) -> Iterator[CoroutineType[Any, Any, Any]]:
    while isinstance(coroutine, CoroutineType):
        yield coroutine
        coroutine = coroutine.cr_await
