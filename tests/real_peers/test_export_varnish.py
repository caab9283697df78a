"""Varnish with the configuration that `cdnblock export varnish` writes, under the contract of every host."""

from __future__ import annotations

import dataclasses
import http.client
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import (
    EMPTY_LABELS,
    HOSTILE,
    QUESTIONS,
    asked,
    at_each_turn,
    export_for,
    listens,
    names_without_cache,
    needs,
    notices,
    running,
    stage_with,
    started_example,
    texts_of,
    wait_until,
    with_annex,
    wrong_about,
)

from cdnblock.exporters.varnish import bans
from cdnblock.measures.cache_disable import to_purge
from cdnblock.testing import AdapterContract, Host, Need
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import put_orders

pytestmark = needs("varnishd", "varnish")

CONFIGURATION = """
vcl 4.1;
{include}
backend site {{ .host = "127.0.0.1"; .port = "{port}"; .between_bytes_timeout = 60s; }}
sub vcl_recv {{
  {rewrites}
  if (req.url ~ "^/socket" && req.http.Upgrade) {{ return (pipe); }}
}}
sub vcl_pipe {{
  if (req.http.Upgrade) {{ set bereq.http.Upgrade = req.http.Upgrade; }}
  set bereq.http.Connection = req.http.Connection;  # as many have it, and undecided from the second request on
}}
sub vcl_backend_fetch {{ unset bereq.http.X-Varnish; }}
"""
PARAMETERS = {
    "vcc_allow_inline_c": "on",
    "cc_command": "exec gcc -O0 -g -Wall -pthread -fpic -shared -Wl,-x -o %o %s",  # scenarios leave two seconds to load
    "http_range_support": "off",  # the site does no ranges, and Varnish would make them of its answers
}


