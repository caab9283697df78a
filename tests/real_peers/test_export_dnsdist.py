"""dnsdist with what `cdnblock export dnsdist` writes, under the contract of every resolver."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from free_ports import free_ports

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "adapters")]

from dense_orders import dense_orders, wrong_answers
from dns_clients import opt, option, over_stream, over_udp, packet, subnet, wire_name
from dns_engines import answered_with_data, answers, export_dns_for, said, said_for, spoilt_queries
from export_engines import HOSTILE, at_each_turn, needs, rules_of, running, wait_until
from export_resolvers import started_example

from cdnblock.measures.dns_refusal import answer
from cdnblock.testing.dns_contract import DnsContract, open_dns_stage
from cdnblock.testing.dns_stage import CLIENTS, DnsHost
from cdnblock.testing.stage import put_orders

pytestmark = needs("dnsdist", "dnsdist")

CONFIGURATION = """
{hooks}
setLocal("127.0.0.1:{port}")
addLocal("[::1]:{port}")
setACL({{"127.0.0.0/8", "::1"}})
setSecurityPollSuffix("")
controlSocket("127.0.0.1:{console}")
setKey("miQjUydO5fwUmSDS0hT+8pHsPOwM+UOoQbhcVKrZ2zI=")
newServer({{address="{upstream[0]}:{upstream[1]}", healthCheckMode="up"}})
getPool(""):setCache(newPacketCache(10000))
{more}
"""
PROGRAM = "cdnblock-dnsdist.lua"
REFUSED, ANSWERED = ("REFUSED", [(16, "order one")]), ("NOERROR", [])
ONE = {"names": ["one.example"], "measures": {"dns": "refuse"}}


class Dnsdist:
    """A dnsdist with a packet cache; its console runs the program once more."""

    def __init__(self, stage, name="dnsdist", *, hooks=None, more=""):
        self.stage, self.folder = stage, stage.folder / name
        self.folder.mkdir()
        self.out = stage.folder / "cdnblock"
        self.port, console = free_ports(2)
        self.configuration = self.folder / "dnsdist.conf"
        self.configuration.write_text(
            CONFIGURATION.format(
                port=self.port,
                console=console,
                upstream=stage.upstream,
                hooks=f'dofile("{self.out / PROGRAM}")' if hooks is None else hooks,
                more=more,
            )
        )

    @contextmanager
    def run(self):
        log = self.folder / "log"
        with running(["dnsdist", "-C", str(self.configuration), "--supervised"], self.port, log) as process:
            answers(process, self.port, log)
            yield self

    def reload(self):
        """Export; what changed is in force once the program ran."""
        if export_dns_for(self.stage, "dnsdist", self.out):
            assert self.tell(f'dofile("{self.out / PROGRAM}")') == ""

    def tell(self, command):
        done = subprocess.run(
            ["dnsdist", "-C", str(self.configuration), "-c", "-e", command],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout


class TestDnsdist(DnsContract):
    """With the cache that it has for each pool."""

    @contextmanager
    def serve(self, stage):
        with ExitStack() as leaving:
            dnsdist, plain = Dnsdist(stage), Dnsdist(stage, "plain", hooks="")
            export_dns_for(stage, "dnsdist", dnsdist.out)
            leaving.enter_context(dnsdist.run())
            leaving.enter_context(plain.run())
            leaving.enter_context(at_each_turn(stage, dnsdist.reload))
            yield DnsHost(
                address=("127.0.0.1", dnsdist.port),
                address6=("::1", dnsdist.port),
                plain=("127.0.0.1", plain.port),
                reload=dnsdist.reload,
            )


@contextmanager
def dnsdist_on(folder, *, more="", moved=True, trusted=(), contact=None, **orders):
    """Run a dnsdist with these orders alone."""
    with open_dns_stage(folder, orders) as opened:
        stage = replace(opened, trusted_proxies=trusted)
        dnsdist = Dnsdist(stage, more=more)
        export_dns_for(stage, "dnsdist", dnsdist.out, moved=moved, contact=contact)
        with dnsdist.run():
            yield stage, dnsdist


def test_names_that_come_and_go_need_no_command(tmp_path):
    """The database is looked at every second, by its date; three changes in a second are seen too."""
    with dnsdist_on(tmp_path, one=ONE) as (stage, dnsdist):
        for name in ("two.example", "three.example", "four.example"):
            put_orders(stage.orders, {"one": {**ONE, "names": [name]}})
            [changed] = export_dns_for(stage, "dnsdist", dnsdist.out)
            assert changed.endswith(".cdb")
        wait_until(lambda: said(dnsdist.port, "four.example", "france") == REFUSED)
        for name in ("one.example", "two.example", "three.example"):
            assert said(dnsdist.port, name, "france") == ANSWERED


def test_a_change_of_territory_is_a_change_of_the_program(tmp_path):
    """Until it runs once more all is as it was, and no half of the change is in force; then no rule is left over."""
    with dnsdist_on(tmp_path, one=ONE) as (stage, dnsdist):
        before = len(dnsdist.tell("showRules()").splitlines())
        put_orders(stage.orders, {"one": {**ONE, "names": ["two.example"], "territory": ["DE"]}})
        changed = export_dns_for(stage, "dnsdist", dnsdist.out)
        assert len(changed) == 3
        time.sleep(2)
        assert said(dnsdist.port, "one.example", "france") == REFUSED
        assert said(dnsdist.port, "two.example", "germany") == ANSWERED
        assert dnsdist.tell(f'dofile("{dnsdist.out / PROGRAM}")') == ""
        for place, wanted in (("france", ANSWERED), ("germany", REFUSED)):
            assert said(dnsdist.port, "two.example", place) == wanted
            assert said(dnsdist.port, "one.example", place) == ANSWERED
        assert len(dnsdist.tell("showRules()").splitlines()) == before


def test_a_country_without_networks_is_nobodys(tmp_path):
    """The table knows no address in Tuvalu: nobody is refused, and others are as their own orders say."""
    orders = {"one": {**ONE, "names": ["one.example", "both.example"]}, "tv": {**ONE, "territory": ["TV"]}}
    with dnsdist_on(tmp_path, **orders) as (_, dnsdist):
        for place, wanted in (("france", REFUSED), ("germany", ANSWERED), ("nowhere", ANSWERED)):
            assert said(dnsdist.port, "both.example", place) == wanted
        assert said(dnsdist.port, "one.example", "germany") == ANSWERED


def test_names_of_another_sort_are_a_change_of_the_program(tmp_path):
    """The first name that is meant alone; dnsdist does not look for such before."""
    with dnsdist_on(tmp_path, one=ONE) as (stage, dnsdist):
        names = ["one.example", {"name": "alone.example", "subdomains": False}]
        put_orders(stage.orders, {"one": {**ONE, "names": names}})
        dnsdist.reload()
        for name, wanted in (("one.example", REFUSED), ("alone.example", REFUSED), ("a.alone.example", ANSWERED)):
            assert said(dnsdist.port, name, "france") == wanted
            assert said(dnsdist.port, name, "germany") == ANSWERED


def test_a_program_that_fails_changes_nothing(tmp_path):
    """Rules that hold go on holding; at the start dnsdist says why it does not."""
    with dnsdist_on(tmp_path, one=ONE) as (stage, dnsdist):
        before = dnsdist.tell("showRules()").count("cdnblock")
        for name, text in (("cdnblock-networks.txt", "nonsense\n"), ("*.cdb", "cut short"), ("*.cdb", "x" * 5_000)):
            [path] = dnsdist.out.glob(name)
            kept = path.read_bytes()
            path.write_text(text)
            assert "rror" in dnsdist.tell(f'dofile("{dnsdist.out / PROGRAM}")')
            path.write_bytes(kept)
            assert dnsdist.tell("showRules()").count("cdnblock") == before
            wait_until(lambda: said(dnsdist.port, "one.example", "france") == REFUSED)
        path.unlink()
        other = Dnsdist(stage, "other")
        with pytest.raises(AssertionError, match="No such file"), other.run():
            pass


def spoilt(path, octets):
    """Put something else in a file's place, as old as what dnsdist takes for new."""
    beside = path.with_name("beside")
    beside.write_bytes(octets)
    os.utime(beside, (path.stat().st_mtime + 2,) * 2)
    beside.replace(path)


