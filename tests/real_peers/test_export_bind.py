"""BIND with the configuration that `cdnblock export bind` writes, under the contract of every resolver."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import dns.rcode
import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from dense_orders import dense_orders, wrong_answers
from dns_engines import export_dns_for
from export_engines import HOSTILE, at_each_turn, needs, wait_until
from export_resolvers import Resolver, export_for, meanwhile, resolving, stage_with, started_example

from cdnblock.errors import ConfigError, UnsupportedError
from cdnblock.testing import DnsContract, DnsHost, DnsNeed
from cdnblock.testing.dns_stage import CLIENTS
from cdnblock.testing.dns_wire import Query, ask, records_of
from cdnblock.testing.stage import put_orders

pytestmark = needs("named", "bind9")

CONFIGURATION = """
key control {{ algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"; }};
controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} keys {{ control; }}; }};
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile "{folder}/session.key";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 port {port} {{ ::1; }};
    allow-query {{ any; }};
    allow-recursion {{ any; }};
    dnssec-validation no;
    forward only;
    forwarders {{ 127.0.0.1 port {upstream}; }};
}};
{include}
"""
KEY = 'key control { algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"; };\n'
DONE = re.compile(r"rpz: cdnb: reload done: success")
NXDOMAIN = {"dns": "nxdomain"}


class Bind(Resolver):
    """A named that rndc reloads."""

    target = "bind"

    def __init__(self, stage, *, ours=True, **settings):
        super().__init__(stage, ours=ours, **settings)
        (self.control,) = free_ports(1)
        self.file, self.log = self.folder / "named.conf", self.folder / "log"
        (self.folder / "control.key").write_text(KEY)
        include = f'include "{self.out}/cdnblock.conf";' if ours else ""
        self.file.write_text(
            CONFIGURATION.format(
                folder=self.folder, port=self.port, control=self.control, upstream=stage.upstream[1], include=include
            )
        )

    def check(self):
        done = subprocess.run(
            ["named-checkconf", "-z", str(self.file)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def run(self):
        self.check()
        with resolving(["named", "-g", "-n", "1", "-c", str(self.file)], self.port, self.log):
            if self.ours:
                self.wait_for(len([*self.out.glob("*.rpz")]))
            yield

    def reload(self):
        """Export, check, reload, and return when each policy that changed is in force."""
        with self.changing:
            changed = export_for(self.stage, "bind", self.out, **self.settings)
            if not changed:
                return
            self.check()
            said = self.log.stat().st_size
            self.rndc("reload")
            self.wait_for(sum(name.endswith(".rpz") for name in changed), said)

    def rndc(self, *command):
        done = subprocess.run(
            ["rndc", "-s", "127.0.0.1", "-p", str(self.control), "-k", str(self.folder / "control.key"), *command],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def wait_for(self, policies, said=0):
        """Wait until so many policies have been taken since the log was so long: BIND answers before that."""
        wait_until(lambda: len(DONE.findall(self.log.read_text()[said:])) >= policies, self.log.read_text)

    def host(self, plain=None):
        return DnsHost(
            address=("127.0.0.1", self.port),
            address6=("::1", self.port),
            plain=plain and ("127.0.0.1", plain.port),
            reload=self.reload,
        )


class TestBind(DnsContract):
    """Views by territory, each with a response policy."""

    variants = ("nxdomain", "nodata")
    cannot = {
        DnsNeed.ALIAS: "BIND's policies refuse what is an alias of their names",
        DnsNeed.EDE: "BIND has extended errors for policies since 9.20",
        DnsNeed.SOA: "BIND puts the policy zone's SOA into the additional section",
    }

    @contextmanager
    def serve(self, stage):
        mine, plain = Bind(stage), Bind(stage, ours=False)
        with ExitStack() as running:
            for each in (plain, mine):
                running.enter_context(each.run())
            running.enter_context(at_each_turn(stage, mine.reload))
            yield mine.host(plain)


ORDERS = {
    "one": {"names": ["a.example"], "measures": NXDOMAIN, "lifted": [{"names": ["free.b.a.example"], "at": "2025-05-01T12:00"}]},
    "two": {"names": ["held.example"], "measures": {"dns": "nodata"}, "territory": ["FR", "RE"]},
    "alone": {"names": [{"name": "alone.example", "subdomains": False}, {"name": "z.a.example", "subdomains": False}],
              "measures": {"dns": "nodata"}},
    "everywhere": {"names": ["everywhere.example"], "measures": {"dns": "nodata"}, "territory": "world"},
    "unknown": {"names": ["unknown.example"], "measures": NXDOMAIN, "unknown_location": "enforce"},
}  # fmt: skip
PLACES = ("france", "reunion", "germany", "nowhere")
NX, NO, OK = ("NXDOMAIN", 0), ("NOERROR", 0), ("NOERROR", 1)


def said(bind, name, place, kind="A"):
    """Return the rcode, and how many addresses a client gets."""
    answer = ask(("127.0.0.1", bind.port), Query(name=name, kind=kind, source=CLIENTS[place]))
    return dns.rcode.to_text(answer.rcode()), len(records_of(answer.answer))


@contextmanager
def served(folder, orders, **settings):
    with stage_with(folder, **orders) as stage:
        bind = Bind(stage, **settings)
        with bind.run():
            yield bind


def test_several_orders_and_places(tmp_path):
    """A view for each set of places in which the same holds; names between others hide no wildcard."""
    with served(tmp_path, ORDERS) as bind:
        expected = {
            # name: what clients get in France, Réunion, Germany, nowhere
            "www.held.example": (NO, NO, OK, OK),
            "alone.example": (NO, OK, OK, OK),
            "below.alone.example": (OK, OK, OK, OK),
            "unknown.example": (NX, OK, OK, NX),
            "x.b.a.example": (NX, OK, OK, OK),
            "b.a.example": (NX, OK, OK, OK),
            "x.free.b.a.example": (OK, OK, OK, OK),
            "z.a.example": (NX, OK, OK, OK),
            "x.z.a.example": (NX, OK, OK, OK),
            "x.everywhere.example": (NO, NO, NO, NO),
        }
        found = {name: tuple(said(bind, name, place) for place in PLACES) for name in expected}
        assert found == expected
        views = re.findall(r'view "([^"]+)"', (bind.out / "cdnblock.conf").read_text())
        assert views == ["cdnblock-FR", "cdnblock-RE", "cdnblock-unknown", "cdnblock-others"]


def test_names_that_stand_densely_are_told_apart(tmp_path):
    """Above, below, alone, lifted, in several orders and places: every answer is what the library decides."""
    variants = ("nxdomain", "nodata")
    with stage_with(tmp_path, **dense_orders(0, variants)) as stage:
        bind = Bind(stage)
        with bind.run():
            for seed in range(1, 8):
                put_orders(stage.orders, dense_orders(seed, variants))
                bind.reload()
                assert [*wrong_answers(bind, seed)] == []


def test_views_share_one_cache_and_no_refusal_is_in_it(tmp_path):
    """What a client outside has been answered is refused inside, and the reverse."""
    with served(tmp_path, ORDERS) as bind:
        for name in ("a.example", "b.a.example"):
            for place, wanted in (("germany", OK), ("france", NX), ("germany", OK), ("france", NX)):
                assert said(bind, name, place) == wanted


def test_what_all_views_have_is_in_a_file_of_the_operators(tmp_path):
    """A zone of his is answered in each view, with a name of it that is covered refused where it is."""
    mine = tmp_path / "mine.conf"
    zone = (
        "$TTL 60\n@ SOA ns.mine. host.mine. 1 2 3 4 5\n@ NS ns.mine.\nns A 192.0.2.7\nwww A 192.0.2.7\na A 192.0.2.7\n"
    )
    (tmp_path / "mine.zone").write_text(zone)
    mine.write_text(f'zone "mine.example" {{ type primary; file "{tmp_path}/mine.zone"; }};\n')
    orders = {"one": {"names": ["a.mine.example"], "measures": NXDOMAIN}}
    with served(tmp_path, orders, view=str(mine)) as bind:
        assert [said(bind, "www.mine.example", place) for place in PLACES] == [OK] * 4
        assert [said(bind, "a.mine.example", place) for place in PLACES] == [NX, OK, OK, OK]
        assert said(bind, "x.mine.example", "germany") == NX


def test_a_reload_takes_what_was_ordered_meanwhile_and_loses_no_query(tmp_path):
    """Names come, go and come into other places, so that views do too, while somebody asks all the time."""
    with served(tmp_path, {"one": {"names": ["before.example"], "measures": NXDOMAIN}}) as bind:
        names = ("before.example", "after.example")
        assert [said(bind, name, "france") for name in names] == [NX, OK]
        with meanwhile(lambda: said(bind, "other.example", "france")) as asked:
            for territory, german in ((["FR"], OK), (["FR", "DE"], NX), ("world", NX)):
                change = {"one": {"names": ["after.example"], "measures": NXDOMAIN, "territory": territory}}
                put_orders(bind.stage.orders, change)
                bind.reload()
                assert [said(bind, name, "france") for name in names] == [OK, NX]
                assert said(bind, "after.example", "germany") == german
        assert asked
        assert {*asked} == {OK}


def test_a_policy_that_is_unchanged_is_left_alone(tmp_path):
    """A change of one place's orders is a change of its zone, and of no other file."""
    with stage_with(tmp_path, **ORDERS) as stage:
        bind = Bind(stage)
        put_orders(stage.orders, {"alone": ORDERS["alone"] | {"names": ["else.example"]}})
        (tmp_path / "before").mkdir()
        before = {path.name: records(path) for path in bind.out.iterdir()}
        export_for(stage, "bind", bind.out)
        after = {path.name: records(path) for path in bind.out.iterdir()}
        assert {name for name in after if after[name] != before[name]} == {"cdnblock-FR.rpz"}


