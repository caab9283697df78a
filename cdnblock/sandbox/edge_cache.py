"""What the edge's cache may keep, for how long, and for whom: RFC 9111 for a shared cache, on the careful side.

Whatever this cache is not sure about it does not store. It knows nothing of orders: what is covered never gets here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cachetools import TLRUCache

Headers: TypeAlias = tuple[tuple[str, str], ...]

MAX_STORED_BODY: Final = 8 * 2**20  # bytes; what is larger is streamed and forgotten
_MAX_BYTES: Final = 64 * 2**20
_MAX_AGE: Final = 365 * 86_400  # seconds; what claims more is a mistake (RFC 9111 §1.2.2 lets a cache bound it)
_OVERHEAD: Final = 512  # bytes that an entry costs beside its body and headers
_FORBIDS_STORING: Final = frozenset({"no-store", "no-cache", "private"})
_DIRECTIVE: Final = re.compile(r'\s*([!#$%&\'*+.^_`|~\w-]+)(?:=("(?:[^"\\]|\\.)*"|[^,;\s]*))?[^,]*')


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One stored response. `fresh_for` in seconds from `at`, which is on the cache's own clock."""

    status: int
    reason: str
    headers: Headers
    body: bytes
    fresh_for: float
    at: float

    def size(self) -> int:
        """Return the bytes it is counted with."""
        return _OVERHEAD + len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What one stored response answers. `name` is the canonical host, by which orders and purges speak."""

    name: str
    authority: str
    target: str


class EdgeCache:
    """Stored responses, the least recently used of them dropped when they exceed `max_bytes`.

    `timer` counts seconds and never runs backwards; freshness is nobody else's business.
    """

    def __init__(self, *, max_bytes: int = _MAX_BYTES, timer: Callable[[], float] = time.monotonic) -> None:
        self.timer = timer
        self._stored: TLRUCache[Key, Stored] = TLRUCache(
            maxsize=max_bytes,
            ttu=lambda _key, stored, now: now + stored.fresh_for,
            timer=timer,
            getsizeof=Stored.size,
        )

    def __len__(self) -> int:
        return len(self._stored)

    def find(self, key: Key) -> tuple[Headers, Stored] | None:
        """Return what is stored and still fresh, with the headers it goes out with now (RFC 9111 §5.1: `Age`)."""
        stored = self._stored.get(key)
        if stored is None:
            return None
        age = str(int(self.timer() - stored.at))
        return (*(pair for pair in stored.headers if pair[0].lower() != "age"), ("Age", age)), stored

    def keep(self, key: Key, stored: Stored) -> None:
        """Store a response, unless it alone is larger than the cache."""
        if stored.size() <= self._stored.maxsize:
            self._stored[key] = stored

    def purge(self, covers: Callable[[str], bool]) -> int:
        """Drop whatever is stored of the hosts that `covers` accepts, and return how many responses that were."""
        doomed = [key for key in list(self._stored) if covers(key.name)]
        for key in doomed:
            self._stored.pop(key, None)
        return len(doomed)


def may_answer(method: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a stored response may answer this request at all (RFC 9111 §4)."""
    if method not in ("GET", "HEAD") or "Range" in headers or "Authorization" in headers:
        return False
    asked = directives([("Cache-Control", headers.get("Cache-Control", headers.get("Pragma", "")))])
    return not asked.keys() & {"no-cache", "no-store"} and asked.get("max-age") != "0"


def fresh_for(method: str, status: int, headers: Iterable[tuple[str, str]]) -> float:
    """Return for how many seconds a response may be stored, 0 when it may not (RFC 9111 §3).

    A response that varies is not stored: what it varies by would have to be part of the key.
    """
    sent = {name.lower(): value for name, value in headers}
    if method != "GET" or status != 200 or sent.keys() & {"set-cookie", "vary", "content-range"}:  # noqa: PLR2004 - OK
        return 0
    # RFC 9213 §2.2: a targeted field that is there speaks instead of Cache-Control.
    field = "cdn-cache-control" if "cdn-cache-control" in sent else "cache-control"
    told = directives((name, value) for name, value in headers if name.lower() == field)
    if told.keys() & _FORBIDS_STORING:
        return 0
    return max(0, min(_seconds(told.get("s-maxage", told.get("max-age"))), _MAX_AGE) - _seconds(sent.get("age")))


def directives(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the directives of Cache-Control fields, lower case, with their values ('' where there is none)."""
    found: dict[str, str] = {}
    for _, value in headers:
        for match in _DIRECTIVE.finditer(value):
            found.setdefault(match[1].lower(), (match[2] or "").strip('"'))
    return found


def _seconds(text: str | None) -> int:
    """Return RFC 9111 §1.2.2 delta-seconds; what is none counts as 0, so that it is not stored."""
    return int(text) if text and len(text) <= 10 and text.isascii() and text.isdigit() else 0  # noqa: PLR2004 - digits
