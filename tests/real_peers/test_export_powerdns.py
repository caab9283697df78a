"""PowerDNS Recursor with what `cdnblock export powerdns` writes, under the contract of every resolver."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from free_ports import free_ports

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "adapters")]

from dense_orders import dense_orders, wrong_answers
from dns_clients import packet
from dns_engines import answered_with_data, answers, export_dns_for, said, said_for, spoilt_queries
from export_engines import HOSTILE, at_each_turn, needs, rules_of, running, wait_until
from export_resolvers import started_example
from short_folders import short_folder

from cdnblock.measures.dns_refusal import SOA_RDATA, refusal
from cdnblock.testing.dns_contract import DnsContract, open_dns_stage
from cdnblock.testing.dns_stage import CLIENTS, DnsHost
from cdnblock.testing.dns_wire import Query, ask
from cdnblock.testing.stage import put_orders

pytestmark = needs("pdns_recursor", "pdns-recursor")

CONFIGURATION = """
local-address=127.0.0.1:{port}, [::1]:{port}
allow-from=127.0.0.0/8, ::1
forward-zones-recurse=.={upstream[0]}:{upstream[1]}
dont-query=
dnssec={dnssec}
security-poll-suffix=
threads=2
socket-dir={sockets}
daemon=no
write-pid=no
quiet=yes
extended-resolution-errors=yes
setuid=
setgid=
"""
SCRIPT = "cdnblock-powerdns.lua"
FILE = "cdnblock-powerdns.orders"
REFUSED, ANSWERED = ("REFUSED", [(16, "order one")]), ("NOERROR", [])
ONE = {"names": ["one.example"], "measures": {"dns": "refuse"}}


class Recursor:
    """A Recursor whose file of orders is written anew, and nothing else."""

    def __init__(self, stage, name="recursor", *, script=None, dnssec="process-no-validate", more=""):
        self.stage, self.folder = stage, stage.folder / name
        self.folder.mkdir()
        self.out = stage.folder / "cdnblock"
        (self.port,) = free_ports(1)
        script = self.out / SCRIPT if script is None else script
        self.sockets = short_folder()
        text = CONFIGURATION.format(port=self.port, upstream=stage.upstream, sockets=self.sockets, dnssec=dnssec)
        hooks = f"lua-dns-script={script}\n" if script else ""
        (self.folder / "recursor.conf").write_text(text + hooks + more)

    @contextmanager
    def run(self):
        with running(["pdns_recursor", f"--config-dir={self.folder}"], self.port, self.log) as process:
            answers(process, self.port, self.log)
            yield self

    @property
    def log(self):
        return self.folder / "log"

    def reload(self):
        """Export; what changed is in force when each thread has looked."""
        if export_dns_for(self.stage, "powerdns", self.out):
            done = subprocess.run(
                ["rec_control", f"--config-dir={self.folder}", f"--socket-dir={self.sockets}", "reload-lua-script"],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Retaining" not in done.stdout, done.stdout


class TestPowerDnsRecursor(DnsContract):
    """Two threads, each with its own hooks."""

    @contextmanager
    def serve(self, stage):
        with ExitStack() as leaving:
            recursor = Recursor(stage)
            export_dns_for(stage, "powerdns", recursor.out)
            plain = Recursor(stage, "plain", script="")
            leaving.enter_context(recursor.run())
            leaving.enter_context(plain.run())
            leaving.enter_context(at_each_turn(stage, recursor.reload))
            yield DnsHost(
                address=("127.0.0.1", recursor.port),
                address6=("::1", recursor.port),
                plain=("127.0.0.1", plain.port),
                reload=recursor.reload,
            )


@contextmanager
def recursor_on(folder, *, more="", script=None, trusted=(), moved=True, contact=None, **orders):
    """Run a Recursor with these orders alone."""
    with open_dns_stage(folder, orders) as opened:
        stage = replace(opened, trusted_proxies=trusted)
        recursor = Recursor(stage, script=script, more=more)
        export_dns_for(stage, "powerdns", recursor.out, moved=moved, contact=contact)
        with recursor.run():
            yield stage, recursor


def test_a_change_of_the_file_is_seen_without_any_command(tmp_path):
    """Each thread looks once a second; a refusal that is cached does not outlive its order."""
    with recursor_on(tmp_path, one=ONE) as (stage, recursor):
        assert said(recursor.port, "two.example", "france") == ANSWERED
        put_orders(stage.orders, {"one": {**ONE, "names": ["two.example"]}})
        export_dns_for(stage, "powerdns", recursor.out)
        for name, wanted in (("two.example", REFUSED), ("one.example", ANSWERED)):
            wait_until(lambda name=name, wanted=wanted: said(recursor.port, name, "france") == wanted)
        time.sleep(2)  # by now every thread has looked
        for _ in range(50):  # a port of its own each time, so of both threads
            assert said(recursor.port, "two.example", "france") == REFUSED
            assert said(recursor.port, "one.example", "france") == ANSWERED
            assert said(recursor.port, "two.example", "germany") == ANSWERED


BROKEN = {
    "cut short": lambda octets: octets[:-30],
    "changed by hand": lambda octets: octets.replace(b"answers 1", b"answers 7"),
    "empty": lambda octets: b"",
    "nothing in it": lambda octets: b"cdnblock-powerdns 1 x 0\n",
    "endless": lambda octets: octets.replace(octets.split()[3], b"9" * 16),
    "another's": lambda octets: b"one.example\n",
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_changes_nothing(spoil, tmp_path):
    """What was in force stays, the log says so, and the next sound file is in force."""
    with recursor_on(tmp_path, one=ONE) as (stage, recursor):
        put_orders(stage.orders, {"one": {**ONE, "names": ["two.example"]}})
        export_dns_for(stage, "powerdns", tmp_path / "new")
        new = tmp_path / "new" / FILE
        new.write_bytes(spoil(new.read_bytes()))
        new.replace(recursor.out / FILE)
        wait_until(lambda: "what was in force stays" in recursor.log.read_text(), recursor.log.read_text)
        assert said(recursor.port, "one.example", "france") == REFUSED
        export_dns_for(stage, "powerdns", recursor.out)
        wait_until(lambda: said(recursor.port, "two.example", "france") == REFUSED)


def test_a_file_that_is_gone_changes_nothing(tmp_path):
    """The same."""
    with recursor_on(tmp_path, one=ONE) as (_, recursor):
        (recursor.out / FILE).unlink()
        wait_until(lambda: "what was in force stays" in recursor.log.read_text(), recursor.log.read_text)
        assert said(recursor.port, "one.example", "france") == REFUSED


def test_a_broken_file_at_the_start_is_no_start(tmp_path):
    """Nobody would notice that nothing is refused."""
    with open_dns_stage(tmp_path, {"one": ONE}) as stage:
        recursor = Recursor(stage)
        export_dns_for(stage, "powerdns", recursor.out)
        (recursor.out / FILE).write_text("nonsense")
        with pytest.raises(AssertionError, match=r"cdnblock: .*it is no file of this program"), recursor.run():
            pass


OWN = """
function gettag(remote, subnet, localip, qname)
  if remote:toString() == "127.20.0.1" then return 7, { "own" }, { seen = qname:toString() } end
  return 0
