"""Unbound with the configuration that `cdnblock export unbound` writes, under the contract of every resolver."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from dense_orders import dense_orders, wrong_answers
from export_engines import at_each_turn, needs, rules_of, wait_until
from export_resolvers import Resolver, export_for, meanwhile, resolving, stage_with, started_example

from cdnblock import exporters
from cdnblock.cli.export import put
from cdnblock.engines._engine import Change
from cdnblock.engines._unbound_zones import commands
from cdnblock.engines.unbound import ENGINE
from cdnblock.errors import ConfigError, UnsupportedError
from cdnblock.orders.model import Measure
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.testing import DnsContract, DnsHost, DnsNeed
from cdnblock.testing.dns_judging import wrong_with
from cdnblock.testing.dns_stage import CLIENTS
from cdnblock.testing.dns_wire import Query, ask, errors_of, records_of
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import put_orders

PYTHON_MODULE = Path("/usr/lib/python3/dist-packages/unboundmodule.py")

pytestmark = needs("unbound", "unbound")

CONFIGURATION = """
server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  interface: 127.0.0.1@{port}
  interface: ::1@{port}
  access-control: 127.0.0.0/8 {anybody}
  access-control: ::1/128 allow
  do-not-query-localhost: no
  num-threads: 1
  module-config: "{modules}"
  local-zone: "local.example." static
  local-data: "www.local.example. A 192.0.2.99"
  {server}
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{upstream}
remote-control:
  control-enable: yes
  control-interface: {folder}/control
  control-use-cert: no
{include}
"""


class Unbound(Resolver):
    """An unbound that is reloaded by unbound-control, and keeps its cache then."""

    target = "unbound"
    settings = {"clients": "127.0.0.0/8,::1"}
    modules = "respip iterator"

    def __init__(self, stage, *, ours=True, anybody="allow", server="", **settings):
        super().__init__(stage, ours=ours, **settings)
        self.file = self.folder / "unbound.conf"
        module = "python " if self.ours and self.settings.get("ede") == "yes" else ""
        self.file.write_text(
            CONFIGURATION.format(
                folder=self.folder,
                port=self.port,
                upstream=stage.upstream[1],
                modules=module + self.modules,
                anybody=anybody,
                server=server,
                include=f'include: "{self.out}/cdnblock.conf"' if ours else "",
            )
        )
        self.environment = {**os.environ, "PYTHONPATH": str(PYTHON_MODULE.parent)}

    def check(self):
        done = subprocess.run(
            ["unbound-checkconf", str(self.file)], capture_output=True, text=True, timeout=20, check=False,
            env=self.environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def run(self):
        self.check()
        log = self.folder / "unbound.log"
        with resolving(["unbound", "-d", "-c", str(self.file)], self.port, log, env=self.environment):
            yield
        assert "error" not in log.read_text(), log.read_text()

    def reload(self):
        with self.changing:
            export_for(self.stage, "unbound", self.out, **self.settings)
            self.check()
            self.control("reload_keep_cache")

    def control(self, *command):
        done = subprocess.run(
            ["unbound-control", "-c", str(self.file), *command], capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def host(self, plain=None):
        return DnsHost(
            address=("127.0.0.1", self.port),
            address6=("::1", self.port),
            plain=plain and ("127.0.0.1", plain.port),
            reload=self.reload,
        )


@contextmanager
def beside_plain(stage, **settings):
    """Run an unbound with our configuration, and one without."""
    mine, plain = Unbound(stage, **settings), Unbound(stage, ours=False)
    with ExitStack() as running:
        for each in (plain, mine):
            running.enter_context(each.run())
        running.enter_context(at_each_turn(stage, mine.reload))
        yield mine.host(plain)


MODULE = pytest.mark.skipif(not PYTHON_MODULE.exists(), reason="apt-get install python3-unbound")
DS = "Unbound looks DS of a zone's name up in the zone above it"


@MODULE
class TestUnbound(DnsContract):
    """Local zones in views, and the module for the extended error."""

    cannot = {
        DnsNeed.DS: DS,
        (DnsNeed.EXACT, "refuse"): "Unbound's zones are refused with what is below them",
        (DnsNeed.EXACT, "nxdomain"): "such names are in policy zones, whose answers have no SOA: see the test below",
        (DnsNeed.EXACT, "nodata"): "such names are in policy zones, whose answers have no SOA: see the test below",
    }

    @contextmanager
    def serve(self, stage):
        with beside_plain(stage, ede="yes") as host:
            yield host


@MODULE
class TestUnboundWithPolicyZones(DnsContract):
    """What is nxdomain or nodata as tagged response policy zones."""

    variants = ("nxdomain", "nodata")
    cannot = {
        DnsNeed.ALIAS: "Unbound's policy zones refuse what is an alias of their names, when it is not in the cache",
        DnsNeed.SOA: "Unbound 1.17 puts no SOA beside what a policy zone says",
    }

    @contextmanager
    def serve(self, stage):
        with beside_plain(stage, negatives="rpz", ede="yes") as host:
            yield host


REFUSE, NXDOMAIN = {"dns": "refuse"}, {"dns": "nxdomain"}
ORDERS = {
    "one": {"names": ["a.example", "local.example", "held.example"], "measures": REFUSE,
            "lifted": [{"names": ["free.a.example", "www.local.example"], "at": "2025-05-01T12:00"}]},
    "two": {"names": ["held.example"], "measures": NXDOMAIN, "territory": ["FR", "RE"]},
    "alone": {"names": [{"name": "alone.example", "subdomains": False}], "measures": NXDOMAIN},
    "everywhere": {"names": ["everywhere.example"], "measures": {"dns": "nodata"}, "territory": "world"},
    "unknown": {"names": ["unknown.example"], "measures": REFUSE, "unknown_location": "enforce"},
}  # fmt: skip


def said(resolver, name, source, kind="A"):
    """Return the rcode, the extended errors and the addresses that a client gets."""
    answer = ask(("127.0.0.1", resolver.port), Query(name=name, kind=kind, source=source))
    return dns.rcode.to_text(answer.rcode()), errors_of(answer), records_of(answer.answer)


ANSWER = ("NOERROR", [])


@contextmanager
def served(folder, orders=ORDERS, **settings):
    with stage_with(folder, **orders) as stage:
        unbound = Unbound(stage, **settings)
        with unbound.run():
            yield unbound


def test_several_orders_and_places(tmp_path):
    """Each place has its own outcome, alone and everywhere and where nobody knows; without the module no error."""
    with served(tmp_path) as unbound:
        expected = {
            # name: what clients get in France, Réunion, Germany, nowhere
            "www.held.example": ("REFUSED", "NXDOMAIN", "NOERROR", "NOERROR"),
            "alone.example": ("NXDOMAIN", "NOERROR", "NOERROR", "NOERROR"),
            "below.alone.example": ("NOERROR", "NOERROR", "NOERROR", "NOERROR"),
            "unknown.example": ("REFUSED", "NOERROR", "NOERROR", "REFUSED"),
        }
        places = ("france", "reunion", "germany", "nowhere")
        for name, rcodes in expected.items():
            found = [said(unbound, name, CLIENTS[place])[:2] for place in places]
            assert found == [(rcode, []) for rcode in rcodes], name
        for place in places:
            assert said(unbound, "x.everywhere.example", CLIENTS[place]) == ("NOERROR", [], [])


@pytest.mark.parametrize(("negatives", "rcode"), [("zones", "NXDOMAIN"), ("rpz", "NOERROR")])
def test_ds_of_a_name_is_the_zones_above_it(negatives, rcode, tmp_path):
    """Of one that is let go right below an nxdomain one, too: local zones say that there is none, policy zones let it be."""
    orders = {"one": {**ORDERS["one"], "measures": NXDOMAIN}}
    with served(tmp_path, orders, negatives=negatives) as unbound:
        for name, kind, wanted in (
            ("free.a.example", "DS", rcode),
            ("free.a.example", "A", "NOERROR"),
            ("x.a.example", "DS", "NXDOMAIN"),
            ("x.free.a.example", "DS", "NOERROR"),
        ):
            assert said(unbound, name, CLIENTS["france"], kind)[0] == wanted, (name, kind)


@MODULE
def test_only_what_an_order_refuses_is_called_censored(tmp_path):
    """Not the operator's own zones, also where a name that is let go leads to them."""
    with served(tmp_path, ede="yes") as unbound:
        french = CLIENTS["france"]
        assert said(unbound, "a.example", french)[:2] == ("REFUSED", [(16, "order one")])
        assert said(unbound, "x.local.example", french)[:2] == ("REFUSED", [(16, "order one")])
        assert said(unbound, "www.local.example", french) == ("NOERROR", [], ["www.local.example. A 192.0.2.99"])
        assert said(unbound, "x.local.example", CLIENTS["germany"])[0] == "NXDOMAIN"
        assert said(unbound, "free.a.example", french)[:2] == ANSWER


