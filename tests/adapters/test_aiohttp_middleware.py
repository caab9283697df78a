"""The aiohttp middleware over real sockets: applications, reverse proxies, and what runs when an order takes effect."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from free_ports import free_port
from order_texts import order_text
from small_table import FRANCE, GERMANY

from cdnblock.adapters import aiohttp_middleware
from cdnblock.adapters.aiohttp_middleware import CdnblockMiddleware
from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError
from cdnblock.http_gate import HttpGate
from cdnblock.testing.wire import Http1, Request

sys.path.insert(0, str(Path(__file__).parent))

from http_servers import ROOT, serving_aiohttp

NOW = datetime(2026, 5, 1, tzinfo=UTC).timestamp()
STARTS = datetime(2026, 6, 1, tzinfo=UTC)
BLOCKED, UNCACHED, CLOSED, LATER = "blocked.example", "uncached.example", "closed.example", "later.example"
BOUND = 5.0  # seconds; far above what it takes
NO_STORE = {"Cache-Control": ["no-store"], "CDN-Cache-Control": ["no-store"], "Expires": [], "X-Kept": ["yes"]}
CACHED = {"Cache-Control": ["max-age=600"], "CDN-Cache-Control": [], "Expires": ["0"], "X-Kept": ["yes"]}
PAGE = {"Cache-Control": "max-age=600", "Expires": "0", "X-Kept": "yes"}


class Clock:
    """A clock that is set by hand, and can be broken."""

    now: float = NOW
    broken = False

    def __call__(self):
        if self.broken:
            raise OSError("the clock is gone")
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def enforcer(tmp_path, small_mmdb, clock):
    orders = tmp_path / "orders"
    orders.mkdir()
    for name, measures in {
        BLOCKED: "{proxy: terminate}", UNCACHED: "{cdn: disable}", CLOSED: "{proxy: close}",
    }.items():  # fmt: skip
        text = order_text(id=name.partition(".")[0], names=f"[{name}]", measures=measures)
        (orders / f"{name}.yaml").write_text(text)
    (orders / "later.yaml").write_text(order_text(id="later", names=f"[{LATER}]", begins=STARTS.isoformat()))
    with Enforcer(orders, geo=small_mmdb, trusted_proxies=["127.0.0.1"], clock=clock) as enforcer:
        yield enforcer


@pytest.fixture
def guard(enforcer):
    return CdnblockMiddleware(HttpGate(enforcer, operator_url="https://edge.example/blocked"))


def ask(address, *hosts, client=FRANCE, target="/", method="GET", version="1.1", headers=()):
    with Http1(address) as connection:
        lines = (("X-Forwarded-For", client), *headers)
        return connection.ask(Request(method=method, target=target, hosts=hosts, headers=lines, version=version))


def fields(answer):
    return {name: answer.of(name) for name in NO_STORE}


async def page(request):
    return web.Response(text="The site.", headers=PAGE)


async def streamed(request):
    response = web.StreamResponse(headers=PAGE)
    await response.prepare(request)
    await response.write(b"The site.")
    return response


async def raising(request):
    raise web.HTTPForbidden(text="The site.", headers=PAGE)


def application(*routes):
    app = web.Application()
    for path, handler in routes or [("/{path:.*}", page)]:
        app.router.add_route("*", path, handler)
    return app


@contextmanager
def serving(guard, app):
    guard.install(app)
    with serving_aiohttp(app) as address:
        yield address


@pytest.mark.parametrize(
    ("hosts", "target", "version", "client", "status"),
    [
        ([BLOCKED], "/", "1.1", FRANCE, 451), ([BLOCKED], "/", "1.1", GERMANY, 200), (["other.example"], "/", "1.1", FRANCE, 200),
        (["WWW.Blocked.Example.:8080"], "/", "1.1", FRANCE, 451), ([BLOCKED], "/", "1.0", FRANCE, 451),
        # The absolute form counts, and Host beside it is not forgotten: an application may go by either.
        (["other.example"], f"http://{BLOCKED}/", "1.1", FRANCE, 451), ([BLOCKED], "http://other.example/", "1.1", FRANCE, 451),
        (["other.example"], f"HTTP://{BLOCKED.upper()}:80?x", "1.1", FRANCE, 451),
        (["other.example"], f"http://{BLOCKED}/", "1.1", GERMANY, 200), (["other.example"], f"/http://{BLOCKED}/", "1.1", FRANCE, 200),
        (["other.example"], "http:///", "1.1", FRANCE, 400), (["other.example"], f"http://u@{BLOCKED}/", "1.1", FRANCE, 400),
        # RFC 9112 §3.2
        ([], "/", "1.1", FRANCE, 400), (["other.example", "other.example"], "/", "1.1", FRANCE, 400),
        (["other.example", BLOCKED], "/", "1.1", FRANCE, 400), ([f"other.example,{BLOCKED}"], "/", "1.1", FRANCE, 400), (["a b"], "/", "1.1", GERMANY, 400), ([""], "/", "1.1", FRANCE, 400),
        # HTTP/1.0 may name nothing.
        ([], "/", "1.0", FRANCE, 200), ([], f"http://{BLOCKED}/", "1.0", FRANCE, 451),
    ],
)  # fmt: skip
def test_a_request_is_judged_by_its_own_target(guard, hosts, target, version, client, status):
    """By Host and by the authority of an absolute form, before the application sees either."""
    with serving(guard, application()) as address:
        answer = ask(address, *hosts, target=target, version=version, client=client)
        assert answer.status == status
        if status == 451:
            assert answer.of("Link") == ['<https://edge.example/blocked>; rel="blocked-by"']
            assert answer.of("Cache-Control") == ["no-store"]
            assert answer.whole


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PURGE", "CONNECT"])
def test_every_method_is_refused(guard, method):
    """HEAD without a body; the connection goes on where HTTP lets it."""
    with serving(guard, application()) as address:
        answer = ask(address, BLOCKED, method=method, target=f"{BLOCKED}:443" if method == "CONNECT" else "/")
        assert answer.status == 451
        assert (answer.body == b"") is (method == "HEAD")


@pytest.mark.parametrize("handler", [page, streamed, raising])
def test_caching_is_switched_off_however_the_handler_answers(guard, handler):
    """Responses, streams and exceptions: for covered names and clients only."""
    with serving(guard, application(("/", handler))) as address:
        for _ in range(2):
            covered = ask(address, UNCACHED)
            assert (covered.body, fields(covered)) == (b"The site.", NO_STORE)
        for other in (ask(address, UNCACHED, client=GERMANY), ask(address, "other.example")):
            assert (other.body, fields(other)) == (b"The site.", CACHED)
        assert fields(ask(address, UNCACHED, target="http://other.example/")) == NO_STORE


@pytest.mark.parametrize("handler", [page, streamed, raising])
def test_caching_stays_off_whatever_an_application_does_last(guard, handler):
    """Its own signal, installed behind the guard, writes the header that everybody writes there."""

    async def public(_request, response):
        response.headers["Cache-Control"] = "public, max-age=3600"

    app = application(("/", handler))
    guard.install(app)
    app.on_response_prepare.append(public)
    with serving_aiohttp(app) as address:
        assert fields(ask(address, UNCACHED)) == NO_STORE
        assert fields(ask(address, UNCACHED, client=GERMANY))["Cache-Control"] == ["public, max-age=3600"]


def test_what_no_route_takes_is_judged_too(guard):
    """A 404 of the application is the application's only where nothing covers the host."""
    with serving(guard, application(("/here", page))) as address:
        assert ask(address, "other.example", target="/nowhere").status == 404
        assert ask(address, BLOCKED, target="/nowhere").status == 451


