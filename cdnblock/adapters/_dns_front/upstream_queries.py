"""A query on its way to an upstream, and what becomes of it in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from cdnblock.adapters._dns_front.upstream_health import Upstream
from cdnblock.measures.dns_refusal import failure

PROBE: Final = b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\0" + b"\0\2\0\1"
"""The query for `. NS`: what every resolver knows."""

Done: TypeAlias = Callable[[Any, bytes, bytes], None]
"""Called with the context that was given, the query, and its answer: the upstream's, or a SERVFAIL of ours."""

Waiting: TypeAlias = tuple[bytes, Done, Any, float, tuple[Upstream, ...]]
"""The query, `done` and its context, when it is late, and which upstreams have been asked, the last one last."""


def resolve(future: asyncio.Future[bytes], _query: bytes, answer: bytes) -> None:
    """Give the answer to whoever awaits it, if anybody still does (a `Done`)."""
    if not future.done():
        future.set_result(answer)


def ignore(_context: object, _query: bytes, _answer: bytes) -> None:
    """Do nothing: the answer to a probe has done its work when it came (a `Done`)."""


def servfail(query: bytes, info_code: int) -> bytes:
    """Return SERVFAIL with that extended error."""
    return failure(query, info_code=info_code) or b""