@MODULE
def test_the_error_names_what_holds_wherever_the_name_is_refused(tmp_path):
    """The module does not know where a client is: an order that does not hold for him is not named."""
    with served(tmp_path, ede="yes") as unbound:
        assert said(unbound, "held.example", CLIENTS["france"])[:2] == ("REFUSED", [(16, "order two")])
        assert said(unbound, "held.example", CLIENTS["reunion"])[:2] == ("NXDOMAIN", [(16, "order two")])


def test_nobody_is_let_in_and_nobody_slips_through_by_an_element_of_his_own(tmp_path):
    """Elements for the territory open the resolver to no stranger, and the operator's narrower ones are covered too."""
    server = "access-control: 127.10.5.0/24 allow\n  access-control: 127.20.0.0/16 allow"
    with served(tmp_path, anybody="refuse", server=server, clients="127.10.5.0/24,127.20.0.0/16") as unbound:
        assert said(unbound, "a.example", "127.10.5.1")[0] == "REFUSED"
        assert said(unbound, "other.example", "127.10.5.1")[:2] == ANSWER
        assert said(unbound, "everywhere.example", "127.20.0.1") == ("NOERROR", [], [])
        assert said(unbound, "a.example", "127.20.0.1")[:2] == ANSWER
        with pytest.raises(AssertionError, match=r"the question comes back in another spelling: \[\]"):
            said(unbound, "other.example", "127.10.0.1")  # French, nobody's customer: refused by access control


