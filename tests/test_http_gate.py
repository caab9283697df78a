"""The gate: what each HTTP host does with a request, and what it does when something in a decision fails."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from order_texts import order_text
from small_table import FRANCE, GERMANY, NOWHERE

from cdnblock import Enforcer, proxy_termination
from cdnblock.http_gate import Action, HttpGate, OnFailure, names_of

PROXY, UNCACHED, CLOSED, LATER = "blocked.example", "uncached.example", "closed.example", "later.example"
ORDERS = {
    PROXY: "{dns: refuse, cdn: disable, proxy: terminate}",
    UNCACHED: "{cdn: disable}",
    CLOSED: "{proxy: close}",
}
NOW = datetime(2026, 5, 1, tzinfo=UTC).timestamp()
LATER_STARTS = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
NO_HOST = "a b"


@dataclass
class Clock:
    """A clock that an operator can break."""

    now: float = NOW
    fault: Exception | None = None
    asked: int = field(default=0)

    def __call__(self):
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def enforcer(tmp_path, small_mmdb, clock):
    for name, measures in ORDERS.items():
        (tmp_path / f"{name}.yaml").write_text(
            order_text(id=name.partition(".")[0], names=f"[{name}]", measures=measures)
        )
    later = datetime.fromtimestamp(LATER_STARTS, UTC).isoformat()
    (tmp_path / "later.yaml").write_text(order_text(id="later", names=f"[{LATER}]", begins=later))
    with Enforcer(tmp_path, geo=small_mmdb, follow=False, trusted_proxies=["127.0.0.1"], clock=clock) as enforcer:
        yield enforcer


@pytest.fixture
def gate(enforcer):
    return HttpGate(enforcer, operator_url="https://edge.example/blocked", contact="legal@edge.example")


def ask(gate, *hosts, peer=FRANCE, method="GET", headers=()):
    return gate.judge(method=method, hosts=hosts, peer=peer, headers=headers)


def shown(verdict):
    return verdict.action.value, None if verdict.answer is None else verdict.answer.status


@pytest.mark.parametrize(
    ("hosts", "peer", "expected"),
    [
        ([PROXY], FRANCE, ("answer", 451)), ([f"www.{PROXY}:8080"], FRANCE, ("answer", 451)),
        ([b"BLOCKED.example."], FRANCE, ("answer", 451)), ([PROXY], GERMANY, ("pass", None)),
        ([PROXY], NOWHERE, ("pass", None)), ([PROXY], None, ("pass", None)),
        ([UNCACHED], FRANCE, ("pass-uncached", None)), ([UNCACHED], GERMANY, ("pass", None)),
        ([CLOSED], FRANCE, ("close", None)), ([CLOSED], GERMANY, ("pass", None)),
        (["other.example"], FRANCE, ("pass", None)), (["notblocked.example"], FRANCE, ("pass", None)),
        ([NO_HOST], GERMANY, ("answer", 400)), ([""], FRANCE, ("answer", 400)), ([], FRANCE, ("answer", 400)),
        # Several names: the strictest counts, whichever stands first.
        (["other.example", PROXY], FRANCE, ("answer", 451)), ([PROXY, "other.example"], FRANCE, ("answer", 451)),
        ([PROXY, CLOSED], FRANCE, ("close", None)), ([CLOSED, PROXY], FRANCE, ("close", None)),
        ([UNCACHED, PROXY], FRANCE, ("answer", 451)), (["other.example", UNCACHED], FRANCE, ("pass-uncached", None)),
        ([NO_HOST, PROXY], FRANCE, ("answer", 451)), ([PROXY, NO_HOST], GERMANY, ("answer", 400)),
        ([UNCACHED, NO_HOST], FRANCE, ("answer", 400)), (["other.example", NO_HOST], FRANCE, ("answer", 400)),
    ],
    ids=repr,
)  # fmt: skip
def test_a_request_gets_one_of_four_actions(gate, hosts, peer, expected):
    """By its names and its client; of several names the strictest decision counts."""
    assert shown(ask(gate, *hosts, peer=peer)) == expected
    assert gate.failures == 0


@pytest.mark.parametrize(
    ("host", "concerned"),
    [
        (PROXY, True), (f"www.{PROXY}", True), (LATER, True), (UNCACHED.encode(), True), (NO_HOST, True), ("", True),
        (b"\xff", True), (None, True), ([], True),
        ("other.example", False), ("notblocked.example", False), (b"other.example:80", False), ("192.0.2.1", False),
        ("[2001:db8::1]:80", False),
    ],
    ids=ascii,
)  # fmt: skip
def test_it_is_concerned_by_what_an_order_names_and_by_what_is_no_host(gate, host, concerned):
    """All other hosts need no verdict, whoever asks for them and whenever."""
    assert gate.concerns(host) is concerned


def test_a_host_that_no_order_names_costs_no_look_at_clock_or_headers(gate, clock):
    """Neither the clock nor the request's headers are touched for it."""
    before = clock.asked

    def headers():
        raise AssertionError("nobody wants these")
        yield

    assert shown(ask(gate, "other.example", headers=headers())) == ("pass", None)
    assert clock.asked == before


