"""`cdnblock dns` as people run it: a process, its options, signals, workers, and what status says of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from order_texts import order_text
from prometheus_page import samples, value

pytest.importorskip("dns", reason="dnspython is the oracle of these tests (extra `dns`)")

import dns.edns
import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rrset

from cdnblock.adapters.dns_server import FrontSettings, Workers
from cdnblock.cli.root import root
from cdnblock.enforcer import Enforcer
from cdnblock.sources import control_socket

ROOT = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"
WORLD = order_text(territory="world", names="[refused.example]", contact="legal@edge.example")
BEGUN = r"cdnblock: DNS on 127\.0\.0\.1:(\d+)"


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def upstream():
    """A name server that knows every name, over UDP."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((LOOPBACK, 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                query, client = sock.recvfrom(4096)
                if not query:
                    return
                with contextlib.suppress(dns.exception.DNSException):
                    message = dns.message.from_wire(query)
                    response = dns.message.make_response(message)
                    response.answer.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "A", "192.0.2.1"))
                    sock.sendto(response.to_wire(), client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"{LOOPBACK}:{sock.getsockname()[1]}"
    with socket.socket(type=socket.SOCK_DGRAM) as end:
        end.sendto(b"", sock.getsockname())
    thread.join(5)
    sock.close()


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "a.yaml").write_text(WORLD, encoding="utf-8")
    return folder


class Running:
    """A front in a process of its own."""

    def __init__(self, *arguments, files=None):
        limited = [] if files is None else ["prlimit", f"--nofile={files}:{files}"]
        self.process = subprocess.Popen(
            [*limited, sys.executable, "-m", "cdnblock", "dns", "--listen", f"{LOOPBACK}:0", *map(str, arguments)],
            env=environment(), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.said = []
        self._begun = threading.Event()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self):
        for line in self.process.stderr:
            self.said.append(line)
            if re.search(BEGUN, line):
                self._begun.set()

    def __enter__(self):
        assert self._begun.wait(60), "".join(self.said)
        self.port = int(re.search(BEGUN, "".join(self.said))[1])
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._reading.join(5)
        self.process.stderr.close()

    def end(self, by=signal.SIGTERM):
        self.process.send_signal(by)
        return self.process.wait(20)

    def ask(self, name="refused.example", *, tcp=False, **options):
        query = dns.message.make_query(name, "A", **options)
        send = dns.query.tcp if tcp else dns.query.udp
        return send(query, LOOPBACK, port=self.port, timeout=5)

    def rcode(self, name="refused.example", **options):
        return dns.rcode.to_text(self.ask(name, **options).rcode())


def eventually(holds, within=20.0):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(dns.exception.Timeout, OSError):
            if holds():
                return True
        time.sleep(0.05)
    return False


def status(state):
    done = CliRunner().invoke(root, ["status", "--state", str(state), "--json"])
    assert done.exit_code in (0, 1), done.output
    return json.loads(done.stdout)


def test_it_refuses_and_forwards_and_ends_by_sigterm(orders, upstream):
    """The example of its help, over UDP and TCP; the contact is the operator's if there is one."""
    with Running("--upstream", upstream, "--orders", orders, "--contact", "dns@resolver.example") as front:
        assert "1 name listed" in "".join(front.said)
        answer = front.ask(use_edns=0)
        [error] = [option for option in answer.options if option.otype == dns.edns.OptionType.EDE]
        assert (answer.rcode(), int(error.code)) == (dns.rcode.REFUSED, 16)
        assert error.text == "order motogp; contact dns@resolver.example"
        assert front.rcode(tcp=True) == "REFUSED"
        assert str(front.ask("open.example").answer[0][0]) == "192.0.2.1"
        assert front.end() == 0


def test_orders_are_followed_and_reread_by_sighup(orders, upstream):
    """A new name counts as soon as the file says so; SIGHUP is for those who cannot wait a second."""
    with Running("--upstream", upstream, "--orders", orders) as front:
        assert front.rcode("later.example") == "NOERROR"
        (orders / "b.yaml").write_text(order_text(id="b", territory="world", names="[later.example]"), encoding="utf-8")
        front.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: front.rcode("later.example") == "REFUSED", within=5)
        assert front.rcode() == "REFUSED"
        assert front.end(signal.SIGINT) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_while_it_starts_is_no_end(orders, upstream, workers):
    """Until it serves the orders are being read anyway: a service manager may reload what has hardly begun."""
    running = Running("--upstream", upstream, "--orders", orders, "--workers", workers)
    own = Path(f"/proc/{running.process.pid}/status")
    assert eventually(lambda: ignores(own, signal.SIGHUP))
    while not running.said and running.process.poll() is None:
        running.process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
    with running:
        assert running.rcode() == "REFUSED"
        assert running.end() == 0