end
function preresolve(dq)
  if dq.qname:equal("own.example") then
    dq.rcode = pdns.NXDOMAIN
    dq.extendedErrorCode, dq.extendedErrorExtra = 4, tostring(dq.data and dq.data.seen) .. table.concat(dq:getPolicyTags())
    return true
  end
  return false
end
dofile("{script}")
"""


def test_an_operators_own_script_goes_on_working(tmp_path):
    """What it tags and answers is still so; a covered name is refused all the same."""
    own = tmp_path / "own.lua"
    own.write_text(OWN.replace("{script}", str(tmp_path / "scratch" / "cdnblock" / SCRIPT)))
    with recursor_on(tmp_path, script=own, one={**ONE, "names": ["one.example", "own.one.example"]}) as (_, recursor):
        assert said(recursor.port, "own.example", "germany") == ("NXDOMAIN", [(4, "own.example.own")])
        assert said(recursor.port, "own.example", "france") == ("NXDOMAIN", [(4, "nil")])
        for place, wanted in 2 * (("germany", ANSWERED), ("france", REFUSED)):
            assert said(recursor.port, "one.example", place) == wanted


def test_a_tag_that_would_pass_ours_by_is_no_start(tmp_path):
    """With `gettag_ffi` the Recursor never calls `gettag`, and its packet cache would mix the countries."""
    own = tmp_path / "own.lua"
    script = tmp_path / "scratch" / "cdnblock" / SCRIPT
    own.write_text(f'function gettag_ffi(object) return {{}} end\ndofile("{script}")\n')
    with pytest.raises(AssertionError, match="gettag_ffi is defined"), recursor_on(tmp_path, script=own, one=ONE):
        pass


SUBNETS = [
    ("203.0.113.0/24", "france", REFUSED),
    ("203.0.113.7/32", "an address in france", REFUSED),
    ("198.51.100.0/24", "germany", ANSWERED),
    ("2001:db8:f::/48", "france by IPv6", REFUSED),
    ("2002:cb00:7107::/48", "france by 6to4", REFUSED),
    ("64:ff9b::cb00:7107/128", "france by NAT64", REFUSED),
    ("2001:0:4136:e378:8000:63bf:34ff:8ef8/128", "france by Teredo", REFUSED),
    ("2002:c633:6407::/48", "germany by 6to4", ANSWERED),
    ("0.0.0.0/0", "who does not say where", ANSWERED),
]


@pytest.mark.parametrize(("subnet", "_", "wanted"), SUBNETS, ids=[words for _, words, _ in SUBNETS])
def test_a_trusted_forwarder_says_for_whom_it_asks(subnet, _, wanted, trusting):
    """Where the client's subnet is, taken out of its tunnel, and not where the forwarder is."""
    assert said_for(trusting.port, subnet, "one.example") == wanted


