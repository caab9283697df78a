"""What an edge's answer does not keep of a decision, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

from markupsafe import escape

from cdnblock.matching.decision import Decision
from cdnblock.measures.cache_disable import NO_STORE, REMOVED_FROM_RESPONSES
from cdnblock.measures.notice.html_page import CONTENT_SECURITY_POLICY
from cdnblock.measures.proxy_termination import FAILED, UNAVAILABLE
from cdnblock.orders.model import Measure
from cdnblock.verification.answers import Answer, HttpAnswer, Nothing
from cdnblock.verification.expecting import Difference, Judgement, Known, Promises, Unjudged
from cdnblock.verification.probes import Probe

_SHOWN: Final = 60  # characters of a value
_CLIENT_ERROR, _SERVER_ERROR = 400, 500  # RFC 9110 §15: from the second on an origin may be to blame
_REDIRECTION, _NOT_MODIFIED = 300, 304
_FORBIDDING: Final = (403, 410, UNAVAILABLE[0])  # what people refuse with
_STATED: Final = {name.lower(): value for name, value in NO_STORE}
_HITS: Final = ("cache-status", "x-cache", "x-cache-status", "x-proxy-cache", "cf-cache-status")
"""Fields in which caches say that they answered, by the word `hit` (RFC 9211 for the first)."""


def judge_http(probe: Probe, decision: Decision, answer: Answer, promises: Promises, known: Known) -> Judgement:
    """Return None where an edge's answer is what the decision promises."""
    proxy = decision.measures.get(Measure.PROXY) if promises.proxy else None
    if proxy is None:
        if promises.caching and Measure.CDN in decision.measures:
            return _judge_served(probe, answer, known, "served, without any cache", _cached)
        return _judge_served(probe, answer, known, "served", _kept_from_caches if promises.caching else _anything)
    if probe.form.may_be_turned_down and _turns_down(answer):
        return None
    if proxy == "close":
        is_closed = isinstance(answer, HttpAnswer) and not answer.status
        return None if is_closed else Difference("closed without an answer", str(answer))
    wrong = tuple(_not_refused(probe, decision, answer, promises))
    return Difference("451", "; ".join(wrong)) if wrong else None


def _turns_down(answer: Answer) -> bool:
    return isinstance(answer, HttpAnswer) and (not answer.status or answer.status >= _CLIENT_ERROR)


def is_notice(answer: HttpAnswer) -> bool:
    """Tell whether an answer is a notice of ours, or a copy: other 451 have no such headers."""
    guard = ("content-security-policy", CONTENT_SECURITY_POLICY)
    return answer.status == UNAVAILABLE[0] and says_no_store(answer) and guard in answer.headers


def _not_refused(probe: Probe, decision: Decision, answer: Answer, promises: Promises) -> Iterator[str]:
    if not isinstance(answer, HttpAnswer) or answer.status != UNAVAILABLE[0]:
        yield str(answer)
        return
    if promises.link and not any('rel="blocked-by"' in value.replace("'", '"') for value in answer.of("link")):
        yield "451 that does not say who blocks (Link, RFC 7725 §4)"
    if promises.no_store and not says_no_store(answer):
        yield f"451 that may be stored: {_caching_of(answer)}"
    if promises.orders and probe.form.method == "GET":
        ids = dict.fromkeys(reason.id for reason in decision.because(Measure.PROXY))
        yield from (f"451 that does not tell of order {id_}" for id_ in ids if escape(id_).encode() not in answer.body)
    yield from (f"451 from a cache: {hit}" for hit in _hits(answer))