def test_a_host_that_cannot_close_sends_the_notice(gate):
    """What it may not do without an answer it does with one; it never serves."""
    verdict = gate.judge(method="GET", hosts=[CLOSED], peer=FRANCE, headers=(), can_close=False)
    assert shown(verdict) == ("answer", 451)
    assert shown(gate.judge(method="GET", hosts=[CLOSED], peer=GERMANY, headers=(), can_close=False)) == ("pass", None)


def test_the_client_comes_from_trusted_proxies_only(gate):
    """The verdict says whose request it is, so that the host can ask again after a change."""
    forwarded = [(b"X-Forwarded-For", FRANCE.encode())]
    assert ask(gate, PROXY, peer="127.0.0.1", headers=forwarded).client == FRANCE
    assert shown(ask(gate, PROXY, peer="127.0.0.1", headers={"X-Forwarded-For": FRANCE})) == ("answer", 451)
    assert shown(ask(gate, PROXY, peer=GERMANY, headers=forwarded)) == ("pass", None)


@pytest.mark.parametrize(
    ("headers", "method", "language", "content_type", "has_body"),
    [
        ([], "GET", "fr", "text/plain; charset=utf-8", True),
        ([("Accept-Language", "en")], "POST", "en", "text/plain; charset=utf-8", True),
        ([(b"ACCEPT", b"text/html"), (b"accept-language", b"de"), (b"accept-language", b"en")], "GET",
         "en", "text/html; charset=utf-8", True),
        ([("accept", "application/json")], "HEAD", "fr", "application/problem+json", False),
    ],
)  # fmt: skip
def test_the_notice_is_in_the_clients_language_and_form(gate, headers, method, language, content_type, has_body):
    """Several lines of one field are one list; the operator's page is linked."""
    for _ in range(2):  # the second one from what is kept
        answer = ask(gate, PROXY, method=method, headers=headers).answer
        fields = dict(answer.headers)
        assert (fields["Content-Language"], fields["Content-Type"]) == (language, content_type)
        assert fields["Link"] == '<https://edge.example/blocked>; rel="blocked-by"'
        assert bool(answer.body) is has_body


def test_a_bad_request_by_head_has_no_body(gate):
    """HEAD gets the 400 without its text."""
    assert ask(gate, method="HEAD").answer.body == b""
    assert ask(gate).answer.body != b""


def test_notices_are_not_kept_without_end(gate):
    """A client that varies what it accepts fills no memory."""
    for number in range(2_000):
        ask(gate, PROXY, headers=[("Accept", f"text/html;q=0.{number:04}")])
    ask(gate, PROXY, headers=[("Accept", "text/html," * 10_000)])
    assert len(gate._notices) <= 512
    assert max(len(key[1] or "") for key in gate._notices) <= 512


def test_what_runs_is_asked_about_again(gate, clock):
    """An order that takes effect cuts its names for its clients, and switches their caching off; no other's."""
    asked = [((LATER,), FRANCE), ((LATER,), GERMANY), (("other.example", LATER), FRANCE), (("other.example",), FRANCE)]
    assert [gate.cuts(hosts, client) for hosts, client in asked] == [False, False, False, False]
    clock.now = LATER_STARTS
    assert [gate.cuts(hosts, client) for hosts, client in asked] == [True, False, True, False]
    assert [gate.uncached(hosts, client) for hosts, client in asked] == [True, False, True, False]
    assert gate.cuts((UNCACHED,), FRANCE) is False
    assert gate.uncached((UNCACHED,), FRANCE) is True
    assert gate.cuts((), FRANCE) is False


# Faults


@pytest.fixture
def broken(enforcer, clock):
    clock.fault = OSError("the clock is gone")
    return enforcer


