"""What a mitmproxy flow asks for, and how answers are put into mitmproxy's words. No decision is taken here."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from mitmproxy import flow, http
from mitmproxy.proxy.mode_specs import ReverseMode

from cdnblock.adapters._mitmproxy_options import Settings
from cdnblock.matching.decision import Decision
from cdnblock.measures import proxy_termination
from cdnblock.measures.proxy_termination import Answer
from cdnblock.orders.model import VARIANTS, Measure

_LARGE: Final = 1 << 20  # octets; longer bodies are passed on as they arrive
_NOTICES: Final = 512  # rendered notices that are kept; clients choose some of what is in the key

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 §5.6.2
_NOT_IN_A_TARGET: Final = re.compile(rb"[\x00-\x20\x7f]")
_NOT_IN_A_LINE: Final = re.compile(rb"[\x00\r\n]")

NOTHING: Final = Decision(measures={})

_Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]


def names_asked_for(of: http.HTTPFlow) -> tuple[str | bytes, ...] | None:
    """Return every name that a request carries, None when RFC 9112 §3.2 wants it refused with a 400.

    Host, `:authority` or the authority of an absolute-form target, and behind CONNECT, SOCKS or a redirected
    connection its destination. They are all asked for: mitmproxy as a reverse proxy passes the absolute form on
    unchanged, so that origins may go by either. HTTP/1.0 alone may name nothing: then it is the server name of TLS,
    and without TLS the tuple is empty.
    """
    request = of.request.data
    fields = request.headers.fields
    if is_multiplexed(of.request) and not _fits_http1(request):
        return None
    names: list[str | bytes] = [value for name, value in fields if len(name) == 4 and name.lower() == b"host"]  # noqa: PLR2004
    if len(names) > 1:
        return None
    may_lack_host = request.http_version == b"HTTP/1.0" or (request.authority and is_multiplexed(of.request))
    if not names and not may_lack_host:
        return None
    if request.authority:
        names.append(request.authority)
    names_nothing = not names
    if not isinstance(of.client_conn.proxy_mode, ReverseMode) and request.host:
        names.append(_bracketed(request.host))
    if names_nothing and of.client_conn.sni:
        names.append(of.client_conn.sni)
    return tuple(names)


def _fits_http1(request: http.RequestData) -> bool:
    """Tell whether a request of HTTP/2 or /3 stays one request for one host when an origin gets it as HTTP/1.1.

    A path in absolute form would name another host there (RFC 9112 §3.2.2), and one with a space or a line end would
    begin another request (RFC 9113 §8.2.1, §8.3.1; h2 before 4.2 lets them pass).
    """
    if not _TOKEN.match(request.method) or _NOT_IN_A_TARGET.search(request.path):
        return False
    if _NOT_IN_A_LINE.search(b"".join([part for field in request.headers.fields for part in field])):
        return False
    if request.method == b"CONNECT":
        return True
    return request.path.startswith(b"/") or (request.path == b"*" and request.method == b"OPTIONS")


def keep_to_http(of: http.HTTPFlow) -> None:
    """Take away an offer to go on with another protocol than WebSocket: what it carries would pass undecided."""
    headers = of.request.headers
    if "upgrade" in headers and headers["upgrade"].strip().lower() != "websocket":
        del headers["upgrade"]
        kept = [token for token in headers.get("connection", "").split(",") if token.strip().lower() != "upgrade"]
        headers["connection"] = ",".join(kept) or "keep-alive"


def names_of_connection(of: flow.Flow) -> tuple[str | bytes, ...]:
    """Return the names that a connection is for when all that mitmproxy sees of it is bytes: SNI and destination."""
    names: list[str | bytes] = [of.client_conn.sni] if of.client_conn.sni else []
    if not isinstance(of.client_conn.proxy_mode, ReverseMode) and of.server_conn.address:
        names.append(_bracketed(of.server_conn.address[0]))
    return tuple(names)


def strictest(decisions: Sequence[Decision]) -> Decision:
    """Return the decision that counts when one request carries several names: the strictest as to measure `proxy`.

    What is no name at all comes before what is let through or only not cached.
    """
    return decisions[0] if len(decisions) == 1 else min(decisions, key=_leniency, default=NOTHING)


def _leniency(decision: Decision) -> int:
    variants = VARIANTS[Measure.PROXY]
    if Measure.PROXY in decision.measures:
        return variants.index(decision.measures[Measure.PROXY])
    return len(variants) + (0 if decision.malformed else 1 if decision else 2)


class Notices:
    """The rendered notices: one costs half a millisecond, and many clients ask for the same."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], tuple[Decision, Answer, _Fields]] = {}

    def clear(self) -> None:
        """Forget them all: what goes into them has changed."""
        self._kept.clear()

    def response(self, decision: Decision, to: http.Request, settings: Settings) -> http.Response:
        """Return the notice as a response of its own, in the request's language, type and version of HTTP."""
        accept, language = to.headers.get("accept"), to.headers.get("accept-language")
        key = (id(decision), accept, language, to.method, is_multiplexed(to))
        kept = self._kept.get(key)
        if kept is None:
            answer = proxy_termination.notice(
                decision,
                accept=accept,
                accept_language=language,
                method=to.method,
                operator_url=settings.operator_url,
                contact=settings.contact,
            )
            # With the decision: as long as it is kept, no other one can have its id.
            kept = decision, answer, _as_fields(answer.headers, lower=is_multiplexed(to))
            if len(self._kept) >= _NOTICES:
                self._kept.clear()
            self._kept[key] = kept
        return _response(*kept[1:])