def test_clients_behind_a_load_balancer(tmp_path):
    """The PROXY protocol tells their addresses, and the territory is where the country table has it."""
    orders = {"one": {"names": ["a.example"], "measures": REFUSE}}
    with stage_with(tmp_path, **orders) as stage:
        (port,) = free_ports(1)
        proxied = f"proxy-protocol-port: {port}\n  interface: 127.0.0.1@{port}\n  access-control: 0.0.0.0/0 allow"
        unbound = Unbound(stage, server=proxied, clients="any")
        done = exporters.export(
            exporters.load("unbound"), rules_of(stage), open_geo_table(stage.geo), datetime.now(UTC),
            exporters.Options(folder=str(unbound.out), settings=unbound.settings),
        )  # fmt: skip
        put(unbound.out, done.files)
        with unbound.run():
            found = {
                place: dns.rcode.to_text(by_proxy(port, "www.a.example", PLACES[place]).rcode())
                for place in ("france", "reunion", "germany", "nowhere")
            }
    assert found == {"france": "REFUSED", "reunion": "NOERROR", "germany": "NOERROR", "nowhere": "NOERROR"}


def by_proxy(port, name, client):
    """Ask over UDP with a header of the PROXY protocol, version 2."""
    query = dns.message.make_query(name, "A")
    addresses = socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 4711, port)
    header = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x12, len(addresses)) + addresses
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", port))
        sock.send(header + query.to_wire())
        octets = sock.recv(4096)
    return dns.message.from_wire(octets[octets.index(query.to_wire()[:2]) :])


def test_a_reload_takes_what_was_ordered_meanwhile(tmp_path):
    """Export again, reload: new names are refused, and those that were refused are answered, from the cache as well."""
    with served(tmp_path, {"one": {"names": ["before.example"], "measures": REFUSE}}) as unbound:
        names = ("before.example", "after.example")
        assert [said(unbound, name, CLIENTS["france"])[0] for name in names] == ["REFUSED", "NOERROR"]
        put_orders(unbound.stage.orders, {"one": {"names": ["after.example"], "measures": REFUSE}})
        unbound.reload()
        assert [said(unbound, name, CLIENTS["france"])[0] for name in names] == ["NOERROR", "REFUSED"]


LIVE = [
    # the orders one after the other, and how many commands lead from each to the next; None: only a reload does
    ({"one": {"names": ["a.example", "b.example"], "measures": REFUSE}}, 0),
    ({"one": {"names": ["a.example", "b.example", "www.c.example"], "measures": REFUSE}}, 1),
    ({"one": {"names": ["b.example", "www.c.example", "d.example"], "measures": NXDOMAIN}}, 7),
    ({"one": {"names": ["b.example", "c.example"], "measures": NXDOMAIN,
              "lifted": [{"names": ["x.y.c.example"], "at": "2025-05-01T12:00"}]}}, 5),
    ({"one": {"names": ["b.example", "c.example"], "measures": {"dns": "nodata"}}}, 3),
    ({"one": {"names": ["b.example"], "measures": REFUSE, "territory": ["FR", "RE"]}}, None),
]  # fmt: skip


