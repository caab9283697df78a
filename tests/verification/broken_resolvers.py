"""A small name server that knows every name and refuses what orders say: sound, or broken in one way."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from broken_edges import served_apart

from cdnblock.matching.decision import Decision
from cdnblock.measures import dns_refusal
from cdnblock.orders.model import Measure
from cdnblock.sandbox import resolver as every_name
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import load_orders

NOTHING = Decision(measures={})


class Sound:
    """Nothing is broken. Who asks is told by the client subnet, or by the source: 127.10.*.* is France."""

    at = None

    def __init__(self, stage):
        self.rules = load_orders(stage.orders)
        self.geo = open_geo_table(stage.geo)

    def country(self, packet, peer):
        subnet = dns_refusal.client_subnet(packet)
        if subnet is not None:
            return self.geo.locate(subnet[0])
        return {"127.10": "FR", "127.20": "DE"}.get(peer[:6])

    def decide(self, name, country, question, *, tcp):
        return self.rules.decide(name, country=country, at=self.at or datetime.now(UTC))

    def answer(self, packet, peer, *, tcp):
        (question,) = dns_refusal.questions(packet) or (None,)
        if question is None:
            return dns_refusal.objection(packet)
        decision = self.decide(question.name, self.country(packet, peer), packet, tcp=tcp)
        if Measure.DNS not in decision.measures:
            return every_name.answer(packet)
        return self.refuse(packet, decision, tcp=tcp)

    def refuse(self, packet, decision, *, tcp):
        return dns_refusal.answer(packet, decision, max_size=65_535 if tcp else None)


def changed(packet, change):
    """Return a refusal with something else about it."""
    message = dns.message.from_wire(packet)
    change(message)
    return message.to_wire()


class NoSubdomains(Sound):
    """Knows the names themselves alone."""

    def decide(self, name, country, question, *, tcp):
        listed = {listed for listed, _, _ in self.rules.each_listed()}
        return super().decide(name, country, question, tcp=tcp) if name.lower() in listed else NOTHING


class CaseSensitive(Sound):
    """Takes another case for another name."""

    def decide(self, name, country, question, *, tcp):
        return super().decide(name, country, question, tcp=tcp) if name == name.lower() else NOTHING


class Suffix(Sound):
    """Compares ends of texts."""

    def decide(self, name, country, question, *, tcp):
        ends = [listed for listed, _, _ in self.rules.each_listed() if name.lower().endswith(listed)]
        return super().decide(ends[0] if ends else name, country, question, tcp=tcp)


class WholeWorld(Sound):
    """Forgets the territory."""

    def country(self, packet, peer):
        return "FR"


class NotOverTcp(Sound):
    """Refuses over UDP alone."""

    def decide(self, name, country, question, *, tcp):
        return NOTHING if tcp else super().decide(name, country, question, tcp=tcp)


class AddressesOnly(Sound):
    """Refuses A and AAAA, and tells the rest."""

    def answer(self, packet, peer, *, tcp):
        kind = dns_refusal.questions(packet)[0].qtype
        return super().answer(packet, peer, tcp=tcp) if kind in (1, 28) else every_name.answer(packet)


class SignedPasses(Sound):
    """Lets everything through that asks for signatures."""

    def answer(self, packet, peer, *, tcp):
        message = dns.message.from_wire(packet)
        signed = message.ednsflags & dns.flags.DO
        return every_name.answer(packet) if signed else super().answer(packet, peer, tcp=tcp)


class UnrecursivePasses(Sound):
    """Answers everything that asks for no recursion, as from a cache."""

    def answer(self, packet, peer, *, tcp):
        message = dns.message.from_wire(packet)
        wants = message.flags & dns.flags.RD
        return super().answer(packet, peer, tcp=tcp) if wants else every_name.answer(packet)


class OtherReason(Sound):
    """Says Blocked, which is the operator's own doing."""

    def refuse(self, packet, decision, *, tcp):
        answer = super().refuse(packet, decision, tcp=tcp)
        return answer.replace(b"\x00\x10order", b"\x00\x0forder")