@pytest.mark.parametrize("spoil", [
    pytest.param(lambda octets: b"", id="nothing"),
    pytest.param(lambda octets: octets[:1_000], id="cut in its head"),
    pytest.param(lambda octets: octets[:2_500], id="cut behind it"),
    pytest.param(lambda octets: bytes(2_048) + octets[2_048:], id="another head"),
    pytest.param(lambda octets: b"\xff" * len(octets), id="no database"),
])  # fmt: skip
def test_a_database_that_cannot_be_read_is_not_believed(tmp_path, spoil):
    """What was there when the program was run last counts until there is one again; others are served meanwhile."""
    orders = {"one": {**ONE, "names": ["one.example", {"name": "alone.example", "subdomains": False}]}}
    with dnsdist_on(tmp_path, **orders) as (stage, dnsdist):
        [database] = dnsdist.out.glob("*.cdb")
        for refused in ("one.example", "a.one.example", "alone.example"):
            assert said(dnsdist.port, refused, "france") == REFUSED
        spoilt(database, spoil(database.read_bytes()))
        until = time.monotonic() + 2.5  # it looks every second
        while time.monotonic() < until:
            for refused in ("one.example", "a.one.example", "alone.example"):
                assert said(dnsdist.port, refused, "france") == REFUSED
                assert said(dnsdist.port, refused, "germany") == ANSWERED
            assert said(dnsdist.port, "other.example", "france") == ANSWERED
            time.sleep(0.1)
        put_orders(stage.orders, {"one": {**orders["one"], "names": ["two.example", orders["one"]["names"][1]]}})
        spoilt(database, database.read_bytes())
        export_dns_for(stage, "dnsdist", dnsdist.out)
        wait_until(lambda: said(dnsdist.port, "two.example", "france") == REFUSED)
        assert said(dnsdist.port, "one.example", "france") == ANSWERED