def ignores(status, number):
    (ignored,) = re.findall(r"^SigIgn:\s+(\w+)$", status.read_text(), re.MULTILINE)
    return bool(int(ignored, 16) >> number - 1 & 1)


def test_status_counts(orders, upstream, tmp_path):
    """What `cdnblock status --json` says of a front: its counters, of each worker."""
    with Running("--upstream", upstream, "--orders", orders, "--state", tmp_path / "state") as front:
        front.ask()
        front.ask("open.example")
        told = status(tmp_path / "state")
        [worker] = told["dns"]["workers"]
        assert worker["pid"] == told["pid"] == front.process.pid
        assert worker["revision"] == told["revision"]
        assert (worker["queries"]["refused"], worker["queries"]["forwarded"]) == (1, 1)
        assert worker["upstreams"][0]["answers"] == 1
        page = CliRunner().invoke(root, ["status", "--state", str(tmp_path / "state")]).stdout
        assert "DNS          1 refused, 1 forwarded, 0 failed by 1 worker" in page.splitlines()


@pytest.mark.parametrize("workers", [1, 2])
def test_prometheus_reads_the_counters(orders, upstream, workers):
    """Of all workers together, in its text format; no name and no client's address in them."""
    with Running(
        "--upstream", upstream, "--orders", orders, "--workers", workers, "--metrics", f"{LOOPBACK}:0"
    ) as front:
        assert eventually(lambda: "metrics on" in "".join(front.said))
        url = re.search(r"http://\S+/metrics", "".join(front.said))[0]
        for number in range(10):
            front.ask(f"h{number}.refused.example")
        front.ask("open.example")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            text = response.read().decode()
        found = samples(text)
        assert value(found, "cdnblock_dns_queries_total", outcome="refused") == 10
        answered = {"adapter": "dns_server", "measure": "dns", "action": "answer"}
        assert value(found, "cdnblock_decisions_total", **answered) == 10
        assert value(found, "cdnblock_dns_upstream_seconds_count", upstream="1") == 1
        assert value(found, "cdnblock_dns_upstream_seconds_bucket", upstream="1", le="+Inf") == 1
        assert (value(found, "cdnblock_dns_workers"), value(found, "cdnblock_dns_outstanding")) == (workers, 0)
        assert value(found, "cdnblock_names_in_force") == 1
        assert "example" not in text
        assert LOOPBACK not in text
        types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(types) == len(set(types))
        named = {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in found}
        assert named == set(types)


def with_workers(orders, upstream, tmp_path, number=2):
    return Running("--upstream", upstream, "--orders", orders, "--state", tmp_path / "state", "--workers", number)


def pids(state):
    return {worker["pid"] for worker in status(state)["dns"]["workers"]}


def test_workers_enforce_one_revision(orders, upstream, tmp_path):
    """Whichever worker the kernel chooses; a reload is over when all of them have switched."""
    state = tmp_path / "state"
    with with_workers(orders, upstream, tmp_path) as front:
        assert "with 2 workers" in "".join(front.said)
        assert len(pids(state)) == 2
        assert front.process.pid not in pids(state)
        for number in range(5):
            text = order_text(id="b", territory="world", names=f"[later{number}.example]")
            (orders / "b.yaml").write_text(text, encoding="utf-8")
            assert CliRunner().invoke(root, ["reload", "--state", str(state), "--accept-release"]).exit_code == 0
            for _ in range(12):  # each from another port: both workers are asked
                assert front.rcode(f"later{number}.example") == "REFUSED"
                assert front.rcode(f"later{number - 1}.example") == "NOERROR"
        told = status(state)
        assert {worker["revision"] for worker in told["dns"]["workers"]} == {told["revision"]}
        assert all(worker["udp"]["queries"] for worker in told["dns"]["workers"])
        children = pids(state)
        assert front.end() == 0
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_worker_that_dies_is_replaced_by_one_that_knows_the_newest_orders(orders, upstream, tmp_path):
    """Killed, it is said, counted, and made good; the others answer meanwhile."""
    state = tmp_path / "state"
    with with_workers(orders, upstream, tmp_path) as front:
        before = pids(state)
        text = order_text(id="b", territory="world", names="[later.example]")
        (orders / "b.yaml").write_text(text, encoding="utf-8")
        assert CliRunner().invoke(root, ["reload", "--state", str(state)]).exit_code == 0
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: len(pids(state)) == 2 and victim not in pids(state))
        told = status(state)
        assert told["dns"]["restarts"] == 1
        assert {worker["revision"] for worker in told["dns"]["workers"]} == {told["revision"]}
        assert f"worker {victim} died with exit code -9" in "".join(front.said)
        for _ in range(12):
            assert front.rcode("later.example") == "REFUSED"