def _judge_served(
    probe: Probe, answer: Answer, known: Known, expected: str, wrong_with: Callable[[HttpAnswer], Iterator[str]]
) -> Judgement:
    if isinstance(answer, Nothing):
        if str(known.stranger) == str(answer) and answer.reached:
            return Unjudged(f"{answer}; the same for a name that nobody has")
        return _suspected(expected, str(answer)) if answer.reached else Difference(expected, str(answer))
    if not isinstance(answer, HttpAnswer) or is_notice(answer):
        return Difference(expected, str(answer))
    if probe.form.may_be_turned_down and _turns_down(answer):
        return None
    if not answer.status:
        return _judge_closed(answer, known, expected)
    if answer.status == FAILED[0] and says_no_store(answer):
        return Difference(expected, "503 of a server that could not decide")
    if answer.status >= _SERVER_ERROR:
        return Unjudged(f"status {answer.status}, which may be the site's own")
    wrong = "; ".join(wrong_with(answer))
    if wrong and wrong_with is _kept_from_caches:
        is_near = any(measure is Measure.CDN for measure, _ in known.near)
        return _suspected(expected, f"{answer.status}, {wrong}", alarming=is_near)
    return Difference(expected, f"{answer.status}, {wrong}") if wrong else _judge_status(probe, answer, known, expected)


def _judge_closed(answer: HttpAnswer, known: Known, expected: str) -> Judgement:
    if isinstance(known.stranger, HttpAnswer) and not known.stranger.status:
        return Unjudged("closed without an answer, as for a name that nobody has")
    is_ours = (Measure.PROXY, "close") in known.near
    return Difference(expected, str(answer)) if is_ours else _suspected(expected, str(answer))


def _judge_status(probe: Probe, answer: HttpAnswer, known: Known, expected: str) -> Judgement:
    """Judge a status that is no refusal of ours: an edge that goes too far may refuse or redirect in any way."""
    if answer.status < _REDIRECTION or answer.status == _NOT_MODIFIED:
        return None
    if answer.status < _CLIENT_ERROR:
        away = next((value for value in answer.of("location") if not _leads_near(value, probe.name)), None)
        return None if away is None else _suspected(expected, f"{answer.status} to {away[:_SHOWN]}")
    if isinstance(known.stranger, HttpAnswer) and known.stranger.status == answer.status != UNAVAILABLE[0]:
        return Unjudged(f"status {answer.status}, as for a name that nobody has")
    return _suspected(expected, str(answer), alarming=answer.status in _FORBIDDING)


def _suspected(expected: str, came: str, *, alarming: bool = True) -> Unjudged:
    return Unjudged(f"{came}, which may be the site's own", Difference(expected, came), alarming)


def _leads_near(location: str, name: str) -> bool:
    """Tell whether a redirect stays with a name, what is above it or what is below."""
    try:
        host = urlsplit(location).hostname
    except ValueError:
        return False
    return host is None or f".{host}".endswith(f".{name}") or f".{name}".endswith(f".{host}")


def _cached(answer: HttpAnswer) -> Iterator[str]:
    if not says_no_store(answer):
        yield f"which may be stored: {_caching_of(answer)}"
    for name in REMOVED_FROM_RESPONSES:
        if name not in _STATED and answer.of(name):
            yield f"{name}: {answer.of(name)[0][:_SHOWN]}"
    yield from (f"from a cache: {hit}" for hit in _hits(answer))


def _kept_from_caches(answer: HttpAnswer) -> Iterator[str]:
    if says_no_store(answer):
        yield "with its caching switched off (Cache-Control and CDN-Cache-Control: no-store)"


def says_no_store(answer: HttpAnswer) -> bool:
    """Tell whether an answer says to every cache that it may not be stored, and nothing beside that."""
    return all(answer.of(name) == [value] for name, value in _STATED.items())


def _caching_of(answer: HttpAnswer) -> str:
    return ", ".join(f"{name}: {', '.join(answer.of(name))[:_SHOWN] or 'none'}" for name in _STATED)


def _anything(_answer: HttpAnswer) -> Iterator[str]:
    return iter(())


def _hits(answer: HttpAnswer) -> Iterator[str]:
    for name in _HITS:
        for value in answer.of(name):
            if "hit" in value.lower().replace(";", " ").replace(",", " ").split():
                yield f"{name}: {value[:_SHOWN]}"
