# ruff: noqa: SIM117 (an upstream is there longer than who asks it)
"""The way to upstreams and back: real sockets on loopback, with upstreams that behave and ones that do not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
import time

import pytest
from free_ports import free_port

pytest.importorskip("dns", reason="dnspython is the oracle of these tests (extra `dns`)")

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from cdnblock.adapters import dns_server
from cdnblock.adapters._dns_front import upstream_links
from cdnblock.adapters._dns_front import upstreams as asking
from cdnblock.adapters._dns_front.upstream_health import Upstream, next_to_ask
from cdnblock.adapters._dns_front.upstreams import Upstreams
from cdnblock.errors import ConfigError

LOOPBACK = "127.0.0.1"


def ask(name="www.example", kind="A", **options):
    return dns.message.make_query(name, kind, **options).to_wire()


def reply(query, *, address="192.0.2.1", truncated=False):
    message = dns.message.from_wire(query)
    response = dns.message.make_response(message, recursion_available=True)
    if truncated:
        response.flags |= dns.flags.TC
    else:
        response.answer.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "A", address))
    return response.to_wire()


class Scripted(asyncio.DatagramProtocol):
    """An upstream that answers over UDP, and over TCP when told to, as a function says; it keeps what it was asked."""

    def __init__(self, behave, by_tcp=None):
        self.behave, self.by_tcp = behave, by_tcp
        self.asked, self.peers, self.connections = [], [], 0
        self._server = None

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        while True:
            self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(LOOPBACK, 0))
            self.address = self.transport.get_extra_info("sockname")
            if self.by_tcp is None:
                return self
            try:
                self._server = await asyncio.start_server(self._converse, *self.address)
            except OSError:  # free for UDP, taken for TCP: another
                self.transport.close()
            else:
                return self

    async def __aexit__(self, *_):
        self.transport.close()
        if self._server is not None:
            self._server.close()

    def datagram_received(self, data, addr):
        self.asked.append(data)
        self.peers.append(addr)
        for answer in self.behave(data) or ():
            self.transport.sendto(answer, addr)

    async def _converse(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                for answer in self.by_tcp(query):
                    if answer is None:
                        return
                    writer.write(len(answer).to_bytes(2, "big") + answer)


def good(query):
    return [reply(query)]


def lower_case(query):
    answer = reply(query)
    return [answer[:12] + answer[12:].lower()]


def silent(_query):
    return []


def told(answer):
    message = dns.message.from_wire(answer)
    errors = [int(option.code) for option in message.options if option.otype == dns.edns.OptionType.EDE]
    return dns.rcode.to_text(message.rcode()), errors


def test_a_query_goes_out_as_it_came_but_for_its_id():
    """And its answer comes back with the client's own id, everything else to the octet."""

    async def converse():
        async with Scripted(good) as upstream, Upstreams([upstream.address]) as upstreams:
            query = ask(use_edns=0, want_dnssec=True, options=[dns.edns.GenericOption(10, b"a cookie")], id=0x1234)
            answer = await upstreams.ask(query)
            [sent] = upstream.asked
            assert sent[2:] == query[2:]
            assert answer[:2] == query[:2]
            assert answer[2:] == reply(sent)[2:]
            assert upstreams.each[0].answers == 1
            assert sum(upstreams.each[0].latencies) == 1
            assert upstreams.outstanding == 0

    asyncio.run(converse())


def test_ids_and_ports_cannot_be_guessed():
    """RFC 5452 §9.2: 2,000 ids hardly repeat and are spread over all values; the ports are several, and change."""

    async def converse():
        async with Scripted(good) as upstream, Upstreams([upstream.address]) as upstreams:
            for _ in range(20):
                await asyncio.gather(*[upstreams.ask(ask(id=7)) for _ in range(100)])
            before = {port for _, port in upstream.peers}
            opened = {source.opened for source in upstreams.each[0].sources}
            for source in upstreams.each[0].sources:
                source.opened -= 2 * asking._SOURCE_LIFE
            await asyncio.sleep(0.3)
            upstream.peers.clear()
            for _ in range(20):
                await asyncio.gather(*[upstreams.ask(ask(id=7)) for _ in range(100)])
            assert not opened & {source.opened for source in upstreams.each[0].sources}
            return (
                [int.from_bytes(query[:2], "big") for query in upstream.asked],
                before,
                {p for _, p in upstream.peers},
            )

    ids, before, after = asyncio.run(converse())
    assert len(set(ids)) > 1_900
    assert all(sum(low <= number < low + 8_192 for number in ids) > 150 for low in range(0, 65_536, 8_192))
    steps = [second - first for first, second in itertools.pairwise(ids)]
    assert max(map(steps.count, set(steps))) < 10
    assert len(before) > 4 < len(after)  # of eight, chosen at random every 32 queries
    assert not before & after


