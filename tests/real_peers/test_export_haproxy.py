"""HAProxy with the configuration that `cdnblock export haproxy` writes, under the contract of every host."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from engine_texts import HAPROXY_API, HAPROXY_BASE
from export_engines import (
    EMPTY_LABELS,
    HOSTILE,
    asked,
    at_each_turn,
    decided_otherwise,
    export_for,
    needs,
    notices,
    running,
    shakes_hands,
    stage_with,
    started_example,
    tangled_orders,
    wait_until,
)

from cdnblock.testing import AdapterContract, Host, Need
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import put_orders

pytestmark = needs("haproxy", "haproxy")

CONFIGURATION = (
    HAPROXY_API
    + HAPROXY_BASE
    + """\
  timeout tunnel 20s
cache edge
  total-max-size 8
  max-age 600
"""
)
FRONTEND = """
frontend edge from cdnblock
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{tls} ssl crt {certificate} alpn h2,http/1.1
  http-request cache-use edge if {{ path /cached }} !{{ var(txn.cdnblock_action) -m str uncached }}
  http-response cache-store edge if !{{ var(txn.cdnblock_action) -m str uncached }}
  default_backend site
backend site from base
{rewrites}
  server site {origin}
"""
PASSING = """
backend passing from base
  mode tcp
  server edge 127.0.0.1:{tls}
"""
MAPS = ("gates", "hosts", "territory", "actions", "notices")
CHUNK = 15_000  # octets of a command


class HAProxy:
    """A HAProxy that is changed by its runtime API where that is enough, else by a reload without a gap."""

    def __init__(self, stage, *, sni=False, threads=1):
        self.stage = stage
        self.port, self.tls, self.sni = free_ports(3)
        self.settings = {"defaults": "base"} | ({"sni": f"127.0.0.1:{self.sni} passing"} if sni else {})
        self.out = stage.folder / "cdnblock"
        self.changing = threading.Lock()
        self.files = [stage.folder / "base.cfg", self.out / "cdnblock.cfg", stage.folder / "edge.cfg"]
        export_for(stage, "haproxy", self.out, **self.settings)
        self.files[0].write_text(f"global\n  nbthread {threads}\n" + CONFIGURATION.format(folder=stage.folder))
        passing = PASSING if sni else ""
        self.files[2].write_text(
            (FRONTEND + passing).format(
                rewrites="\n".join(
                    f"  http-request set-header Host {new} if {{ req.hdr(host) {old} }}"
                    for old, new in stage.rewrites.items()
                ),
                port=self.port,
                tls=self.tls,
                certificate=stage.certificate,
                origin=stage.origin.removeprefix("http://"),
            )
        )

    @property
    def arguments(self):
        return [argument for file in self.files for argument in ("-f", str(file))]

    def check(self):
        done = subprocess.run(
            ["haproxy", "-c", *self.arguments], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr, done.stderr

    @contextmanager
    def run(self):
        self.check()
        with (
            running(
                ["haproxy", "-W", "-db", *self.arguments], self.port, self.stage.folder / "haproxy.log"
            ) as self.process,
            at_each_turn(self.stage, self.reload),
        ):
            yield

    def reload(self):
        with self.changing:
            self.change()

    def change(self):
        changed = export_for(self.stage, "haproxy", self.out, **self.settings)
        self.check()
        if "cdnblock.cfg" in changed or "cdnblock.lua" in changed:
            self.restart()
        else:
            for name in MAPS:
                if f"cdnblock-{name}.map" in changed:
                    self.replace(self.out / f"cdnblock-{name}.map")

    def restart(self):
        before = self.worker()
        self.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: self.worker() not in (None, before))

    def worker(self):
        try:
            return dict(line.split(": ", 1) for line in self.ask("show info\n").splitlines() if ": " in line)["Pid"]
        except (OSError, KeyError):
            return None

    def replace(self, path):
        """Replace a map as one transaction: nobody sees half of it."""
        version = self.ask(f"prepare map {path}\n").split(":")[1].strip()
        lines = [line + "\n" for line in path.read_text().splitlines() if line and not line.startswith("#")]
        while lines:
            size, count = 0, 0
            while count < len(lines) and (count == 0 or size + len(lines[count].encode()) < CHUNK):
                size, count = size + len(lines[count].encode()), count + 1
            assert self.ask(f"add map @{version} {path} <<\n{''.join(lines[:count])}\n").strip() == ""
            lines = lines[count:]
        assert self.ask(f"commit map @{version} {path}\n").strip() == ""

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as api:
            api.settimeout(10)
            api.connect(str(self.stage.folder / "api.sock"))
            api.sendall(command.encode())
            return b"".join(iter(lambda: api.recv(65536), b"")).decode()


class TestHAProxy(AdapterContract):
    """One HAProxy with a cache of its own, HTTP/1.1 in clear and both versions over TLS."""

    random_requests = 2_000

    cannot = {
        Need.ABSOLUTE_FORM: "HAProxy answers 400 where the target names another host than Host",
        Need.FORWARDED: "HAProxy before 2.8 does not read Forwarded; the exported rules go by X-Forwarded-For",
        Need.CACHE: "HAProxy's cache is purged by a new process alone, and then of everything",
        Need.CUT: "HAProxy decides a request when it begins, and no rule ends what runs",
    }

    @contextmanager
    def serve(self, stage):
        haproxy = HAProxy(stage)
        with haproxy.run():
            yield Host(address=("127.0.0.1", haproxy.port), tls=("127.0.0.1", haproxy.tls), reload=haproxy.reload)


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/haproxy/start.sh` exports, starts, refuses a client in France and serves one in Germany."""
    with started_example("haproxy", tmp_path) as port:
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
    "everywhere": {"names": ["everywhere.example"], "territory": "world"},
    "unknown": {"names": ["unknown.example"], "unknown_location": "enforce", "measures": {"proxy": "close"}},
    "uncached": {"names": ["cdn.example"], "measures": {"cdn": "disable"}},
    "lifted": {"names": ["b.example"], "lifted": [{"names": ["free.b.example"], "at": "2025-05-01T12:00"}]},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with stage_with(tmp_path_factory.mktemp("haproxy"), **ORDERS) as stage:
        haproxy = HAProxy(stage, sni=True)
        with haproxy.run():
            yield stage, haproxy


