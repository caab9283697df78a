"""The decision service as its callers see it, over real sockets; real proxies are in tests/real_peers."""

from __future__ import annotations

import asyncio
import doctest
import functools
import logging
import os
import resource
import socket
import stat
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest
from order_texts import order_text
from prometheus_page import samples, value

from cdnblock.adapters import _decision_door, decision_service
from cdnblock.adapters._decision_dialects import DIALECTS
from cdnblock.adapters._decision_door import Unreadable
from cdnblock.adapters._decision_generations import FILE, Generations
from cdnblock.adapters._decision_listening import Callers, Listen, listening, parse_listen
from cdnblock.adapters.decision_service import DecisionService
from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError
from cdnblock.http_gate import HttpGate
from cdnblock.measures.cache_disable import REMOVED_FROM_RESPONSES

ROOT = Path(__file__).parents[2]
FRANCE, GERMANY = "203.0.113.7", "198.51.100.7"
BEFORE, START, END = "2025-04-03T06:59:59Z", "2025-04-03T07:00:00Z", "2025-05-01T22:00:00Z"
LATER = "2025-06-01T00:00:00Z"
ORDERS = {
    "refused": order_text(id="refused", names="[refused.example]", measures="{proxy: terminate}"),
    "closed": order_text(id="closed", names="[closed.example]", measures="{proxy: close}"),
    "uncached": order_text(id="uncached", names="[uncached.example]", measures="{cdn: disable}"),
}


class Clock:
    """A clock that stands still until it is told, and fails when it is told to."""

    fault: Exception | None = None

    def __init__(self, at: str):
        self.set(at)

    def set(self, at: str) -> None:
        self.now = datetime.fromisoformat(at).timestamp()

    def __call__(self) -> float:
        if self.fault is not None:
            raise self.fault
        return self.now


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    for name, text in ORDERS.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@contextmanager
def enforcing(orders, geo, at=LATER, **options):
    clock = Clock(at)
    trusted = ["127.0.0.1", "unix"]
    with Enforcer(orders, geo=geo, trusted_proxies=trusted, follow=False, clock=clock, **options) as enforcer:
        enforcer.test_clock = clock
        yield enforcer


def ask(enforcer, *requests, callers=("127.0.0.1",), where=None, ready=True, folder=None, **options):
    """Ask a service these (path, headers) or (method, path, headers); return [(status, headers, body)]."""

    async def asking():
        service = DecisionService(callers=Callers(callers))
        if ready:
            gate = HttpGate(enforcer, operator_url="https://edge.example/blocked", **options)
            service.decide_by(gate, Generations(enforcer, folder=folder, clock=lambda: enforcer.test_clock.now))
        listen = where or Listen(host="127.0.0.1")
        answers = []
        async with service.serve([listen]) as (port,):
            connector = aiohttp.UnixConnector(str(listen.path)) if listen.path else aiohttp.TCPConnector()
            async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10)) as session:
                for request in requests:
                    method, path, headers = request if len(request) == 3 else ("GET", *request)
                    async with session.request(method, f"http://127.0.0.1:{port}{path}", headers=headers) as response:
                        answers.append((response.status, response.headers, await response.read()))
        return answers

    return asyncio.run(asking())


def fields(host, client=FRANCE, method="GET", uri="/page", **further):
    return {
        "X-Forwarded-Host": host, "X-Forwarded-Method": method, "X-Forwarded-Uri": uri, "X-Forwarded-For": client,
    } | further  # fmt: skip


