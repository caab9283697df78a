"""What aiohttp shows of its connections from within, past its public names; where it does not, it is not needed."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, TypeAlias

from aiohttp import web

Task: TypeAlias = "asyncio.Task[None]"
"""What serves one connection, one request at a time."""


def are_as_known() -> bool:
    """Tell whether aiohttp's properties of a request return the attributes that we read past them."""
    known = {"raw_path": ("_message", "path"), "headers": ("_headers",), "task": ("_task",)}
    return all(_names_in(name) == read for name, read in known.items())


def _names_in(name: str) -> tuple[str, ...]:
    found = vars(web.BaseRequest).get(name)
    function = getattr(found, "fget", None) or getattr(found, "wrapped", None)  # a property, or aiohttp's `reify`
    return getattr(getattr(function, "__code__", None), "co_names", ())


def shows(task: Task, request: web.BaseRequest) -> bool:
    """Tell whether a connection shows that it has this request, or will show it as soon as it has to wait.

    From Python 3.12 on the first step of a handler is a step of its connection.
    """
    coroutine = _serving(task)
    return coroutine is not None and (coroutine.cr_running or _request_in(coroutine) is request)


def request_of(task: Task) -> web.BaseRequest | None:
    """Return the request that a connection has, or had last; None where aiohttp does not show it, or not in this moment.

    Asked by the thread that runs the connection it is always shown, but in the midst of a step.
    """
    coroutine = _serving(task)
    return None if coroutine is None else _request_in(coroutine)


def _serving(task: Task) -> Any:
    """Return the coroutine that serves a connection, None where it is not the one that is known here."""
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
    return coroutine if getattr(coroutine, "cr_code", None) is web.RequestHandler.start.__code__ else None


def _request_in(coroutine: Any) -> web.BaseRequest | None:
    """Return the request among its variables.

    The collector's view of them makes nothing that stays: a thousand frames and their dictionaries would call for a
    collection of everything, just when streams are to be cut.
    """
    return next((held for held in gc.get_referents(coroutine) if web.BaseRequest in type(held).__mro__), None)


def is_answered(request: web.BaseRequest) -> bool:
    """Tell whether a response has gone out whole: its connection waits for the next request, and nothing is unsent.

    Files and long bodies are sent after the handler has returned. Where aiohttp does not let itself be looked at, no
    request has been answered: a connection that only waits may be ended then.
    """
    transport, waiter = request.transport, getattr(request.protocol, "_waiter", None)
    if transport is None:
        return True
    return waiter is not None and not waiter.done() and not transport.get_write_buffer_size()