def test_an_answer_without_a_word_is_none_at_all(guard):
    """Variant `close`: the connection ends."""
    with serving(guard, application()) as address:
        assert ask(address, CLOSED).status == 0
        assert ask(address, CLOSED, client=GERMANY).status == 200


@pytest.mark.parametrize("guards", ["both", "the outer", "the inner"])
def test_sub_applications_and_a_second_guard(enforcer, guard, guards):
    """A guard holds for sub-applications, may stand on one alone, and does not mind another."""
    app, sub = application(("/", page)), application(("/", streamed))
    if guards != "the outer":
        CdnblockMiddleware(guard._gate).install(sub, sub_application=True)
    if guards != "the inner":
        guard.install(app)
    app.add_subapp("/sub", sub)
    with serving_aiohttp(app) as address:
        assert ask(address, BLOCKED).status == (200 if guards == "the inner" else 451)
        assert ask(address, BLOCKED, target="/sub/").status == 451
        assert fields(ask(address, UNCACHED, target="/sub/")) == NO_STORE
        assert fields(ask(address, "other.example", target="/sub/")) == CACHED


def test_a_guard_that_would_never_be_asked_does_not_start(guard):
    """Installed on a sub-application as if it were run, it would let everything pass: so nothing starts."""
    app, sub = application(), application()
    guard.install(sub)
    app.add_subapp("/sub", sub)

    async def start():
        runner = web.AppRunner(app)
        try:
            await runner.setup()
        finally:
            await runner.cleanup()

    with pytest.raises(ConfigError, match="sub_application=True"):
        asyncio.run(start())