def records(path):
    """Return the lines of a file that are no comment."""
    return [line for line in path.read_text().splitlines() if line[0] not in ";/"]


def test_what_bind_cannot_say_is_told(tmp_path):
    """REFUSED, names that no policy zone can have, and names that it would read as something else."""
    orders = {
        "refused": {"names": ["a.example"], "measures": {"dns": "refuse"}},
        "long": {"names": [f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 53}.example"], "measures": NXDOMAIN},
        "trigger": {"names": ["32.1.0.0.127.rpz-client-ip", "ok.example"], "measures": NXDOMAIN},
    }
    with stage_with(tmp_path, **orders) as stage:
        with pytest.raises(UnsupportedError) as told:
            export_for(stage, "bind", tmp_path / "out")
        assert sorted(line.split(": ")[0] for line in str(told.value).splitlines()[1:]) == [
            "order long", "order refused", "order trigger",
        ]  # fmt: skip
        bind = Bind(stage, ours=False)
        export_for(stage, "bind", bind.out, partial=True)
        bind.file.write_text(bind.file.read_text() + f'include "{bind.out}/cdnblock.conf";\n')
        with bind.run():
            bind.wait_for(2)
            assert [said(bind, name, "france") for name in ("a.example", "ok.example", "other.example")] == [NX, NX, OK]


def test_forwarders_cannot_be_trusted(tmp_path):
    """BIND goes by the address that asks alone; to be told otherwise is an error, not silence."""
    with stage_with(tmp_path, **ORDERS) as stage, pytest.raises(ConfigError, match="without --trusted-proxies"):
        export_dns_for(replace(stage, trusted_proxies=("127.0.0.1",)), "bind", tmp_path / "out")


@pytest.mark.parametrize(
    "order",
    [
        {"names": ["a.example"], "until": "2025-04-04"},
        {"names": ["_a-.example", "xn--bcher-kva.example", "1.2.3.example", "in.a.soa.ns.cname", "ttl.example"]},
        {"names": ["a.example"], "title": HOSTILE, "contact": HOSTILE, "claimant": HOSTILE},
        {"names": [f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 45}.example"]},
    ],
    ids=["nothing", "odd", "hostile", "long"],
)
def test_the_checker_accepts_whatever_is_ordered(order, tmp_path):
    """Nothing in force, odd names, texts that a court may write, and the longest name that a policy can have."""
    with stage_with(tmp_path, one={"measures": NXDOMAIN} | order) as stage:
        bind = Bind(stage)
        bind.check()


def test_the_extended_error_is_bind_9_20s(tmp_path):
    """With the setting each policy says Censored; older versions refuse such a configuration, and are told so by it."""
    with stage_with(tmp_path, **ORDERS) as stage:
        bind = Bind(stage, ede="yes")
        policies = re.findall(r"response-policy .*", (bind.out / "cdnblock.conf").read_text())
        assert policies
        assert all(" ede censored; }" in policy for policy in policies)
        version = tuple(int(part) for part in re.findall(r"\d+", named("-v"))[:2])
        if version >= (9, 20):
            bind.check()
        else:
            with pytest.raises(AssertionError, match="unexpected 'ede'"):
                bind.check()


def named(*arguments):
    return subprocess.run(["named", *arguments], capture_output=True, text=True, timeout=20, check=True).stdout


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/bind/start.sh` exports, starts and answers; clients of loopback are in no country, so not refused."""
    with started_example("bind", tmp_path) as port:
        answer = ask(("127.0.0.1", port), Query(name="www.motogpstream.me"))
        assert records_of(answer.answer) == ["www.motogpstream.me. A 192.0.2.80"]
        assert "motogpstream.me CNAME ." in "".join(path.read_text() for path in (tmp_path / "bind/cdnblock").iterdir())
