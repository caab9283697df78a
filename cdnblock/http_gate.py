"""What every HTTP host does with a request: one question, four actions. Adapters only translate.

    gate = HttpGate(enforcer, operator_url="https://edge.example/blocked")
    if gate.concerns(host):                       # hardly ever true, and all that other requests pay
        verdict = gate.judge(method="GET", hosts=[host], peer="198.51.100.7", headers=request_headers)

What happens when something in a decision fails is decided here, for all hosts alike (`OnFailure`).
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

from cdnblock.enforcer import Enforcer, Headers
from cdnblock.matching.coverage import Coverage
from cdnblock.matching.decision import Decision
from cdnblock.matching.ruleset import Uncovered
from cdnblock.measures import proxy_termination
from cdnblock.measures.notice.contents import check_operator
from cdnblock.measures.proxy_termination import Answer
from cdnblock.orders.model import VARIANTS, Measure

COMPLAIN_EVERY: Final = 60.0  # seconds between two log records of one kind: a failure may come with each request

_NOTICES: Final = 512  # rendered notices that are kept: one costs half a millisecond, and many clients ask for the same
_LONGEST_KEY: Final = 512  # characters that a client may choose of what a notice is kept under
_ABSOLUTE: Final = re.compile(rb"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)  # RFC 9112 §3.2.2
_FORWARDED: Final = ("x-forwarded-for", "forwarded")
_LOG: Final = logging.getLogger(__name__)

Name: TypeAlias = str | bytes
_T = TypeVar("_T")


class OnFailure(StrEnum):
    """What becomes of a request when an exception inside a decision leaves none."""

    CLOSED = "closed"
    """503 where an order names the host, or where not even that can be told; all other hosts are served.

    So are hosts that orders in mode report alone name.
    """
    OPEN = "open"
    """Served. What was decided before something failed stands all the same."""


class Action(StrEnum):
    """What a host is to do with a request."""

    PASS = "pass"  # noqa: S105 (no password)
    """Handle it as ever."""
    PASS_UNCACHED = "pass-uncached"  # noqa: S105 (no password)
    """Measure `cdn`: handle it without any cache, and change its headers by `measures.cache_disable`."""
    ANSWER = "answer"
    """Send the verdict's answer instead, and nothing of the application's."""
    CLOSE = "close"
    """Measure `proxy: close`: end the connection (of HTTP/2 and /3: the stream) without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do with one request, and why.

    `answer` is there when the action is ANSWER, but for whoever said that he has no use for it. `decision` is the one
    that counted; None where none could be made or none was asked for. `client` is whose request it is, None when that
    cannot be told or did not matter.
    """

    action: Action
    answer: Answer | None = None
    decision: Decision | None = None
    client: str | None = None


_PASS: Final = Verdict(action=Action.PASS)
# Made beforehand: the last resort has nothing in it that could fail.
_FAILED: Final = {head: proxy_termination.failure(method="HEAD" if head else "GET") for head in (True, False)}
_BAD_HOST: Final = {head: proxy_termination.bad_host(method="HEAD" if head else "GET") for head in (True, False)}


def names_of(
    *, host_fields: Sequence[Name], target: Name = b"/", method: str = "GET", http_1_0: bool = False
) -> tuple[Name, ...] | None:
    """Return every name that a request carries: its Host fields, and the authority of its target.

    `host_fields` are the values of its Host lines, or its `:authority`; `target` is the request target as it was sent:
    in absolute form it names a host of its own (RFC 9112 §3.2.2), and under CONNECT it is one. Both are asked for,
    because what is behind may go by either.

    Returns () for what deserves a 400 (RFC 9112 §3.2: no Host line, or more than one), as `judge` takes it; None where
    nothing is named and nothing need be, which HTTP/1.0 alone allows: no order can name such a request. There a server
    may put an empty Host in the place of none. White space around a Host means nothing (RFC 9110 §5.5).
    """
    if len(host_fields) > 1:
        return ()
    host_fields = [name.strip(b" \t") if isinstance(name, bytes) else name.strip(" \t") for name in host_fields]
    if http_1_0 and host_fields and not host_fields[0]:
        host_fields = []
    octets = target.encode("utf-8", "surrogatepass") if isinstance(target, str) else target
    if method == "CONNECT":
        return (*host_fields, octets)
    absolute = None if octets.startswith(b"/") else _ABSOLUTE.match(octets)
    if not host_fields:
        if not http_1_0:
            return ()
        return None if absolute is None else (absolute[1],)
    return tuple(host_fields) if absolute is None else (*host_fields, absolute[1])


class HttpGate:
    """Judges requests for one enforcer. Thread-safe, without I/O; once it is made, nothing in it raises.

    `operator_url` is the page of whoever runs this edge, for the notice's `Link`; `contact` is shown for orders that
    name nobody. `on_failure` says what becomes of a request when something in a decision raises.

    Raises ConfigError where nobody should be shown `operator_url` or `contact` (`notice.contents.check_operator`).
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        operator_url: str | None = None,
        contact: str | None = None,
        on_failure: OnFailure | str = OnFailure.CLOSED,
    ) -> None:
        check_operator(operator_url, contact)
        self.enforcer = enforcer
        self.failures = 0
        """How many questions could not be answered because something raised; each was logged or counted with one."""
        self._operator_url = operator_url
        self._contact = contact
        self._on_failure = OnFailure(on_failure)
        self._unnamed: Uncovered | None = None  # what the rules say of all hosts that no order names, as last seen
        self._notices: dict[tuple[object, ...], tuple[Decision, Answer]] = {}
        self._complained: dict[str, float] = {}
        self._counting = threading.Lock()

    def concerns(self, host: Name) -> bool:
        """Tell whether a request for this host needs a verdict: an order names it, or it is no host name.

        False for nearly all, at the cost of one look-up. True where it cannot be told.
        """
        try:
            found = self.enforcer._rules.hosts[host]  # noqa: SLF001 (`rules` costs as much as the look-up)
            if found is self._unnamed:
                return False
            if not isinstance(found, Uncovered) or found.decision.malformed:
                return True
        except Exception:  # noqa: BLE001 (the verdict that is asked for now tells what is wrong)
            return True
        self._unnamed = found
        return False

    def judge(
        self, *, method: str, hosts: Sequence[Name], peer: str | None, headers: Headers, can_close: bool = True
    ) -> Verdict:
        """Return what to do with a request.

        `hosts` are all names that it carries, as `names_of` returns them: each is asked for, and the strictest
        decision counts. () is the request that names no host, or several Host lines: 400, as for a name that is no
        host name (RFC 9112 §3.2). `peer` is the address of whoever sent it, `headers` its header lines with all their
        repetitions, from which the client's address and the notice's language and type are told. Without `can_close`
        the host cannot end a connection without an answer: then CLOSE is never said, and the notice stands for it.
        """
        if hosts and not any(map(self.concerns, hosts)):
            return _PASS
        try:
            lines = tuple(headers.items() if isinstance(headers, Mapping) else headers)
            client = self.enforcer.client_address(peer, lines)
            if client is None and not peer and not self.enforcer.trusts(peer) and _is_forwarded(lines):
                self._complain(
                    "unix",
                    "a proxy on a Unix socket tells whose requests it brings, and is not believed: no client has a"
                    " country. To believe it, name `unix` among the trusted proxies",
                )
        except Exception as error:  # noqa: BLE001 (whatever it is, it neither opens the gate nor is silent)
            return self._failed(error, method, hosts)
        return self.judge_client(method=method, hosts=hosts, client=client, headers=lines, can_close=can_close)

    def judge_client(
        self,
        *,
        method: str,
        hosts: Sequence[Name],
        client: str | None,
        headers: Headers,
        can_close: bool = True,
        with_notice: bool = True,
    ) -> Verdict:
        """Return what `judge` does, for a client whose address is known already; None where it cannot be told.

        Of the `headers` only `Accept` and `Accept-Language` matter, and they are only read for a notice. Who has no use
        for one says so: then what is refused has no answer.
        """
        try:
            decision = self._decide(hosts, client)
        except Exception as error:  # noqa: BLE001 (as above)
            return self._failed(error, method, hosts)
        if Measure.PROXY in decision.measures:
            if can_close and proxy_termination.closes(decision):
                return Verdict(action=Action.CLOSE, decision=decision, client=client)
            if not with_notice:
                return Verdict(action=Action.ANSWER, decision=decision, client=client)
            # It has been decided: a notice that fails opens nothing.
            answer = self._guarded(lambda: self._notice(decision, method, headers), otherwise=_FAILED[method == "HEAD"])
            return _answering(answer, decision, client)
        if decision.malformed:
            return _answering(_BAD_HOST[method == "HEAD"], decision, client)
        action = Action.PASS_UNCACHED if Measure.CDN in decision.measures else Action.PASS
        return Verdict(action=action, decision=decision, client=client)

    def judge_running(self, hosts: Sequence[Name], client: str | None) -> Verdict:
        """Return what is to be done about what runs for these names and this client: CLOSE where it has to end now.

        A name that is no host name was let through once, and ends nothing now.
        """
        if not any(map(self.concerns, hosts)):
            return _PASS
        verdict = self._guarded(lambda: self._verdict_on_running(hosts, client), otherwise=None)
        if verdict is not None:
            return verdict
        return _PASS if self._opens(hosts) else Verdict(action=Action.CLOSE, client=client)

    def cuts(self, hosts: Sequence[Name], client: str | None) -> bool:
        """Tell whether what runs for these names and this client has to end now: measure `proxy` applies."""
        return self.judge_running(hosts, client).action is Action.CLOSE

    def uncached(self, hosts: Sequence[Name], client: str | None) -> bool:
        """Tell whether measure `cdn` applies now: no stored copy may be used, none kept, and headers change."""
        if not any(map(self.concerns, hosts)):
            return False
        closed = not self._opens(hosts)
        return self._guarded(lambda: Measure.CDN in self._decide(hosts, client).measures, otherwise=closed)

    def client_address(self, peer: str | None, headers: Headers) -> str | None:
        """Return whose request it is, None where it cannot be told."""
        return self._guarded(lambda: self.enforcer.client_address(peer, headers), otherwise=None)

    def _verdict_on_running(self, hosts: Sequence[Name], client: str | None) -> Verdict:
        decision = self._decide(hosts, client)
        uncached = Action.PASS_UNCACHED if Measure.CDN in decision.measures else Action.PASS
        action = Action.CLOSE if Measure.PROXY in decision.measures else uncached
        return Verdict(action=action, decision=decision, client=client)

    def _decide(self, hosts: Sequence[Name], client: str | None) -> Decision:
        if len(hosts) == 1:
            return self.enforcer.decide(hosts[0], client)
        if not hosts:
            return Decision(measures={}, malformed=True)
        return min([self.enforcer.decide(host, client) for host in hosts], key=_leniency)

    def _notice(self, decision: Decision, method: str, headers: Headers) -> Answer:
        lines = tuple(headers.items() if isinstance(headers, Mapping) else headers)
        accept, language = _joined(lines, b"accept"), _joined(lines, b"accept-language")
        key = (id(decision), accept, language, method == "HEAD")
        kept = self._notices.get(key)
        if kept is not None:
            return kept[1]
        answer = proxy_termination.notice(
            decision,
            accept=accept,
            accept_language=language,
            method=method,
            operator_url=self._operator_url,
            contact=self._contact,
        )
        if len(accept or "") + len(language or "") <= _LONGEST_KEY:
            if len(self._notices) >= _NOTICES:
                self._notices.clear()
            # With the decision: as long as it is kept, no other one can have its id.
            self._notices[key] = decision, answer
        return answer

    def _failed(self, error: Exception, method: str, hosts: Sequence[Name]) -> Verdict:
        self._count(error)
        return _PASS if self._opens(hosts) else _answering(_FAILED[method == "HEAD"])

    def _opens(self, hosts: Sequence[Name]) -> bool:
        """Tell whether a request without a decision is served: where that is wanted, and where orders only report."""
        if self._on_failure is OnFailure.OPEN:
            return True
        try:
            return bool(hosts) and not any(_may_be_refused(self.enforcer.rules.find(host)) for host in hosts)
        except Exception:  # noqa: BLE001 (not even that can be told)
            return False

    def _guarded(self, ask: Callable[[], _T], *, otherwise: _T) -> _T:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 (whatever it is, it neither opens the gate nor is silent)
            self._count(error)
            return otherwise

    def _count(self, error: Exception) -> None:
        """Count a failure, and log its kind once a minute."""
        with self._counting:
            self.failures += 1
            self.enforcer.vitals.decision_failures += 1
        kind = type(error).__qualname__
        text = (
            f"no decision could be made (on failure: {self._on_failure.value}; {kind} is told once a minute): {error}"
        )
        self._complain(kind, text, error)

    def _complain(self, kind: str, text: str, error: Exception | None = None) -> None:
        now = time.monotonic()
        with self._counting:
            if now - self._complained.get(kind, -COMPLAIN_EVERY) < COMPLAIN_EVERY:
                return
            self._complained[kind] = now
        _LOG.error("cdnblock: %s", text, exc_info=error)