def bad_answers(query):
    """What an attacker or a confused server may send before the right answer comes."""
    other_question = reply(ask("evil.example", id=int.from_bytes(query[:2], "big")))
    other_type = reply(ask(kind="AAAA", id=int.from_bytes(query[:2], "big")))
    wrong_id = bytes([query[0] ^ 1]) + reply(query, address="192.0.2.66")[1:]
    not_an_answer = query
    no_question = query[:2] + b"\x81\x80\0\0\0\0\0\0\0\0"
    two_questions = reply(query)[:4] + b"\0\2" + reply(query)[6:]
    other_opcode = query[:2] + b"\xa1\x80" + reply(query)[4:]
    return [
        b"\0", query[:2], query[:11], other_question, other_type, wrong_id, not_an_answer, no_question,
        two_questions, other_opcode, reply(query),
    ]  # fmt: skip


def test_only_the_answer_to_the_question_is_believed():
    """RFC 5452 §9.1: whatever else comes first is dropped and counted, and the right one still arrives."""

    async def converse():
        async with Scripted(bad_answers) as upstream, Upstreams([upstream.address]) as upstreams:
            answer = await upstreams.ask(ask())
            assert [str(record[0]) for record in dns.message.from_wire(answer).answer] == ["192.0.2.1"]
            assert upstreams.unasked + upstreams.disbelieved == 10
            assert upstreams.disbelieved >= 6
            assert upstreams.each[0].answers == 1

    asyncio.run(converse())


def test_nobody_but_the_asked_upstream_is_believed():
    """The right id and question, to the right port, from another port or address: it never reaches us."""

    async def converse():
        def behave(query):
            for source in ((LOOPBACK, 0), ("127.0.0.2", 0), ("127.0.0.2", upstream.address[1])):
                with socket.socket(type=socket.SOCK_DGRAM) as sock:
                    sock.bind(source)
                    sock.sendto(reply(query, address="192.0.2.66"), upstream.peers[-1])
            asyncio.get_running_loop().call_later(0.1, upstream.transport.sendto, reply(query), upstream.peers[-1])

        async with Scripted(behave) as upstream, Upstreams([upstream.address]) as upstreams:
            answer = await upstreams.ask(ask())
            assert [str(record[0]) for record in dns.message.from_wire(answer).answer] == ["192.0.2.1"]
            assert upstreams.unasked == upstreams.disbelieved == 0

    asyncio.run(converse())


def test_a_second_answer_to_one_query_is_ignored():
    """And so is one that comes too late."""

    async def converse():
        async with Scripted(lambda query: [reply(query)] * 3) as upstream, Upstreams([upstream.address]) as upstreams:
            for _ in range(3):
                await upstreams.ask(ask())
            await asyncio.sleep(0.05)
            assert upstreams.unasked == 6

    asyncio.run(converse())


@pytest.mark.parametrize("questions", [0, 1])
@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.SERVFAIL, dns.rcode.REFUSED])
def test_a_header_alone_is_believed_when_it_reports_a_failure(rcode, questions):
    """Servers that understood nothing answer so, and NSD counts a question that is not there; no data could be false."""

    async def converse():
        def behave(query):
            return [query[:2] + bytes([0x81, 0x80 | rcode, 0, questions]) + bytes(6)]

        async with Scripted(behave) as upstream, Upstreams([upstream.address]) as upstreams:
            query = ask()
            assert await upstreams.ask(query) == behave(query)[0]

    asyncio.run(converse())


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_a_header_alone_that_reports_no_failure_is_not_believed(rcode):
    """Anybody could make it, for any question."""

    async def converse():
        def behave(query):
            return [query[:2] + bytes([0x81, 0x80 | rcode, 0, 1]) + bytes(6), reply(query)]

        async with Scripted(behave) as upstream, Upstreams([upstream.address]) as upstreams:
            assert len(await upstreams.ask(ask())) > 12
            assert upstreams.disbelieved == 1

    asyncio.run(converse())