def as_response(answer: Answer, to: http.Request) -> http.Response:
    """Return an answer as mitmproxy's response, its header lines as the request's version of HTTP writes them."""
    return _response(answer, _as_fields(answer.headers, lower=is_multiplexed(to)))


def rewrite_headers(of: http.HTTPFlow, rewrite: Callable[[Iterable[tuple[str, str]]], list[tuple[str, str]]]) -> None:
    """Give a flow's response the header lines that `rewrite` makes of its own."""
    if of.response is None:
        return
    lines = rewrite((name.decode("latin-1"), value.decode("latin-1")) for name, value in of.response.headers.fields)
    of.response.headers = http.Headers(_as_fields(lines, lower=is_multiplexed(of.request)))


def frame_body(request: http.Request) -> None:
    """Give a body of HTTP/2 or /3 that came without a length its length.

    mitmproxy writes neither length nor chunks for it towards an origin of HTTP/1.1, which would take the body for the
    next request (RFC 9112 §6.3): one that nobody has decided about.
    """
    if is_multiplexed(request) and request.raw_content and "content-length" not in request.headers:
        request.headers["content-length"] = str(len(request.raw_content))


class _Unstreamed(http.Request):
    """A request whose body no addon can have passed on: setting `stream` does nothing."""

    @property
    def stream(self) -> bool:
        return False

    @stream.setter
    def stream(self, value: object) -> None:
        pass


def never_stream(request: http.Request) -> None:
    """Keep other addons from streaming the body of a request that is answered here: it would reach the origin."""
    request.__class__ = _Unstreamed


def wants_streaming(response: http.Response) -> bool:
    """Tell whether a response must be passed on as it arrives, or else would come too late or never.

    A body of unknown length may be a live stream, whatever its type: collected first, it would never arrive, and what
    was collected could not be cut when an order takes effect.
    """
    # One walk over the lines: looking a field up by name costs as much as a decision.
    for name, value in response.headers.fields:
        if name.lower() == b"content-length":
            return value.isdigit() and int(value) > _LARGE
    return True


def is_multiplexed(request: http.Request) -> bool:
    """Tell whether the request came over HTTP/2 or /3, where a connection carries several at once."""
    return request.is_http2 or request.is_http3


def _response(answer: Answer, fields: _Fields) -> http.Response:
    now = time.time()
    # Not Response.make: it costs four times as much, and leaves the reason phrase of a 451 out before mitmproxy 12.
    return http.Response(
        b"HTTP/1.1", answer.status, answer.reason.encode(), http.Headers(fields), answer.body, None, now, now
    )


def _as_fields(lines: Iterable[tuple[str, str]], *, lower: bool) -> _Fields:
    """Return header lines as octets, their names in lower case where the protocol wants it (RFC 9113 §8.2)."""
    return tuple(
        [((name.lower() if lower else name).encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