def test_names_come_and_go_without_a_reload(tmp_path):
    """By remote control, to what a restart would come to: what is new, lifted, gone, and another variant."""
    names = [f"{below}{name}.example" for name in "abcd" for below in ("", "www.", "x.y.", "z.x.y.")]
    with stage_with(tmp_path, **LIVE[0][0]) as stage:
        unbound = Unbound(stage)
        means = ENGINE.means(unbound.out, [("config", str(unbound.file))])
        engine = ENGINE.make(means)
        with unbound.run():
            for orders, expected in LIVE:
                before = {path.name: path.read_bytes() for path in unbound.out.iterdir()}
                put_orders(stage.orders, orders)
                export_for(stage, "unbound", unbound.out, **unbound.settings)
                after = {path.name: path.read_bytes() for path in unbound.out.iterdir()}
                change = Change(folder=unbound.out, before=before, after=after)
                told = commands(change)
                assert (told if told is None else len(told)) == expected, told
                assert engine.take(change) is (not told)
                wait_until(lambda: unbound.control("status"))
                for name in names:
                    decision = rules_of(stage).decide(name, country="FR", at=datetime.now(UTC))
                    wanted = decision.measures.get(Measure.DNS)
                    answer = ask(("127.0.0.1", unbound.port), Query(name=name, source=CLIENTS["france"]))
                    wrong = [*wrong_with(wanted, Query(name=name), answer, {DnsNeed.EDE})]
                    assert not wrong, (orders, name, wrong)


def test_no_query_is_lost_while_names_come_and_places_change(tmp_path):
    """Among five thousand names one more by remote control, and another place by a reload: all who ask are answered."""
    many = [f"site-{number}.example" for number in range(5_000)]
    changes = [(["new.example"], ["FR"]), (["newer.example"], ["FR"]), (["newest.example"], ["FR", "RE"])]
    with served(tmp_path, {"one": {"names": many, "measures": REFUSE}}) as unbound:
        engine = ENGINE.make(ENGINE.means(unbound.out, [("config", str(unbound.file))]))
        turns = cycle(("site-1.example", "other.example"))
        with meanwhile(lambda: asked_next(unbound, turns)) as answers:
            reloads = []
            for names, territory in changes:
                before = {path.name: path.read_bytes() for path in unbound.out.iterdir()}
                orders = {"one": {"names": [*many, *names], "measures": REFUSE, "territory": territory}}
                put_orders(unbound.stage.orders, orders)
                export_for(unbound.stage, "unbound", unbound.out, **unbound.settings)
                after = {path.name: path.read_bytes() for path in unbound.out.iterdir()}
                reloads.append(engine.take(Change(folder=unbound.out, before=before, after=after)))
                wait_until(lambda names=names: said(unbound, names[0], CLIENTS["france"])[0] == "REFUSED")
        assert reloads == [False, False, True]
        assert len(answers) > 20
        assert {*answers} == {
            ("site-1.example", "REFUSED"),
            ("other.example", "NOERROR"),
        }


def asked_next(unbound, names):
    """Ask for the next name as a client in France, once; return what is said, or why nothing is."""
    name = next(names)
    try:
        return name, said(unbound, name, CLIENTS["france"])[0]
    except OSError as error:
        return name, str(error)


def test_many_changes_are_a_reload():
    """Which then is cheaper; so is anything but names."""
    zone = 'local-zone: "n{}.example." always_refuse\n'
    few, many = ("".join(map(zone.format, range(count))).encode() for count in (3, 300))
    view, other = "cdnblock-v0123abcd.conf", "cdnblock-clients.conf"

    def told(before, after, **how):
        return commands(Change(folder=Path("/"), before=before, after=after, **how))

    assert told({view: b""}, {view: few}) == [
        ["view_local_zone", "cdnblock-v0123abcd", f"n{number}.example.", "always_refuse"] for number in range(3)
    ]
    assert told({view: b""}, {view: many}) is None
    assert told({}, {view: few}) is None
    assert told({view: b""}, {view: few}, forced=True) is None
    assert told({view: b"", other: b"1"}, {view: few, other: b"2"}) is None
    assert told({view: b"", "cdnblock-ede.names": b"1"}, {view: b"", "cdnblock-ede.names": b"2"}) == []