def test_who_waits_for_a_continue_is_refused_without_one(guard):
    """Decided is before aiohttp asks for a body that nobody will read, RFC 9110 §10.1.1."""
    with serving(guard, application()) as (host, port), socket.create_connection((host, port), BOUND) as client:
        lines = f"POST / HTTP/1.1\r\nHost: {BLOCKED}\r\nX-Forwarded-For: {FRANCE}\r\nExpect: 100-continue\r\n"
        client.sendall(f"{lines}Content-Length: 9\r\n\r\n".encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 451 ")


@pytest.mark.parametrize(
    ("host", "rewritten", "status"), [(BLOCKED, "other.example", 451), ("other.example", BLOCKED, 200)]
)
def test_it_decides_before_any_rewrite(guard, host, rewritten, status):
    """Middlewares of the application come later, wherever they stand in its list."""

    @web.middleware
    async def rewrite(request, handler):
        return await handler(request.clone(host=rewritten, headers={**request.headers, "Host": rewritten}))

    app = application()
    app.middlewares.append(rewrite)
    with serving(guard, app) as address:
        assert ask(address, host).status == status


def test_a_rewritten_request_is_still_not_cached(guard):
    """The measure follows the request that came, not the copy that a middleware made of it."""

    @web.middleware
    async def rewrite(request, handler):
        return await handler(request.clone(host="other.example"))

    app = application(("/", streamed))
    app.middlewares.append(rewrite)
    with serving(guard, app) as address:
        assert fields(ask(address, UNCACHED)) == NO_STORE


def test_an_untrusted_peer_is_the_client(guard):
    """What it writes into X-Forwarded-For changes nothing."""
    with serving(guard, application()) as address, Http1(address, source="127.0.0.2") as connection:
        request = Request(hosts=(BLOCKED,), headers=(("X-Forwarded-For", FRANCE),))
        assert connection.ask(request).status == 200


def test_a_failing_decision_serves_other_hosts_only(guard, clock, caplog):
    """503 where an order names the host, and one record in the log."""
    with serving(guard, application()) as address:
        clock.broken = True
        assert [ask(address, host).status for host in (BLOCKED, LATER, "other.example", BLOCKED)] == [
            503,
            503,
            200,
            503,
        ]
        clock.broken = False
    assert [record.levelname for record in caplog.records if record.name == "cdnblock.http_gate"] == ["ERROR"]


# What runs


class Endless:
    """Pages without an end, and what became of their handlers."""

    def __init__(self):
        self.ended = []

    async def stream(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10)
                await asyncio.sleep(0.01)
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise

    async def silence(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise

    async def flood(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    async def socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        self.ended.append("socket")
        return socket

    async def slow(self, request):
        await asyncio.sleep(0.5)
        return web.Response(text="The site.", headers=PAGE)

    def app(self):
        names = ("stream", "silence", "flood", "socket", "slow")
        return application(*[(f"/{name}", getattr(self, name)) for name in names])


UPGRADE = (
    ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)  # fmt: skip


OPENED = []


@pytest.fixture(autouse=True)
def closing():
    """Close what a test has opened."""
    yield
    while OPENED:
        OPENED.pop().close()


def opened(address, host, target, client=FRANCE):
    connection = Http1(address)
    OPENED.append(connection)
    headers = (("X-Forwarded-For", client), *(UPGRADE if target == "/socket" else ()))
    connection.send(Request(hosts=(host,), target=target, headers=headers).octets())
    return connection


def start(enforcer, clock):
    """Let the later order start: by the clock alone, as it does in life."""
    clock.now = STARTS.timestamp() + 1


def ends(connection):
    """Tell whether a connection ends soon, whatever still came before."""
    end = time.monotonic() + BOUND
    while not connection.ended and time.monotonic() < end:
        connection.octets_within(0.05)
    return connection.ended


@pytest.mark.parametrize("target", ["/stream", "/silence", "/flood", "/socket"])
def test_what_runs_is_cut_when_an_order_takes_effect(guard, enforcer, clock, target, caplog):
    """Streams, silent ones, such as a client does not read, and WebSockets; other hosts and clients go on."""
    endless = Endless()
    with serving(guard, endless.app()) as address:
        covered = [opened(address, LATER, target) for _ in range(3)]
        others = [opened(address, LATER, target, client=GERMANY), opened(address, "other.example", target)]
        for connection in (*covered, *others):
            assert connection.head().status in (101, 200)
        start(enforcer, clock)
        assert all(map(ends, covered))
        assert not any(connection.ended for connection in others)
        if target == "/stream":
            assert all(connection.octets_within(BOUND, enough=1) for connection in others)
        with Http1(address) as connection:
            assert connection.ask(Request(hosts=("other.example",), target="/slow")).status == 200
        assert "Error handling request" not in caplog.text
        if target == "/silence":
            assert endless.ended == ["CancelledError"] * 3  # a handler that waits is told, too


def test_an_aiohttp_that_shows_nothing_of_itself_is_served_all_the_same(enforcer, clock, monkeypatch):
    """What is read past its properties, and what its connections tell of themselves, is a short cut and no need."""
    monkeypatch.setattr(aiohttp_middleware, "are_as_known", lambda: False)
    monkeypatch.setattr(aiohttp_middleware, "request_of", lambda _task: None)
    monkeypatch.setattr(aiohttp_middleware, "shows", lambda *_: False)
    guard, endless = CdnblockMiddleware(HttpGate(enforcer)), Endless()
    with serving(guard, endless.app()) as address:
        assert ask(address, BLOCKED).status == 451
        running = [opened(address, host, "/stream") for host in (LATER, "other.example")]
        for connection in running:
            assert connection.head().status == 200
        start(enforcer, clock)
        assert ends(running[0])
        assert not running[1].ended


@pytest.mark.parametrize("is_shown", [True, False])
def test_what_is_in_the_midst_of_a_step_is_cut_when_it_waits(guard, enforcer, clock, monkeypatch, is_shown):
    """Such a connection shows no other thread which request it has; the order starts just then."""

    async def busy(request):
        response = web.StreamResponse()
        time.sleep(0.5)  # noqa: ASYNC251 (a long first step)
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    if not is_shown:  # Python 3.11 shows what later ones do not
        shown = aiohttp_middleware.request_of
        serving_threads = []
        monkeypatch.setattr(
            aiohttp_middleware,
            "request_of",
            lambda task: shown(task) if threading.get_ident() in serving_threads else None,
        )
        monkeypatch.setattr(aiohttp_middleware, "shows", lambda *_: True)

    async def first(request):
        if not is_shown:
            serving_threads.append(threading.get_ident())
        return web.Response()

    with serving(guard, application(("/first", first), ("/busy", busy))) as address, Http1(address) as connection:
        assert connection.ask(Request(hosts=(LATER,), target="/first")).status == 200
        stream = opened(address, LATER, "/busy")
        time.sleep(0.1)
        start(enforcer, clock)
        assert ends(stream)


def test_what_was_not_cached_says_nothing_of_the_next_request(guard):
    """One connection, two hosts: the request that measure `cdn` applied to is over."""
    with serving(guard, application()) as address, Http1(address) as connection:
        for host, expected in ((UNCACHED, NO_STORE), ("other.example", CACHED), (UNCACHED, NO_STORE)):
            answer = connection.ask(Request(hosts=(host,), headers=(("X-Forwarded-For", FRANCE),)))
            assert fields(answer) == expected


def test_a_stream_that_was_cut_does_not_look_whole(guard, enforcer, clock):
    """A chunked body ends without its last chunk."""
    with serving(guard, Endless().app()) as address:
        connection = opened(address, LATER, "/stream")
        assert connection.head().of("Transfer-Encoding") == ["chunked"]
        start(enforcer, clock)
        received = connection.octets_within(BOUND)
        assert connection.ended
        assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("kind", ["file", "octets", "generator"])
def test_what_is_sent_after_its_handler_has_returned_is_cut_too(guard, enforcer, clock, tmp_path, kind):
    """Files, long bodies and bodies that are made on the way, to clients that read slowly; others get theirs."""
    long = 50_000_000
    with (tmp_path / "file.bin").open("wb") as file:
        file.truncate(long)

    async def generated():
        for _ in range(long // 50_000):
            yield bytes(50_000)

    async def sent(_request):
        if kind == "file":
            return web.FileResponse(tmp_path / "file.bin")
        return web.Response(body=bytes(long) if kind == "octets" else generated())

    with serving(guard, application(("/", sent))) as address:
        covered, other = opened(address, LATER, "/"), opened(address, LATER, "/", client=GERMANY)
        assert (covered.head().status, other.head().status) == (200, 200)
        time.sleep(0.2)  # what fits in the kernel's buffers is on its way
        start(enforcer, clock)
        time.sleep(0.3)
        assert len(covered.octets_within(BOUND, enough=long)) < long
        assert covered.ended
        assert len(other.octets_within(10 * BOUND, enough=long)) >= long


def test_a_connection_that_waits_for_its_next_request_is_not_cut(guard, enforcer, clock):
    """Its last answer has gone out whole, and its next request may be anybody's: a proxy in front keeps connections."""
    with serving(guard, application()) as address, Http1(address) as connection:
        asked = Request(hosts=(LATER,), headers=(("X-Forwarded-For", FRANCE),))
        assert connection.ask(asked).status == 200
        start(enforcer, clock)
        time.sleep(0.3)
        assert connection.ask(Request(hosts=("other.example",), headers=(("X-Forwarded-For", FRANCE),))).status == 200
        assert connection.ask(asked).status == 451


def test_a_request_that_was_refused_is_over(guard, enforcer, tmp_path):
    """Also while its connection waits for the rest of its body: whatever changes now, it is not cut on top of that."""
    with serving(guard, application()) as (host, port), socket.create_connection((host, port), BOUND) as client:
        lines = f"POST / HTTP/1.1\r\nHost: {BLOCKED}\r\nX-Forwarded-For: {FRANCE}\r\nContent-Length: 9\r\n\r\n"
        client.sendall(lines.encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 451 ")
        (tmp_path / "orders" / "new.yaml").write_text(order_text(id="new", names="[new.example]"))
        enforcer.reload()
        time.sleep(0.3)
        assert enforcer.tally.totals == {("aiohttp_middleware", "proxy", "answer"): 1}


def test_requests_that_come_while_it_is_looked_at_what_runs_get_their_notices(guard, enforcer):
    """They are judged by the orders of now: a look that meets one of them under way ends no connection."""
    done = threading.Event()

    def look():
        while not done.is_set():
            guard._exchanges.look()
            time.sleep(0.0001)

    looking = threading.Thread(target=look)
    with serving(guard, application()) as address, Http1(address) as connection:
        looking.start()
        try:
            asked = Request(hosts=(BLOCKED,), headers=(("X-Forwarded-For", FRANCE),))
            assert [connection.ask(asked).status for _ in range(500)] == [451] * 500
        finally:
            done.set()
            looking.join()
    assert enforcer.tally.totals == {("aiohttp_middleware", "proxy", "answer"): 500}


def test_a_sub_application_knows_when_its_request_is_over(guard, enforcer, clock):
    """A guard on a sub-application alone: its connection serves another's request by now, which is not cut."""
    app, sub = Endless().app(), application()
    guard.install(sub, sub_application=True)
    app.add_subapp("/sub", sub)
    with serving_aiohttp(app) as address, Http1(address) as connection:
        asked = Request(hosts=(LATER,), target="/sub/", headers=(("X-Forwarded-For", FRANCE),))
        assert connection.ask(asked).status == 200
        connection.send(Request(hosts=("other.example",), target="/stream").octets())
        assert connection.head().status == 200
        start(enforcer, clock)
        time.sleep(0.3)
        connection.octets_within(0.1)
        assert not connection.ended
    assert not enforcer.tally.totals


def test_however_often_orders_change_an_answer_is_changed_once(guard, enforcer):
    """A request that waits for its answer is met by each change, and is none the slower for it."""
    with serving(guard, Endless().app()) as address:
        connection = opened(address, UNCACHED, "/slow")
        time.sleep(0.1)
        for _ in range(1_100):
            guard._exchanges.look()
        answer = connection.answer()
        assert (answer.status, fields(answer)) == (200, NO_STORE)
    assert enforcer.tally.totals == {("aiohttp_middleware", "cdn", "uncached"): 1}


def test_a_loop_that_was_closed_keeps_no_other_from_being_told(guard, enforcer, clock):
    """One guard, applications on several loops, of which some were left with their connections open."""
    requests, endless = [], Endless()

    async def stream(request):
        requests.append(request)
        return await endless.stream(request)

    with serving(guard, application(("/", stream))) as address:
        covered = opened(address, LATER, "/")
        assert covered.head().status == 200
        gone = [asyncio.new_event_loop() for _ in range(8)]  # they are told in no order
        guard._running.update((loop.create_future(), requests[0]) for loop in gone)
        for loop in gone:
            loop.close()
        start(enforcer, clock)
        assert ends(covered)
        until = time.monotonic() + BOUND
        while not endless.ended and time.monotonic() < until:  # connections end first, and then the handlers
            time.sleep(0.01)
        assert endless.ended


def test_a_new_file_cuts_what_it_names(guard, enforcer, tmp_path):
    """A host that no order named when its stream began."""
    with serving(guard, Endless().app()) as address:
        covered, other = (opened(address, host, "/stream") for host in ("new.example", "other.example"))
        assert (covered.head().status, other.head().status) == (200, 200)
        (tmp_path / "orders" / "new.yaml").write_text(order_text(id="new", names="[new.example]"))
        enforcer.reload()
        assert ends(covered)
        assert not other.ended


@pytest.mark.parametrize("measures", ["{cdn: disable}", "{proxy: terminate}"])
def test_an_order_that_starts_before_the_answer_holds_for_it(guard, enforcer, tmp_path, measures):
    """The request was let through; its answer is not stored any more, or does not come."""
    with serving(guard, Endless().app()) as address:
        connection = opened(address, "new.example", "/slow")
        time.sleep(0.1)
        (tmp_path / "orders" / "new.yaml").write_text(order_text(id="new", names="[new.example]", measures=measures))
        enforcer.reload()
        answer = connection.answer()
        if "proxy" in measures:
            assert answer.status == 0
        else:
            assert fields(answer) == NO_STORE


def test_nothing_is_left_of_requests_that_are_over(guard):
    """Whatever became of them: what is kept of a request goes with it."""
    endless = Endless()
    app = endless.app()
    for path, handler in (("/", page), ("/raising", raising)):
        app.router.add_get(path, handler)
    with serving(guard, app) as address:
        for host in (BLOCKED, UNCACHED, CLOSED, LATER, "other.example", "a b"):
            for target in ("/", "/raising", "/nowhere"):
                ask(address, host, target=target)
        gone = opened(address, UNCACHED, "/stream")
        gone.head()
        gone.close()
        end = time.monotonic() + BOUND
        while (guard._running or guard._telling or guard._concerned or guard._refused) and time.monotonic() < end:
            time.sleep(0.01)
        assert (guard._running, guard._telling, guard._concerned, guard._refused) == ({}, set(), {}, {})


def test_an_enforcer_does_not_keep_a_host_alive(enforcer):
    """What nobody uses any more goes, although it listens."""
    guard = CdnblockMiddleware(HttpGate(enforcer))
    alive = weakref.ref(guard)
    del guard
    gc.collect()
    assert alive() is None
    enforcer.reload()


# Reverse proxies


class Proxy:
    """A reverse proxy of a few lines on a bare `web.Server`, with a cache that one can look into."""

    def __init__(self, guard):
        self.guard = guard
        self.cache = {}
        self.asked = []

    async def forward(self, request):
        key = request.host
        if not self.guard.uncached(request) and key in self.cache:
            return web.Response(text="stored")
        headers = self.guard.to_origin(
            request, [*request.headers.items(), ("If-None-Match", '"x"')], added_by_cache=["if-none-match"]
        )
        self.asked.append("If-None-Match" in dict(headers))
        if "slow" in request.path:
            await asyncio.sleep(0.5)
        if not self.guard.uncached(request):
            self.cache[key] = True
        return web.Response(text="fetched", headers=self.guard.to_client(request, PAGE.items()))


def test_a_reverse_proxy_asks_before_it_looks_into_its_cache(guard, enforcer, tmp_path):
    """Measure `cdn`: no stored copy for covered clients, none kept of theirs, headers changed both ways."""
    proxy = Proxy(guard)

    async def forward(request):
        return await proxy.forward(request)

    with serving_aiohttp(lambda: web.Server(functools.partial(guard, handler=forward))) as address:
        covered = ask(address, UNCACHED)
        assert (covered.body, fields(covered), proxy.cache, proxy.asked) == (b"fetched", NO_STORE, {}, [False])
        other = ask(address, UNCACHED, client=GERMANY)
        assert (other.body, fields(other), proxy.asked) == (b"fetched", CACHED, [False, True])
        assert ask(address, UNCACHED, client=GERMANY).body == b"stored"
        assert ask(address, UNCACHED).body == b"fetched"
        assert ask(address, "other.example").body == b"fetched"
        assert ask(address, "other.example").body == b"stored"
        assert ask(address, BLOCKED).status == 451
        assert ask(address, "a b").status == 400
        assert proxy.cache.keys() == {UNCACHED, "other.example"}
        # An order that takes effect while the origin is being asked.
        connection = opened(address, "new.example", "/slow")
        time.sleep(0.1)
        (tmp_path / "orders" / "new.yaml").write_text(
            order_text(id="new", names="[new.example]", measures="{cdn: disable}")
        )
        enforcer.reload()
        assert fields(connection.answer()) == NO_STORE
        assert "new.example" not in proxy.cache


def test_the_example_of_the_docstring_runs(tmp_path):
    """As it stands there, but for the port."""
    found = re.search(r"\n\n((?:    .*\n|\n)+)", aiohttp_middleware.__doc__)
    port = free_port()
    code = textwrap.dedent(found[1]).replace("run_app(app)", f"run_app(app, host='127.0.0.1', port={port})")
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "order.yaml").write_text(order_text(territory="world"))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with suppress(OSError):
                assert ask(("127.0.0.1", port), "motogpstream.me").status == 451
                assert ask(("127.0.0.1", port), "other.example").status == 404
                return
            assert process.poll() is None
            time.sleep(0.05)
        pytest.fail("it does not listen")
    finally:
        process.terminate()
        process.wait(timeout=10)
