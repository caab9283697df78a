"""What becomes of a DNS query: a refusal, an objection, silence, or its way upstream. Pure: bytes in, a verdict out.

A query is read only as far as it takes. Nearly all are for names that no order names: for them that is the header and
the name, looked up as the octets that came. The wire forms and the rules stand in `cdnblock.measures`; here is what
makes them fast: refusals are kept as the octets before and behind the question, which is all that differs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from cdnblock.adapters._dns_front.memos import Clients, Decides, GivenAnswers, WireNames
from cdnblock.audit.tally import COUNT
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.matching.decision import Decision
from cdnblock.matching.ruleset import Uncovered
from cdnblock.measures import dns_message as wire
from cdnblock.measures import dns_refusal, dns_relay
from cdnblock.measures.notice.contents import check_operator
from cdnblock.noting import Notes
from cdnblock.orders.model import Measure

_SHAPES: Final = 4_096  # what stands in queries around the question: a few kinds, unless somebody plays with it
_LONGEST_SHAPE: Final = 256  # octets: room for the padding of encrypted queries (RFC 8467 §4.1)
_STREAM: Final = 65_535  # octets of an answer over a stream (RFC 1035 §4.2.2)
_COMPLAIN_EVERY: Final = 60.0  # seconds between two log records about failing decisions

_LOG: Final = logging.getLogger(__name__)


class Verdict(Enum):
    """What is neither an answer of ours nor silence."""

    FORWARD = "forward"


FORWARD: Final = Verdict.FORWARD


class QueryJudge:
    """Judges queries, one event loop's: not to be shared by threads.

    `trusted_forwarders` are the networks whose EDNS Client Subnet option is believed. `contact` is the operator's,
    for the extended error. When a decision fails, a query for a name that an order names gets SERVFAIL, or its way
    upstream if `fails_open`; all other names are not concerned. Where not even that can be told, the name counts as
    named. The counters only ever grow.
    """

    def __init__(
        self,
        enforcer: Decides,
        *,
        contact: str | None = None,
        trusted_forwarders: Iterable[str] = (),
        fails_open: bool = False,
    ) -> None:
        check_operator(None, contact)
        self._enforcer = enforcer
        self._notes = Notes(enforcer.tally, "dns_server")
        self._counted = self._notes.refusals
        self._contact = contact
        networks = tuple(trusted_forwarders)
        self._forwarders = TrustedProxies(networks, called="trusted forwarder")
        self._fails_open = fails_open
        self._complained = -_COMPLAIN_EVERY
        self._revision = ""
        self._names = WireNames(enforcer)
        self._clients = Clients(self._forwarders)
        self._given = GivenAnswers(enforcer)
        self._clock = enforcer.clock
        self._shapes: dict[bytes, _Shape] = {}
        self._refusals = 0  # that are remembered with their shapes
        self.amend = self._amend if networks else None
        """What an upstream's answer has to go through before it is handed on, None when it goes as it came."""
        self.refused = self.objected = self.silent = self.forwarded = self.failures = 0

    def judge(self, packet: bytes, peer: str, *, limit: int | None = None) -> bytes | Verdict | None:
        """Return an answer of ours, None where silence is due, or FORWARD. Never raises for any octets.

        `peer` is the address of whoever sent the packet. `limit` is what the way back carries over UDP, in octets:
        the answer is no larger than that and than the client's own size; None is a stream.

        What is forwarded is a standard query (RFC 1035 §4.1.1) with one question that can be read and is not to be
        refused; what else is wrong with it, and which version of EDNS it speaks, is for the upstream to say.
        """
        # All that is kept is of one revision, that of `_revision`.
        try:
            # Nearly all refusals were given before, to a client in the same place.
            if (answers := self._given.of_peer.get(peer)) and (given := answers.get(packet[2:])):
                tail, since, until, cell = given
                if (
                    since <= self._clock() < until
                    and self._given.cells is self._counted.cells
                    and self._enforcer.rules.revision is self._revision
                    and (limit is None or len(tail) + 2 <= limit)
                ):
                    cell[COUNT] += 1
                    self.refused += 1
                    return packet[:2] + tail
            end = packet.index(0, 12) + 5
            asked = packet[12 : end - 4].lower()
            name = self._names[asked]
            if name is None:
                is_standard = packet[2] < 8 and packet[4:6] == b"\0\1" and len(packet) >= end  # noqa: PLR2004
                if is_standard and self._enforcer.rules.revision is self._revision:
                    self.forwarded += 1
                    return FORWARD
            elif len(packet) >= end and (client := self._clients[peer]) is not None:
                # The decision is of now: one of another revision has been neither counted nor kept.
                decision = self._enforcer.decide_query_name(name, client)
                cells = self._counted.cells
                cell = cells[id(decision), asked]
                shape = self._shapes[packet[2:12] + packet[end:]]
                _, head, rest = shape.canned[id(decision)]
                answer = packet[:2] + head + packet[12:end] + rest
                size = len(answer)
                # A dry run has more to count, and its id may be that of a decision that is gone, and that has a cell.
                if not decision.would and (limit is None or (size <= limit and size <= shape.room)):
                    if size <= shape.room:
                        self._given.keep(peer, client, packet, (name, decision), answer, (cell, cells))
                    cell[COUNT] += 1
                    self.refused += 1
                    return answer
        except Exception:  # noqa: BLE001, S110 (met for the first time, unusual, or broken: told apart from its first octet on)
            pass
        return self._judge_anew(packet, peer, limit)

    def _judge_anew(self, packet: bytes, peer: str, limit: int | None) -> bytes | Verdict | None:
        """Judge whatever comes, from its first octet on."""
        try:
            if packet[2] < 8 and packet[4:6] == b"\0\1":  # noqa: PLR2004 (neither QR nor an opcode)
                rules = self._enforcer.rules
                if rules.revision is not self._revision:
                    self._forget(rules.revision)
                end = packet.index(0, 12) + 5
                name = self._names[packet[12 : end - 4].lower()]
                if len(packet) >= end:
                    if name is None:
                        self.forwarded += 1
                        return FORWARD
                    return self._judge_named(packet, end, name, peer, limit)
        except Exception:  # noqa: BLE001, S110 (broken, unusual, or a decision that fails: all that is told apart below)
            pass
        return self._judge_carefully(packet, peer, limit)

    def _amend(self, query: bytes, answer: bytes) -> bytes:
        """Keep the answer for a named name from a forwarder's other clients.

        It was given to a client in a network where no order refuses it. A forwarder that caches it for all networks
        would hand it to those where one does (RFC 7871 §7.3.1).
        """
        try:
            asked = wire.read_query(query)
            if asked is None or asked.subnet is None or asked.subnet.source == 0:
                return answer
            name = self._names[asked.question[:-4].lower()]
            if name is None or not self._may_be_refused(name):
                return answer
            amended = dns_relay.for_subnet_alone(answer, asked.subnet)
            return amended if len(amended) <= _STREAM else dns_relay.truncated(query, answer)
        except Exception:  # noqa: BLE001 (what cannot be told to be for everybody is for nobody)
            return dns_refusal.failure(query) or b""

    def _may_be_refused(self, name: str) -> bool:
        """Tell whether an order that is carried out names a name; what is only reported changes no answer."""
        found = self._enforcer.rules.find_query_name(name, remember=False)
        return not isinstance(found, Uncovered) and found.enforced

    def _judge_named(self, packet: bytes, end: int, name: str, peer: str, limit: int | None) -> bytes | Verdict | None:
        """Judge a query for a name that orders name. Shapes of queries are remembered, and so are refusals."""
        around = packet[2:12] + packet[end:]
        shape = self._shapes.get(around) or self._shape(packet, around)
        client = self._clients[peer]
        if client is None:
            subnet = shape.subnet
            address, source = (None, 0) if subnet is None else (subnet.address, subnet.source)
            client = self._forwarders.ecs_client(peer, address, source)
        decision = self._enforcer.decide_query_name(name, client)
        if decision.revision != self._revision:  # changed meanwhile: of the rules of now the name may be no example
            return self._judge_carefully(packet, peer, limit)
        if Measure.DNS not in decision.measures:
            if decision.would:
                self._notes.dns(decision, packet[12 : end - 4].lower(), client, refused=False)
            self.forwarded += 1
            return FORWARD
        _, head, rest = shape.canned.get(id(decision)) or self._can(packet, end, shape, decision)
        answer: bytes | None = packet[:2] + head + packet[12:end] + rest
        room = _STREAM if limit is None else min(limit, shape.room)
        if answer is not None and len(answer) > room:
            answer = dns_refusal.answer(packet, decision, contact=self._contact, max_size=room)
        self.refused += 1
        self._notes.dns(decision, packet[12 : end - 4].lower(), client, refused=True)
        return answer

    def _judge_carefully(self, packet: bytes, peer: str, limit: int | None) -> bytes | Verdict | None:
        """Judge what is broken, unusual, or could not be decided about."""
        asked = wire.read_query(packet)
        if asked is None:
            self.silent += 1
            return None
        if not asked.question:  # not a standard query, or no question that could be read
            return self._object(packet)
        name = wire.name_text(asked.question[:-4])
        covered = True
        try:
            found = None if name is None else self._enforcer.rules.find_query_name(name, remember=False)
            if found is None or name is None or isinstance(found, Uncovered):
                self.forwarded += 1
                return FORWARD
            covered = found.enforced  # nothing is refused for orders that only report
            if covered and asked.rcode and self._clients[peer] is None:
                return self._object(packet)  # who is asking cannot be told from an option that is wrong
            return self._decide_carefully(packet, name, peer, asked, limit)
        except Exception:  # noqa: BLE001 (whatever it is, it must not let a named one through)
            return self._fail(packet, covered=covered)

    def _decide_carefully(
        self, packet: bytes, name: str, peer: str, asked: wire.Query, limit: int | None
    ) -> bytes | Verdict | None:
        address, source = (None, 0) if asked.subnet is None else (asked.subnet.address, asked.subnet.source)
        client = self._clients[peer] or self._forwarders.ecs_client(peer, address, source)
        decision = self._enforcer.decide_query_name(name, client)
        if Measure.DNS not in decision.measures:
            if decision.would:
                self._notes.dns(decision, asked.question[:-4].lower(), client, refused=False)
            self.forwarded += 1
            return FORWARD
        if asked.rcode:
            return self._object(packet)
        room = _STREAM if limit is None else min(limit, max(wire.SMALLEST_UDP, asked.udp_size or 0))
        answer = dns_refusal.answer(packet, decision, contact=self._contact, max_size=room)
        self.refused += 1
        self._notes.dns(decision, asked.question[:-4].lower(), client, refused=True)
        return answer

    def _object(self, packet: bytes) -> bytes | None:
        self.objected += 1
        return dns_refusal.objection(packet)

    def _fail(self, packet: bytes, *, covered: bool) -> bytes | Verdict | None:
        self.failures += 1
        now = time.monotonic()
        if now - self._complained >= _COMPLAIN_EVERY:
            self._complained = now
            _LOG.exception("cdnblock: a decision about a query failed; %d so far", self.failures)
        if self._fails_open or not covered:
            self.forwarded += 1
            return FORWARD
        return dns_refusal.failure(packet)

    def _forget(self, revision: str) -> None:
        """Start anew for other rules. The rules themselves are not held on to: freeing them is not a loop's work."""
        self._names.forget()
        self._given.forget()
        self._shapes.clear()
        self._refusals = 0
        self._revision = revision

    def _shape(self, packet: bytes, around: bytes) -> _Shape:
        asked = wire.read_query(packet)
        if asked is None or asked.rcode:
            raise ValueError("not a query to refuse without a closer look")
        shape = _Shape(max(wire.SMALLEST_UDP, asked.udp_size or 0), asked.subnet, {})
        if len(around) <= _LONGEST_SHAPE:
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            self._shapes[around] = shape
        return shape

    def _can(self, packet: bytes, end: int, shape: _Shape, decision: Decision) -> _Canned:
        answer = dns_refusal.answer(packet, decision, contact=self._contact, max_size=_STREAM)
        if answer is None or answer[12:end] != packet[12:end]:
            raise ValueError("not a refusal of this query")
        canned = _Canned(decision, answer[2:12], answer[end:])
        if self._refusals >= _SHAPES:
            self._shapes.clear()
            self._refusals = 0
        self._refusals += 1
        shape.canned[id(decision)] = canned
        return canned


class _Shape(NamedTuple):
    """What a query's octets around the question say: the client's room over UDP in octets, and its subnet.

    `canned` are the refusals that such queries get, by the `id()` of the decision.
    """

    room: int
    subnet: wire.Subnet | None
    canned: dict[int, _Canned]


class _Canned(NamedTuple):
    """A refusal without id and question. The decision is kept so that its `id()` stays its own."""

    decision: Decision
    head: bytes
    rest: bytes
