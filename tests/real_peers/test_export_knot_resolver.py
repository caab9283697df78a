"""Knot Resolver with what `cdnblock export knot-resolver` writes, under the contract of every resolver."""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import dns.rcode
import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from dense_orders import dense_orders, wrong_answers
from dns_engines import export_dns_for
from export_engines import HOSTILE, at_each_turn, needs, rules_of, wait_until
from export_resolvers import resolving, stage_with, started_example

from cdnblock.measures.dns_refusal import refusal
from cdnblock.testing import DnsContract, DnsHost
from cdnblock.testing.dns_stage import CLIENTS
from cdnblock.testing.dns_wire import Query, ask, errors_of
from cdnblock.testing.stage import put_orders

pytestmark = needs("kresd", "knot-resolver")

CONFIGURATION = """
net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})
net.listen('::1', {port}, {{ kind = 'dns' }})
cache.open(10 * MB, 'lmdb://{folder}/cache')
trust_anchors.remove('.')
modules.unload('ta_signal_query')
modules.unload('ta_sentinel')
modules.unload('detect_time_skew')
modules.unload('priming')
policy.add(policy.all(policy.FORWARD({{'127.0.0.1@{upstream}'}})))
{ours}
"""
FILE = "cdnblock-orders.txt"


class Knot:
    """A kresd whose file of orders is written anew, and nothing else."""

    def __init__(self, stage, *, ours=True, more="", moved=True):
        self.stage, self.moved = stage, moved
        self.folder = stage.folder / ("ours" if ours else "plain")
        self.out = self.folder / "cdnblock"
        self.folder.mkdir()
        (self.port,) = free_ports(1)
        self.changing = threading.Lock()
        if ours:
            self.export()
        self.file, self.log = self.folder / "kresd.conf", self.folder / "log"
        load = f"dofile('{self.out}/cdnblock.lua')\n" if ours else ""
        self.file.write_text(
            CONFIGURATION.format(folder=self.folder, port=self.port, upstream=stage.upstream[1], ours=load + more)
        )

    def export(self):
        return export_dns_for(self.stage, "knot-resolver", self.out, moved=self.moved)

    @contextmanager
    def run(self):
        command = ["kresd", "-n", "-c", str(self.file), str(self.folder)]
        with resolving(command, self.port, self.log):
            yield self

    @property
    def digest(self):
        return (self.out / FILE).read_text().partition("\n")[0]

    def reload(self):
        """Export; return when kresd has seen it."""
        with self.changing:
            said = self.log.stat().st_size
            if FILE in self.export():
                self.wait_for(f"enforces {self.digest}", said)

    def wait_for(self, text, said=0):
        wait_until(lambda: text in self.log.read_text()[said:], self.log.read_text)

    def host(self, plain=None):
        return DnsHost(
            address=("127.0.0.1", self.port),
            address6=("::1", self.port),
            plain=plain and ("127.0.0.1", plain.port),
            reload=self.reload,
        )


class TestKnotResolver(DnsContract):
    """A layer of our own, behind a rule that forwards everything."""

    @contextmanager
    def serve(self, stage):
        mine, plain = Knot(stage), Knot(stage, ours=False)
        with ExitStack() as running:
            for each in (plain, mine):
                running.enter_context(each.run())
            running.enter_context(at_each_turn(stage, mine.reload))
            yield mine.host(plain)


REFUSE = {"dns": "refuse"}
ONE = {"one": {"names": ["one.example"], "measures": REFUSE}}
REFUSED, ANSWERED = ("REFUSED", [(16, "order one")]), ("NOERROR", [])


@contextmanager
def served(folder, orders=ONE, **options):
    with stage_with(folder, **orders) as stage, Knot(stage, **options).run() as knot:
        yield knot


def said(knot, name, place):
    """Return the rcode and the extended errors of what a client gets."""
    answer = ask(("127.0.0.1", knot.port), Query(name=name, source=CLIENTS[place]))
    return dns.rcode.to_text(answer.rcode()), errors_of(answer)


