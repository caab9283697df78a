"""What changes reaches real resolvers: by increments, through others in between, after restarts, and by dynamic update."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dns.message
import dns.query
import dns.xfr
import dns.zone
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import needs, running, wait_until
from export_resolvers import answers
from rpz_secondaries import SECRET, Bind, Knot, Nsd, Primary, Recursor, Secondary, Unbound, key, serial_in

from cdnblock.testing.dns_contract import open_dns_stage
from cdnblock.testing.dns_stage import CLIENTS
from cdnblock.testing.dns_wire import Query, ask, errors_of
from cdnblock.testing.stage import put_orders

NXDOMAIN = {"measures": {"dns": "nxdomain"}}
ONE = {**NXDOMAIN, "names": ["one.example", "deep.one.example", "two.example"]}


def said(resolver, name, place="france"):
    """Return the RCODE that a client somewhere is answered."""
    return ask(("127.0.0.1", resolver.port), Query(name=name, source=CLIENTS[place])).rcode().name


@contextmanager
def resolving_with(folder, kind, **options):
    """Run primary and resolver for clients in FR and DE, with one order in FR."""
    with open_dns_stage(folder, {"one": ONE}) as stage, ExitStack() as leaving:
        primary = Primary(stage.folder, stage.orders, sets=("fr", "de"), **options)
        resolver = kind(stage.folder, primary, stage.upstream)
        leaving.enter_context(primary.run())
        leaving.enter_context(resolver.run())
        primary.arrived()
        yield stage, primary, resolver


RESOLVERS = [
    pytest.param(Unbound, marks=needs("unbound", "unbound"), id="unbound"),
    pytest.param(Bind, marks=needs("named", "bind9"), id="bind"),
    pytest.param(Recursor, marks=needs("pdns_recursor", "pdns-recursor"), id="powerdns"),
]


@pytest.mark.parametrize("kind", RESOLVERS)
def test_changes_come_by_increments(tmp_path, kind):
    """A name added, lifted and put back is told by IXFR alone; the rest stays refused, and other clients untouched."""
    with resolving_with(tmp_path, kind) as (stage, primary, resolver):
        assert (said(resolver, "one.example"), said(resolver, "one.example", "germany")) == ("NXDOMAIN", "NOERROR")
        before = primary.status()["rpz_primary"]
        put_orders(stage.orders, {"more": {**NXDOMAIN, "names": ["more.example"]}})
        primary.reload()
        assert said(resolver, "more.example") == said(resolver, "www.more.example") == "NXDOMAIN"
        put_orders(stage.orders, {"one": {**ONE, "names": ["one.example"]}})
        primary.reload()
        assert said(resolver, "two.example") == "NOERROR"
        assert said(resolver, "deep.one.example") == "NXDOMAIN"
        put_orders(stage.orders, {"one": ONE})
        primary.reload()
        assert said(resolver, "two.example") == "NXDOMAIN"
        assert said(resolver, "more.example", "germany") == "NOERROR"
        after = primary.status()["rpz_primary"]
        assert (after["transfers"], after["refused"]) == (before["transfers"], before["refused"])
        assert after["incremental"] > before["incremental"]


@pytest.mark.parametrize("kind", RESOLVERS)
def test_the_bulk_takes_over_without_a_gap(tmp_path, kind):
    """What is lifted goes out of the bulk, and then out of pass; answers stay what they are all the while."""
    with resolving_with(tmp_path, kind, settle=1) as (stage, primary, resolver):
        put_orders(stage.orders, {"one": {**ONE, "names": ["one.example"]}, "more": {**ONE, "names": ["more.example"]}})
        primary.reload()

        def names(layer):
            return primary.status()["rpz_primary"]["zones"][f"{layer}-fr"]["names"]

        def as_it_was():
            found = [said(resolver, name) for name in ("one.example", "two.example", "more.example")]
            assert found == ["NXDOMAIN", "NOERROR", "NXDOMAIN"]
            return (names("pass"), names("delta"), names("base")) == (0, 0, 2)

        wait_until(as_it_was, lambda: str(primary.status()["rpz_primary"]["zones"]))
        assert primary.status()["rpz_primary"]["zones"]["pass-fr"]["changes"] == 2  # there it was, and went


@needs("pdns_recursor", "pdns-recursor")
def test_the_recursor_says_censored(tmp_path):
    """With an extended error on delta and base, not on pass, what is refused says so, and what is lifted does not."""

    class Telling(Recursor):
        error = "court order"

    with resolving_with(tmp_path, Telling) as (stage, primary, resolver):
        put_orders(stage.orders, {"one": {**ONE, "names": ["one.example"]}})
        primary.reload()
        refused = ask(("127.0.0.1", resolver.port), Query(name="one.example", source=CLIENTS["france"]))
        lifted = ask(("127.0.0.1", resolver.port), Query(name="two.example", source=CLIENTS["france"]))
        assert (refused.rcode().name, errors_of(refused)) == ("NXDOMAIN", [(16, "court order")])
        assert (lifted.rcode().name, errors_of(lifted)) == ("NOERROR", [])


@needs("unbound", "unbound")
@pytest.mark.parametrize(
    "between",
    [
        pytest.param(Nsd, marks=needs("nsd", "nsd"), id="nsd"),
        pytest.param(Knot, marks=needs("knotd", "knot"), id="knot"),
    ],
)
def test_another_name_server_may_stand_in_between(tmp_path, between):
    """NSD or Knot DNS takes the zones with TSIG, by increments, and hands them on to a resolver."""
    with open_dns_stage(tmp_path, {"one": ONE}) as stage, ExitStack() as leaving:
        primary = Primary(stage.folder, stage.orders, sets=("fr", "de"))
        middle = between(stage.folder, primary)
        primary.resolvers.append(middle)
        leaving.enter_context(primary.run())
        told = primary.secondaries.copy()
        resolver = Unbound(stage.folder, primary, stage.upstream, port=middle.port)
        primary.secondaries[:] = told
        middle.downstream = (resolver.port,)
        leaving.enter_context(middle.run())
        leaving.enter_context(resolver.run())
        primary.arrived()
        assert (said(resolver, "one.example"), said(resolver, "more.example")) == ("NXDOMAIN", "NOERROR")
        before = primary.status()["rpz_primary"]
        put_orders(stage.orders, {"more": {**NXDOMAIN, "names": ["more.example"]}})
        primary.reload()
        assert (said(resolver, "more.example"), said(resolver, "more.example", "germany")) == ("NXDOMAIN", "NOERROR")
        after = primary.status()["rpz_primary"]
        assert after["transfers"] == before["transfers"]
        assert after["incremental"] > before["incremental"]


@pytest.mark.parametrize("kind", RESOLVERS)
def test_a_killed_primary_goes_on_where_it_was(tmp_path, kind):
    """Killed, and orders changed meanwhile: zones come back with later serials, and what changed goes out by increment."""
    with open_dns_stage(tmp_path, {"one": ONE}) as stage, ExitStack() as leaving:
        primary = Primary(stage.folder, stage.orders, sets=("fr",))
        resolver = kind(stage.folder, primary, stage.upstream)
        with primary.run():
            leaving.enter_context(resolver.run())
            primary.arrived()
            serials = primary.serials()
            os.kill(primary.process.pid, signal.SIGKILL)
            primary.process.wait()
        put_orders(stage.orders, {"more": {**NXDOMAIN, "names": ["more.example"]}})
        assert said(resolver, "one.example") == "NXDOMAIN"
        with primary.run():
            primary.arrived()
            after = primary.serials()
            assert all(after[name] > serials[name] for name in serials)
            assert said(resolver, "more.example") == "NXDOMAIN"
            assert primary.status()["rpz_primary"]["transfers"] == 0


class OperatorsOwn(Secondary):
    """A BIND that is the primary of these zones itself, and takes updates from whoever has the key."""

    def told(self):
        return []

    def command(self):
        zones = ""
        for zone in self.zones():
            (self.folder / zone).write_text(
                f"$TTL 60\n@ SOA localhost. nobody.localhost. 1 60 60 86400 60\n@ NS localhost.\nstray A 192.0.2.1\n"
                f"{'old.example CNAME .' if zone.startswith('base') else ''}\n"
            )
            zones += (
                f'zone "{zone}" {{ type primary; file "{zone}"; allow-update {{ key all; }};'
                " allow-transfer { key all; }; };\n"
            )
        (self.folder / "named.conf").write_text(
            f'options {{ directory "{self.folder}"; pid-file none; session-keyfile "{self.folder}/session.key";'
            f" listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; notify no;"
            f" dnssec-validation no; }};\ncontrols {{ }};\n{self.primary.keys.read_text()}{zones}"
        )
        return ["named", "-g", "-c", str(self.folder / "named.conf")]

    def records(self, zone):
        """Return owner and target of each record but SOA and NS."""
        found = dns.zone.Zone(f"{zone}.")
        query, _ = dns.xfr.make_query(found, keyring=key("all"))
        dns.query.inbound_xfr("127.0.0.1", found, query, port=self.port)
        rows = found.iterate_rdatas("CNAME")
        rest = [str(name) for name, _, _ in found.iterate_rdatas("A")]
        return sorted((str(name), str(rdata.target)) for name, _, rdata in rows), rest


@needs("named", "bind9")
def test_zones_of_a_primary_that_runs_already_are_kept_by_updates(tmp_path):
    """What is wrong there goes, what lacks comes, and what changes is told; strangers' records in our zones go too."""
    with open_dns_stage(tmp_path, {"one": ONE}) as stage, ExitStack() as leaving:
        primary = Primary(stage.folder, stage.orders, sets=("fr",))
        theirs = OperatorsOwn(stage.folder, primary)
        primary.more += ["--update", f"127.0.0.1:{theirs.port},key=all"]
        with primary.run():  # first without the other one: it is tried again
            wait_until(lambda: "rpz_primary" in primary.status())
            wait_until(lambda: primary.status()["rpz_primary"]["updates"][0]["failing"])
            leaving.enter_context(running(theirs.command(), theirs.port, theirs.log))
            wait_until(lambda: answers(theirs.port))
            wait_until(lambda: primary.status()["rpz_primary"]["updates"][0]["behind"] == [], primary.log.read_text)
            listed = [(f"{star}{name}", ".") for name in ONE["names"] for star in ("", "*.")]
            assert theirs.records("base-fr") == (sorted(listed), [])
            assert theirs.records("pass-fr") == ([], [])
            put_orders(stage.orders, {"more": {**NXDOMAIN, "names": ["more.example"]}})
            primary.reload()
            wait_until(lambda: theirs.records("delta-fr")[0] == [("*.more.example", "."), ("more.example", ".")])
            put_orders(stage.orders, {"one": {**ONE, "names": ["one.example"]}})
            primary.reload()
            wait_until(lambda: ("two.example", "rpz-passthru.") in theirs.records("pass-fr")[0])