@pytest.mark.parametrize("host", ["a.example", "x.www.a.example", "alone.example", "b.example"])
@pytest.mark.parametrize("client", [PLACES["france"], PLACES["france-6"]])
def test_the_notice_is_the_librarys(served, host, client):
    """Header by header and word by word, in each language and type, whatever the orders hold."""
    stage, haproxy = served
    for answered, expected in notices(stage, haproxy.port, host, client):
        assert answered == expected


@pytest.mark.parametrize("place", ["france", "germany"])
def test_a_host_with_an_empty_label_is_none(served, place):
    """Covered or not: 400, as the library has it. The root's own label is as good as not there."""
    _, haproxy = served
    assert [asked(haproxy.port, host, PLACES[place])[0] for host in EMPTY_LABELS] == [400] * len(EMPTY_LABELS)
    assert asked(haproxy.port, "a.example.", PLACES[place])[0] == {"france": 451, "germany": 200}[place]


def test_a_free_name_below_a_covered_one_is_served(served):
    """A lifted name, and what is below one that is meant without its sub-domains."""
    _, haproxy = served
    for host in ("free.b.example", "x.free.b.example", "x.alone.example"):
        assert asked(haproxy.port, host, PLACES["france"])[0] == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://a.example?x HTTP/1.0", b"400"),
        ("GET http://user@a.example/ HTTP/1.0", b"400"),
        ("GET http:///a.example/ HTTP/1.0", b"400"),
        ("GET a.example/ HTTP/1.0", b"400"),
        ("GET http://a.example/ HTTP/1.0", b"451"),
        ("GET http://other.example/ HTTP/1.0", b"200"),
        ("GET / HTTP/1.0", b"200"),
        ("CONNECT a.example:443 HTTP/1.0", b"400"),
        ("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443", b"405"),
    ],
)
def test_nothing_that_an_origin_may_read_otherwise_gets_through(served, line, status):
    """A target without a Host names its host plainly; and no tunnel is made, in which nobody would decide."""
    _, haproxy = served
    with socket.create_connection(("127.0.0.1", haproxy.port), 20) as connection:
        connection.sendall(f"{line}\r\nX-Forwarded-For: {PLACES['france']}\r\n\r\n".encode())
        answer = connection.recv(1 << 16)
        assert answer.split()[1] == status
        assert (b"allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" in answer) == (status == b"405")