@pytest.mark.parametrize(
    ("path", "host", "client", "status", "action"),
    [
        ("/nginx", "other.example", FRANCE, 200, "pass"),
        ("/nginx", "refused.example", GERMANY, 200, "pass"),
        ("/nginx", "refused.example", FRANCE, 403, "answer"),
        ("/nginx", "closed.example", FRANCE, 403, "close"),
        ("/nginx", "uncached.example", FRANCE, 401, "uncached"),
        ("/nginx", "not a host", FRANCE, 403, "answer"),
        ("/nginx-answer", "refused.example", FRANCE, 451, "answer"),
        ("/nginx-answer", "other.example", FRANCE, 503, None),
        ("/nginx-answer", "uncached.example", FRANCE, 503, None),
        ("/nginx-answer", "not a host", FRANCE, 400, "answer"),
        *[
            (path, host, client, status, action)
            for path in ("/traefik", "/caddy", "/varnish", "/caddy?query=of-the-client")
            for host, client, status, action in [
                ("other.example", FRANCE, 200, "pass"),
                ("WWW.Refused.EXAMPLE.:8080", FRANCE, 451, "answer"),
                ("refused.example", GERMANY, 200, "pass"),
                ("closed.example", FRANCE, 451, "close"),
                ("uncached.example", FRANCE, 200, "uncached"),
                ("other.example,refused.example", FRANCE, 400, "answer"),
            ]
        ],
    ],
)
def test_what_each_proxy_is_told(orders, small_mmdb, path, host, client, status, action):
    """The status is one that the proxy understands, the action says what it means, and no verdict may be stored."""
    with enforcing(orders, small_mmdb) as enforcer:
        ((told, headers, _),) = ask(enforcer, (path, fields(host, client)))
    assert (told, headers.get("X-Cdnblock-Action")) == (status, action)
    assert headers["Cache-Control"] == headers["CDN-Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("dialect", "path", "host", "status", "action"),
    [
        (None, "/envoy/a/page", "refused.example", 451, "answer"),
        (None, "/envoy/nginx", "refused.example", 451, "answer"),
        (None, "/envoy/metrics", "other.example", 200, "pass"),
        (None, "/envoy/", "uncached.example", 200, "uncached"),
        ("haproxy", "/a/page", "refused.example", 451, "answer"),
        ("haproxy", "/metrics", "refused.example", 451, "answer"),
        ("haproxy", "/traefik", "other.example", 425, "pass"),
        ("haproxy", "/", "uncached.example", 425, "uncached"),
    ],
)
def test_proxies_that_ask_with_the_request_itself(orders, small_mmdb, dialect, path, host, status, action):
    """Its own Host counts, and its path is the client's: it leads to no page of ours and to no other dialect."""
    where = Listen(host="127.0.0.1", dialect=dialect)
    request = (path, {"Host": host, "X-Forwarded-For": FRANCE, "X-Forwarded-Host": "other.example"})
    with enforcing(orders, small_mmdb) as enforcer:
        ((told, headers, _),) = ask(enforcer, request, where=where)
    assert (told, headers["X-Cdnblock-Action"]) == (status, action)


def test_the_notice_is_the_clients(orders, small_mmdb):
    """The 451 comes with its Link, in the client's language and type; asked by HEAD it has no body."""
    wanted = {"Accept": "text/html", "Accept-Language": "en"}
    request = fields("refused.example", **wanted)
    with enforcing(orders, small_mmdb) as enforcer:
        (status, headers, body), (_, of_head, nothing) = ask(
            enforcer, ("/traefik", request), ("HEAD", "/nginx-answer", request)
        )
    assert status == 451
    assert headers["Link"] == '<https://edge.example/blocked>; rel="blocked-by"'
    assert (headers["Content-Type"], headers["Content-Language"]) == ("text/html; charset=utf-8", "en")
    assert b"Tribunal judiciaire de Paris" in body
    assert (of_head["Content-Length"], nothing) == (str(len(body)), b"")


@pytest.mark.parametrize("name", [name for name, dialect in DIALECTS.items() if not dialect.whole])
def test_what_is_not_said_is_not_guessed(orders, small_mmdb, name):
    """A question without its host, method, target or client gets 500 and names what it lacks; it opens nothing."""
    dialect = DIALECTS[name]
    whole = fields("other.example") | {"Host": "other.example"}
    needed = [field for field in (dialect.host, dialect.method, dialect.target, "X-Forwarded-For") if field]
    questions = [(f"/{name}", {key: value for key, value in whole.items() if key != field}) for field in needed]
    with enforcing(orders, small_mmdb) as enforcer:
        answers = ask(enforcer, *questions, ("/", whole), ("/unknown", whole), ("/haproxy", whole))
    assert [status for status, _, _ in answers] == [500] * (len(needed) + 3)
    for field, (_, headers, body) in zip(needed, answers, strict=False):
        assert field in body.decode()
        assert "X-Cdnblock-Action" not in headers


def test_long_requests_are_decided_like_short_ones(orders, small_mmdb):
    """What a proxy has accepted of its client, a long path or cookie, does not make the question fail."""
    long = "/" + "a" * 30_000
    envoy = {"Host": "other.example", "X-Forwarded-For": f"{'10.0.0.1, ' * 2000}{FRANCE}", "Cookie": "c" * 30_000}
    with enforcing(orders, small_mmdb) as enforcer:
        answers = ask(
            enforcer, ("/nginx", fields("other.example", uri=long)), (f"/envoy{long}", envoy),
            (f"/envoy{long}", envoy | {"Host": "refused.example"}),
        )  # fmt: skip
    assert [status for status, _, _ in answers] == [200, 200, 451]