class Varnish:
    """A Varnish that is changed by loading another VCL and using it, and purged by bans."""

    def __init__(self, stage, *, exported=True, listening=(), **parameters):
        self.stage = stage
        self.out = stage.folder / "cdnblock"
        self.file = stage.folder / "edge.vcl"
        self.work = stage.folder / ("varnish" if exported else "plain")
        (self.port,) = free_ports(1)
        self.parameters, self.listening = PARAMETERS | parameters, listening
        self.changing, self.numbers = threading.Lock(), itertools.count(1)
        self.uncached = names_without_cache(stage)
        if exported:
            export_for(stage, "varnish", self.out)
        else:
            self.file = stage.folder / "plain.vcl"
        self.file.write_text(
            CONFIGURATION.format(
                include=f'include "{self.out}/cdnblock.vcl";' if exported else "",
                port=stage.origin.rpartition(":")[2],
                rewrites=" ".join(
                    f'if (req.http.Host == "{old}") {{ set req.http.Host = "{new}"; }}'
                    for old, new in stage.rewrites.items()
                ),
            )
        )

    @contextmanager
    def run(self):
        command = [
            "varnishd", "-F", "-n", str(self.work), "-a", f"127.0.0.1:{self.port}", "-f", str(self.file),
            "-s", "malloc,64m", "-j", "none", *(f"-p{name}={value}" for name, value in self.parameters.items()),
            *(f"-a{address}" for address in self.listening),
        ]  # fmt: skip
        log = self.stage.folder / f"{self.work.name}.log"
        with running(command, self.port, log) as self.process, at_each_turn(self.stage, self.reload):
            yield

    def reload(self):
        """Take the orders as they are now: whoever asks from here on is decided by them."""
        with self.changing:
            export_for(self.stage, "varnish", self.out)
            self.load()
            before, self.uncached = self.uncached, names_without_cache(self.stage)
            for ban in bans(to_purge(before, self.uncached)):
                self.say("ban", ban)

    def load(self):
        name = f"orders-{next(self.numbers)}"
        used = self.say("vcl.list").split("active")[1].split("\n")[0].split()[-1]
        self.say("vcl.load", name, str(self.file))
        self.say("vcl.use", name)
        self.say("vcl.discard", used)

    def kill_child(self):
        (child,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{child}").exists())

    def say(self, *words):
        done = subprocess.run(
            ["varnishadm", "-n", str(self.work), *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (words[:2], done.stdout, done.stderr)
        return done.stdout


class TestVarnish(AdapterContract):
    """One Varnish with its cache; it speaks HTTP/1.1 in clear."""

    random_requests = 2_000

    cannot = {
        Need.HTTP2: "Varnish has no TLS",
        Need.TRAILERS: "Varnish 7.1 answers 503 to an origin that sends them",
        Need.FORWARDED: "the exported rules go by X-Forwarded-For, as Varnish itself does",
        Need.CUT: "Varnish decides a request when it begins, and nothing of its own ends what runs",
    }

    @contextmanager
    def serve(self, stage):
        varnish = Varnish(stage)
        with varnish.run():
            yield Host(address=("127.0.0.1", varnish.port), reload=varnish.reload)


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/varnish/start.sh` exports, starts, refuses a client in France and serves one in Germany."""
    with started_example("varnish", tmp_path) as port:
        status, headers, body = asked(port, "www.motogpstream.me", "90.84.144.1")
        assert (status, headers["link"]) == (451, '<https://edge.example/blocked>; rel="blocked-by"')
        assert "tjp-2025-03-28-motogp" in body
        assert asked(port, "www.motogpstream.me", "80.187.0.1")[::2] == (200, "site www.motogpstream.me")
        assert asked(port, "other.example", "90.84.144.1")[::2] == (200, "site other.example")


ORDERS = {
    "hostile": {
        "names": ["a.example", {"name": "alone.example", "subdomains": False}],
        "title": HOSTILE,
        "claimant": HOSTILE,
    },
    "second": {"names": ["www.a.example"], "measures": {"proxy": "terminate", "cdn": "disable"}, "contact": HOSTILE},
    "lifted": {"names": ["b.example"], "lifted": [{"names": ["free.b.example"], "at": "2025-05-01T12:00"}]},
    "below": {"names": [{"name": "c.example", "subdomains": False}, "c.example"]},
    "close": {"names": [{"name": "b.example", "subdomains": False}], "measures": {"proxy": "close"}},
    "uncached": {"names": ["cdn.example"], "measures": {"cdn": "disable"}},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with stage_with(tmp_path_factory.mktemp("varnish"), **ORDERS) as stage:
        varnish = Varnish(stage)
        with varnish.run():
            yield stage, varnish


@pytest.mark.parametrize("host", ["a.example", "x.www.a.example", "alone.example", "x.b.example"])
@pytest.mark.parametrize("client", [PLACES["france"], PLACES["france-6"]])
def test_the_notice_is_the_librarys(served, host, client):
    """Header by header and word by word, in each language and type, whatever the orders hold."""
    stage, varnish = served
    for (status, headers, text), expected in notices(stage, varnish.port, host, client):
        assert headers.pop("x-varnish").isdigit()
        assert (status, headers, text) == expected


@pytest.mark.parametrize("place", ["france", "germany"])
def test_a_host_with_an_empty_label_is_none(served, place):
    """Covered or not: 400, as the library has it. The root's own label is as good as not there."""
    _, varnish = served
    assert [asked(varnish.port, host, PLACES[place])[0] for host in EMPTY_LABELS] == [400] * len(EMPTY_LABELS)
    assert asked(varnish.port, "a.example.", PLACES[place])[0] == {"france": 451, "germany": 200}[place]


def test_the_longest_name_decides(served):
    """A lifted name, what is below one that is meant without its sub-domains, and a name with two kinds of order."""
    _, varnish = served
    for host in ("free.b.example", "x.free.b.example", "x.alone.example"):
        assert asked(varnish.port, host, PLACES["france"])[0] == 200
    with pytest.raises(http.client.RemoteDisconnected):
        asked(varnish.port, "b.example", PLACES["france"])
    assert asked(varnish.port, "x.b.example", PLACES["france"])[0] == 451


@pytest.mark.parametrize("lines", range(50, 70))
@pytest.mark.parametrize("host", ["a.example", "b.example", "cdn.example"])
def test_nobody_hides_behind_many_fields(served, host, lines):
    """Varnish drops a field of ours that finds no room (http_max_hdr is 64): then nothing is served."""
    _, varnish = served
    fields = {f"X-Field-{number}": "1" for number in range(lines)}
    try:
        status, headers, _ = asked(varnish.port, host, PLACES["france"], path="/cached", **fields)
    except http.client.RemoteDisconnected:
        return
    assert status in (400, 451, 500, 503) or headers["cache-control"] == "no-store"


class Crowded(BaseHTTPRequestHandler):
    """A site whose answers have as many fields as the path says."""

    def do_GET(self):
        self.send_response(200)
        for number in range(int(self.path[1:])):
            self.send_header(f"X-Field-{number}", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_no_answer_loses_its_marks(tmp_path):
    """An origin's answer with as many fields as Varnish takes reaches a covered client marked, or not at all."""
    with stage_with(tmp_path, **ORDERS) as stage, ThreadingHTTPServer(("127.0.0.1", 0), Crowded) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        varnish = Varnish(dataclasses.replace(stage, origin=f"http://127.0.0.1:{site.server_port}"))
        with varnish.run():
            for lines in range(30, 70):
                try:
                    status, headers, _ = asked(varnish.port, "cdn.example", PLACES["france"], path=f"/{lines}")
                except http.client.RemoteDisconnected:
                    continue
                marks = (headers.get("cache-control"), headers.get("cdn-cache-control"))
                assert (status, marks) == (200, ("no-store", "no-store")) or status >= 500, lines
        site.shutdown()


def test_uncovered_hosts_get_what_they_get_without_us(served):
    """Octet for octet, both ways, beside the same Varnish without the include; clocks and counters apart."""
    stage, varnish = served
    plain = Varnish(stage, exported=False)
    more = b"GET / HTTP/1.1\r\nhost: WWW.%(host)s\r\nHost: %(host)s\r\n%(rest)s\r\n"
    with plain.run():
        for text in texts_of([*QUESTIONS, more]):
            with_us, without = (_without_clocks(_said(port, text)) for port in (varnish.port, plain.port))
            assert with_us == without, text


def _said(port, text):
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def _without_clocks(answer):
    counted = "|content-length" if b"<p>XID: " in answer else ""  # a number of Varnish's own, of any length
    fields = rf"(?im)^(date|age|x-varnish|x-answer{counted}):.*$|<p>XID: \d+</p>"
    return re.sub(fields.encode(), rb"\1", answer)


def test_a_change_loses_no_request(tmp_path):
    """Connections that are kept go on under the new orders, none is closed, and whoever asks afterwards is under them."""
    with stage_with(tmp_path, before={"names": ["before.example"]}) as stage:
        varnish = Varnish(stage)
        ended, asked_of, wrong = threading.Event(), [], []
        with varnish.run():
            askers = [threading.Thread(target=_ask_on, args=(varnish.port, ended, asked_of, wrong)) for _ in range(4)]
            for asker in askers:
                asker.start()
            for names in (
                ["after.example"],
                ["before.example"],
                ["before.example", "after.example"],
                ["after.example"],
            ):
                put_orders(stage.orders, {"before": {"names": names}})
                varnish.reload()
                for name in ("before.example", "after.example"):
                    assert asked(varnish.port, name, PLACES["france"])[0] == (451 if name in names else 200)
            ended.set()
            for asker in askers:
                asker.join(30)
        assert wrong == []
        assert {*asked_of} == {200, 451}


def _ask_on(port, ended, statuses, wrong):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.connect()
    first = connection.sock
    while not ended.is_set():
        try:
            connection.request("GET", "/", headers={"Host": "after.example", "X-Forwarded-For": PLACES["france"]})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
            assert connection.sock is first
        except (OSError, http.client.HTTPException, AssertionError) as error:
            wrong.append(repr(error))
            return


def test_a_table_that_is_wrong_is_not_taken(tmp_path):
    """`vcl.load` says what is wrong; what runs goes on as it is, also when Varnish has to start its child again."""
    with stage_with(tmp_path, one={"names": ["a.example"]}) as stage:
        varnish = Varnish(stage)
        with varnish.run():
            table = varnish.out / "cdnblock.table"
            whole = table.read_bytes()
            table.write_bytes(whole[: len(whole) // 2])
            with pytest.raises(AssertionError, match=r"cdnblock\.table: it is cut short"):
                varnish.load()
            table.unlink()
            with pytest.raises(AssertionError, match=r"cdnblock\.table: No such file"):
                varnish.load()
            assert asked(varnish.port, "a.example", PLACES["france"])[0] == 451
            table.write_bytes(whole)
            varnish.load()
            assert asked(varnish.port, "a.example", PLACES["france"])[0] == 451


RESTARTING = """
sub vcl_recv {
  if (req.restarts == 0 && req.http.X-Test == "rewrites") { set req.http.Host = "a.example"; return (restart); }
  if (req.restarts == 0 && req.http.X-Test == "forgets") { unset req.http.X-Cdnblock-Action; return (restart); }
  if (req.restarts == 0 && req.http.X-Test == "rolls-back") { std.rollback(req); return (restart); }
  if (req.http.X-Test == "looks-up") { set req.hash_always_miss = false; return (hash); }
  if (req.http.X-Test == "passes") { return (pass); }
  if (req.http.X-Test == "answers") { return (synth(200)); }
}
sub vcl_backend_response { set beresp.ttl = 1h; set beresp.grace = 1h; return (deliver); }
sub vcl_deliver { return (deliver); }
"""


def test_what_your_vcl_does_does_not_undo_the_decision(tmp_path):
    """Restarts, other hosts, rollbacks, look-ups and early returns: decided once, by what was asked for."""
    with stage_with(tmp_path, **ORDERS) as stage:
        varnish = Varnish(stage)
        varnish.file.write_text(varnish.file.read_text() + RESTARTING)
        with varnish.run():

            def ask(host, test, place="france", **fields):
                return asked(varnish.port, host, PLACES[place], path="/cached", **({"X-Test": test} | fields))

            assert ask("other.example", "rewrites")[0] == 200
            stored = [ask("cdn.example", "none", "germany")[1]["x-answer"] for _ in range(2)]
            assert stored[0] == stored[1]
            found = []
            for test in ("rewrites", "forgets", "rolls-back", "looks-up", "passes", "answers", "none"):
                forged = {"X-Cdnblock-Action": "free", "x-cdnblock-host": "other.example"}
                status, headers, _ = ask("cdn.example", test, **forged)
                assert (status, headers["cache-control"]) == (200, "no-store")
                assert [name for name in headers if "cdnblock" in name] == []
                found.append(headers.get("x-answer"))
            assert len({*found}) == len(found)
            assert stored[0] not in found
            assert ask("cdn.example", "none", "germany")[1]["x-answer"] == stored[0]


def test_what_was_stored_before_the_include_goes_as_well(tmp_path):
    """Answers that bear no mark yet, in any spelling of the host, are banned by the host that is asked for."""
    with stage_with(tmp_path) as stage:
        varnish = Varnish(stage)
        whole = varnish.file.read_text()
        varnish.file.write_text(whole.replace("include", "#"))
        with varnish.run():
            spellings = (
                "a.example",
                "WWW.A.Example",
                "x.a.example.:80",
                "b.example",
                "xa.example",
                "only.example",
                "x.only.example",
            )

            def answers():
                return [
                    asked(varnish.port, host, PLACES["germany"], path="/cached")[1]["x-answer"] for host in spellings
                ]

            before = answers()
            assert answers() == before
            varnish.file.write_text(whole)
            names = {
                "names": ["a.example", {"name": "only.example", "subdomains": False}],
                "measures": {"cdn": "disable"},
            }
            put_orders(stage.orders, {"one": names})
            varnish.reload()
            after = answers()
            assert [old == new for old, new in zip(before, after, strict=True)] == [
                False, False, False, True, True, False, True,
            ]  # fmt: skip
            assert answers() == after


def test_what_is_purged_is_gone_though_nobody_asks(tmp_path):
    """Varnish's lurker finds it by its mark, with a ban for hundreds of names at once; the rest stays."""
    names = [f"n{number}.example" for number in range(500)]
    with stage_with(tmp_path) as stage:
        varnish = Varnish(stage, ban_lurker_age="0.1", ban_lurker_sleep="0.01")
        with varnish.run():
            for host in ("www.n7.example", "n499.example", "other.example"):
                asked(varnish.port, host, PLACES["germany"], path="/cached")
            put_orders(stage.orders, {"one": {"names": names, "measures": {"cdn": "disable"}}})
            varnish.reload()
            wait_until(lambda: _counted(varnish, "MAIN.n_object") == 1, lambda: str(_counted(varnish, "MAIN.n_object")))


def _counted(varnish, counter):
    done = subprocess.run(
        ["varnishstat", "-n", str(varnish.work), "-1", "-f", counter],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return int(done.stdout.split()[1])


def test_the_client_may_be_told_by_the_proxy_protocol(served_by_proxy):
    """What stands before Varnish, for TLS, names the client in a line of its own; then his X-Forwarded-For is his own word."""
    _, port = served_by_proxy

    def status(client, *lines):
        family = "TCP6" if ":" in client else "TCP4"
        head = (
            f"PROXY {family} {client} {'::1' if ':' in client else '127.0.0.1'} 1 2",
            "GET / HTTP/1.1",
            "Host: a.example",
        )
        return _said(port, "\r\n".join((*head, *lines, "Connection: close", "", "")).encode()).split(b" ")[1]

    assert [status(PLACES[place]) for place in ("france", "france-6", "germany", "nowhere")] == [
        b"451",
        b"451",
        b"200",
        b"200",
    ]
    assert status(PLACES["france"], f"X-Forwarded-For: {PLACES['germany']}") == b"451"
    assert status(PLACES["germany"], f"X-Forwarded-For: {PLACES['france']}") == b"200"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (apt-get install curl)")
@pytest.mark.parametrize(
    ("host", "status", "marked"),
    [
        ("x.a.example", "451", True),
        ("b.example", "451", True),
        ("cdn.example", "200", True),
        ("other.example", "200", False),
    ],
)
def test_http2_is_decided_like_http1(served_by_proxy, host, status, marked):
    """By what stands before Varnish, or by who knows that it speaks it; a stream that should be closed gets an empty 451."""
    varnish, _ = served_by_proxy
    done = subprocess.run(
        ["curl", "-si", "--http2-prior-knowledge", "-H", f"Host: {host}", "-H", f"X-Forwarded-For: {PLACES['france']}",
         f"http://127.0.0.1:{varnish.port}/marked"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    head, _, body = done.stdout.partition("\n\n")
    assert head.split("\n")[0].split() == ["HTTP/2", status]
    assert ("cache-control: no-store" in head and "cdn-cache-control: no-store" in head) == marked
    assert (body == "") == (host == "b.example")


@pytest.fixture(scope="module")
def served_by_proxy(tmp_path_factory):
    (port,) = free_ports(1)
    with stage_with(tmp_path_factory.mktemp("proxied"), **ORDERS) as stage:
        varnish = Varnish(stage, listening=[f"127.0.0.1:{port},PROXY"], feature="+http2")
        with varnish.run():
            yield varnish, port


def test_a_child_that_dies_comes_back_deciding_or_not_at_all(tmp_path):
    """Varnish starts its child again with the VCL that it has; without the table it serves nobody."""
    with stage_with(tmp_path, **ORDERS) as stage:
        varnish = Varnish(stage)
        with varnish.run():
            varnish.kill_child()
            statuses = []
            wait_until(lambda: _answered(varnish.port, statuses))
            assert statuses == [451]
            (varnish.out / "cdnblock.table").unlink()
            varnish.kill_child()
            wait_until(lambda: "stopped" in varnish.say("status"))
            wait_until(lambda: not listens(varnish.port))


def _answered(port, statuses):
    with suppress(OSError, http.client.HTTPException):
        statuses.append(asked(port, "a.example", PLACES["france"])[0])
    return statuses


def test_bans_mean_the_names_and_no_others():
    """A hundred names in each, by the mark and by the host, in any order that they are given."""
    names = [("b.example", True), ("a-b.example", True), ("c.example", False)]
    assert (
        [*bans(names)]
        == [*bans(names[::-1])]
        == [
            "obj.http.X-Cdnblock-Host ~ (^|[.])(a-b[.]example|b[.]example)$",
            "req.http.Host ~ (?i)(^|[.])(a-b[.]example|b[.]example)[.]*(:[0-9]*)?$",
            "obj.http.X-Cdnblock-Host ~ ^(c[.]example)$",
            "req.http.Host ~ (?i)^(c[.]example)[.]*(:[0-9]*)?$",
        ]
    )
    long = [(f"{'a' * 60}.{'b' * 60}.{'c' * 60}.n{number}.example", True) for number in range(250)]
    made = [*bans(long)]
    assert sum(ban.startswith("obj.") * ban.count("[.]example") for ban in made) == 250
    assert max(map(len, made)) < 5_000
    assert [*bans([])] == []


def test_a_pipe_takes_no_second_request_along(served):
    """What Varnish does not know it passes on as it comes; the origin is told to close, so it does not hear what follows."""
    _, varnish = served
    first = b"PROPFIND / HTTP/1.1\r\nHost: other.example\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
    second = b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 203.0.113.7\r\nX-Contract-Trace: piped\r\n\r\n"
    assert b"\r\nX-Origin: site\r\n" in _said(varnish.port, first)
    _said(varnish.port, first + second)
    assert asked(varnish.port, "witness.example", PLACES["germany"], path="/seen?trace=piped")[2] == "{}"


@pytest.mark.parametrize(
    "order",
    [
        {"names": ["a.example"], "until": "2025-04-04"},
        {"names": ["a.example"], "measures": {"cdn": "disable"}},
        {"names": [{"name": "a.example", "subdomains": False}], "measures": {"proxy": "close"}},
        {"names": [f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 53}.example"]},
    ],
    ids=["nothing", "cdn", "close", "long"],
)
def test_the_compiler_accepts_whatever_is_ordered(order, tmp_path):
    """Without a warning: nothing in force, one measure alone, the longest name."""
    with stage_with(tmp_path, one=order) as stage:
        varnish = Varnish(stage)
        with varnish.run():
            assert asked(varnish.port, "other.example", PLACES["france"])[0] == 200
            assert "warning" not in varnish.say("vcl.load", "again", str(varnish.file)).lower()


def test_a_hundred_thousand_names_are_carried(tmp_path):
    """The first and the last of them, what is below, and what only looks like them."""
    with with_annex(tmp_path, 100_000) as (stage, names):
        varnish = Varnish(stage)
        with varnish.run():
            assert [*wrong_about(varnish.port, names)] == []