@needs("named", "bind9")
def test_updates_that_are_not_taken_are_told_and_tried_again(tmp_path):
    """With a key that the other primary does not take for updates: its zones stay as they are, and the status says why."""
    with open_dns_stage(tmp_path, {"one": ONE}) as stage:
        primary = Primary(stage.folder, stage.orders, sets=("fr",))
        theirs = OperatorsOwn(stage.folder, primary)
        primary.more += ["--update", f"127.0.0.1:{theirs.port},key=fr"]
        with running(theirs.command(), theirs.port, theirs.log), primary.run():
            wait_until(lambda: primary.status()["rpz_primary"]["updates"][0]["failing"])
            told = primary.status()["rpz_primary"]["updates"][0]
            assert told["behind"] == ["pass-fr", "delta-fr", "base-fr"]
            assert ("old.example", ".") in theirs.records("base-fr")[0]
            assert "updates of 127.0.0.1 port" in primary.log.read_text()


@needs("named", "bind9")
def test_who_has_no_key_gets_nothing(tmp_path):
    """A BIND with another secret under the same name of a key transfers nothing, and says so; the primary counts it."""
    with open_dns_stage(tmp_path, {"one": ONE}) as stage, ExitStack() as leaving:
        primary = Primary(stage.folder, stage.orders, sets=("fr",))
        stranger = Bind(stage.folder, primary, stage.upstream)
        leaving.enter_context(primary.run())
        primary.keys.write_text(primary.keys.read_text().replace(SECRET, "x" + SECRET[1:]))
        leaving.enter_context(stranger.run())
        wait_until(lambda: primary.status()["rpz_primary"]["wrong_signatures"] > 0)
        assert said(stranger, "one.example") == "NOERROR"
        unsigned = dns.message.make_query("base-fr", "SOA")
        answer = dns.query.udp(unsigned, "127.0.0.1", 5, primary.port)
        assert (answer.rcode().name, serial_in(answer)) == ("REFUSED", None)