@asynccontextmanager
async def serving(enforcer, *, callers=("127.0.0.1",)):
    """Run a service; yield it, and what connects to it."""
    service = DecisionService(callers=Callers(callers))
    service.decide_by(HttpGate(enforcer), Generations(enforcer, folder=None, clock=lambda: enforcer.test_clock.now))
    async with service.serve([Listen(host="127.0.0.1")]) as (port,), asyncio.timeout(20):
        yield service, functools.partial(asyncio.open_connection, "127.0.0.1", port)


async def question(reader, writer, path="/traefik", **further):
    """Ask on a connection; return the status line, empty if it was closed."""
    lines = [
        f"GET {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in fields("other.example", **further).items()),
    ]
    writer.write("\r\n".join([*lines, "Host: cdnblock", "", ""]).encode("latin-1"))
    return await reader.readline()


def test_nobody_else_gets_a_connection(orders, small_mmdb):
    """A peer that is no listed caller is closed before it has said a word, and counted."""

    async def scene():
        async with serving(enforcer, callers=("10.0.0.0/8",)) as (service, connect):
            heard = []
            for _ in range(3):
                reader, writer = await connect()
                heard.append(await reader.read())
                writer.close()
            return heard, service.counts["untrusted"]

    with enforcing(orders, small_mmdb) as enforcer:
        assert asyncio.run(scene()) == ([b"", b"", b""], 3)


def test_a_question_that_does_not_come(orders, small_mmdb, monkeypatch):
    """A connection without a whole question in time is closed; one that has asked stays, and may ask again later."""
    monkeypatch.setattr(_decision_door, "FIRST_HEAD", 0.4)

    async def scene():
        async with serving(enforcer) as (_, connect):
            asked, silent, slow = [await connect() for _ in range(3)]
            first = await question(*asked)
            slow[1].write(b"GET /livez HTTP/1.1\r\nHost: c")
            ends = [await reader.read() for reader, _ in (silent, slow)]
            await asked[0].readuntil(b"\r\n\r\n")
            return first, ends, await question(*asked)

    with enforcing(orders, small_mmdb) as enforcer:
        first, ends, second = asyncio.run(scene())
    assert (first, ends, second) == (b"HTTP/1.1 200 OK\r\n", [b"", b""], b"HTTP/1.1 200 OK\r\n")


def test_connections_have_a_bound(orders, small_mmdb, monkeypatch, caplog):
    """What comes above it is closed at once and told; when one goes, another may come."""
    monkeypatch.setattr(_decision_door, "_MOST", 2)

    async def scene():
        async with serving(enforcer) as (_, connect):
            held = [await connect() for _ in range(2)]
            before = [await question(*pair) for pair in held]
            above = [await (await connect())[0].read() for _ in range(3)]
            held[0][1].close()
            answer = b""
            while not answer:
                await asyncio.sleep(0.02)
                answer = await question(*await connect())
            return before, above, answer

    with enforcing(orders, small_mmdb) as enforcer:
        before, above, answer = asyncio.run(scene())
    assert [*before, answer] == [b"HTTP/1.1 200 OK\r\n"] * 3
    assert above == [b""] * 3
    assert caplog.text.count("which is the most") == 1