@pytest.mark.parametrize("kind", ["IXFR", "AXFR"])
def test_an_upstream_that_is_silent_about_transfers_is_not_down(kind):
    """They have no place before a resolver: SERVFAIL for whoever asks, and nothing else changes."""

    async def converse():
        async with Scripted(silent) as upstream, Upstreams([upstream.address], timeout=0.2) as upstreams:
            query = ask()[:-4] + dns.rdatatype.from_text(kind).to_bytes(2, "big") + b"\0\1"
            for _ in range(4):
                assert told(await upstreams.ask(query))[0] == "SERVFAIL"
            assert not upstreams.each[0].is_down

    asyncio.run(converse())


def test_an_upstream_that_changes_the_case_is_believed():
    """Names are the same in any case (RFC 1035 §2.3.3); the type is not a letter."""

    async def converse():
        async with (
            Scripted(lower_case) as upstream,
            Upstreams([upstream.address]) as upstreams,
        ):
            assert told(await upstreams.ask(ask("WWW.Example"))) == ("NOERROR", [])

        def other_type(query):  # 0x41 (HTTPS) and 0x61 would be one letter in two cases
            answer = bytearray(reply(query))
            answer[answer.index(b"\x00\x41\x00\x01") + 1] = 0x61
            return [bytes(answer)]

        async with Scripted(other_type) as upstream, Upstreams([upstream.address], timeout=0.2) as upstreams:
            assert told(await upstreams.ask(ask(kind="HTTPS")))[0] == "SERVFAIL"

    asyncio.run(converse())


def test_when_nobody_answers_in_time_it_is_servfail_22():
    """RFC 8914 §4.23, after each upstream has had its time; without OPT in the query there is no reason."""

    async def converse():
        async with Scripted(silent) as one, Scripted(silent) as two:
            async with Upstreams([one.address, two.address], timeout=0.3) as upstreams:
                started = time.monotonic()
                assert told(await upstreams.ask(ask(use_edns=0))) == ("SERVFAIL", [22])
                assert 0.6 <= time.monotonic() - started < 2
                assert told(await upstreams.ask(ask())) == ("SERVFAIL", [])
                assert [upstream.timeouts for upstream in upstreams.each] == [2, 2]
                assert (upstreams.unanswered, upstreams.outstanding) == (2, 0)
            assert [len(upstream.asked) for upstream in (one, two)] == [2, 2]

    asyncio.run(converse())


def test_when_the_network_says_that_nobody_is_there_it_is_servfail_23_at_once():
    """RFC 8914 §4.24: ICMP tells, long before the time is over."""

    async def converse():
        async with Upstreams([(LOOPBACK, free_port())], timeout=30) as upstreams:
            for _ in range(3):
                assert told(await asyncio.wait_for(upstreams.ask(ask(use_edns=0)), 5)) == ("SERVFAIL", [23])
            assert upstreams.each[0].network_errors >= 3

    asyncio.run(converse())


def test_the_next_upstream_is_asked_and_the_first_one_again_when_it_is_back():
    """After three failures in a row it is asked last; a probe finds out that it answers again."""

    async def converse():
        async with Scripted(silent) as one, Scripted(good) as two:
            async with Upstreams([one.address, two.address], timeout=0.2) as upstreams:
                for _ in range(3):
                    assert told(await upstreams.ask(ask())) == ("NOERROR", [])
                assert upstreams.each[0].is_down
                before = len(one.asked)
                started = time.monotonic()
                for _ in range(20):
                    assert told(await upstreams.ask(ask())) == ("NOERROR", [])
                assert time.monotonic() - started < 0.9  # nobody waits for the one that is down
                assert len(one.asked) <= before + 1
                one.behave = good
                async with asyncio.timeout(10):
                    while upstreams.each[0].is_down:  # noqa: ASYNC110 (it is no event that anybody announces)
                        await asyncio.sleep(0.05)
                await asyncio.sleep(0.15)
                before = len(one.asked)
                assert told(await upstreams.ask(ask())) == ("NOERROR", [])
                assert len(one.asked) == before + 1

    asyncio.run(converse())


