"""Judges one answer by what a scenario expects: each complaint is a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from cdnblock.testing.scenarios import Expect, Outcome
from cdnblock.testing.site import LARGE, MARK
from cdnblock.testing.wire import Answer, Request

Told: TypeAlias = Mapping[str, Any]
"""What the site was asked, as it tells it."""

SWITCHING, OK, UNAVAILABLE = 101, 200, 451
_MISTAKES: Final = 400  # from here on a request was not served: RFC 9110 §15.5
_FAILURES: Final = 500
_NOT_TAKEN: Final = (501, 505)  # a method, coding or version that the host's server does not know
_MAY_BE_NOT_TAKEN: Final = (Outcome.UNSERVED, Outcome.HARMLESS)


def wrong_with(expect: Expect, request: Request, answer: Answer, seen: list[Told], operator: str) -> Iterator[str]:
    """Yield what is wrong with an answer."""
    if answer.status >= _FAILURES and not (answer.status in _NOT_TAKEN and expect.outcome in _MAY_BE_NOT_TAKEN):
        yield f"the host failed: {answer.status} {answer.body[:200]!r}"
        return
    yield from _JUDGES[expect.outcome](expect, request, answer, seen)
    refused = expect.outcome is Outcome.REFUSED and answer.status == UNAVAILABLE
    if refused and f'<{operator}>; rel="blocked-by"' not in answer.of("link"):
        yield f"does not say who blocks (RFC 7725 §4): Link {answer.of('link')}"
    yield from _wrong_headers(expect, answer)
    yield from _wrong_body(expect, answer)
    for key, value in expect.saw.items():
        if [told.get(key) for told in seen] != [value]:
            yield f"the site was told {key} {[told.get(key) for told in seen]}, not {value!r}"


def _not_refused(_expect: Expect, request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status != UNAVAILABLE:
        yield f"not refused: {_shown(answer)}"
    elif answer.of(MARK[0]):
        yield "a 451 that comes from the site"
    elif not answer.whole:
        yield "a 451 whose body is not as long as it says"
    elif (answer.body == b"") != (request.method == "HEAD"):
        yield f"a body of {len(answer.body)} octets for {request.method}"
    for name in ("Cache-Control", "CDN-Cache-Control"):
        if answer.status == UNAVAILABLE and answer.of(name) != ["no-store"]:
            yield f"a 451 that may be stored (RFC 7725 §3): {name} {answer.of(name)}"
    yield from _heard(seen)


def _not_closed(_expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status:
        yield f"not closed without an answer: {_shown(answer)}"
    yield from _heard(seen)


def _not_bad(_expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status not in (0, 400):
        yield f"not answered with 400: {_shown(answer)}"
    yield from _heard(seen)


def _not_unserved(_expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status and answer.status < _MISTAKES:
        yield f"served: {_shown(answer)}"
    yield from _heard(seen)


def _not_served(expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status != OK or answer.of(MARK[0]) != [MARK[1]]:
        yield f"not served by the site: {_shown(answer)}"
    elif not answer.whole:
        yield "the body is cut short"
    elif expect.same_as is None and len(seen) != 1:
        yield f"the site was asked {len(seen)} times"


def _not_harmless(expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    for told in seen:
        names = [*told["hosts"], re.sub(r"^https?://|/.*", "", told["target"], flags=re.IGNORECASE)]
        if any(name.lower().partition(":")[0].rstrip(".") == expect.never_as for name in names):
            yield f"the site was asked for {expect.never_as}: {told['method']} {told['target']}, Host {told['hosts']}"
    if answer.of(MARK[0]) and not seen:
        yield f"an answer of the site's that was stored: {_shown(answer)}"


def _not_upgraded(_expect: Expect, _request: Request, answer: Answer, seen: list[Told]) -> Iterator[str]:
    if answer.status != SWITCHING or len(seen) != 1:
        yield f"no WebSocket: {_shown(answer)}"


_JUDGES: Final[Mapping[Outcome, Callable[[Expect, Request, Answer, list[Told]], Iterator[str]]]] = {
    Outcome.REFUSED: _not_refused,
    Outcome.CLOSED: _not_closed,
    Outcome.BAD: _not_bad,
    Outcome.UNSERVED: _not_unserved,
    Outcome.SERVED: _not_served,
    Outcome.HARMLESS: _not_harmless,
    Outcome.UPGRADED: _not_upgraded,
}


def _heard(seen: list[Told]) -> Iterator[str]:
    for told in seen:
        yield f"the site heard of it: {told['method']} {told['target']}, Host {told['hosts']}"


def _wrong_headers(expect: Expect, answer: Answer) -> Iterator[str]:
    for name, lines in expect.headers.items():
        if _as_one(name, answer.of(name)) != _as_one(name, lines):
            yield f"{name}: {answer.of(name)}, not {[*lines]}"
    for name in expect.absent:
        if answer.of(name):
            yield f"{name}: {answer.of(name)}, where there should be none"


def _as_one(name: str, lines: Iterable[str]) -> str:
    """Return the lines of a field as whoever may combine them would (RFC 9110 §5.3), which never holds for Set-Cookie."""
    return "\n".join(lines) if name.lower() == "set-cookie" else "".join(",".join(lines).split())


def _wrong_body(expect: Expect, answer: Answer) -> Iterator[str]:
    whole = {"empty": b"", "large": LARGE}.get(expect.body or "", (expect.body or "").encode())
    if expect.body is not None and answer.body != whole:
        yield f"another body: {len(answer.body)} octets instead of {len(whole)}"
    text = answer.body.decode("utf-8", "replace")
    yield from (f"the body lacks {part!r}: {text[:300]!r}" for part in expect.body_has if part not in text)
    yield from (f"the body has {part!r}" for part in expect.body_lacks if part in text)
    if expect.interim is not None and tuple(answer.interim) != expect.interim:
        yield f"interim answers {answer.interim}, not {[*expect.interim]}"


def _shown(answer: Answer) -> str:
    whose = "the site's" if answer.of(MARK[0]) else "the host's own"
    return f"{whose} {answer.status} {answer.reason} {answer.body[:120]!r}" if answer.status else "closed, no answer"


def wrong_beside(expect: Expect, answer: Answer, before: Mapping[str, Answer]) -> Iterator[str]:
    """Yield what is wrong with an answer beside earlier ones."""
    number = ",".join(answer.of("x-answer"))
    if expect.same_as is not None and number != ",".join(before[expect.same_as].of("x-answer")):
        yield f"not the stored answer of {expect.same_as!r}: number {number}"
    for label in expect.other_than:
        if number == ",".join(before[label].of("x-answer")):
            yield f"the very answer that {label!r} got: number {number}"
    if expect.length_of is not None:
        length = [str(len(before[expect.length_of].body))]
        if answer.of("content-length") not in ([], length):  # RFC 9110 §9.3.2: it may be left out
            yield f"Content-Length {answer.of('content-length')}, where GET has {length}"