def test_what_dnsdist_has_open_is_never_written_to(tmp_path):
    """A new database is another file under the same name; one that is taken away counts until there is another."""
    with dnsdist_on(tmp_path, one=ONE) as (stage, dnsdist):
        [database] = dnsdist.out.glob("*.cdb")
        with database.open("rb") as opened:
            before = opened.read()
            put_orders(stage.orders, {"one": {**ONE, "names": ["two.example"]}})
            assert export_dns_for(stage, "dnsdist", dnsdist.out) == [database.name]
            assert database.read_bytes() != before
            opened.seek(0)
            assert opened.read() == before
        wait_until(lambda: said(dnsdist.port, "two.example", "france") == REFUSED)
        database.unlink()
        time.sleep(1.5)
        assert said(dnsdist.port, "two.example", "france") == REFUSED


def test_rules_of_the_operators_own_go_on_working(tmp_path):
    """They come after ours, and see all that no order covers; running the program again does not move them."""
    more = """
addAction(SuffixMatchNodeRule(newSuffixMatchNode()), AllowAction(), {name="theirs"})
addAction(QNameRule("own.example"), RCodeAction(DNSRCode.NOTIMP))
addAction(QNameRule("one.example"), RCodeAction(DNSRCode.NOTIMP))
"""
    with dnsdist_on(tmp_path, more=more, one=ONE) as (_, dnsdist):
        for _ in range(2):
            assert said(dnsdist.port, "one.example", "france") == REFUSED
            assert said(dnsdist.port, "one.example", "germany") == ("NOTIMP", [])
            assert said(dnsdist.port, "own.example", "france") == ("NOTIMP", [])
            dnsdist.tell(f'dofile("{dnsdist.out / PROGRAM}")')


def test_nobody_asks_for_what_is_no_name(tmp_path):
    """The database holds more than names; a query that is spelled like that gets what upstream says."""
    with dnsdist_on(tmp_path, one=ONE, wide={**ONE, "names": ["wide.example"], "territory": "world"}) as (_, dnsdist):
        [database] = dnsdist.out.glob("*.cdb")
        groups = {key.decode() for key in re.findall(rb" g[0-9a-f]{10}", database.read_bytes())}
        assert len(groups) == 2
        for name in (
            *(key.strip() for key in groups),
            *(key.replace(" ", "\\032") for key in groups),
            "\\032free",
            "free",
            "\\032#",
        ):
            assert said(dnsdist.port, f"{name}.", "france") == ANSWERED
            assert said(dnsdist.port, f"{name}.example.", "france") == ANSWERED


