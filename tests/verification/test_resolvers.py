"""Name servers that do as decided, and others that do not: each breakage is found."""

from __future__ import annotations

import broken_resolvers as resolvers
import pytest
from broken_resolvers import resolving
from conftest import shown, verified

from cdnblock.verification.clients import Client, Told
from cdnblock.verification.expecting import Promises
from cdnblock.verification.probes import Kind
from cdnblock.verification.servers import Resolver

BY_SOURCE = [
    Client(label="france", country="FR", address="127.10.0.1", told=Told.SOURCE),
    Client(label="germany", country="DE", address="127.20.0.1", told=Told.SOURCE),
    Client(label="nowhere", country=None, address="127.0.0.1", told=Told.SOURCE),
]


@pytest.mark.parametrize("told", ["by source", "by client subnet"])
def test_a_sound_resolver_is_as_decided(stage, told):
    """No difference, for clients told apart by their source address or by a client subnet."""
    with resolving(resolvers.Sound, stage) as port:
        settings = {"clients": BY_SOURCE} if told == "by source" else {}
        report = verified(Resolver(host="127.0.0.1", port=port), stage, **settings)
    assert shown(report) == set()
    assert report.covered > 100
    assert not report.open


REFUSED, CENSORED = "REFUSED with EDE 16", "NXDOMAIN with EDE 16"
BROKEN = [
    # how it is broken: one difference that has to be found (name, client, way, form, what came)
    (resolvers.NoSubdomains, "a.b.c.held.example", "france", "udp", "A", "NOERROR with 1 record"),
    (resolvers.CaseSensitive, "held.example", "france", "udp", "A in capitals", "NOERROR with 1 record"),
    (resolvers.Suffix, "myheld.example", "france", "tcp", "HTTPS", REFUSED),
    (resolvers.WholeWorld, "held.example", "germany", "udp", "A", REFUSED),
    (resolvers.NotOverTcp, "held.example", "france", "tcp", "A", "NOERROR with 1 record"),
    (resolvers.AddressesOnly, "held.example", "france", "udp", "HTTPS", "NOERROR with 1 record"),
    (resolvers.AddressesOnly, "held.example", "france", "udp", "TXT", "NOERROR with 1 record"),
    (resolvers.SignedPasses, "held.example", "france", "udp", "A with DO", "NOERROR with 1 record"),
    (resolvers.UnrecursivePasses, "held.example", "france", "udp", "A without RD", "NOERROR with 1 record"),
    (resolvers.OtherReason, "held.example", "france", "udp", "A", "REFUSED with EDE 15"),
    (resolvers.NoReason, "held.example", "france", "udp", "A", "REFUSED without EDE"),
    (
        resolvers.KeptForLong, "closed.example", "france", "udp", "A",
        f"{CENSORED} to be kept for 3600 s, more than 10",
    ),
    (resolvers.NoSuchName, "held.example", "france", "udp", "A", CENSORED),
    (resolvers.Elsewhere, "held.example", "france", "udp", "A", "NOERROR with 1 record"),
    (resolvers.Authentic, "held.example", "france", "udp", "A", "AD, as if it were signed"),
    (resolvers.OneCacheForAll, "held.example", "germany", "udp", "A", REFUSED),
    (resolvers.Silent, "held.example", "france", "udp", "A", "no answer within 0.2 s"),
    (resolvers.Earlier, "lifted.example", "france", "udp", "A", REFUSED),
    (
        resolvers.Made, "cdnblock-neighbour.example", "germany", "udp", "A",
        "NXDOMAIN with an SOA of rpz.policy, to which it does not belong",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "client", "way", "form", "came"), BROKEN, ids=[f"{row[0].__name__}-{row[4]}" for row in BROKEN]
)
def test_each_breakage_is_found(stage, kind, name, client, way, form, came):
    """Whatever somebody's resolver gets wrong shows, at the name, client, way and form where it does."""
    settings = {"patience": 0.2, "sample": 0} if kind is resolvers.Silent else {}
    with resolving(kind, stage) as port:
        report = verified(Resolver(host="127.0.0.1", port=port), stage, about=name, clients=BY_SOURCE, **settings)
    found = shown(report)
    assert (name, client, way, form, came) in found, found