def test_who_is_asked_next():
    """In the order given; those that are down come last."""
    one, two, three = (Upstream((LOOPBACK, number)) for number in (1, 2, 3))
    assert next_to_ask((one, two, three), ()) is one
    for _ in range(3):
        one.failed(0.0)
    assert next_to_ask((one, two, three), ()) is two
    assert next_to_ask((one, two, three), (two,)) is three
    assert next_to_ask((one, two, three), (two, three)) is one
    assert next_to_ask((one, two, three), (one, two, three)) is None
    one.answered(1.0, 0.001)
    assert next_to_ask((one, two, three), ()) is one
    for _ in range(9):
        one.timed_out(2.0, 0.9)  # some get lost, and others are answered meanwhile
    assert next_to_ask((one, two, three), ()) is one
    for _ in range(3):
        one.timed_out(2.0, 1.1)
    assert next_to_ask((one, two, three), ()) is two


def test_too_many_outstanding_queries_drop_the_oldest():
    """At the limit the 64 oldest get SERVFAIL, and what is new is asked."""

    async def converse():
        async with Scripted(silent) as upstream:
            async with Upstreams([upstream.address], timeout=30, outstanding=200) as upstreams:
                done = []
                for number in range(300):
                    upstreams.forward(
                        ask(id=number), lambda number, _query, answer: done.append((number, answer)), number
                    )
                    assert upstreams.outstanding <= 200
                assert [number for number, _ in done] == list(range(128))
                assert all(told(answer) == ("SERVFAIL", []) for _, answer in done)
                assert [int.from_bytes(answer[:2], "big") for _, answer in done] == list(range(128))
                assert upstreams.dropped == 128
            assert len(done) == 300  # those that were left when it closed

    asyncio.run(converse())


def by_tcp_in_another_order():
    """Keeps answers back until three queries are there, and sends them the last one first."""
    held = []

    def behave(query):
        held.append(reply(query))
        if len(held) < 3:
            return []
        answers = [*reversed(held)]
        held.clear()
        return answers

    return behave


def test_a_truncated_answer_is_asked_for_again_over_tcp():
    """For streams always; for a client over UDP when the operator wants it, and else TC is handed on."""

    async def converse():
        def cut(query):
            return [reply(query, truncated=True)]

        async with Scripted(cut, by_tcp=good) as upstream:
            for retry, expected in ((True, 0), (False, dns.flags.TC)):
                async with Upstreams([upstream.address], retry_truncated=retry) as upstreams:
                    got = asyncio.get_running_loop().create_future()
                    upstreams.forward(ask(id=9), lambda _c, _q, answer, got=got: got.set_result(answer), None)
                    message = dns.message.from_wire(await got)
                    assert (message.id, message.flags & dns.flags.TC) == (9, expected)
                    answer = dns.message.from_wire(await upstreams.ask(ask()))
                    assert not answer.flags & dns.flags.TC
                    assert len(answer.answer) == 1
        async with Scripted(cut) as upstream, Upstreams([upstream.address], timeout=0.5) as upstreams:
            assert dns.message.from_wire(await upstreams.ask(ask())).flags & dns.flags.TC  # better than nothing

    asyncio.run(converse())


def test_a_query_that_no_datagram_takes_goes_over_tcp_and_costs_nobody_else_an_answer():
    """Whoever asks by TLS or HTTPS may send 65,535 octets: others' queries stay under way, and the upstream is well."""

    async def converse():
        def slowly(query):
            asyncio.get_running_loop().call_later(0.3, upstream.transport.sendto, reply(query), upstream.peers[0])

        async with Scripted(slowly, by_tcp=lambda query: [query[:2] + b"\x81\x80" + query[4:]]) as upstream:
            async with Upstreams([upstream.address], timeout=2) as upstreams:
                other = asyncio.create_task(upstreams.ask(ask()))
                await asyncio.sleep(0.1)
                for size in (4_097, 65_507, 65_508, 65_535):
                    large = ask(id=size).ljust(size, b"\0")
                    assert await upstreams.ask(large) == large[:2] + b"\x81\x80" + large[4:]
                assert told(await other) == ("NOERROR", [])
                assert len(upstream.asked) == 1
                assert (upstreams.each[0].is_down, upstreams.each[0].network_errors) == (False, 0)

    asyncio.run(converse())


def test_over_tcp_one_connection_carries_all_and_answers_come_in_any_order():
    """RFC 7766 §6.2.1.1: ids of our own, each answer to its query."""

    async def converse():
        async with Scripted(silent, by_tcp=by_tcp_in_another_order()) as upstream:
            async with Upstreams([upstream.address]) as upstreams:
                queries = [ask(f"host{number}.example", id=5) for number in range(9)]
                answers = await asyncio.gather(*[upstreams.ask(query, tcp=True) for query in queries])
                for query, answer in zip(queries, answers, strict=True):
                    assert dns.message.from_wire(query).is_response(dns.message.from_wire(answer))
                assert upstream.connections == 1

    asyncio.run(converse())


