"""The ASGI middleware under real servers: uvicorn with both of its parsers, and granian; plain, Starlette and FastAPI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from free_ports import free_port
from order_texts import order_text
from small_table import FRANCE, GERMANY

from cdnblock.adapters import asgi_middleware
from cdnblock.enforcer import Enforcer
from cdnblock.http_gate import HttpGate
from cdnblock.testing.wire import Http1, Request

sys.path.insert(0, str(Path(__file__).parent))

import asgi_apps
from http_servers import ASGI_SERVERS, ROOT, asgi_server, serving_asgi

BLOCKED, UNCACHED, CLOSED = "blocked.example", "uncached.example", "closed.example"
BOUND = 5.0  # seconds; far above what it takes
NO_STORE = {"Cache-Control": ["no-store"], "CDN-Cache-Control": ["no-store"], "Expires": [], "X-Kept": ["yes"]}
CACHED = {"Cache-Control": ["max-age=600"], "CDN-Cache-Control": [], "Expires": ["0"], "X-Kept": ["yes"]}
UPGRADE = (
    ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)  # fmt: skip
CLOSE_1008 = b"\x88\x02\x03\xf0"
EVERYWHERE = sorted(ASGI_SERVERS)
FRAMEWORKS = ["starlette", "starlette_inside", "fastapi", "fastapi_inside"]


OPENED = []


@pytest.fixture(autouse=True)
def closing():
    """Close what a test has opened."""
    yield
    while OPENED:
        OPENED.pop().close()


class Served:
    """A running server, its orders, and what it has said."""

    def __init__(self, address, folder, log):
        self.address = address
        self.folder = folder
        self.log = log

    def ask(self, *hosts, client=FRANCE, target="/", method="GET", headers=(), body=b""):
        with Http1(self.address) as connection:
            lines = (("X-Forwarded-For", client), *headers)
            return connection.ask(Request(method=method, target=target, hosts=hosts, headers=lines, body=body))

    def open(self, host, target, client=FRANCE):
        connection = Http1(self.address)
        OPENED.append(connection)
        headers = (("X-Forwarded-For", client), *(UPGRADE if target == "/socket" else ()))
        connection.send(Request(hosts=(host,), target=target, headers=headers).octets())
        return connection

    def order(self, name, measures="{proxy: terminate}"):
        """Let an order take effect; the server follows its folder."""
        text = order_text(id=name.partition(".")[0], names=f"[{name}]", measures=measures)
        (self.folder / "orders" / f"{name}.yaml").write_text(text)

    @property
    def notes(self):
        with suppress(FileNotFoundError):
            return (self.folder / "notes").read_text().split("\n")[:-1]
        return []


@contextmanager
def serving(server, app, folder, small_mmdb, **options):
    pytest.importorskip(server.partition("-")[0], reason="the adapter's host, of the extra `test`, is not installed")
    pytest.importorskip(app.partition("_")[0] if app != "plain" else "cdnblock", reason="of the extra `test`")
    (folder / "orders").mkdir()
    environment = {
        "ASGI_ORDERS": str(folder / "orders"),
        "ASGI_GEO": str(small_mmdb),
        "ASGI_NOTES": str(folder / "notes"),
    }
    served = Served(None, folder, None)
    served.order(BLOCKED)
    served.order(UNCACHED, "{cdn: disable}")
    served.order(CLOSED, "{proxy: close}")
    with asgi_server(server, f"asgi_apps:{app}_app", folder=folder, environment=environment, **options) as running:
        served.address, served.log = running
        yield served


@pytest.fixture(scope="module", params=EVERYWHERE)
def plain(request, tmp_path_factory, small_mmdb):
    """Each server with the plain application, started once."""
    with serving(request.param, "plain", tmp_path_factory.mktemp("asgi"), small_mmdb) as served:
        served.server = request.param
        yield served


@pytest.fixture(
    scope="module",
    params=[("uvicorn-httptools", app) for app in FRAMEWORKS]
    + [("granian", "starlette"), ("granian", "fastapi_inside")],
    ids="-".join,
)
def framework(request, tmp_path_factory, small_mmdb):
    """Frameworks, with the middleware around them and in their own list."""
    with serving(*request.param, tmp_path_factory.mktemp("asgi"), small_mmdb) as served:
        served.server = request.param[0]
        yield served


def fields(answer):
    return {name: answer.of(name) for name in NO_STORE}


def until_end(connection, enough=b"\x00no such end"):
    """Return what comes until the connection ends."""
    received, end = b"", time.monotonic() + BOUND
    while not connection.ended and time.monotonic() < end and not received.endswith(enough):
        received = (received + connection.octets_within(0.05))[-1_000:]
    return received


def check_the_measures(served):
    assert served.ask("other.example").body == b"The site."
    refused = served.ask(BLOCKED)
    assert (refused.status, refused.of("Cache-Control"), refused.whole) == (451, ["no-store"], True)
    assert served.ask(BLOCKED, client=GERMANY).body == b"The site."
    assert fields(served.ask(UNCACHED)) == NO_STORE
    assert fields(served.ask(UNCACHED, client=GERMANY)) == CACHED
    assert fields(served.ask("other.example")) == CACHED
    assert served.ask("other.example", "other.example").status == 400
    assert served.ask("a b").status == 400


def test_each_server_gets_the_measures(plain):
    """451, no caching, 400, and nothing of it for others."""
    check_the_measures(plain)


def test_each_framework_gets_the_measures(framework):
    """The same with the middleware around an application, and in its own list."""
    check_the_measures(framework)


def test_what_no_order_concerns_passes_with_the_servers_own_callables(plain):
    """No wrapper stands between them; where the caching may have to change, one does."""
    assert plain.ask("other.example", target="/passed").body == b"own"
    assert plain.ask(UNCACHED, target="/passed").body == b"ours"


def test_a_close_is_what_the_server_can_do(plain):
    """Uvicorn ends the connection; granian cannot, and sends the notice. Nobody serves."""
    assert plain.ask(CLOSED).status == (451 if plain.server == "granian" else 0)
    assert plain.ask(CLOSED, client=GERMANY).status == 200


def test_an_upload_comes_whole_and_a_refused_one_hears_its_answer(plain):
    """Two megabytes: none is lost on the way to the application, and none comes between a 451 and its client."""
    body = b"x" * 2_000_000
    assert plain.ask("other.example", target="/upload", method="POST", body=body).body == b"2000000"
    assert plain.ask(UNCACHED, target="/upload", method="POST", body=body).body == b"2000000"
    assert plain.ask(BLOCKED, target="/upload", method="POST", body=body).status == 451


def test_a_disconnect_reaches_the_application(plain):
    """A client that goes away is told to the application as ever."""
    told = plain.notes.count("told")
    for host in ("other.example", UNCACHED):
        connection = plain.open(host, "/listening")
        connection.head()
        connection.close()
    end = time.monotonic() + BOUND
    while plain.notes.count("told") < told + 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert plain.notes.count("told") == told + 2


def test_websockets(plain):
    """Let through, they are the application's; refused, they get the notice in place of the 101."""
    connection = plain.open("other.example", "/socket")
    assert connection.head().status == 101
    connection.send(b"\x81\x85\x00\x00\x00\x00hello")
    assert connection.octets_within(BOUND, enough=7) == b"\x81\x05hello"
    refused = plain.open(BLOCKED, "/socket").answer()
    assert (refused.status, refused.of("Link"), b"451" in refused.body) == (451, [], True)
    closed = plain.open(CLOSED, "/socket").answer()
    assert closed.status == (451 if plain.server == "granian" else 0)


