"""`cdnblock verify`: what it prints, how it ends, and how it bears orders that change while it runs."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import broken_edges as edges
import broken_resolvers as resolvers
import broken_sites as sites
import pytest
from aiohttp import web
from broken_edges import running
from broken_resolvers import resolving
from click.testing import CliRunner
from conftest import ORDERS
from free_ports import free_port

from cdnblock.cli.root import root
from cdnblock.testing.stage import open_stage, put_orders

ROOT = Path(__file__).parent.parent.parent
QUICK = ("--rate", "0", "--sample", "1", "--settle", "0")


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CDNBLOCK_")}
    return kept | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def command(stage, *arguments):
    fixed = ["--orders", str(stage.orders), "--geo", str(stage.geo)]
    return [sys.executable, "-m", "cdnblock", "verify", *map(str, arguments), *fixed]


def verify(stage, *arguments):
    return subprocess.run(
        command(stage, *arguments),
        capture_output=True, text=True, timeout=60, check=False, env=environment(), cwd=stage.folder,
    )  # fmt: skip


def url(host):
    return f"http://127.0.0.1:{host.address[1]}/cached"


def test_a_sound_edge_ends_with_0(stage):
    """The last line says so, with how much was asked; what cannot be seen is on stderr."""
    with running(edges.Sound, stage) as host:
        done = verify(stage, url(host), "--by", "x-forwarded-for", *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{url(host)}: as decided (")
    assert "as 4 clients by http/1.1" in done.stdout
    assert "not seen: HTTP/2: this URL is without TLS" in done.stderr
    assert "not seen: measure dns is not this server's" in done.stderr
    assert "clients elsewhere" not in done.stderr


def test_a_broken_edge_ends_with_1_and_each_difference_in_words(stage):
    """Name, way, client, what was expected, what came, and which order says so."""
    with running(edges.NoSubdomains, stage) as host:
        done = verify(stage, url(host), "--by", "forwarded", *QUICK)
    assert done.returncode == 1, done.stderr
    assert "www.republic.example (below a listed name)" in done.stdout
    line = "  http/1.1, as metropolitan France (FR, 203.0.113.7): expected 451, got 200  [republic]"
    assert line in done.stdout.splitlines()
    assert "differences (" in done.stdout.splitlines()[-1]


def test_json_has_every_difference(stage):
    """Findings with probe, expectation and decision; what could not be seen; nothing else on stdout."""
    with resolving(resolvers.NotOverTcp, stage) as port:
        done = verify(stage, f"127.0.0.1:{port}", "--by", "ecs", "--json", *QUICK)
    told = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert told["server"] == f"dns://127.0.0.1:{port}"
    assert told["ways"] == ["udp", "tcp"]
    assert told["differences"] == len(told["findings"]) > 0
    assert {found["way"] for found in told["findings"]} == {"tcp"}
    (found, *_) = [found for found in told["findings"] if found["name"] == "held.example" and found["form"] == "A"]
    assert found == {
        "name": "held.example", "kind": "in force", "way": "tcp", "form": "A", "again": False,
        "client": "203.0.113.7", "country": "FR", "expected": "REFUSED with EDE 16", "got": "NOERROR with 1 record",
        "measures": {"proxy": "terminate", "dns": "refuse"}, "orders": ["lifted"], "not_applied": [],
    }  # fmt: skip
    assert any("--reference" in note for note in told["cannot_see"])
    assert told["ended_early"] is None


def test_from_one_address_it_says_what_it_cannot_see(stage):
    """Loopback is in no country: nothing was shown of clients inside, and that is said."""
    with running(edges.Undecided, stage) as host:
        done = verify(stage, url(host), *QUICK)
    assert done.returncode == 1  # an order enforces unknown locations
    assert "clients elsewhere: it was asked from no country that the table knows alone" in done.stderr
    assert "clients that order republic concerns: none was in FR RE" in done.stderr


def test_a_source_address_can_be_said_to_be_somewhere(stage):
    """127.10.0.1 is France to this resolver; the table cannot know."""
    with resolving(resolvers.Sound, stage) as port:
        arguments = ("--client", "127.10.0.1=FR", "--client", "127.20.0.1=DE", "--client", "127.0.0.1=none")
        done = verify(stage, f"dns://127.0.0.1:{port}", *arguments, *QUICK)
        assert done.returncode == 0, done.stdout
        assert "any measure" not in done.stderr
        assert (
            "not seen: clients in RE, in the territory of 1 order: none was there; --client ADDRESS=RE" in done.stderr
        )
        wrong = verify(stage, f"dns://127.0.0.1:{port}", "--client", "127.0.0.1=FR", *QUICK)
        assert wrong.returncode == 1


def test_a_server_that_does_not_believe_us_is_told_of(stage):
    """Where no client is treated as one inside, that is said rather than guessed from hundreds of differences."""

    class Distrusts(edges.Sound):
        trusts = ("192.0.2.0/24",)

    with running(Distrusts, stage) as host:
        done = verify(stage, url(host), "--by", "x-forwarded-for", *QUICK)
    assert done.returncode == 1
    assert "Does it believe what it is told of clients by this machine?" in done.stderr


@pytest.mark.parametrize("server", ["http://127.0.0.1:{}", "https://127.0.0.1:{}", "127.0.0.1:{}"])
def test_nobody_there_ends_with_5(stage, server):
    """One line says where, and no traceback."""
    server = server.format(free_port())
    done = verify(stage, server, *QUICK)
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith("cdnblock: ")
    assert server.rpartition("/")[2] in done.stderr
    assert "not reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_resolver_that_answers_nobody_ends_with_5(stage):
    """A socket that is open and silent."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.1", 0)) as tcp:
        udp.bind(tcp.getsockname())
        done = verify(stage, f"127.0.0.1:{tcp.getsockname()[1]}", "--patience", "0.2", *QUICK)
    assert done.returncode == 5, done.stderr
    assert "no answer within 0.2 s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["edge.example"], "'edge.example' may be an edge or a resolver; right would be http://"),
        (["ftp://edge.example"], "neither a URL of an edge nor the address of a resolver"),
        (["http://edge.example:99999"], "right would be http://"),
        (["http://127.0.0.1", "--by", "ecs"], "--by ecs tells an edge nothing"),
        (["127.0.0.1", "--by", "forwarded"], "--by forwarded tells a resolver nothing"),
        (["127.0.0.1", "--way", "http2"], "--way http2: dns://127.0.0.1:53 is asked by udp or tcp"),
        (["http://127.0.0.1", "--client", "203.0.113.7"], "203.0.113.7 is no address of this machine"),
        (["http://127.0.0.1", "--by", "forwarded", "--client", "here"], "'here' is no address"),
        (["http://127.0.0.1", "--by", "forwarded", "--client", "192.0.2.1=France"], "'France' is no country"),
        (["http://127.0.0.1", "--source", "127.0.0.1"], "--by source: give each address as --client"),
        (["http://127.0.0.1", "--header", "X-Real-IP: 1\r\nHost"], "is no name of a field (RFC 9110 §5.1)"),
        (["http://127.0.0.1", "--header", "X\nY"], "right would be X-Real-IP"),
        (["http://127.0.0.1", "--header", ""], "is no name of a field"),
        (["http://127.0.0.1", "--not-promised", "everything"], "there are ede, ttl, link, no-store"),
        (["http://127.0.0.1", "--exported", "apache"], "there is no target 'apache'"),
        (["http://127.0.0.1", "--reference", "127.0.0.1"], "for verifying a resolver"),
        (["127.0.0.1", "--origin", "http://127.0.0.1"], "for verifying an edge"),
        (["127.0.0.1", "--rate", "-1"], "--rate"),
        ([], "Missing argument"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2(stage, arguments, said):
    """In a sentence that says what would be right."""
    done = CliRunner().invoke(root, command(stage, *arguments)[3:])
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())