def test_whoever_asks_while_workers_die_is_answered(orders, upstream, tmp_path):
    """The line to a dead one is closed once: closed twice it may be somebody else's by then."""
    state, ended, errors = tmp_path / "state", threading.Event(), []

    def ask_on():
        while not ended.is_set():
            try:
                errors.extend(filter(None, [control_socket.ask(state, {"command": "status"}, 20).get("error")]))
            except ConnectionError as error:
                errors.append(error)

    with with_workers(orders, upstream, tmp_path) as front:
        askers = [threading.Thread(target=ask_on) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            for _ in range(6):
                victim = min(pids(state))
                os.kill(victim, signal.SIGKILL)
                assert eventually(lambda gone=victim: len(pids(state)) == 2 and gone not in pids(state))
        finally:
            ended.set()
            for asker in askers:
                asker.join()
        assert errors == []
        assert front.rcode() == "REFUSED"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT], ids=["SIGHUP", "SIGINT"])
def test_what_is_sent_to_all_processes_ends_no_worker(orders, upstream, tmp_path, number):
    """Service managers and terminals send it to each of them; it is the supervisor's, also while a worker begins."""
    state = tmp_path / "state"
    with with_workers(orders, upstream, tmp_path) as front:
        victim, survivor = pids(state)
        os.kill(victim, signal.SIGKILL)

        def is_replaced():
            for _ in range(10):
                for child in children(front.process.pid):
                    os.kill(child, number)
                time.sleep(0.01)
            return len(pids(state)) == 2 and victim not in pids(state)

        assert eventually(is_replaced)
        assert survivor in pids(state)
        assert status(state)["dns"]["restarts"] == 1
        assert front.rcode() == "REFUSED"


def children(pid):
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_a_worker_that_hangs_is_replaced(orders, upstream, tmp_path, caplog):
    """One that does not reply cannot follow the orders, so it must not go on with old ones."""
    host, port = upstream.split(":")
    settings = FrontSettings(listen=((LOOPBACK, 0),), upstreams=((host, int(port)),))
    ended = threading.Event()
    with (
        Enforcer(orders, state=tmp_path / "state", follow=False) as enforcer,
        Workers(enforcer, settings, 2, patience=2.0) as workers,
    ):
        watching = threading.Thread(target=workers.watch, args=(ended,))
        watching.start()
        try:
            before = {worker["pid"] for worker in workers.metrics()["workers"]}
            assert len(before) == 2
            os.kill(min(before), signal.SIGSTOP)
            assert eventually(lambda: workers.restarts >= 1, within=40)
            assert eventually(lambda: len(workers.metrics()["workers"]) == 2)
            assert min(before) not in {worker["pid"] for worker in workers.metrics()["workers"]}
        finally:
            ended.set()
            watching.join(20)
    assert f"worker {min(before)} died with exit code -9" in caplog.text


def test_workers_end_with_their_supervisor_however_it_ends(orders, upstream, tmp_path):
    """Even by SIGKILL: nobody goes on with orders that nobody follows."""
    with with_workers(orders, upstream, tmp_path) as front:
        children = pids(tmp_path / "state")
        front.process.kill()
        front.process.wait(10)
        assert eventually(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()])