def _may_be_refused(found: Coverage | Uncovered) -> bool:
    return found.decision.malformed if isinstance(found, Uncovered) else found.enforced


def _answering(answer: Answer, decision: Decision | None = None, client: str | None = None) -> Verdict:
    return Verdict(action=Action.ANSWER, answer=answer, decision=decision, client=client)


def _leniency(decision: Decision) -> int:
    """Order decisions: measure `proxy` in its variants, what is no host name, measure `cdn`, a dry run, and nothing."""
    variants = VARIANTS[Measure.PROXY]
    if Measure.PROXY in decision.measures:
        return variants.index(decision.measures[Measure.PROXY])
    if decision.malformed:
        return len(variants)
    return len(variants) + (1 if Measure.CDN in decision.measures else 2 if decision.would else 3)


def _is_forwarded(lines: Iterable[tuple[Name, Name]]) -> bool:
    return any(_text(name).lower() in _FORWARDED for name, _ in lines)


def _joined(lines: Iterable[tuple[Name, Name]], name: bytes) -> str | None:
    """Return a field's lines joined by a comma (RFC 9110 §5.3), None where there is none."""
    found = [_text(value) for key, value in lines if len(key) == len(name) and _text(key).lower() == name.decode()]
    return ", ".join(found) if found else None


def _text(value: Name) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