def test_what_an_exported_target_promises_is_expected(stage):
    """A proxy has nothing to do with measure dns; a list knows no variant and no reason."""
    with running(edges.Sound, stage) as host:
        assert verify(stage, url(host), "--by", "x-forwarded-for", "--exported", "haproxy", *QUICK).returncode == 0

    class Gone(resolvers.NoSuchName):
        """Says of every covered name that it does not exist, and nothing more."""

        def refuse(self, packet, decision, *, tcp):
            def bare(message):
                message.authority.clear()
                message.use_edns(None)

            return resolvers.changed(super().refuse(packet, decision, tcp=tcp), bare)

    with resolving(Gone, stage) as port:
        server = (f"127.0.0.1:{port}", "--client", "127.10.0.1=FR", "--exported", "dnsmasq", *QUICK)
        assert verify(stage, *server).returncode == 1
        done = verify(stage, *server, "--not-promised", "ede,ttl")
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Return a stage with few orders: each run here is a process of its own."""
    with open_stage(tmp_path_factory.mktemp("command"), ()) as found:
        put_orders(found.orders, {order: ORDERS[order] for order in ("republic", "lifted", "unknown")})
        yield found


@pytest.fixture
def changing(tmp_path):
    with open_stage(tmp_path, ()) as stage:
        put_orders(stage.orders, {"first": {"names": [f"n{number}.example" for number in range(120)]}})
        yield stage


@contextmanager
def started(stage, *arguments, stderr=subprocess.PIPE):
    """Start a verification; end it with the block at the latest."""
    with subprocess.Popen(
        command(stage, *arguments), stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment(), cwd=stage.folder
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


class Asked(edges.Sound):
    """A sound edge that tells when somebody has asked it something."""

    by_somebody = threading.Event()

    def _decide(self, exchange):
        self.by_somebody.set()
        return super()._decide(exchange)

    @classmethod
    @contextmanager
    def by(cls, stage, *arguments):
        """Run it, and a verification that has just begun."""
        cls.by_somebody.clear()
        with running(cls, stage) as host, started(stage, url(host), "--by", "x-forwarded-for", *arguments) as process:
            assert cls.by_somebody.wait(30)
            yield process


class AskedAndDeaf(Asked):
    """The same, and it rereads nothing."""

    deaf = True


def test_orders_may_change_while_it_runs(changing):
    """Names come and go in the middle: no difference on an edge that follows, and those that came are asked for."""
    with Asked.by(changing, "--rate", "150", "--sample", "1", "--settle", "2", "--json") as process:
        names = [f"n{number}.example" for number in range(110)] + ["later.example"]
        put_orders(changing.orders, {"first": {"names": names}})
        out, err = process.communicate(timeout=60)
    told = json.loads(out)
    assert (told["differences"], process.returncode) == (0, 0), told["findings"][:3]
    assert len(told["revisions"]) == 2, err


def test_an_edge_that_does_not_follow_is_found(changing):
    """What was added meanwhile is asked for at the end, once the edge has had its time."""
    with AskedAndDeaf.by(changing, "--rate", "150", "--sample", "1", "--settle", "1", "--json") as process:
        names = [f"n{number}.example" for number in range(120)] + ["later.example"]
        put_orders(changing.orders, {"first": {"names": names}})
        out, _ = process.communicate(timeout=60)
    found = {(found["name"], found["got"]) for found in json.loads(out)["findings"]}
    assert ("later.example", "200") in found
    assert process.returncode == 1


def test_an_interruption_tells_what_was_found_until_then(changing):
    """Ctrl-C ends it at once, with a verdict that says so, and 130."""
    with Asked.by(changing, "--rate", "50") as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert "ended early, it was interrupted; as decided until then" in out, err
    assert process.returncode == 130


def test_a_server_that_goes_away_ends_it_early(changing):
    """Fifty probes in a row that find nobody are enough: nobody waits for thousands."""
    with started(changing, "http://127.0.0.1:1", "--by", "x-forwarded-for") as process:
        assert process.wait(30) == 5
    listening = threading.Event()
    port = free_port()
    with running(edges.Sound, changing) as host, socket.create_server(("127.0.0.1", port)) as door:

        def relay():
            door.settimeout(20)
            for _ in range(100):
                with door.accept()[0] as client, socket.create_connection(host.address) as there:
                    there.sendall(client.recv(65_536))
                    while octets := there.recv(65_536):
                        client.sendall(octets)
                listening.set()
            door.close()

        relaying = threading.Thread(target=relay)
        relaying.start()
        done = verify(changing, f"http://127.0.0.1:{port}/cached", "--by", "x-forwarded-for", "--rate", "0", "--json")
        relaying.join()
    told = json.loads(done.stdout)
    assert told["ended_early"] == "50 probes in a row found nobody there"
    assert told["asked"] < 400
    assert all(found["got"].startswith(("not reached: ", "closed without")) for found in told["findings"])


def test_a_bar_shows_on_a_terminal_alone(changing):
    """After two seconds, on stderr; stdout stays clean."""
    master, slave = pty.openpty()
    seen = b""
    with running(edges.Sound, changing) as host:
        arguments = (url(host), "--by", "x-forwarded-for", "--rate", "80", "--sample", "1", "--most", "100")
        with os.fdopen(slave, "w") as terminal, started(changing, *arguments, stderr=terminal) as process:
            reader = threading.Thread(target=lambda: process.wait(60))
            reader.start()
            while b"names" not in seen and process.poll() is None:
                seen += os.read(master, 10_000)
            out, _ = process.communicate(timeout=60)
            reader.join()
    os.close(master)
    assert b"#" in seen
    assert b"names" in seen
    assert "[#" not in out


def test_order_files_that_are_wrong_end_with_1_before_anybody_is_asked(changing):
    """Each problem with file and line, as everywhere."""
    (changing.orders / "wrong.yaml").write_text("cdnblock: 1\n")
    done = verify(changing, "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "wrong.yaml:1:1" in done.stderr


NOTHING = {
    # what is asked of whom: why nothing can be said
    "no orders": ("empty", (), "no order is in force"),
    "only a client outside": ("Sound", ("--client", "198.51.100.7=DE"), "no client was where an order holds"),
    "errors alone": ("failing", ("--client", "198.51.100.7=DE", "--client", "203.0.113.7=FR"), None),
}


@pytest.mark.parametrize("what", NOTHING)
def test_where_nothing_could_be_judged_it_is_not_as_decided(tmp_path, what):
    """Exit 3, and why; answers that are all errors are no sign of anything."""
    kind, arguments, why = NOTHING[what]
    orders = {} if kind == "empty" else {"one": {"names": ["one.example"], "measures": {"cdn": "disable"}}}
    with open_stage(tmp_path, ()) as stage:
        put_orders(stage.orders, orders)  # without any: an empty folder
        with running(Failing if kind == "failing" else edges.Sound, stage) as host:
            done = verify(stage, url(host), "--by", "x-forwarded-for", *arguments, "--json", *QUICK)
            plain = verify(stage, url(host), "--by", "x-forwarded-for", *arguments, *QUICK)
    told = json.loads(done.stdout)
    assert (done.returncode, plain.returncode, told["differences"]) == (3, 3, 0), told
    assert "nothing could be judged" in told["undecided"]
    assert told["undecided"] in plain.stdout
    assert "as decided" not in plain.stdout
    assert why is None or why in told["undecided"]


class Failing(edges.Sound):
    """Answers everything with an error."""

    async def _answer(self, exchange):
        return web.Response(status=500)


def test_an_alarm_ends_with_3_and_with_the_origin_it_is_decided(tmp_path):
    """A 403 that may be the site's own; its origin says that it is not."""
    with open_stage(tmp_path, ()) as stage:
        put_orders(stage.orders, {"one": {"names": ["cdn.one.example"]}})
        with running(sites.ForbidsAbroad, stage) as host:
            alone = verify(stage, url(host), "--by", "x-forwarded-for", *QUICK)
            compared = verify(stage, url(host), "--by", "x-forwarded-for", "--origin", stage.origin, *QUICK)
    assert (alone.returncode, compared.returncode) == (3, 1), alone.stdout + compared.stdout
    assert "may be refusals where none is due, or the sites' own: --origin URL" in alone.stdout
    assert "expected 200, as the origin says, got 403" in compared.stdout