@pytest.mark.parametrize("host", [PROXY, UNCACHED, CLOSED, LATER])
def test_a_decision_that_fails_is_a_503_where_an_order_names_the_host(broken, host, caplog):
    """Nothing of what may be covered passes; it is logged and counted."""
    gate = HttpGate(broken)
    verdict = ask(gate, host)
    assert shown(verdict) == ("answer", 503)
    assert ("Cache-Control", "no-store") in verdict.answer.headers
    assert ask(gate, host, method="HEAD").answer.body == b""
    assert gate.failures == 2
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the clock is gone" in caplog.text


@pytest.mark.parametrize(
    ("trusted", "peer", "headers", "expected"),
    [
        ((), None, [("X-Forwarded-For", FRANCE)], (None, 1)), ((), "", [(b"forwarded", b"for=1.2.3.4")], (None, 1)),
        ((), None, [], (None, 0)), ((), "127.0.0.2", [("X-Forwarded-For", FRANCE)], (None, 0)),
        (["unix"], None, [("X-Forwarded-For", FRANCE)], (451, 0)), (["unix"], "", [("X-Forwarded-For", FRANCE)], (451, 0)),
    ],
)  # fmt: skip
def test_a_proxy_on_a_unix_socket_has_to_be_trusted_by_name(
    tmp_path, small_mmdb, clock, caplog, trusted, peer, headers, expected
):
    """It has no address: what it says of its clients is believed where `unix` is trusted, and else complained about, once."""
    (tmp_path / "order.yaml").write_text(order_text(names=f"[{PROXY}]"))
    with Enforcer(tmp_path, geo=small_mmdb, trusted_proxies=trusted, follow=False, clock=clock) as own:
        gate = HttpGate(own)
        for _ in range(2):
            verdict = gate.judge(method="GET", hosts=[PROXY], peer=peer, headers=headers)
            assert (verdict.answer and verdict.answer.status) == expected[0]
    assert [record.message.count("`unix`") for record in caplog.records] == [1] * expected[1]


def test_other_hosts_are_served_while_decisions_fail(broken, caplog):
    """A host that no order names cannot be covered, so nothing that fails is its business."""
    gate = HttpGate(broken)
    assert shown(ask(gate, "other.example")) == ("pass", None)
    assert shown(ask(gate, "other.example", "third.example")) == ("pass", None)
    assert gate.cuts(("other.example",), FRANCE) is False
    assert (gate.failures, caplog.records) == (0, [])


def test_all_hosts_get_503_when_it_cannot_be_told_which_are_named(enforcer, caplog):
    """Without rules nobody knows what is covered: closed means everything."""
    gate = HttpGate(enforcer)
    enforcer._rules = None
    assert gate.concerns("other.example")
    assert shown(ask(gate, "other.example")) == ("answer", 503)
    assert gate.cuts(("other.example",), FRANCE) is True
    assert gate.failures == 2
    assert "AttributeError" in caplog.text


@pytest.mark.parametrize("on_failure", [OnFailure.OPEN, "open"])
def test_open_serves_and_raises_the_alarm(broken, on_failure, caplog):
    """The operator's choice: what cannot be decided passes, and is never silent."""
    gate = HttpGate(broken, on_failure=on_failure)
    assert shown(ask(gate, PROXY)) == ("pass", None)
    assert gate.cuts((PROXY,), FRANCE) is False
    assert gate.failures == 2
    assert [(record.levelname, "on failure: open" in record.message) for record in caplog.records] == [("ERROR", True)]


def test_what_runs_is_cut_when_nobody_can_tell_whether_it_may_go_on(broken):
    """Closed: a stream of a named host ends; caching of it is off."""
    gate = HttpGate(broken)
    assert gate.cuts((PROXY,), GERMANY) is True
    assert gate.uncached((PROXY,), GERMANY) is True


@pytest.mark.parametrize("on_failure", OnFailure)
def test_a_notice_that_fails_opens_nothing(enforcer, on_failure, monkeypatch, caplog):
    """It was decided that the request is refused: then it is, if only by a 503, and a close stays a close."""

    def fail(*arguments, **keywords):
        raise KeyError("no such wording")

    monkeypatch.setattr(proxy_termination, "notice", fail)
    gate = HttpGate(enforcer, on_failure=on_failure)
    assert shown(ask(gate, PROXY)) == ("answer", 503)
    assert shown(ask(gate, CLOSED)) == ("close", None)
    assert gate.failures == 1
    assert "no such wording" in caplog.text