@pytest.mark.parametrize("target", ["/stream", "/length", "/flood", "/listening", "/deaf"])
def test_what_runs_is_cut_and_does_not_look_whole(plain, target):
    """Chunked and with a length; such as waits, such as is not read, such as never listens. Others go on."""
    name = f"cut{target[1:]}.example"
    covered = [plain.open(name, target) for _ in range(3)]
    others = [plain.open(name, "/stream", client=GERMANY), plain.open("other.example", "/stream")]
    for connection in (*covered, *others):
        assert connection.head().status == 200
    plain.order(name)
    for connection in covered:
        received = until_end(connection)
        assert connection.ended
        assert not received.endswith(b"0\r\n\r\n")
    for connection in others:
        assert connection.octets_within(0.05, enough=1)
        assert not connection.ended
        connection.close()
    assert plain.ask("other.example").body == b"The site."
    assert plain.ask(name).status == 451
    assert not re.search("Traceback|ERROR", plain.log.read_text())


def test_a_websocket_is_closed(plain):
    """With a Close that says why, and the connection ends whether or not the client answers it."""
    covered, other = plain.open("cutsocket.example", "/socket"), plain.open("other.example", "/socket")
    assert (covered.head().status, other.head().status) == (101, 101)
    plain.order("cutsocket.example")
    assert until_end(covered) == CLOSE_1008
    assert covered.ended
    other.send(b"\x81\x85\x00\x00\x00\x00hello")
    assert other.octets_within(BOUND, enough=7) == b"\x81\x05hello"


@pytest.mark.parametrize("measures", ["{proxy: terminate}", "{proxy: close}"])
def test_a_request_without_an_answer_yet_is_not_served(plain, measures):
    """The connection ends, or the notice comes; never what the application would have said, and no error of ours."""
    name = "late-close.example" if "close" in measures else "late.example"
    connection = plain.open(name, "/slow")
    time.sleep(0.2)
    plain.order(name, measures)
    answer = connection.answer()
    assert answer.status == (451 if plain.server == "granian" else 0)