@pytest.fixture(scope="module")
def trusting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trusting")
    with recursor_on(folder, trusted=("127.0.0.1",), moved=False, one=ONE) as (_, recursor):
        yield recursor


def test_a_stranger_says_nothing_by_its_subnet(tmp_path):
    """The address that asks decides; with a subnet a negative is never given, since caches share it (RFC 7871 §7.4)."""
    orders = {"one": {**ONE, "measures": {"dns": "nxdomain"}, "unknown_location": "enforce"}}
    with recursor_on(tmp_path, **orders) as (_, recursor):
        for _ in range(2):
            assert said_for(recursor.port, "198.51.100.0/24", "one.example") == REFUSED
            assert said(recursor.port, "one.example", "nowhere") == ("NXDOMAIN", [(16, "order one")])
            assert said_for(recursor.port, "0.0.0.0/0", "one.example") == REFUSED
            assert said(recursor.port, "one.example", "germany") == ANSWERED


def test_the_answer_is_the_librarys(tmp_path):
    """The SOA, and a text that languages may take for their own, to the octet."""
    orders = {
        "one": {**ONE, "measures": {"dns": "nodata"}},
        "two": {"names": ["two.example"], "measures": {"dns": "refuse"}, "contact": HOSTILE},
    }
    with recursor_on(tmp_path, contact="legal@résolveur.example", **orders) as (stage, recursor):
        for name, place in (("one.example", "france"), ("www.two.example", "france")):
            decision = rules_of(stage).decide(name, country="FR", at=datetime.now(UTC))
            mine = refusal(decision, has_opt=True, client_subnet_present=False, contact="legal@résolveur.example")
            [(code, text)] = said(recursor.port, name, place)[1]
            assert code.to_bytes(2) + text.encode() == mine.ede[4:]
        answer = ask(("127.0.0.1", recursor.port), Query(name="one.example", source=CLIENTS["france"]))
        assert [rrset[0].to_wire() for rrset in answer.authority] == [SOA_RDATA]


def test_no_query_is_lost_while_many_names_change(tmp_path):
    """Twenty thousand names are read anew twice, and every query meanwhile is answered, and rightly."""
    many = [f"site-{number}.example" for number in range(20_000)]
    with recursor_on(tmp_path, one={**ONE, "names": many}) as (stage, recursor):
        ended, wrong, count = threading.Event(), [], 0

        def keep_asking():
            nonlocal count
            while not ended.is_set():
                for name, place, wanted in (
                    ("site-1.example", "france", REFUSED),
                    ("site-1.example", "germany", ANSWERED),
                    (f"other-{count}.example", "france", ANSWERED),
                ):
                    count += 1
                    if (came := said(recursor.port, name, place)) != wanted:
                        wrong.append((name, place, came))

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            for extra in ("new.example", "newer.example"):
                put_orders(stage.orders, {"one": {**ONE, "names": [*many, extra]}})
                export_dns_for(stage, "powerdns", recursor.out)
                wait_until(lambda extra=extra: said(recursor.port, extra, "france") == REFUSED)
        finally:
            ended.set()
            asking.join()
        assert count > 10
        assert wrong == []


def test_a_spoilt_query_gets_no_data(tmp_path):
    """Whatever stands around the question: a covered name is never answered, and whoever asks rightly is."""
    with recursor_on(tmp_path, one=ONE) as (_, recursor):
        assert answered_with_data(recursor.port, "germany", [packet("one.example")]) == [packet("one.example")]
        for name in ("one.example", "a.b.ONE.example"):
            assert answered_with_data(recursor.port, "france", spoilt_queries(name, 2_000)) == []
        assert said(recursor.port, "one.example", "france") == REFUSED
        assert said(recursor.port, "one.example", "germany") == ANSWERED


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/powerdns/start.sh` exports, starts, refuses a client in France and answers one in Germany."""
    with started_example("powerdns", tmp_path) as port:
        rcode, errors = said_for(port, "90.84.144.0/24", "www.motogpstream.me")
        assert (rcode, errors) == ("REFUSED", [(16, "order tjp-2025-03-28-motogp")])
        assert said_for(port, "80.187.0.0/24", "www.motogpstream.me") == ANSWERED


@pytest.mark.parametrize("seed", range(1, 5))
def test_names_that_stand_densely_are_told_apart(seed, tmp_path):
    """Above, below, alone, lifted, in several orders and places: every answer is what the library decides."""
    with recursor_on(tmp_path, **dense_orders(seed, ("refuse", "nxdomain", "nodata"))) as (_, recursor):
        assert [*wrong_answers(recursor, seed)] == []