def test_without_files_it_waits_and_says_so_once(orders, small_mmdb, caplog):
    """As long as no connection can be accepted, the log gets one line a minute; afterwards questions are answered."""

    async def scene():
        loop, (soft, hard) = asyncio.get_running_loop(), resource.getrlimit(resource.RLIMIT_NOFILE)
        async with serving(enforcer) as (_, connect):
            port = (await connect())[1].get_extra_info("peername")[1]
            clients = [socket.socket() for _ in range(5)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                for client in clients:
                    client.setblocking(False)
                    await loop.sock_connect(client, ("127.0.0.1", port))
                await asyncio.sleep(0.8)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            told = caplog.text
            for client in clients[1:]:
                client.close()
            return told, await question(*await asyncio.open_connection(sock=clients[0]))

    with enforcing(orders, small_mmdb) as enforcer:
        told, answer = asyncio.run(scene())
    assert told.count("cannot be accepted") == 1
    assert len(told.splitlines()) == 1
    assert answer == b"HTTP/1.1 200 OK\r\n"


def test_what_is_no_http_is_told_seldom_and_without_its_query(orders, small_mmdb, caplog, monkeypatch):
    """Outsiders, for whom proxies ask, write neither a traceback each nor their queries into the log."""
    monkeypatch.setattr(logging.getLogger(f"{decision_service.__name__}.unreadable"), "filters", [Unreadable()])

    async def scene():
        async with serving(enforcer) as (_, connect):
            return [await question(*await connect(), path="/traefik?secret=\xe9\x01") for _ in range(3)]

    with enforcing(orders, small_mmdb) as enforcer:
        answers = asyncio.run(scene())
    assert {answer.split()[1] for answer in answers} == {b"400"}
    assert "secret" not in caplog.text
    assert [record.getMessage().split(":")[1:2] for record in caplog.records] == [
        [" a question was no HTTP that can be read"]
    ]


def test_nothing_passes_before_the_rules_are_there(orders, small_mmdb):
    """While it loads it is alive, not ready, and lets nothing pass."""
    with enforcing(orders, small_mmdb) as enforcer:
        answers = ask(enforcer, ("/livez", {}), ("/readyz", {}), ("/nginx", fields("other.example")), ready=False)
    assert [status for status, _, _ in answers] == [200, 503, 503]


def test_the_pages(orders, small_mmdb):
    """Ready says what is enforced and what is wrong; metrics count decisions, and name no host and no address."""
    (orders / "lifted.yaml").write_text(
        order_text(id="lifted", names="[lifted.example]") + "lifted: [{at: 2025-05-01}]\n"
    )
    with enforcing(orders, small_mmdb) as enforcer:
        (orders / "broken.yaml").write_text("cdnblock: 1\nid: [\n")
        enforcer.reload()
        refused = fields("refused.example")
        twice = [("/nginx", refused), ("/nginx-answer", refused)]  # nginx asks again for the body: that counts once
        answers = ask(enforcer, *twice, ("/readyz", {}), ("/metrics", {}))
    *_, (status, _, ready), (_, headers, metrics) = answers
    assert status == 200
    assert b'"ready": true' in ready
    assert b"broken.yaml" in ready
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = samples(metrics.decode())
    answered = {"adapter": "decision_service", "measure": "proxy", "action": "answer"}
    assert value(found, "cdnblock_decisions_total", **answered) == 1
    assert value(found, "cdnblock_orders", state="in force", mode="enforce") == 3
    assert value(found, "cdnblock_orders", state="lifted", mode="enforce") == 1
    assert value(found, "cdnblock_names") == 4
    assert value(found, "cdnblock_file_errors") == 1
    assert value(found, "cdnblock_reloads_total", result="invalid") == 1
    assert "refused.example" not in metrics.decode()
    assert FRANCE not in metrics.decode()


@pytest.mark.parametrize(
    ("on_failure", "host", "status"),
    [("closed", "refused.example", 503), ("closed", "other.example", 200), ("open", "refused.example", 200)],
)
def test_a_decision_that_fails(orders, small_mmdb, caplog, on_failure, host, status):
    """An exception inside a decision is logged, and closes covered hosts alone unless the operator wants otherwise."""
    with enforcing(orders, small_mmdb) as enforcer:
        enforcer.test_clock.fault = OSError("the clock is on fire")
        ((told, _, _),) = ask(enforcer, ("/traefik", fields(host)), on_failure=on_failure)
    assert told == status
    assert ("the clock is on fire" in caplog.text) == (host == "refused.example")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9451", Listen(host="127.0.0.1", port=9451)),
        ("[::1]:9451", Listen(host="::1", port=9451)),
        ("haproxy@127.0.0.1:9452", Listen(host="127.0.0.1", port=9452, dialect="haproxy")),
    ],
)
def test_addresses_to_listen_on(text, expected):
    """HOST:PORT, with brackets around IPv6, and who alone asks there."""
    assert parse_listen(text) == expected


@pytest.mark.parametrize("text", ["", "9451", ":9451", "host:", "host:port", "host:65536", "unix:", "squid@h:1x"])
def test_what_is_no_address(text):
    """Anything else is told, with what would be right."""
    with pytest.raises(ConfigError, match="right would be"):
        parse_listen(text)


def test_a_unix_socket(orders, small_mmdb, tmp_path):
    """Its permissions are 0660 whatever the umask, who may open it is answered, and it goes at the end."""
    path = tmp_path / "decide.sock"
    old = os.umask(0)
    try:
        with listening(parse_listen(f"unix:{path}")):
            mode = stat.S_IMODE(path.stat().st_mode)
        with enforcing(orders, small_mmdb) as enforcer:
            ((status, _, _),) = ask(
                enforcer, ("/nginx", fields("refused.example")), where=Listen(path=path), callers=()
            )
    finally:
        os.umask(old)
    assert (mode, status, path.exists()) == (0o660, 403, False)