@pytest.mark.parametrize("variant", ["refuse", "nxdomain", "nodata"])
def test_the_answer_is_the_librarys_octet_for_octet(variant, tmp_path):
    """For queries with and without EDNS, client subnet, DO, RD and CD, small, long and broken ones."""
    long = ".".join(["x" * 60] * 3)
    orders = {
        "one": {"names": ["one.example"], "measures": {"dns": variant}},
        "two": {"names": ["two.example"], "measures": {"dns": variant}, "contact": HOSTILE},
        "three": {"names": ["three.example"], "measures": {"dns": variant}, "contact": "x" * 300},
    }
    with dnsdist_on(tmp_path, contact="legal@résolveur.example", **orders) as (stage, dnsdist):
        rules, wrong = rules_of(stage), []
        for name in ("one.example", "wWw.tWo.example", f"{long}.three.example"):
            decision = rules.decide(name, country="FR", at=datetime.now(UTC))
            for query in queries(name):
                came = over_udp("127.0.0.1", dnsdist.port, query, source=CLIENTS["france"], timeout=5)
                mine = answer(query, decision, contact="legal@résolveur.example")
                if came != mine:
                    wrong.append((name, query, came, mine))
                tcp = over_stream("127.0.0.1", dnsdist.port, query, source=CLIENTS["france"])
                if tcp != answer(query, decision, contact="legal@résolveur.example", max_size=65_535):
                    wrong.append((name, query, tcp))
        assert wrong == []


BROKEN_OPTIONS = [
    b"\0\x08\0\x09\0\1",
    b"\0\x08\0",
    option(8, b"\0\1\x20"),
    option(8, b"\0\1\x20\0\xc6\x33\x64"),
    option(8, b"\0\1\x18\x18\xc6\x33\x64"),
    option(8, b"\0\1\x17\0\xc6\x33\x65"),
    option(8, b"\0\3\x18\0\xc6\x33\x64"),
    option(8, b"\0\1\x21\0\xc6\x33\x64\1\0"),
    subnet("198.51.100.0", 24) * 2,
]


def queries(name):
    """Yield the octets of queries that are each answered otherwise."""
    for options in (
        b"",
        subnet("198.51.100.0", 24),
        subnet("2001:db8::", 56),
        subnet("0.0.0.0", 0),
        option(10, b"cookies!"),
    ):
        for size in (512, 1232, 4096, 0):
            yield packet(name, counts=(1, 0, 0, 1), rest=opt(options, size=size))
            yield packet(name, counts=(1, 0, 0, 1), rest=opt(options, size=size, flags=0x8000), flags=0x0130)
    for flags in (0x0000, 0x0100, 0x0110, 0x0120):
        yield packet(name, flags=flags)
        yield packet(name, 65, flags=flags, klass=3)
    yield packet(name, counts=(1, 0, 0, 1), rest=opt(version=1))
    for broken in BROKEN_OPTIONS:
        yield packet(name, counts=(1, 0, 0, 1), rest=opt(broken))
    yield packet(name, counts=(1, 0, 0, 2), rest=opt() + opt())
    yield packet(name, counts=(1, 0, 0, 1), rest=b"\1x" + opt())
    yield packet(name, counts=(1, 0, 0, 1), rest=opt(b"\0\x0f\0\2\0\x10")[:-1])
    yield packet(name, counts=(2, 0, 0, 0), rest=wire_name("other.example") + b"\0\1\0\1")
    yield packet(name, 255, counts=(1, 0, 0, 2), rest=b"\0\0\x10\0\x01\0\0\0\0\0\0" + opt(option(3, b"nsid")))


SUBNETS = [
    ("203.0.113.0/24", "france", REFUSED),
    ("203.0.113.7/32", "an address in france", REFUSED),
    ("198.51.100.0/24", "germany", ANSWERED),
    ("2001:db8:f::/48", "france by IPv6", REFUSED),
    ("2001:db8:f:1:2:3:4:5/128", "an address in france by IPv6", REFUSED),
    ("2002:cb00:7107::/48", "france by 6to4", REFUSED),
    ("64:ff9b::cb00:7107/128", "france by NAT64", REFUSED),
    ("2002:c633:6407::/48", "germany by 6to4", ANSWERED),
    ("0.0.0.0/0", "who does not say where", ANSWERED),
]


