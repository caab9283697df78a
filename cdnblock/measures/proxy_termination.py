"""Measure `proxy`: the request is not forwarded. Its answer is a 451 with a notice, or a closed connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cdnblock.matching.decision import Decision
from cdnblock.measures.cache_disable import NO_STORE
from cdnblock.measures.notice import html_page, plain_text, problem_details
from cdnblock.measures.notice.contents import Contents, contents, web_link
from cdnblock.measures.notice.html_page import CONTENT_SECURITY_POLICY
from cdnblock.measures.notice.negotiation import choose_language, choose_type
from cdnblock.measures.notice.wording import WORDINGS, default_language
from cdnblock.orders.model import Measure

UNAVAILABLE: Final = (451, "Unavailable For Legal Reasons")  # RFC 7725 §3
BAD_REQUEST: Final = (400, "Bad Request")  # RFC 9112 §3.2: no Host, several, or one that is no host
FAILED: Final = (503, "Service Unavailable")  # RFC 9110 §15.6.4

CLOSE_CODE: Final = 1008
"""The code of the Close by which a WebSocket is refused or cut: against a policy (RFC 6455 §7.4.1)."""

RETRY_AFTER: Final = "5"
"""Seconds after which a client may ask again when no decision could be made."""

FORMS: Final[Mapping[str, tuple[str, Callable[[Contents, int, str], str]]]] = {
    # Media type: (Content-Type, renderer). The first answers `*/*` and nothing: who asks so is most often a terminal.
    "text/plain": ("text/plain; charset=utf-8", plain_text.render),
    "text/html": ("text/html; charset=utf-8", html_page.render),
    "application/problem+json": ("application/problem+json", problem_details.render),
}
MEANT_BY: Final[Mapping[str, str]] = {
    # What is asked for: the form that is meant by it.
    "application/json": "application/problem+json",
    "application/xhtml+xml": "text/html",
}

GUARDS: Final[tuple[tuple[str, str], ...]] = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
)
"""What keeps a body of ours from doing anything but being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer. `headers` are complete but for what the server adds to all (Date, Server, Connection).

    `Content-Length` is always there; for HEAD it is what GET would have, and `body` is empty.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __iter__(self) -> Iterator[int | tuple[tuple[str, str], ...] | bytes]:
        """Unpack as `status, headers, body = notice(…)`."""
        return iter((self.status, self.headers, self.body))


def closes(decision: Decision) -> bool:
    """Tell whether the decision wants the connection closed without an answer, which no notice can replace."""
    return decision.measures.get(Measure.PROXY) == "close"


def notice(
    decision: Decision,
    *,
    accept: str | None = None,
    accept_language: str | None = None,
    method: str = "GET",
    operator_url: str | None = None,
    contact: str | None = None,
) -> Answer:
    """Return the 451 about every order that asks for measure `proxy`, in the client's language and type.

    `accept` and `accept_language` are the request's fields as they came, several lines joined by a comma; `method`
    is the request's. `operator_url` is the http(s) page of whoever runs this edge: it goes into `Link` as
    `blocked-by` (RFC 7725 §4 names who implements the block, not who demanded it) and into the text; without it
    there is no `Link`. `contact` is shown for orders that name none.

    The language falls back to French for clients in the French Republic and to English for all others.

    Raises ValueError when no order of the decision asks for measure `proxy`.
    """
    reasons = decision.because(Measure.PROXY)
    if not reasons:
        raise ValueError("this decision does not ask for measure proxy: there is nothing to tell")
    language = choose_language(accept_language, WORDINGS, default_language(decision.country))
    content_type, render = FORMS[choose_type(accept, tuple(FORMS), MEANT_BY)]
    told = contents(reasons, WORDINGS[language], operator_url=operator_url, contact=contact)
    operator = web_link(operator_url)
    return _answer(
        UNAVAILABLE,
        render(told, *UNAVAILABLE),
        method,
        ("Content-Type", content_type),
        ("Content-Language", language),
        ("Vary", "Accept, Accept-Language"),
        *([("Link", f'<{operator}>; rel="blocked-by"')] if operator else []),
    )


def bad_host(*, method: str = "GET") -> Answer:
    """Return the 400 for a request that names no host, several, or something that is no host (RFC 9112 §3.2)."""
    return _plain(BAD_REQUEST, "The request does not name exactly one valid host.", method)


def failure(*, method: str = "GET") -> Answer:
    """Return the 503 for a request about which no decision could be made: never forwarded, never cached."""
    return _plain(FAILED, "This request could not be handled.", method, ("Retry-After", RETRY_AFTER))


def _plain(status: tuple[int, str], text: str, method: str, *headers: tuple[str, str]) -> Answer:
    number, reason = status
    body = f"{number} {reason}\n\n{text}\n"
    return _answer(status, body, method, ("Content-Type", "text/plain; charset=utf-8"), *headers)


def _answer(status: tuple[int, str], text: str, method: str, *headers: tuple[str, str]) -> Answer:
    body = text.encode()
    return Answer(
        status=status[0],
        reason=status[1],
        headers=(*headers, ("Content-Length", str(len(body))), *NO_STORE, *GUARDS),
        body=b"" if method == "HEAD" else body,
    )