def test_a_socket_that_is_there(tmp_path):
    """One that a dead process left is replaced; one in use, and what is no socket, is refused and stays."""
    path = tmp_path / "decide.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening(Listen(path=path)) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert listener.accept()
        with pytest.raises(ConfigError, match="another process listens"), listening(Listen(path=path)):
            pass
        with socket.socket(socket.AF_UNIX) as again:
            again.connect(str(path))
    path.write_text("mine")
    with pytest.raises(ConfigError, match="no socket"), listening(Listen(path=path)):
        pass
    assert path.read_text() == "mine"


def test_the_example_in_the_docstring(monkeypatch):
    """It runs and prints what it shows."""
    monkeypatch.chdir(ROOT)
    assert doctest.testmod(decision_service) == doctest.TestResults(failed=0, attempted=6)


@pytest.mark.parametrize("example", ["nginx.conf", "varnish.vcl", "Caddyfile", "traefik-routes.yaml", "envoy.yaml"])
def test_the_examples_take_away_what_measure_cdn_takes_away(example):
    """Each field of `cache_disable` is in each configuration that changes headers."""
    text = (ROOT / "examples" / "decision_service" / example).read_text().lower()
    assert [name for name in REMOVED_FROM_RESPONSES if name not in text] == []


def test_the_readme_of_the_examples_names_every_caller():
    """Every dialect is in the table of what is asked."""
    text = (ROOT / "examples" / "decision_service" / "README.md").read_text()
    assert [
        name for name in DIALECTS if f"`/{name}`" not in text and f"{name}@" not in text and f"/{name}/" not in text
    ] == []


# The generation of a cache key


ENDING = order_text(id="uncached", names="[uncached.example]", measures="{cdn: disable}", until="2025-05-01")


def generations(enforcer, folder=None):
    return Generations(enforcer, folder=folder, clock=enforcer.test_clock)


def test_a_generation_changes_when_the_measure_starts_and_ends(orders, small_mmdb):
    """Four values for four times of a covered name, one for ever for all others; and none comes back."""
    (orders / "uncached.yaml").write_text(ENDING)
    seen, others = [], set()
    with enforcing(orders, small_mmdb, at=BEFORE) as enforcer:
        found = generations(enforcer)
        for at in (BEFORE, START, "2025-04-20T00:00:00Z", END, LATER):
            enforcer.test_clock.set(at)
            found.recount()
            seen.append(found.standing.of("WWW.Uncached.example:443"))
            others.add(found.standing.of("refused.example") + found.standing.of("other.example"))
    before, started, still, ended, later = seen
    assert started == still
    assert ended == later
    assert len({before, started, ended}) == 3
    assert len(others) == 1


def test_a_generation_never_returns(orders, small_mmdb, tmp_path):
    """Neither when the order's file is gone, nor after a restart, nor both."""
    seen = []
    for text in (None, ENDING, None, None, ENDING, None):
        for path in orders.glob("*.yaml"):
            path.unlink()
        (orders / "other.yaml").write_text(ORDERS["refused"])
        if text:
            (orders / "uncached.yaml").write_text(text)
        with enforcing(orders, small_mmdb, at="2025-04-20T00:00:00Z") as enforcer:
            found = generations(enforcer, tmp_path)
            seen.append(found.standing.of("uncached.example"))
            bases = found.standing.of("other.example")
            if text:
                (orders / "uncached.yaml").unlink()
                enforcer.reload(accept_release=True)
                found.recount()
                seen.append(found.standing.of("uncached.example"))
    assert len(set(seen)) == len(seen) == 8
    assert seen[0] == bases  # never covered until then; and the others keep theirs through all of it