def test_queries_are_answered_while_orders_change(orders, upstream, tmp_path):
    """Twenty reloads under load: no query is lost, none for a name that was always refused is let through."""
    state = tmp_path / "state"
    with with_workers(orders, upstream, tmp_path) as front:
        ended = threading.Event()

        def load():
            count = 0
            while not ended.is_set():
                assert front.rcode() == "REFUSED"
                assert front.rcode("open.example") == "NOERROR"
                count += 2
            return count

        with ThreadPoolExecutor(2) as pool:
            loads = [pool.submit(load) for _ in range(2)]
            for number in range(20):
                text = order_text(id="b", territory="world", names=f"[later{number}.example]")
                (orders / "b.yaml").write_text(text, encoding="utf-8")
                CliRunner().invoke(root, ["reload", "--state", str(state), "--accept-release"])
            ended.set()
            assert all(load.result() > 20 for load in loads)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing option '--upstream'"),
        (["--upstream", "localhost"], 1, "'localhost' is no address and port"),
        (["--upstream", "127.0.0.1", "--listen", "nowhere:53"], 1, "'nowhere:53' is no address and port"),
        (["--upstream", "127.0.0.1", "--trusted-forwarder", "10.0.0.0/33"], 1, "10.0.0.0/33"),
        (["--upstream", "127.0.0.1", "--load-balancer", "x"], 1, "'x' is no network"),
        (["--upstream", "127.0.0.1", "--listen", "192.0.2.1:5353"], 1, "cannot listen on 192.0.2.1 port 5353"),
        (["--upstream", "127.0.0.1", "--listen", "192.0.2.1:5353", "--workers", "2"], 1, "cannot listen on 192.0.2.1"),
        (["--upstream", "127.0.0.1:5353", "--listen", "127.0.0.1:5353"], 1, "the front would ask itself"),
        (["--upstream", "127.0.0.1:5353", "--listen", "0.0.0.0:5353"], 1, "the front would ask itself"),
        (["--upstream", "127.0.0.9:5353", "--listen", "0.0.0.0:5353"], 1, "the front would ask itself"),
        (
            ["--upstream", "127.0.0.1", "--listen", "127.0.0.1:0", "--metrics", "192.0.2.1:9"],
            1,
            "cannot listen on 192.0.2.1",
        ),
        (["--upstream", "192.0.2.1:0", "--listen", "127.0.0.1:0"], 1, "upstreams have no port 0"),
        (
            ["--upstream", "127.0.0.1", "--listen", "127.0.0.1:0", "--trusted-forwarder", "127.0.0.1/33"],
            1,
            "trusted forwarder '127.0.0.1/33' is no network",
        ),
        (
            ["--upstream", "127.0.0.1", "--listen", "127.0.0.1:0", "--load-balancer", "dnsdist"],
            1,
            "load balancer 'dnsdist' is no network",
        ),
        (["--upstream", "127.0.0.1", "--workers", "0"], 2, "0 is not in the range"),
        (["--upstream", "127.0.0.1", "--on-failure", "perhaps"], 2, "'perhaps' is not one of"),
    ],
)
def test_what_cannot_work_is_said(orders, arguments, code, message):
    """2 for what is no command, 1 for what cannot be done; nothing runs on."""
    done = subprocess.run(
        [sys.executable, "-m", "cdnblock", "dns", "--orders", str(orders), *arguments],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_two_fronts_never_share_an_address(orders, upstream, tmp_path):
    """Workers could, without a word; each front would enforce its own orders on half of the queries."""
    with with_workers(orders, upstream, tmp_path) as front:
        address = f"{LOOPBACK}:{front.port}"
        for more in (["--workers", "2"], ["--workers", "1"]):
            done = subprocess.run(
                [sys.executable, "-m", "cdnblock", "dns", "--orders", orders, "--upstream", upstream, "--listen", address, *more],
                env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 1
            assert "Address already in use" in done.stderr
        assert front.rcode() == "REFUSED"


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_leave_room_for_all_else(orders, upstream, workers):
    """With few open files there are fewer connections, and it is said once; everybody is answered."""
    with (
        contextlib.ExitStack() as stack,
        Running("--upstream", upstream, "--orders", orders, "--workers", workers, files=250) as front,
    ):
        for number in range(300):
            sock = stack.enter_context(
                socket.create_connection((LOOPBACK, front.port), 5, (f"127.0.0.{2 + number // 50}", 0))
            )
            sock.sendall(b"\0")
        assert front.rcode("open.example") == "NOERROR"
        assert front.rcode(tcp=True) == "REFUSED"
        assert len(list(Path(f"/proc/{front.process.pid}/fd").iterdir())) < 200
        assert "".join(front.said).count("250 open files are enough for 130 connections") == 1
        assert front.rcode("open.example") == "NOERROR"


def test_invalid_orders_keep_it_from_starting(orders, upstream):
    """File, line and column; exit 1."""
    (orders / "a.yaml").write_text("cdnblock: 1\nid: [\n", encoding="utf-8")
    for workers in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "cdnblock", "dns", "--orders", orders, "--upstream", upstream, "--workers", workers],
            env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert "a.yaml:" in done.stderr
