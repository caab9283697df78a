"""What a mitmproxy flow asks for, and how answers are put into mitmproxy's words. No decision is taken here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from mitmproxy import flow, http
from mitmproxy.proxy.mode_specs import ReverseMode

from cdnblock.measures.proxy_termination import Answer

# Bodies of unknown length that other addons may want whole: pages, scripts, data. All else of unknown length is taken
# for a live stream, which never ends and would be swallowed if it were collected first.
_COLLECTED_TYPES: Final = (
    "text/",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/xhtml",
)
_EVENT_STREAM: Final = "text/event-stream"
_LARGE: Final = 1 << 20  # octets; longer bodies are passed on as they arrive


def names_asked_for(of: http.HTTPFlow) -> tuple[str | bytes, ...] | None:
    """Return every name that a request carries, None when RFC 9112 §3.2 wants it refused with a 400.

    Host, `:authority` or the authority of an absolute-form target, and behind CONNECT, SOCKS or a redirected
    connection its destination. They are all asked for: mitmproxy as a reverse proxy passes the absolute form on
    unchanged, so that origins may go by either. HTTP/1.0 alone may name nothing (then the tuple is empty).
    """
    request = of.request.data
    names: list[str | bytes] = [value for name, value in request.headers.fields if name.lower() == b"host"]
    if len(names) > 1:
        return None
    if not names and request.http_version != b"HTTP/1.0":
        if not (request.authority and is_multiplexed(of.request)):
            return None
    if request.authority:
        names.append(request.authority)
    if not isinstance(of.client_conn.proxy_mode, ReverseMode) and request.host:
        names.append(_bracketed(request.host))
    return tuple(names)


def names_of_connection(of: flow.Flow) -> tuple[str | bytes, ...]:
    """Return the names that a connection is for when all that mitmproxy sees of it is bytes: SNI and destination."""
    names: list[str | bytes] = [of.client_conn.sni] if of.client_conn.sni else []
    if not isinstance(of.client_conn.proxy_mode, ReverseMode) and of.server_conn.address:
        names.append(_bracketed(of.server_conn.address[0]))
    return tuple(names)


def as_response(answer: Answer, to: http.Request) -> http.Response:
    """Return an answer as mitmproxy's response, its field names as the request's version of HTTP writes them."""
    lower = is_multiplexed(to)
    fields = [((name.lower() if lower else name).encode(), value.encode()) for name, value in answer.headers]
    now = time.time()
    # Not Response.make: it costs four times as much, and leaves the reason phrase of a 451 out before mitmproxy 12.
    return http.Response(
        b"HTTP/1.1", answer.status, answer.reason.encode(), http.Headers(fields), answer.body, None, now, now
    )


def rewrite_headers(of: http.HTTPFlow, rewrite: Callable[[Iterable[tuple[str, str]]], list[tuple[str, str]]]) -> None:
    """Give a flow's response the header lines that `rewrite` makes of its own."""
    if of.response is None:
        return
    lower = is_multiplexed(of.request)
    lines = rewrite((name.decode("latin-1"), value.decode("latin-1")) for name, value in of.response.headers.fields)
    of.response.headers = http.Headers(
        [((name.lower() if lower else name).encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    )


def wants_streaming(response: http.Response) -> bool:
    """Tell whether a response must be passed on as it arrives, or else would come too late or never."""
    headers = response.headers
    length = headers.get("content-length")
    if length is not None:
        return length.isdecimal() and int(length) > _LARGE
    content_type = headers.get("content-type", "").lower()
    return content_type.startswith(_EVENT_STREAM) or not content_type.startswith(_COLLECTED_TYPES)


def is_multiplexed(request: http.Request) -> bool:
    """Tell whether the request came over HTTP/2 or /3, where a connection carries several at once."""
    return request.is_http2 or request.is_http3


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