def test_a_connection_that_the_upstream_closed_is_opened_anew():
    """Idle connections are closed by whoever likes to (RFC 7766 §6.2.3): nobody gets a SERVFAIL for that."""

    async def converse():
        async with Scripted(silent, by_tcp=lambda query: [reply(query), None]) as upstream:
            async with Upstreams([upstream.address], timeout=2) as upstreams:
                for _ in range(5):
                    assert told(await upstreams.ask(ask(), tcp=True)) == ("NOERROR", [])
                assert upstream.connections == 5
        async with Scripted(silent, by_tcp=lambda _query: [None]) as upstream:
            async with Upstreams([upstream.address], timeout=2) as upstreams:
                assert told(await upstreams.ask(ask(use_edns=0), tcp=True)) == ("SERVFAIL", [22])
        async with Scripted(silent, by_tcp=lambda query: [reply(ask("evil.example")), b"", reply(query)]) as upstream:
            async with Upstreams([upstream.address], timeout=2) as upstreams:
                assert told(await upstreams.ask(ask(), tcp=True)) == ("NOERROR", [])

    asyncio.run(converse())


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Each kind of event loop that the front may have: they tell of closed connections in ways of their own."""
    if request.param == "asyncio":
        return asyncio.run
    uvloop = pytest.importorskip("uvloop", reason="an extra, and not to be had everywhere")

    def run(main):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)

    return run


def test_more_queries_than_a_connection_takes_wait_for_room(run, monkeypatch):
    """The event loop goes on, what finds room in time is answered, and all else is SERVFAIL after the time."""
    monkeypatch.setattr(upstream_links, "_MOST_AT_ONCE", 8)

    async def converse():
        mute = True

        def by_tcp(query):
            return [] if mute and b"dead" in query else [reply(query)]

        async with Scripted(silent, by_tcp=by_tcp) as upstream, Upstreams([upstream.address], timeout=1) as upstreams:
            assert told(await upstreams.ask(ask(), tcp=True)) == ("NOERROR", [])
            dead = [asyncio.create_task(upstreams.ask(ask("dead.example"), tcp=True)) for _ in range(20)]
            await asyncio.sleep(0.2)
            assert not any(task.done() for task in dead)
            assert {told(answer)[0] for answer in await asyncio.wait_for(asyncio.gather(*dead), 5)} == {"SERVFAIL"}
            mute = False
            many = [upstreams.ask(ask("dead.example"), tcp=True) for _ in range(200)]
            assert {told(answer)[0] for answer in await asyncio.gather(*many)} == {"NOERROR"}
            assert upstream.connections == 1

    run(asyncio.wait_for(converse(), 20))


def test_who_gives_up_before_there_was_room_to_send_leaves_nothing_behind(run):
    """An upstream that reads nothing: little waits to be sent, and of a query that is over nothing is kept."""

    async def converse():
        over = asyncio.Event()

        async def deaf(_reader, writer):
            with contextlib.closing(writer):
                await over.wait()

        server = await asyncio.start_server(deaf, LOOPBACK, 0, limit=1)
        link = upstream_links.Link(server.sockets[0].getsockname())
        large = ask().ljust(65_535, b"\0")
        many = [asyncio.create_task(link.ask(large, 2)) for _ in range(100)]
        await asyncio.sleep(1)
        waiting = link._connection._waiting
        assert len(waiting) == 100
        assert link._connection._writer.transport.get_write_buffer_size() < 3 * 65_537
        assert set(await asyncio.gather(*many)) == {None}
        assert not waiting
        transport = link._connection._writer.transport
        link.close()
        await asyncio.sleep(0.1)
        assert transport.get_write_buffer_size() == 0
        over.set()
        server.close()
        await asyncio.sleep(0.1)

    run(asyncio.wait_for(converse(), 20))


def closing_after(number):
    """Returns what each connection of an upstream does that takes so many queries, and is closed then."""
    asked = itertools.count(1)

    def behave(query):
        return [reply(query)] if next(asked) % number else [reply(query), None]

    return behave


def test_a_connection_that_ends_with_queries_on_it_costs_nobody_an_answer(run, caplog):
    """RFC 7766 §6.2.4: what was not answered is asked again, on another connection, as often as one makes headway."""

    async def converse():
        async with Scripted(silent, by_tcp=closing_after(10)) as upstream:
            async with Upstreams([upstream.address], timeout=5) as upstreams:
                for _ in range(3):
                    many = [upstreams.ask(ask(), tcp=True) for _ in range(100)]
                    assert {told(answer)[0] for answer in await asyncio.gather(*many)} == {"NOERROR"}
                assert upstream.connections >= 30
                assert not upstreams.each[0].is_down
                assert upstreams.each[0].timeouts == 0

    run(asyncio.wait_for(converse(), 30))
    assert not caplog.records


def test_an_upstream_that_closes_every_connection_is_not_asked_for_ever(run):
    """After sixteen connections without a single answer it is SERVFAIL, long before the time is over."""

    async def converse():
        async with Scripted(silent, by_tcp=lambda _query: [None]) as upstream:
            async with Upstreams([upstream.address], timeout=30) as upstreams:
                many = [upstreams.ask(ask(use_edns=0), tcp=True) for _ in range(50)]
                for answer in await asyncio.gather(*many):
                    assert told(answer) == ("SERVFAIL", [22])
                assert 16 <= upstream.connections <= 16 * 50

    run(asyncio.wait_for(converse(), 20))


def test_without_file_descriptors_the_old_sockets_stay(caplog):
    """Old ports are better than none; it is said once, and made good as soon as there are some again."""

    async def converse():
        async with Scripted(good) as upstream, Upstreams([upstream.address]) as upstreams:
            before = list(upstreams.each[0].sources)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # as if all of them were in use
            try:
                for source in before:
                    source.opened -= 2 * asking._SOURCE_LIFE
                await asyncio.sleep(0.4)
                assert upstreams.each[0].sources == before
                assert told(await upstreams.ask(ask())) == ("NOERROR", [])
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            await asyncio.sleep(0.3)
            assert len(upstreams.each[0].sources) == len(before)
            assert not set(map(id, upstreams.each[0].sources)) & set(map(id, before))

    asyncio.run(converse())
    assert len([record for record in caplog.records if "no new socket" in record.message]) == 1


def test_an_upstream_that_cannot_even_be_asked(caplog):
    """Such as a broadcast address: it is said once, and whoever asks has a SERVFAIL at once."""

    async def converse():
        async with Upstreams([("255.255.255.255", 53)]) as upstreams:
            await asyncio.sleep(0.4)
            assert told(await asyncio.wait_for(upstreams.ask(ask(use_edns=0)), 1)) == ("SERVFAIL", [23])

    asyncio.run(converse())
    assert [record.message for record in caplog.records] == [
        "cdnblock: no way to upstream 255.255.255.255:53: Permission denied"
    ]


def test_ipv6_upstreams():
    """Where this machine has IPv6 on loopback."""

    async def converse():
        loop = asyncio.get_running_loop()
        upstream = Scripted(good)
        try:
            upstream.transport, _ = await loop.create_datagram_endpoint(lambda: upstream, local_addr=("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        port = upstream.transport.get_extra_info("sockname")[1]
        async with Upstreams([("::1", port)]) as upstreams:
            assert told(await upstreams.ask(ask())) == ("NOERROR", [])
            assert str(upstreams.each[0]) == f"[::1]:{port}"
        upstream.transport.close()

    asyncio.run(converse())


@pytest.mark.parametrize(
    ("addresses", "outstanding"), [([], 10), ([(LOOPBACK, 0)], 10), ([(LOOPBACK, 53)], 0), ([(LOOPBACK, 53)], 65_536)]
)
def test_settings_that_cannot_work(addresses, outstanding):
    """No upstream at all; more queries than ids tell apart."""
    with pytest.raises(ConfigError, match="upstream"):
        Upstreams(addresses, outstanding=outstanding)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("::1", ("::1", 53)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
    ],
)
def test_addresses(text, address):
    """With and without a port."""
    assert dns_server.read_address(text) == address


@pytest.mark.parametrize("text", ["", ":53", "localhost:53", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "1.2.3:5", "127.0.0.1:٥", "[::1"])  # fmt: skip
def test_no_addresses(text):
    """Names have to be looked up, and this is the one who does that."""
    with pytest.raises(ConfigError, match="no address and port"):
        dns_server.read_address(text)