@pytest.mark.parametrize(
    ("negatives", "variants"), [("zones", ("nxdomain",)), ("rpz", ("nxdomain", "nodata"))], ids=["zones", "rpz"]
)
def test_names_that_stand_densely_are_told_apart_after_each_reload(negatives, variants, tmp_path):
    """Policy zones come and go with their tags, and none is left with the tag of another."""
    with served(tmp_path, dense_orders(0, variants), negatives=negatives) as unbound:
        for seed in range(1, 8):
            put_orders(unbound.stage.orders, dense_orders(seed, variants))
            unbound.reload()
            assert [*wrong_answers(unbound, seed)] == []


def test_what_unbound_cannot_say_is_told(tmp_path):
    """REFUSED for a name alone, and another variant for it than for what is below it."""
    orders = {
        "alone": {"names": [{"name": "alone.example", "subdomains": False}], "measures": REFUSE},
        "other": {"names": [{"name": "b.example", "subdomains": False}], "measures": NXDOMAIN},
        "below": {"names": ["b.example"], "measures": {"dns": "nodata"}},
    }
    with stage_with(tmp_path, **orders) as stage:
        with pytest.raises(UnsupportedError) as told:
            export_for(stage, "unbound", tmp_path / "out", clients="any")
        assert [line.partition(", which")[0] for line in str(told.value).splitlines()[1:]] == [
            "order alone: alone.example is refused without its sub-domains",
            "order below, other: b.example is to be otherwise than what is below it",
        ]
        unbound = Unbound(stage, ours=False)
        unbound.ours = True
        export_for(stage, "unbound", unbound.out, partial=True, **unbound.settings)
        unbound.file.write_text(unbound.file.read_text() + f'include: "{unbound.out}/cdnblock.conf"\n')
        with unbound.run():
            french = CLIENTS["france"]
            found = [said(unbound, name, french)[0] for name in ("alone.example", "x.alone.example", "b.example")]
            assert found == ["NXDOMAIN", "NOERROR", "NOERROR"]


@pytest.mark.parametrize(
    ("clients", "complaint"),
    [("", "clients is not set: give the networks"), ("10.0.0.1/8", "10.0.0.1/8 has host bits")],
)
def test_the_operator_says_who_may_ask(clients, complaint, tmp_path):
    """An element of access control lets its network ask: nothing is written before somebody has said which may."""
    with stage_with(tmp_path, **ORDERS) as stage, pytest.raises(ConfigError, match=complaint):
        export_for(stage, "unbound", tmp_path / "out", clients=clients)


def test_it_is_not_told_whom_to_trust_in_silence(tmp_path):
    """Unbound reads no client subnet; what tells it of clients is told by its own configuration."""
    with stage_with(tmp_path, **ORDERS) as stage, pytest.raises(ConfigError, match="the PROXY protocol alone"):
        export_for(replace(stage, trusted_proxies=("127.0.0.1/32",)), "unbound", tmp_path / "out", clients="any")


@pytest.mark.parametrize(
    "order",
    [
        {"names": ["a.example"], "until": "2025-04-04"},
        {"names": [f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 53}.example"]},
        {"names": ["_a-.example", "xn--bcher-kva.example", "1.2.3.example"], "contact": '"\\ # ; é\t'},
    ],
    ids=["nothing", "long", "odd"],
)
@pytest.mark.parametrize("negatives", ["zones", "rpz"])
def test_the_checker_accepts_whatever_is_ordered(order, negatives, tmp_path):
    """Nothing in force, the longest name, odd ones, and texts that a court may write."""
    with stage_with(tmp_path, one={"measures": NXDOMAIN} | order) as stage:
        unbound = Unbound(stage, ours=False)
        export_for(stage, "unbound", unbound.out, partial=True, clients="any", negatives=negatives)
        unbound.file.write_text(unbound.file.read_text() + f'include: "{unbound.out}/cdnblock.conf"\n')
        unbound.check()


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/unbound/start.sh` exports, starts and answers; clients of loopback are in no country, so not refused."""
    with started_example("unbound", tmp_path) as port:
        answer = ask(("127.0.0.1", port), Query(name="www.motogpstream.me"))
        assert records_of(answer.answer) == ["www.motogpstream.me. A 192.0.2.80"]
        assert "motogpstream.me" in "".join(path.read_text() for path in (tmp_path / "unbound/cdnblock").iterdir())