def said_for(knot, subnet, name="one.example", wire=None):
    """Return the same of a query that tells a client's subnet, and which subnet the answer is for."""
    option = dns.edns.ECSOption.from_text(subnet) if wire is None else dns.edns.GenericOption(8, wire)
    answer = dns.query.udp(dns.message.make_query(name, "A", use_edns=0, options=[option]), "127.0.0.1", 10, knot.port)
    scopes = [f"{told.address}/{told.srclen}/{told.scopelen}" for told in answer.options if told.otype == dns.edns.ECS]
    return dns.rcode.to_text(answer.rcode()), scopes


BROKEN = {
    "cut short": lambda text: text[: len(text) // 2],
    "the last line cut": lambda text: text[:-3],
    "a line too few": lambda text: text.replace("names ", "# names ", 1).replace("# a\n", "", 1),
    "a line too many": lambda text: text + "one more\n",
    "an unknown word": lambda text: text.replace("outcome ", "what ", 1),
    "a group that is not there": lambda text: text.replace("suffix g", "suffix h", 1),
    "more names than it says": lambda text: text.replace("names 1 11", "names 1 10", 1),
    "empty": lambda text: "\n",
    "octets": lambda text: text[:100] + "\0\xff\n\n" + text[100:],
}


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    with served(tmp_path_factory.mktemp("knot")) as knot:
        yield knot


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_of_a_broken_file_nothing_takes_effect(spoil, spoilt):
    """What was read before stays, the log says so, and the next sound file is taken."""
    sound, length = (spoilt.out / FILE).read_text(), spoilt.log.stat().st_size
    digest, _, rest = sound.partition("\n")
    new = spoilt.out / "new"
    new.write_text(f"broken\n{spoil(rest)}", encoding="latin-1")
    new.replace(spoilt.out / FILE)
    spoilt.wait_for("what was read before is still enforced", length)
    assert said(spoilt, "one.example", "france") == REFUSED
    assert said(spoilt, "two.example", "france") == ANSWERED
    length = spoilt.log.stat().st_size
    new.write_text(f"{digest} {length}\n{rest}")  # another first line than before: that is what kresd goes by
    new.replace(spoilt.out / FILE)
    spoilt.wait_for("enforces", length)


@pytest.mark.parametrize(
    "text", ["sha256:0\nstop 2\n", "sha256:0\nnames 0 0\nstop 2\n", ""], ids=["nothing", "cut", "empty"]
)
def test_it_does_not_start_with_a_broken_file(text, tmp_path):
    """What cannot be enforced lets nobody through: kresd ends."""
    with stage_with(tmp_path, **ONE) as stage:
        knot = Knot(stage)
        (knot.out / FILE).write_text(text)
        with pytest.raises(AssertionError, match="does not end as it should"), knot.run():
            pass


def test_a_file_that_is_written_slowly_is_taken_when_it_is_whole(tmp_path):
    """In its place, by somebody who does not know better: half of it is refused, and looked at again."""
    with served(tmp_path) as knot:
        put_orders(knot.stage.orders, {"one": {"names": ["two.example"], "measures": REFUSE}})
        export_dns_for(knot.stage, "knot-resolver", tmp_path / "new")
        text = (tmp_path / "new" / FILE).read_text()
        (knot.out / FILE).write_text(text[:-20])
        knot.wait_for("what was read before is still enforced")
        assert said(knot, "one.example", "france") == REFUSED
        (knot.out / FILE).write_text(text)
        knot.wait_for(f"enforces {knot.digest}")
        assert said(knot, "two.example", "france") == REFUSED
        assert said(knot, "one.example", "france") == ANSWERED


def test_a_file_that_goes_away_changes_nothing(tmp_path):
    """Not for a moment, and not for good."""
    with served(tmp_path) as knot:
        (knot.out / FILE).unlink()
        time.sleep(1)
        assert said(knot, "one.example", "france") == REFUSED


def test_no_query_is_lost_while_a_large_file_is_read(tmp_path):
    """A hundred thousand names come while somebody asks all the time: he is answered, and rightly."""
    with served(tmp_path) as knot:
        names = {f"n{number}.example" for number in range(100_000)}
        orders = {"one": {"names": ["one.example"], "names_file": "annex.txt", "measures": REFUSE}}
        (knot.stage.orders / "annex.txt").write_text("\n".join(sorted(names)))
        put_orders(knot.stage.orders, orders)
        asked, length = 0, knot.log.stat().st_size
        knot.export()
        while f"enforces {knot.digest}" not in knot.log.read_text()[length:]:
            assert said(knot, "one.example", "france") == REFUSED
            assert said(knot, "other.example", "france") == ANSWERED
            asked += 1
        assert asked > 0
        for name in ("n0.example", "x.n99999.example", "n50000.example"):
            assert said(knot, name, "france") == REFUSED
            assert said(knot, name, "germany") == ANSWERED
        assert said(knot, "n100000.example", "france") == ANSWERED


@pytest.fixture(scope="module")
def trusting(tmp_path_factory):
    """Trust who asks from loopback; countries are where the stage's table has them."""
    with (
        stage_with(tmp_path_factory.mktemp("knot"), **ONE) as stage,
        Knot(replace(stage, trusted_proxies=("127.0.0.1",)), moved=False).run() as knot,
    ):
        yield knot


@pytest.mark.parametrize(
    ("subnet", "wanted"),
    [
        ("203.0.113.0/24", ("REFUSED", ["203.0.113.0/24/0"])),
        ("203.0.113.77/32", ("REFUSED", ["203.0.113.77/32/0"])),
        ("198.51.100.0/24", ("NOERROR", ["198.51.100.0/24/24"])),
        ("2001:db8:f::/48", ("REFUSED", ["2001:db8:f::/48/0"])),
        ("2002:cb00:7100::/40", ("REFUSED", ["2002:cb00:7100::/40/0"])),
        ("64:ff9b::cb00:7101/128", ("REFUSED", ["64:ff9b::cb00:7101/128/0"])),
        ("2001:0:102:304:0:0:34ff:8efe/128", ("REFUSED", ["2001:0:102:304::34ff:8efe/128/0"])),
        ("10.0.0.0/8", ("NOERROR", ["10.0.0.0/8/8"])),
        ("0.0.0.0/0", ("NOERROR", ["0.0.0.0/0/0"])),
    ],
)
def test_a_trusted_forwarder_says_for_whom_it_asks(subnet, wanted, trusting):
    """Where that client is, taken out of its tunnel; and an answer is for its network alone (RFC 7871 §7.3.1)."""
    assert said_for(trusting, subnet) == wanted


@pytest.mark.parametrize(
    "wire", [b"", b"\0", b"\0\1\x18", b"\0\1\x21\0\1\2\3\4\5", b"\0\1\x18\0\xcb\0", b"\0\3\x18\0\xcb\0\x71"]
)
def test_an_option_that_is_none_is_nothing(wire, trusting):
    """It tells no place and is not given back."""
    assert said_for(trusting, "", wire=wire)[0] == "NOERROR"


def test_a_stranger_says_nothing_by_a_subnet(tmp_path):
    """The address that asks decides; a negative is not given to who tells a subnet, since caches share it (§7.4)."""
    orders = {"one": {"names": ["one.example"], "measures": {"dns": "nxdomain"}, "territory": "world"}} | {
        "two": {"names": ["two.example"], "measures": REFUSE}
    }
    with served(tmp_path, orders) as knot:
        assert said(knot, "one.example", "germany")[0] == "NXDOMAIN"
        assert said_for(knot, "198.51.100.0/24") == ("REFUSED", ["198.51.100.0/24/0"])
        assert said_for(knot, "203.0.113.0/24", "two.example") == ("NOERROR", [])


def test_rules_of_the_operators_stand_behind_a_refusal_and_before_an_answer(tmp_path):
    """A rule that answers comes too late for a covered name; one that wants silence is heard; the rest is as it was."""
    orders = {
        "one": {
            "names": ["one.example"],
            "measures": REFUSE,
            "lifted": [{"names": ["free.one.example"], "at": "2025-04-20"}],
        }
    }
    more = """
table.insert(policy.rules, 1, table.remove(policy.rules))
policy.add(policy.suffix(policy.DENY, policy.todnames({'one.example', 'two.example'})))
table.insert(policy.rules, 1, table.remove(policy.rules))
policy.add(policy.suffix(policy.NO_ANSWER, policy.todnames({'silent.one.example'})))
table.insert(policy.rules, 1, table.remove(policy.rules))
"""
    with served(tmp_path, orders, more=more) as knot:
        assert said(knot, "x.one.example", "france") == REFUSED
        assert said(knot, "free.one.example", "france")[0] == "NXDOMAIN"
        assert said(knot, "two.example", "france")[0] == "NXDOMAIN"
        with pytest.raises(TimeoutError):
            ask(("127.0.0.1", knot.port), Query(name="silent.one.example", source=CLIENTS["france"]), patience=1)


def test_whatever_a_court_writes_is_told(tmp_path):
    """Quotes, escapes and letters come out as the library tells them."""
    with served(tmp_path, {"one": ONE["one"] | {"contact": HOSTILE}}) as knot:
        decision = rules_of(knot.stage).decide("one.example", country="FR", at=datetime.now(UTC))
        option = refusal(decision, has_opt=True, client_subnet_present=False).ede
        assert said(knot, "one.example", "france") == ("REFUSED", [(16, option[6:].decode())])


def test_names_that_stand_densely_are_told_apart(tmp_path):
    """Above, below, alone, lifted, in several orders and places: every answer is what the library decides."""
    variants = ("refuse", "nxdomain", "nodata")
    with stage_with(tmp_path, **dense_orders(0, variants)) as stage:
        knot = Knot(stage)
        with knot.run():
            for seed in range(1, 8):
                put_orders(stage.orders, dense_orders(seed, variants))
                knot.reload()
                assert [*wrong_answers(knot, seed)] == []


ODD = [
    # a name on the wire, and whether it is one.example or below it
    (b"\3one\7example\0", True),
    (b"\3ONE\7eXample\0", True),
    (b"\1\0\3one\7example\0", True),
    (b"\1.\3one\7example\0", True),
    (b"\x0bone.example\0", False),
    (b"\5x.one\7example\0", False),
    (b"\3one\7example\3com\0", False),
    (b"\4one\0\7example\0", False),
    (b"\7example\0", False),
    (b"\0", False),
    (b"\1a" * 120 + b"\3one\7example\0", True),
    (b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\3one\7example\0", True),
]


@pytest.mark.parametrize(("name", "covered"), ODD, ids=[str(number) for number, _ in enumerate(ODD)])
def test_names_are_compared_label_by_label(name, covered, spoilt):
    """A dot inside a label is none between labels, a zero ends nothing, and the longest names have room."""
    query = b"\1\2\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((CLIENTS["france"], 0))
        client.settimeout(20)
        client.sendto(query, ("127.0.0.1", spoilt.port))
        answer = client.recv(4096)
    assert (answer[3] & 15 == dns.rcode.REFUSED) == covered


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000])
def test_tables_of_any_size_hold_all_their_names(size, tmp_path):
    """And no others."""
    names = [f"n{number}.example" for number in range(size)] + [f"{'x' * 63}.{'y' * 63}.{'z' * 63}.{'w' * 53}.example"]
    with served(tmp_path, {"one": {"names": names, "measures": REFUSE}}) as knot:
        for name in [*names[:20], *names[-2:]]:
            assert said(knot, name, "france") == REFUSED
        assert said(knot, f"n{size}.example", "france") == ANSWERED


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/knot_resolver/start.sh` exports, starts, refuses a client in France and answers one in Germany."""
    with started_example("knot_resolver", tmp_path) as port:
        answers = [
            dns.query.udp(
                dns.message.make_query(
                    "www.motogpstream.me", "A", use_edns=0, options=[dns.edns.ECSOption.from_text(subnet)]
                ),
                "127.0.0.1", 20, port,
            )
            for subnet in ("90.84.144.0/24", "80.187.0.0/24")
        ]  # fmt: skip
        assert [dns.rcode.to_text(answer.rcode()) for answer in answers] == ["REFUSED", "NOERROR"]
        assert errors_of(answers[0]) == [(16, "order tjp-2025-03-28-motogp")]