@pytest.mark.parametrize(
    "node",
    [f"x{' ' * 8_000}y", f"{'f:' * 4_000}y", "f" * 8_000, f"[{':' * 8_000}]", "1." * 4_000],
    ids=["blanks", "address", "digits", "brackets", "dots"],
)
def test_a_node_of_thousands_of_octets_hides_the_client_as_any_other_garbage_does(served, node):
    """Nothing left of it counts; and no pattern is tried again from each octet of it: all threads would wait that long."""
    _, haproxy = served
    chain = f"{PLACES['france']}, {node}"
    assert status_of(haproxy.port, "a.example", chain) == 200
    assert status_of(haproxy.port, "unknown.example", chain) is None
    assert status_of(haproxy.port, "a.example", f"{node}, {PLACES['france']}") == 451


def test_covered_clients_get_no_stored_copy_and_leave_none(served):
    """HAProxy's own cache answers others, before and after; covered clients get the site's answer each time."""
    _, haproxy = served
    answers = [
        asked(haproxy.port, "cdn.example", PLACES[place], path="/cached")[1]
        for place in ("germany", "germany", "france", "france", "germany")
    ]
    numbers = [headers["x-answer"] for headers in answers]
    assert numbers[0] == numbers[1] == numbers[4]
    assert len({*numbers}) == 3
    assert [headers["cache-control"] for headers in answers[2:4]] == ["no-store", "no-store"]
    assert "no-store" not in answers[4]["cache-control"]


def test_close_sends_not_an_octet(served):
    """Neither to a page's reader nor to who uploads something; what follows on the connection is not answered."""
    _, haproxy = served
    for request in ("GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 100000\r\n"):
        with socket.create_connection(("127.0.0.1", haproxy.port), 20) as connection:
            fields = f"Host: unknown.example\r\nX-Forwarded-For: {PLACES['france']}\r\n\r\n"
            connection.sendall(f"{request}{fields}".encode())
            assert connection.recv(1 << 16) == b""


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_decide_as_the_library_does(threads, tmp_path):
    """Names above, below and beside each other, asked for by many at once."""
    with stage_with(tmp_path, **tangled_orders(7, "terminate", "close")) as stage:
        haproxy = HAProxy(stage, threads=threads)
        with haproxy.run(), ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda seed: [*decided_otherwise(stage, haproxy.port, seed, 150)], range(8))
            assert [wrong for several in found for wrong in several] == []


def test_deeper_names_need_no_reload(tmp_path):
    """The program walks all suffixes of a host in the map that the runtime API has changed, below a platform too."""
    deep = ".".join("abcdefgh" * 12)
    orders = {"one": {"names": ["a.example", "one.platform.example"]}}
    new = {
        "names": ["two.platform.example", f"{deep}.platform.example", {"name": "x.y.z.example", "subdomains": False}]
    }
    with stage_with(tmp_path, **orders) as stage:
        haproxy = HAProxy(stage)
        with haproxy.run():

            def statuses():
                hosts = ("two.platform.example", f"x.{deep}.platform.example", "x.y.z.example", "one.platform.example")
                free = (
                    "three.platform.example",
                    "b.platform.example",
                    f"{deep[2:]}.platform.example",
                    "w.x.y.z.example",
                )
                return [asked(haproxy.port, host, PLACES["france"])[0] for host in (*hosts, *free)]

            assert statuses() == [200, 200, 200, 451, 200, 200, 200, 200]
            before = haproxy.worker()
            put_orders(stage.orders, {**orders, "two": new})
            assert "cdnblock.cfg" not in export_for(stage, "haproxy", haproxy.out, **haproxy.settings)
            for name in MAPS:
                haproxy.replace(haproxy.out / f"cdnblock-{name}.map")
            assert statuses() == [451, 451, 451, 451, 200, 200, 200, 200]
            assert haproxy.worker() == before