@pytest.mark.parametrize(("subnet", "_", "wanted"), SUBNETS, ids=[words for _, words, _ in SUBNETS])
def test_a_trusted_forwarder_says_for_whom_it_asks(subnet, _, wanted, trusting):
    """Where the client's subnet is, and not where the forwarder is; twice, since answers are cached."""
    for name in ("one.example", "a.one.example", "one.example"):
        assert said_for(trusting.port, subnet, name) == wanted
    assert said_for(trusting.port, subnet, "other.example") == ANSWERED


@pytest.fixture(scope="module")
def trusting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trusting")
    with dnsdist_on(folder, trusted=("127.0.0.1",), moved=False, one=ONE) as (_, dnsdist):
        yield dnsdist


def test_a_forwarder_in_france_asks_for_a_client_in_germany(tmp_path):
    """A subnet in which nothing is refused is let through, wherever the forwarder is; a stranger's says nothing."""
    with dnsdist_on(tmp_path, trusted=("127.10.0.1",), one=ONE) as (_, dnsdist):
        for source, wanted in (("127.10.0.1", 0), ("127.10.0.2", 5)):
            query = packet("one.example", counts=(1, 0, 0, 1), rest=opt(subnet("198.51.100.0", 24)))
            assert over_udp("127.0.0.1", dnsdist.port, query, source=source)[3] & 15 == wanted
        assert said(dnsdist.port, "one.example", "france") == REFUSED


def test_clients_are_known_by_the_proxy_protocol(tmp_path):
    """A load balancer before it tells who asks."""
    more = 'setProxyProtocolACL({"127.0.0.9/32"})'
    with dnsdist_on(tmp_path, moved=False, more=more, one=ONE) as (_, dnsdist):
        for client, rcode in (("203.0.113.7", 5), ("198.51.100.7", 0), ("2001:db8:f::7", 5), ("2002:cb00:7107::1", 5)):
            query = proxied(client) + packet("one.example")
            came = over_udp("127.0.0.1", dnsdist.port, query, source="127.0.0.9")
            assert came[3] & 15 == rcode


def proxied(client):
    """Return a header of the PROXY protocol, version 2, for a datagram from a client."""
    address = ip_address(client)
    places = address.packed * 2 + b"\0\x35\0\x35"
    family = b"\x12" if address.version == 4 else b"\x22"
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + family + len(places).to_bytes(2, "big") + places


def test_a_spoilt_query_gets_no_data(tmp_path):
    """Whatever stands around the question: a covered name is never answered, and whoever asks rightly is."""
    with dnsdist_on(tmp_path, one=ONE) as (_, dnsdist):
        assert answered_with_data(dnsdist.port, "germany", [packet("one.example")]) == [packet("one.example")]
        for name in ("one.example", "a.b.ONE.example"):
            assert answered_with_data(dnsdist.port, "france", spoilt_queries(name, 2_000)) == []
        assert said(dnsdist.port, "one.example", "france") == REFUSED
        assert said(dnsdist.port, "one.example", "germany") == ANSWERED


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/dnsdist/start.sh` exports, starts, refuses a client in France and answers one in Germany."""
    (console,) = free_ports(1)
    with started_example("dnsdist", tmp_path, [(":5199", f":{console}")]) as port:
        rcode, errors = said_for(port, "90.84.144.0/24", "www.motogpstream.me")
        assert (rcode, errors) == ("REFUSED", [(16, "order tjp-2025-03-28-motogp")])
        assert said_for(port, "80.187.0.0/24", "www.motogpstream.me") == ANSWERED


def test_names_that_stand_densely_are_told_apart(tmp_path):
    """Above, below, alone, lifted, in several orders and places: every answer is what the library decides."""
    variants = ("refuse", "nxdomain", "nodata")
    with dnsdist_on(tmp_path, **dense_orders(0, variants)) as (stage, dnsdist):
        for seed in range(1, 8):
            put_orders(stage.orders, dense_orders(seed, variants))
            dnsdist.reload()
            assert [*wrong_answers(dnsdist, seed)] == []