def test_headers_that_cannot_be_read_do_not_open_the_gate(gate):
    """A host that hands on what it could not read gets a 503 for covered hosts, and no exception."""
    assert shown(ask(gate, PROXY, headers=[("only a name",)])) == ("answer", 503)
    assert shown(ask(gate, PROXY, headers=None)) == ("answer", 503)
    assert gate.client_address(FRANCE, [("only a name",)]) == FRANCE
    assert gate.client_address("127.0.0.1", [("only a name",)]) is None


def test_each_kind_of_failure_is_logged_once_a_minute(broken, clock, caplog, monkeypatch):
    """A failing part fails for each request: the log says so at once, and then once a minute."""
    gate = HttpGate(broken)
    for _ in range(50):
        ask(gate, PROXY)
    clock.fault = ZeroDivisionError("another")
    for _ in range(50):
        ask(gate, PROXY)
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.ERROR]
    assert gate.failures == 100
    started = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: started + 61)
    ask(gate, PROXY)
    assert len(caplog.records) == 3


def test_a_choice_that_there_is_not_is_refused(enforcer):
    """A spelling mistake in the configuration must not choose a policy."""
    with pytest.raises(ValueError, match="opne"):
        HttpGate(enforcer, on_failure="opne")


# Which names a request carries


@pytest.mark.parametrize(
    ("request_line", "host_fields", "expected"),
    [
        ("GET / HTTP/1.1", ["a.example"], ("a.example",)),
        ("GET http://b.example/x HTTP/1.1", ["a.example"], ("a.example", b"b.example")),
        ("GET HTTPS://b.example:8443?x HTTP/1.1", ["a.example"], ("a.example", b"b.example:8443")),
        ("GET ftp://b.example/x HTTP/1.1", ["a.example"], ("a.example", b"b.example")),
        ("GET http://b.example#c HTTP/1.1", ["a.example"], ("a.example", b"b.example")),
        ("GET http://u@b.example/ HTTP/1.1", ["a.example"], ("a.example", b"u@b.example")),  # no host name: 400
        ("GET http:///x HTTP/1.1", ["a.example"], ("a.example", b"")),
        ("GET /http://b.example/ HTTP/1.1", ["a.example"], ("a.example",)),
        ("GET //b.example/ HTTP/1.1", ["a.example"], ("a.example",)),
        ("GET /?u=http://b.example/ HTTP/1.1", ["a.example"], ("a.example",)),
        ("OPTIONS * HTTP/1.1", ["a.example"], ("a.example",)),
        ("CONNECT b.example:443 HTTP/1.1", ["a.example"], ("a.example", b"b.example:443")),
        ("CONNECT b.example:443 HTTP/1.1", [], (b"b.example:443",)),
        # RFC 9112 §3.2: 400
        ("GET / HTTP/1.1", [], ()), ("GET http://b.example/ HTTP/1.1", [], ()),
        ("GET / HTTP/1.1", ["a.example", "b.example"], ()), ("GET / HTTP/1.1", ["a.example", "a.example"], ()),
        ("GET / HTTP/1.0", ["a.example", "b.example"], ()),
        # HTTP/1.0 may name nothing.
        ("GET / HTTP/1.0", [], None), ("GET http://b.example/ HTTP/1.0", [], (b"b.example",)),
        ("GET / HTTP/1.0", ["a.example"], ("a.example",)), ("GET / HTTP/1.0", [""], None), ("GET / HTTP/1.1", [""], ("",)),
        ("GET http://b.example/ HTTP/1.0", [""], (b"b.example",)), ("GET / HTTP/1.1", ["\ta.example \t"], ("a.example",)),
        ("GET / HTTP/1.1", [" \t"], ("",)), ("GET / HTTP/1.1", ["\va.example"], ("\va.example",)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("octets", [True, False], ids=["octets", "text"])
def test_the_names_that_a_request_carries(request_line, host_fields, expected, octets):
    """Host, and the authority of an absolute-form target or of CONNECT."""
    method, target, version = request_line.split(" ")
    names = names_of(
        host_fields=host_fields,
        target=target.encode() if octets else target,
        method=method,
        http_1_0=version == "HTTP/1.0",
    )
    assert names == expected


def test_octets_that_are_no_text_make_no_name_of_a_target(gate):
    """A target with them is a 400, not an exception."""
    names = names_of(host_fields=["other.example"], target="http://\udcff.example/")
    assert shown(ask(gate, *names)) == ("answer", 400)
    assert Action("answer") is Action.ANSWER