@pytest.mark.parametrize(
    ("function", "broken", "answers"),
    [
        # those behind a gate, as one without its own name is; with measure cdn, and elsewhere; others
        ("decide", {"a.example": 503, "x.b.example": 503, "cdn.example": 503}, {"other.example": 200}),
        ("group_of", {"a.example": 503, "cdn.example": 503}, {"a..example": 400, "other.example": 200}),
        ("answer_by_notice", {"a.example": 500}, {"cdn.example": 200, "other.example": 200}),
        ("uncache", {"cdn.example": None}, {"a.example": 451, "other.example": 200}),
    ],
)
def test_a_fault_of_the_program_serves_nobody_whom_it_is_about(function, broken, answers, tmp_path):
    """Nothing is decided, said or changed then: 503, 500 or no answer at all; and no other host is touched."""
    with stage_with(tmp_path, **ORDERS) as stage:
        haproxy = HAProxy(stage)
        program = haproxy.out / "cdnblock.lua"
        head = f"local function {function}("
        before, _, after = program.read_text().partition(head)
        arguments, _, body = after.partition(")\n")
        program.write_text(f"{before}{head}{arguments})\n  do error('broken') end\n{body}")
        with haproxy.run():
            for host, status in (broken | answers).items():
                assert status_of(haproxy.port, host) == status, host


def test_a_fault_lets_no_server_name_through_that_it_is_about(tmp_path):
    """The handshake of a name behind a gate ends, covered or not; others' are passed on."""
    with stage_with(tmp_path, **ORDERS) as stage:
        haproxy = HAProxy(stage, sni=True)
        program = haproxy.out / "cdnblock.lua"
        program.write_text(program.read_text().replace("local action = action_for(", "local action = broken("))
        with haproxy.run():
            assert not shakes_hands(haproxy.sni, "www.everywhere.example")
            assert not shakes_hands(haproxy.sni, "www.a.example")
            assert shakes_hands(haproxy.sni, "other.example")


def test_an_empty_map_of_gates_lets_nobody_through(tmp_path):
    """Somebody cleared it by the runtime API: the map of hosts is asked then."""
    with stage_with(tmp_path, **ORDERS) as stage:
        haproxy = HAProxy(stage)
        with haproxy.run():
            assert haproxy.ask(f"clear map {haproxy.out}/cdnblock-gates.map\n").strip() == ""
            statuses = [
                status_of(haproxy.port, host) for host in ("a.example", "x.alone.example", "other.example", "!")
            ]
            assert statuses == [451, 200, 200, 400]


def test_where_there_is_no_room_for_a_variable_covered_hosts_are_refused_all_the_same(tmp_path):
    """`tune.vars`: of an operator, or of a host as long as it. Others are served, in whatever spelling."""
    with stage_with(tmp_path, **ORDERS) as stage:
        haproxy = HAProxy(stage, sni=True)
        small = "global\n  tune.vars.txn-max-size 10\n  tune.vars.sess-max-size 10\n"
        haproxy.files[0].write_text(haproxy.files[0].read_text().replace("global\n", small, 1))
        with haproxy.run():
            covered, others = ("a.example", "X.A.Example:80", "cdn.example"), ("other.example", "Other.Example.:80")
            assert [status_of(haproxy.port, host) for host in covered] == [503] * len(covered)
            assert [status_of(haproxy.port, host) for host in others] == [200] * len(others)
            assert not shakes_hands(haproxy.sni, "www.everywhere.example")


def status_of(port, host, client=PLACES["france"]):
    """Return the status of an answer to a client, None where the connection ends without one."""
    try:
        return asked(port, host, client)[0]
    except http.client.RemoteDisconnected:
        return None


def test_tls_that_is_passed_on_is_refused_by_its_server_name(served):
    """A covered name's handshake ends; others', and those of clients whom the order spares, are passed on."""
    _, haproxy = served
    assert not shakes_hands(haproxy.sni, "www.everywhere.example")
    assert not shakes_hands(haproxy.sni, "www.Unknown.Example")
    assert shakes_hands(haproxy.sni, "www.a.example")  # an order for France: loopback addresses are in no country
    assert shakes_hands(haproxy.sni, "other.example")


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
def test_the_checker_accepts_whatever_is_ordered(order, tmp_path):
    """Without a warning: nothing in force, one measure alone, the longest name."""
    with stage_with(tmp_path, one=order) as stage:
        HAProxy(stage).check()