class NoReason(Sound):
    """Says nothing."""

    def refuse(self, packet, decision, *, tcp):
        def without(message):
            message.use_edns(0 if message.edns >= 0 else None)

        return changed(super().refuse(packet, decision, tcp=tcp), without)


class KeptForLong(Sound):
    """Lets resolvers keep a negative answer for an hour."""

    def refuse(self, packet, decision, *, tcp):
        def longer(message):
            for rrset in message.authority:
                rrset.ttl = 3600
                (soa,) = rrset
                rrset.clear()
                rrset.add(soa.replace(minimum=3600), 3600)

        return changed(super().refuse(packet, decision, tcp=tcp), longer)


class NoSuchName(Sound):
    """Says that there is no such name, whatever was ordered."""

    def refuse(self, packet, decision, *, tcp):
        def gone(message):
            message.set_rcode(dns.rcode.NXDOMAIN)

        return changed(super().refuse(packet, decision, tcp=tcp), gone)


class Elsewhere(Sound):
    """Sends people to a page of its own."""

    def refuse(self, packet, decision, *, tcp):
        query = dns.message.from_wire(packet)
        message = dns.message.make_response(query, recursion_available=True)
        message.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.200"))
        return message.to_wire()


class Authentic(Sound):
    """Claims that a refusal is signed."""

    def refuse(self, packet, decision, *, tcp):
        def claim(message):
            message.flags |= dns.flags.AD

        return changed(super().refuse(packet, decision, tcp=tcp), claim)


class OneCacheForAll(Sound):
    """Keeps what the first client got for all others."""

    def __init__(self, stage):
        super().__init__(stage)
        self.kept = {}

    def answer(self, packet, peer, *, tcp):
        question = dns_refusal.questions(packet)[0]
        message = self.kept.setdefault((question, len(packet)), super().answer(packet, peer, tcp=tcp))
        return packet[:2] + message[2:]


class Silent(Sound):
    """Does not answer where it should refuse."""

    def refuse(self, packet, decision, *, tcp):
        return None


class RefusesAll(Sound):
    """Serves nobody."""

    def decide(self, name, country, question, *, tcp):
        return self.rules.decide("held.example", country="FR", at=datetime.now(UTC))


class Earlier(Sound):
    """Lives before a lifting."""

    at = datetime(2025, 5, 1, 12, tzinfo=UTC)


class Made(Sound):
    """Says of neighbours that they do not exist, with an SOA of its own."""

    def answer(self, packet, peer, *, tcp):
        question = dns_refusal.questions(packet)[0]
        if "neighbour" not in question.name:
            return super().answer(packet, peer, tcp=tcp)
        query = dns.message.from_wire(packet)
        message = dns.message.make_response(query)
        message.set_rcode(dns.rcode.NXDOMAIN)
        soa = "ns.rpz.policy. nobody.rpz.policy. 1 60 60 60 60"
        message.authority.append(dns.rrset.from_text("rpz.policy.", 5, "IN", "SOA", soa))
        return message.to_wire()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server):
        self.server = server

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        answer = self.server.answer(data, addr[0], tcp=False)
        if answer:
            self.transport.sendto(answer, addr)


@asynccontextmanager
async def _serve(server):
    async def converse(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                answer = server.answer(packet, writer.get_extra_info("peername")[0], tcp=True)
                if answer:
                    writer.write(len(answer).to_bytes(2, "big") + answer)

    loop = asyncio.get_running_loop()
    while True:
        tcp = await asyncio.start_server(converse, "127.0.0.1", 0)
        port = tcp.sockets[0].getsockname()[1]
        try:
            udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(server), local_addr=("127.0.0.1", port))
            break
        except OSError:
            tcp.close()
    yield port
    udp.close()
    tcp.close()


def resolving(kind, stage):
    """Run a name server of this kind on a loop of its own; yield its port."""
    return served_apart(_serve(kind(stage)))
