"""DNS queries out of HTTP requests, and DNS answers into HTTP responses (RFC 8484). Bytes in, values out."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from cdnblock.adapters._dns_front.records import LONGEST, smallest_ttl

PATH: Final = "/dns-query"  # in all examples of RFC 8484, and what clients take by default
DNS_MESSAGE: Final = "application/dns-message"  # RFC 8484 §6
MOST_OCTETS: Final = LONGEST  # of a request's body: it is a DNS message (§6)
OK: Final = 200
METHODS: Final = ("GET", "HEAD", "POST")  # §4.1; HEAD wherever there is GET (RFC 9110 §9.3.2)

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")  # RFC 8484 §6: padding must not be there
_MOST_PARAMETERS: Final = 20

_TEXT: Final = ("content-type", "text/plain; charset=utf-8")
_NOT_KEPT: Final = ("cache-control", "no-store")

Headers = tuple[tuple[bytes, bytes], ...]


class Request(NamedTuple):
    """An HTTP request as every version of HTTP has it; the names of its header fields are in lower case."""

    method: str
    target: str
    headers: Headers
    body: bytes
    peer: str | None

    def field(self, name: bytes) -> str:
        """Return the value of a header field, empty without it; several are joined as RFC 9110 §5.2 says."""
        return ", ".join(value.decode("latin-1") for key, value in self.headers if key == name)


class Response(NamedTuple):
    """An HTTP response. One to HEAD is sent without its body, with the body's length."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def dns_query(request: Request) -> bytes | Response:
    """Return the DNS query that a request carries, or the response that says why there is none (RFC 8484 §4.1)."""
    try:
        target = urlsplit(request.target)
        parameters = parse_qsl(target.query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        return complaint(400, "this is no URL")
    if target.path != PATH:
        return complaint(404, f"DNS is asked at {PATH}")
    if request.method == "POST":
        return _posted(request)
    if request.method not in METHODS:
        return complaint(405, "DNS is asked by GET or POST", ("allow", ", ".join(METHODS)))
    return _decoded([value for name, value in parameters if name == "dns"])


def dns_response(answer: bytes) -> Response:
    """Return the response that carries a DNS answer, whatever its RCODE (RFC 8484 §4.2.1).

    It may be kept by the client for as long as its records (§5.1), and by nobody else: another client may be in
    another country, where the same question has another answer. Without records nobody keeps it: refusals, failures
    and negative answers are for DNS caches alone.
    """
    kept = smallest_ttl(answer)
    kept_by = ("cache-control", f"private, max-age={kept}") if kept else _NOT_KEPT
    return Response(OK, (("content-type", DNS_MESSAGE), kept_by), answer)


def complaint(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """Return the response to what carries no DNS query."""
    return Response(status, (_TEXT, _NOT_KEPT, *headers), f"{text}\n".encode())


def _posted(request: Request) -> bytes | Response:
    media_type = request.field(b"content-type").partition(";")[0].strip().lower()
    if media_type != DNS_MESSAGE or request.field(b"content-encoding").strip().lower() not in ("", "identity"):
        return complaint(415, f"the body of a POST is {DNS_MESSAGE}, not compressed", ("accept-post", DNS_MESSAGE))
    if len(request.body) > MOST_OCTETS:
        return too_large()
    return request.body


def too_large() -> Response:
    """Return the response to a body that no DNS message has."""
    return complaint(413, f"a DNS message has {MOST_OCTETS} octets at most")


def _decoded(values: list[str]) -> bytes | Response:
    if len(values) != 1 or not _BASE64URL.fullmatch(values[0]):
        return complaint(400, "GET takes one parameter `dns`, a DNS message in base64url without padding")
    try:
        return base64.urlsafe_b64decode(values[0] + "=" * (-len(values[0]) % 4))
    except binascii.Error:
        return complaint(400, "the parameter `dns` is not base64url")