@pytest.mark.parametrize("target", ["/reluctant", "/stubborn"])
def test_an_application_that_swallows_cancellations_is_cut(plain, target):
    """One or all of them: it cannot go on to send, and where only ending its answer helps, the log says so."""
    name = f"{target[1:]}.example"
    connection, other = plain.open(name, target), plain.open("other.example", target)
    assert [each.head().status for each in (connection, other)] == [200, 200]
    plain.order(name)
    whole = until_end(connection, b"0\r\n\r\n").endswith(b"0\r\n\r\n")
    stopped_by_its_end = (plain.server, target) == ("granian", "/stubborn")
    assert whole == stopped_by_its_end
    assert connection.ended or whole
    assert ("goes on after it was cancelled" in plain.log.read_text()) == stopped_by_its_end
    assert other.octets_within(0.05, enough=1)
    other.close()


@pytest.mark.parametrize(
    ("version", "behind"),
    [("1.1", b""), ("1.0", b""), ("1.1", b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")],
    ids=["keep-alive", "closing", "piped"],
)
def test_an_answer_in_one_piece_is_cut_while_it_leaves(plain, version, behind):
    """Though the application has returned long ago, whether or not a request of another host waits behind it."""
    if plain.server == "granian":
        pytest.skip("cannot: granian shows nothing of an answer that it was given whole")
    name = f"large{version[-1]}{len(behind)}.example"
    octets = f"GET /large HTTP/{version}\r\nHost: {name}\r\nX-Forwarded-For: {FRANCE}\r\n\r\n".encode()
    connection, other = Http1(plain.address), plain.open("other.example", "/large")
    OPENED.append(connection)
    connection.send(octets + behind)
    for each in (connection, other):
        assert each.head().status == 200
    time.sleep(0.2)
    plain.order(name)
    while plain.ask(name).status != 451:
        time.sleep(0.02)
    time.sleep(0.2)
    assert received_in_all(connection) < 20_000_000
    assert received_in_all(other) > 29_900_000


def received_in_all(connection):
    """Return how many octets come until there are no more."""
    octets = 0
    while got := connection.octets_within(0.5, enough=100_000):
        octets += len(got)
    return octets


def test_what_comes_after_an_answer_is_left_alone(plain):
    """The task in the background of a complete answer ends by itself, and so does the next one on its connection."""
    connection = plain.open("cutbackground.example", "/background")
    assert connection.answer().body == b"The site."
    connection.send(
        Request(hosts=("other.example",), target="/stream", headers=(("X-Forwarded-For", GERMANY),)).octets()
    )
    assert connection.head().status == 200
    plain.order("cutbackground.example")
    end = time.monotonic() + BOUND
    while not {"background ended", "background cancelled"} & set(plain.notes) and time.monotonic() < end:
        connection.octets_within(0.05)
    assert [note for note in plain.notes if note.startswith("background")] == ["background ended"]
    assert plain.ask("cutbackground.example").status == 451
    assert connection.octets_within(0.2, enough=1)
    assert not connection.ended


def test_frameworks_streams_are_cut(framework):
    """Streams and WebSockets of Starlette and FastAPI, wherever the middleware stands."""
    streams = {path: framework.open("cut.example", path) for path in ("/stream", "/length", "/socket", "/slow")}
    other = framework.open("other.example", "/stream")
    for path, connection in streams.items():
        if path != "/slow":
            assert connection.head().status == (101 if path == "/socket" else 200)
    assert other.head().status == 200
    framework.order("cut.example")
    assert not until_end(streams["/stream"]).endswith(b"0\r\n\r\n")
    assert until_end(streams["/socket"]) == CLOSE_1008
    until_end(streams["/length"])
    assert all(connection.ended for path, connection in streams.items() if path != "/slow")
    assert b"The site." not in until_end(streams["/slow"], b"\n")
    assert other.octets_within(0.05, enough=1)
    other.close()
    assert "Traceback" not in framework.log.read_text()


def test_a_file_is_cut_while_it_leaves(framework):
    """Also where the server would send it all by itself."""
    covered, other = framework.open("file.example", "/file"), framework.open("other.example", "/file")
    assert [each.head().status for each in (covered, other)] == [200, 200]
    framework.order("file.example")
    while framework.ask("file.example").status != 451:
        time.sleep(0.02)
    time.sleep(0.2)
    assert received_in_all(covered) < 20_000_000
    assert received_in_all(other) > 29_900_000


@pytest.fixture
def orders(tmp_path):
    (tmp_path / "orders").mkdir()
    served = Served(None, tmp_path, None)
    served.order(BLOCKED)
    served.order(CLOSED, "{proxy: close}")
    return served


def test_one_middleware_under_two_loops(orders, small_mmdb):
    """Each exchange is cut on its own event loop, where alone that is safe."""
    pytest.importorskip("uvicorn", reason="the adapter's host, of the extra `test`, is not installed")
    with Enforcer(orders.folder / "orders", geo=small_mmdb, trusted_proxies=["127.0.0.1"]) as enforcer:
        app = asgi_middleware.CdnblockMiddleware(asgi_apps.plain, HttpGate(enforcer))
        with serving_asgi(app) as first, serving_asgi(app) as second:
            covered, others = [], []
            for orders.address in (first, second):
                covered.append(orders.open("cut.example", "/stream"))
                others.append(orders.open("other.example", "/stream"))
            assert [connection.head().status for connection in (*covered, *others)] == [200] * 4
            assert len(app._exchanges) == 2
            orders.order("cut.example")
            for connection in covered:
                until_end(connection)
            assert all(connection.ended for connection in covered)
            assert all(connection.octets_within(BOUND, enough=1) for connection in others)
            # The same threads may run other loops later, and the rest of what ran is gone.
            for connection in others:
                connection.close()


@pytest.mark.parametrize(("on_failure", "expected"), [("closed", [503, 503, 200, 400]), ("open", [200, 200, 200, 400])])
def test_a_failing_decision_follows_the_policy(orders, small_mmdb, on_failure, expected, caplog):
    """Closed: 503 where an order names the host. Open: served. Loudly, both."""
    pytest.importorskip("uvicorn", reason="the adapter's host, of the extra `test`, is not installed")
    broken = []

    def clock():
        if broken:
            raise OSError("the clock is gone")
        return time.time()

    with Enforcer(
        orders.folder / "orders", geo=small_mmdb, trusted_proxies=["127.0.0.1"], clock=clock, follow=False
    ) as enforcer:
        gate = HttpGate(enforcer, on_failure=on_failure)
        with serving_asgi(asgi_middleware.CdnblockMiddleware(asgi_apps.plain, gate)) as orders.address:
            broken.append(True)
            assert [orders.ask(host).status for host in (BLOCKED, CLOSED, "other.example", "a b")] == expected
            assert gate.failures >= 2
            assert [record.levelname for record in caplog.records if record.name == "cdnblock.http_gate"] == ["ERROR"]


def test_lifespan_is_the_applications(tmp_path, small_mmdb):
    """Startup and shutdown pass untouched."""
    with serving("uvicorn-h11", "plain", tmp_path, small_mmdb) as served:
        assert served.notes == ["lifespan.startup"]
    assert served.notes == ["lifespan.startup", "lifespan.shutdown"]


def test_granians_own_tasks_can_be_cut_too(tmp_path, small_mmdb):
    """Where the server runs applications without asyncio's tasks a response ends all the same, though it looks whole."""
    if sys.version_info >= (3, 12):
        pytest.skip("cannot: granian has tasks of its own up to Python 3.11 only")
    with serving("granian", "plain", tmp_path, small_mmdb, arguments=["--task-impl", "rust"]) as served:
        check_the_measures(served)
        covered, waiting, other = (
            served.open(host, target)
            for host, target in (
                ("cut.example", "/stream"),
                ("cut.example", "/listening"),
                ("other.example", "/stream"),
            )
        )
        assert [connection.head().status for connection in (covered, waiting, other)] == [200, 200, 200]
        served.order("cut.example")
        assert until_end(covered, b"0\r\n\r\n").endswith(b"0\r\n\r\n")
        assert until_end(waiting, b"0\r\n\r\n").endswith(b"0\r\n\r\n")
        assert other.octets_within(0.05, enough=1)


def test_the_example_of_the_docstring_runs(tmp_path):
    """As it stands there, in a file that uvicorn serves."""
    pytest.importorskip("starlette", reason="the example's framework, of the extra `test`, is not installed")
    found = re.search(r"\n\n((?:    .*\n|\n)+)", asgi_middleware.__doc__)
    (tmp_path / "example.py").write_text(textwrap.dedent(found[1]))
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "order.yaml").write_text(order_text(territory="world"))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "example:app", "--port", str(port), "--log-level", "error"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        served, end = Served(("127.0.0.1", port), tmp_path, None), time.monotonic() + 30
        while time.monotonic() < end:
            with suppress(OSError):
                assert served.ask("motogpstream.me").status == 451
                assert served.ask("other.example").status == 404
                return
            assert process.poll() is None
            time.sleep(0.05)
        pytest.fail("it does not listen")
    finally:
        process.terminate()
        process.wait(timeout=10)