def test_an_edit_of_one_order_leaves_the_others_caches_hot(orders, small_mmdb):
    """A territory that is changed purges the order's own names, and a new order for other names purges none of them."""
    with enforcing(orders, small_mmdb) as enforcer:
        found = generations(enforcer)
        seen = [found.standing.of("uncached.example")]
        other = order_text(id="another", names="[another.example]", measures="{cdn: disable}")
        (orders / "another.yaml").write_text(other)
        enforcer.reload()
        found.recount()
        seen.append(found.standing.of("uncached.example"))
        (orders / "uncached.yaml").write_text(ORDERS["uncached"].replace("[FR]", "[FR, RE]"))
        enforcer.reload()
        found.recount()
        seen.append(found.standing.of("uncached.example"))
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("damage", ["lost", "garbage", "empty", "other"])
def test_without_its_memory_everything_starts_anew(orders, small_mmdb, tmp_path, damage):
    """A file that is gone or damaged draws another epoch for every host: no old key is asked for again."""
    with enforcing(orders, small_mmdb) as enforcer:
        before = generations(enforcer, tmp_path).standing.of("other.example")
        path = tmp_path / FILE
        path.unlink() if damage == "lost" else path.write_bytes(
            {"garbage": b"\xff\xfe\n\x00", "empty": b"", "other": b"epoch x\nname.example\n"}[damage]
        )
        after = generations(enforcer, tmp_path).standing.of("other.example")
        assert after != before
        assert generations(enforcer, tmp_path).standing.of("other.example") == after


def test_a_half_written_line_was_never_told(orders, small_mmdb, tmp_path):
    """What a killed process left half written is cut off, and spoils nothing that is written later."""
    with enforcing(orders, small_mmdb) as enforcer:
        first = generations(enforcer, tmp_path)
        path = tmp_path / FILE
        whole = path.read_bytes()
        path.write_bytes(whole + b"half-a-na")
        again = generations(enforcer, tmp_path)
        assert path.read_bytes() == whole
        assert again.standing.of("other.example") == first.standing.of("other.example")


def test_a_memory_that_cannot_be_written_is_given_up(orders, small_mmdb, tmp_path, caplog):
    """It is told loudly, generations go on, and the next start begins anew instead of with an old memory."""
    with enforcing(orders, small_mmdb, at=BEFORE) as enforcer:
        found = generations(enforcer, tmp_path)
        base = found.standing.of("uncached.example")
        path = tmp_path / FILE
        path.unlink()
        path.symlink_to(tmp_path / "nowhere" / "file")
        enforcer.test_clock.set(START)
        found.recount()
        assert "cannot be kept" in caplog.text
        assert found.standing.of("uncached.example") != base
        assert not path.is_symlink()
        assert not generations(enforcer, tmp_path).standing.of("uncached.example").startswith(base)


def test_while_something_changes_nothing_is_cached(orders, small_mmdb):
    """From the instant on, and until the generations are counted anew, what orders name bypasses every cache."""
    (orders / "uncached.yaml").write_text(ENDING)

    async def asking():
        with enforcing(orders, small_mmdb, at="2025-04-20T00:00:00Z") as enforcer:
            service = DecisionService(callers=Callers(("127.0.0.1",)))
            found = generations(enforcer)
            service.decide_by(HttpGate(enforcer), found)
            async with service.serve([Listen(host="127.0.0.1")]) as (port,), aiohttp.ClientSession() as session:

                async def action(host):
                    async with session.get(f"http://127.0.0.1:{port}/caddy", headers=fields(host)) as response:
                        return response.headers["X-Cdnblock-Action"]

                hosts = ("uncached.example", "other.example")
                during = [await action(host) for host in hosts]
                enforcer.test_clock.set(END)  # the measure has ended; nobody has counted yet
                changing = [await action(host) for host in hosts]
                found.recount()
                return during, changing, [await action(host) for host in hosts]

    during, changing, after = asyncio.run(asking())
    assert during == ["uncached", "pass"]
    assert changing == ["uncached", "pass"]
    assert after == ["pass", "pass"]


def test_what_was_enforced_is_counted_once(orders, small_mmdb):
    """nginx asks a second time for the body; what passes, is misasked, or is uncertain for a moment is no enforcement."""
    asked = [
        *[("/nginx", fields("www.refused.example")), ("/nginx-answer", fields("www.refused.example"))] * 2,
        ("/traefik", fields("closed.example")), ("/caddy", fields("uncached.example")),
        ("/envoy/", {"Host": "refused.example", "X-Forwarded-For": FRANCE}),
        ("/traefik", fields("refused.example", GERMANY)), ("/traefik", fields("other.example")),
        ("/traefik", fields("no host name")), ("/nobody", fields("refused.example")),
    ]  # fmt: skip
    with enforcing(orders, small_mmdb) as enforcer:
        ask(enforcer, *asked)
        assert enforcer.tally.totals == {
            ("decision_service", "proxy", "answer"): 3,
            ("decision_service", "proxy", "close"): 1,
            ("decision_service", "cdn", "uncached"): 1,
        }