def test_a_resolver_that_refuses_everything(stage):
    """Names that no order names are refused, for everybody: found at popular names too."""
    with resolving(resolvers.RefusesAll, stage) as port:
        report = verified(Resolver(host="127.0.0.1", port=port), stage, clients=BY_SOURCE)
    assert set(Kind) - {Kind.STRANGER, Kind.NAMED} <= {found.probe.kind for found in report.findings}


def test_a_client_subnet_makes_every_variant_a_refusal(stage):
    """RFC 7871 §7.4: with the client's network in the query, NXDOMAIN would be kept for everybody."""

    class Literal(resolvers.Sound):
        def refuse(self, packet, decision, *, tcp):
            answer = super().refuse(packet, decision, tcp=tcp)
            return resolvers.changed(answer, lambda message: message.set_rcode(3))

    with resolving(Literal, stage) as port:
        found = shown(verified(Resolver(host="127.0.0.1", port=port), stage, about="closed.example"))
    assert ("closed.example", "france", "udp", "A", CENSORED) in found


def test_what_is_not_promised_is_no_difference(stage):
    """A server that knows no EDE, gives another variant, and keeps it for longer, as far as that was said."""
    with resolving(resolvers.NoReason, stage) as port:
        report = verified(Resolver(host="127.0.0.1", port=port), stage, clients=BY_SOURCE, promises=Promises(ede=False))
        assert shown(report) == set()
    with resolving(resolvers.KeptForLong, stage) as port:
        report = verified(
            Resolver(host="127.0.0.1", port=port),
            stage,
            clients=BY_SOURCE,
            about="closed.example",
            promises=Promises(negative_ttl=None),
        )
        assert shown(report) == set()


def test_a_reference_tells_whether_a_name_exists(stage):
    """Beside a resolver that filters nothing, an NXDOMAIN that looks true is found out."""

    class Gone(resolvers.Sound):
        def answer(self, packet, peer, *, tcp):
            answer = super().answer(packet, peer, tcp=tcp)
            if b"\x03www\x05alone" not in packet.lower():
                return answer
            message = resolvers.dns.message.from_wire(answer)
            message.answer.clear()
            message.set_rcode(3)
            return message.to_wire()

    with resolving(Gone, stage) as port, resolving(resolvers.Sound, stage) as other:
        reference = Resolver(host="127.0.0.1", port=other)
        server = Resolver(host="127.0.0.1", port=port)
        assert shown(verified(server, stage, about="alone.example", clients=BY_SOURCE)) == set()
        found = shown(verified(server, stage, about="alone.example", clients=BY_SOURCE, reference=reference))
    assert ("www.alone.example", "germany", "udp", "A", "NXDOMAIN") in found
    assert {name for name, *_ in found} == {"www.alone.example"}


def test_connections_that_a_busy_resolver_ends_are_made_again(stage):
    """It may end one whenever it likes (RFC 7766 §6.2.4): no difference, as long as an answer comes on another."""

    class Busy(resolvers.Sound):
        ended = 0

        def answer(self, packet, peer, *, tcp):
            self.ended += tcp
            if tcp and self.ended % 3:
                raise ConnectionError
            return super().answer(packet, peer, tcp=tcp)

    with resolving(Busy, stage) as port:
        server = Resolver(host="127.0.0.1", port=port)
        report = verified(server, stage, about="closed.example", clients=BY_SOURCE[:1], at_once=1)
    assert shown(report) == set()
    assert report.covered > 5


def test_a_resolver_that_falls_silent_is_not_waited_for_for_ever(stage):
    """It answers to begin with, and then nobody any more: some hundred probes are enough to say so."""

    class Tired(resolvers.Sound):
        asked = 0

        def answer(self, packet, peer, *, tcp):
            self.asked += 1
            return super().answer(packet, peer, tcp=tcp) if self.asked < 40 else None

    with resolving(Tired, stage) as port:
        server = Resolver(host="127.0.0.1", port=port)
        report = verified(server, stage, clients=BY_SOURCE, patience=0.1, at_once=100)
    assert report.gone == "500 probes in a row got no answer"
    assert report.differences > 100
