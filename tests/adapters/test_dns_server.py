# ruff: noqa: SIM117 (what serves is there longer than who asks it)
"""The front as clients meet it, over UDP and TCP: real sockets on loopback, an upstream that does as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from ipaddress import ip_address
from pathlib import Path
from struct import pack

import pytest
from free_ports import free_ports
from order_texts import order_text
from small_table import FRANCE, GERMANY

pytest.importorskip("dns", reason="dnspython is the oracle of these tests (extra `dns`)")
sys.path.insert(0, str(Path(__file__).parent))

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import dns_peers

from cdnblock.adapters._dns_front import circles
from cdnblock.adapters._dns_front import places as seats
from cdnblock.adapters.dns_server import DnsServer, QueryJudge, StreamLimits, Upstreams, read_address, run
from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError

LOOPBACK = "127.0.0.1"
FRENCH = "127.0.0.33"  # where clients in France come from, says `Places`
CENSORED = 16


class Places:
    """A country table of loopback addresses, and of the documentation's."""

    description = "places of the tests"

    def locate(self, address):
        return "FR" if address in (FRENCH, FRANCE, "2001:db8::33", "::1") else "DE"


@pytest.fixture(scope="module")
def enforcer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orders")
    (folder / "a.yaml").write_text(order_text(names="[refused.example]"), encoding="utf-8")
    with Enforcer(folder, geo=Places(), follow=False) as running:
        yield running


def ask(name="open.example", kind="A", **options):
    return dns.message.make_query(name, kind, **options).to_wire()


def reply(query, *, size=0):
    """An answer; of so many octets, if that is wanted."""
    try:
        message = dns.message.from_wire(query, ignore_trailing=True)
        response = dns.message.make_response(message, recursion_available=True)
    except dns.exception.DNSException:
        return query[:2] + b"\x81\x81" + bytes(8)
    response.answer.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "A", "192.0.2.1"))
    if size:
        missing = size - len(response.to_wire()) - 12  # a pointer, type, class, TTL and RDLENGTH
        texts = " ".join(f'"{"x" * min(255, missing - at - 1)}"' for at in range(0, missing - 1, 256))
        response.additional.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "TXT", texts))
        return response.to_wire(max_size=65_535)
    return response.to_wire()


class Upstream(asyncio.DatagramProtocol):
    """Answers over UDP and TCP what `behave(query)` returns, after as many seconds as `delay(query)` says."""

    def __init__(self):
        self.behave, self.delay = reply, lambda _query: 0
        self.asked = []

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        while True:
            self._server = await asyncio.start_server(self._converse, LOOPBACK, 0)
            self.address = self._server.sockets[0].getsockname()
            try:
                self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=self.address)
            except OSError:  # free for TCP, taken for UDP: another
                self._server.close()
            else:
                return self

    async def __aexit__(self, *_):
        self.transport.close()
        self._server.close()

    def datagram_received(self, data, addr):
        self.asked.append(data)
        loop = asyncio.get_running_loop()
        loop.call_later(self.delay(data), lambda: self.transport.sendto(self.behave(data), addr))

    async def _converse(self, reader, writer):
        loop = asyncio.get_running_loop()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                self.asked.append(query)
                answer = self.behave(query)
                loop.call_later(self.delay(query), writer.write, len(answer).to_bytes(2, "big") + answer)


class Front:
    """A front and its upstream, on a thread of their own."""

    def __init__(self, enforcer, *, uvloop=False, listen=((LOOPBACK, 0),), forwarders=(), **options):
        self._enforcer, self._options, self._listen, self._forwarders = enforcer, options, listen, forwarders
        self._uvloop = uvloop
        self._ready = threading.Event()
        self._failure = None

    def __enter__(self):
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(20)
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self):
        make = asyncio.new_event_loop
        if self._uvloop:
            import uvloop

            make = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(self._serve())

    async def _serve(self):
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        judge = QueryJudge(self._enforcer, trusted_forwarders=self._forwarders)
        retry = self._options.pop("retry_truncated", False)
        async with Upstream() as self.upstream:
            async with Upstreams(
                [self.upstream.address], timeout=1, retry_truncated=retry, amend=judge.amend
            ) as upstreams:
                self.server = DnsServer(judge, upstreams, listen=self._listen, **self._options)
                try:
                    async with self.server.serve() as self.addresses:
                        self.port = self.addresses[0][1]
                        self._ready.set()
                        await self._ended.wait()
                except ConfigError as error:
                    self._failure = error
                    self._ready.set()

    def metrics(self):
        return self.server.metrics()

    def udp(self, packet, *, source=LOOPBACK, host=LOOPBACK, timeout=5.0):
        """The answer, None when there is none in time; only from the address and port that was asked."""
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.bind((source if ":" not in host else "::1", 0))
            sock.connect((host, self.port))
            sock.send(packet)
            with contextlib.suppress(TimeoutError):
                return sock.recv(65_535)

    @contextlib.contextmanager
    def tcp(self, *, source=LOOPBACK):
        with socket.create_connection((LOOPBACK, self.port), timeout=5, source_address=(source, 0)) as sock:
            yield Stream(sock)


class Stream:
    def __init__(self, sock):
        self.sock = sock

    def send(self, *packets):
        self.sock.sendall(b"".join(framed(packet) for packet in packets))

    def receive(self):
        """The next message; None when the connection has ended."""
        head = self._exactly(2)
        return None if head is None else self._exactly(int.from_bytes(head, "big"))

    def _exactly(self, size):
        got = b""
        while len(got) < size:
            try:
                more = self.sock.recv(size - len(got))
            except ConnectionError:
                return None
            if not more:
                return None
            got += more
        return got


def framed(packet):
    return len(packet).to_bytes(2, "big") + packet


def parsed(wire):
    return dns.message.from_wire(wire)


def rcode(wire):
    return dns.rcode.to_text(parsed(wire).rcode())


def eventually(holds, within=5.0):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def front(request, enforcer):
    if request.param == "uvloop":
        pytest.importorskip("uvloop", reason="one of the loops is uvloop's (extra `dns`)")
    with Front(enforcer, uvloop=request.param == "uvloop") as running:
        yield running


@pytest.fixture(autouse=True)
def upstream_as_usual(request):
    if "front" in request.fixturenames:
        upstream = request.getfixturevalue("front").upstream
        upstream.behave, upstream.delay = reply, lambda _query: 0


# UDP


def test_over_udp_a_refused_name_is_refused_and_others_are_answered(front):
    """By the address that asks; what is refused reaches no upstream, and what is not comes back as it is."""
    query = ask("www.refused.example", use_edns=0)
    before = len(front.upstream.asked)
    answer = parsed(front.udp(query, source=FRENCH))
    assert (answer.rcode(), [int(option.code) for option in answer.options]) == (dns.rcode.REFUSED, [CENSORED])
    assert len(front.upstream.asked) == before
    for source, name in ((LOOPBACK, "www.refused.example"), (FRENCH, "open.example")):
        query = ask(name, use_edns=0, id=0xABCD)
        answer = front.udp(query, source=source)
        assert answer == query[:2] + reply(front.upstream.asked[-1])[2:]
        assert front.upstream.asked[-1][2:] == query[2:]


def test_a_burst_from_many_ports_is_answered_one_by_one(front):
    """More than one batch; each answer goes to the port that asked."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(200)]
        for number, client in enumerate(clients):
            client.settimeout(5)
            client.bind((FRENCH if number % 2 else LOOPBACK, 0))
            client.sendto(ask(f"h{number}.refused.example", id=number), (LOOPBACK, front.port))
        for number, client in enumerate(clients):
            answer = parsed(client.recv(4096))
            assert (answer.id, answer.question[0].name.to_text()) == (number, f"h{number}.refused.example.")
            assert answer.rcode() == (dns.rcode.REFUSED if number % 2 else dns.rcode.NOERROR)


@pytest.mark.parametrize("packet", [b"", b"\0", b"\0" * 11, ask(id=7)[:2] + b"\x81" + ask(id=7)[3:], b"\xff" * 600])
def test_silence(front, packet):
    """Runts and answers get nothing; and the next query is answered."""
    assert front.udp(packet, timeout=0.1) is None
    assert rcode(front.udp(ask())) == "NOERROR"


def test_a_query_larger_than_any_is_dropped(front):
    """4,096 octets and more over UDP are no query."""
    assert front.udp(ask() + b"\0" * 5_000, timeout=0.1) is None
    assert rcode(front.udp(ask() + b"\0" * 100)) == "NOERROR"


@pytest.mark.parametrize(
    ("options", "size", "cut"),
    [
        ({}, 512, False),
        ({}, 513, True),
        ({"use_edns": 0, "payload": 512}, 513, True),
        ({"use_edns": 0, "payload": 1232}, 1232, False),
        ({"use_edns": 0, "payload": 1232}, 1233, True),
        ({"use_edns": 0, "payload": 4096}, 4000, False),
        ({"use_edns": 0, "payload": 100}, 512, False),
    ],
)
def test_an_upstreams_answer_that_the_client_has_no_room_for_is_cut(front, options, size, cut):
    """Nobody gets more octets than asked for (RFC 6891 §6.2.5): TC and the question, and TCP has it all."""
    front.upstream.behave = lambda query: reply(query, size=size)
    query = ask(**options)
    answer = front.udp(query)
    assert dns.message.from_wire(query).is_response(parsed(answer))
    if cut:
        assert parsed(answer).flags & dns.flags.TC
        assert len(answer) <= 60
        assert (parsed(answer).edns >= 0) is bool(options)
    else:
        assert len(answer) == size
        assert not parsed(answer).flags & dns.flags.TC
    with front.tcp() as stream:
        stream.send(query)
        assert len(stream.receive()) == size


def test_truncation_by_the_upstream_is_handed_on(front):
    """TC and all: it is the client who decides to come by TCP."""
    front.upstream.behave = lambda query: reply(query)[:2] + b"\x83" + reply(query)[3:]
    answer = front.udp(ask())
    assert parsed(answer).flags & dns.flags.TC


def test_an_upstream_that_is_silent_or_lies_means_servfail(front):
    """With the reason, in time."""
    front.upstream.behave = lambda query: reply(ask("evil.example", id=int.from_bytes(query[:2], "big")))
    answer = parsed(front.udp(ask(use_edns=0)))
    assert (answer.rcode(), [int(option.code) for option in answer.options]) == (dns.rcode.SERVFAIL, [22])


def test_truncated_answers_are_fetched_over_tcp_when_asked_for(enforcer):
    """`retry_truncated`: the client gets the whole answer, if it has room for it."""
    with Front(enforcer, retry_truncated=True) as front:
        asked_by_udp = []

        def behave(query):
            asked_by_udp.append(query)
            return reply(query) if len(asked_by_udp) % 2 == 0 else reply(query)[:2] + b"\x83" + reply(query)[3:]

        front.upstream.behave = behave
        answer = front.udp(ask(id=5))
        assert (parsed(answer).id, parsed(answer).flags & dns.flags.TC) == (5, 0)
        assert len(front.upstream.asked) == 2


def local_addresses():
    return ["127.0.0.1", "127.0.0.7", "127.55.0.1"]


@pytest.mark.parametrize("name", ["refused.example", "open.example"])
def test_bound_to_all_addresses_it_answers_from_the_one_that_was_asked(enforcer, name):
    """A connected client hears nobody else; refusals and relayed answers alike, IPv4 and IPv6."""
    with Front(enforcer, listen=[("0.0.0.0", 0)]) as front:
        for host in local_addresses():
            answer = front.udp(ask(name), source=FRENCH, host=host)
            assert rcode(answer) == ("REFUSED" if name == "refused.example" else "NOERROR")
    if has_ipv6():
        with Front(enforcer, listen=[("::", 0)]) as front:
            answer = front.udp(ask(name), host="::1")
            assert rcode(answer) == ("REFUSED" if name == "refused.example" else "NOERROR")


def test_ipv6(enforcer):
    """UDP and TCP on ::1, and an IPv4 address beside it on a port of its own."""
    if not has_ipv6():
        pytest.skip("no IPv6 on loopback here")
    with Front(enforcer, listen=[("::1", 0), (LOOPBACK, 0)]) as front:
        assert [host for host, _ in front.addresses] == ["::1", LOOPBACK]
        assert rcode(front.udp(ask(), host="::1")) == "NOERROR"
        with socket.create_connection(("::1", front.port), timeout=5) as sock:
            stream = Stream(sock)
            stream.send(ask())
            assert rcode(stream.receive()) == "NOERROR"


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


# TCP


def test_several_queries_on_a_connection_are_answered_as_they_are_done(front):
    """RFC 7766 §6.2.1.1 and §7: pipelined, refused ones at once, and slow ones hold up nobody."""
    front.upstream.delay = lambda query: 0.5 if b"slow" in query else 0.1
    names = ["slow.example", "quick.example", "refused.example", "quick.refused.example"]
    with front.tcp(source=FRENCH) as stream:
        stream.send(*[ask(name, id=number) for number, name in enumerate(names)])
        answers = [parsed(stream.receive()) for _ in names]
        assert [answer.id for answer in answers] == [2, 3, 1, 0]
        assert [dns.rcode.to_text(answer.rcode()) for answer in answers] == ["REFUSED", "REFUSED", "NOERROR", "NOERROR"]
        stream.send(ask("again.example"))
        assert rcode(stream.receive()) == "NOERROR"


def test_octets_may_come_one_by_one(front):
    """However a query is cut into segments."""
    with front.tcp(source=FRENCH) as stream:
        for octet in framed(ask("refused.example")) + framed(ask()):
            stream.sock.sendall(bytes([octet]))
        assert [rcode(stream.receive()) for _ in range(2)] == ["REFUSED", "NOERROR"]


def test_a_client_that_has_asked_all_it_wants_still_gets_its_answers(front):
    """It closes its half of the connection; ours is closed after the last answer."""
    front.upstream.delay = lambda _query: 0.2
    with front.tcp() as stream:
        stream.send(ask("one.example"), ask("two.example"))
        stream.sock.shutdown(socket.SHUT_WR)
        assert [rcode(stream.receive()) for _ in range(2)] == ["NOERROR", "NOERROR"]
        assert stream.receive() is None


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_zones_are_not_transferred(front, kind):
    """Many messages to one question; the name is still refused to whom it is refused."""
    with front.tcp() as stream:
        stream.send(ask("example", kind))
        assert rcode(stream.receive()) == "NOTIMP"
    with front.tcp(source=FRENCH) as stream:
        stream.send(ask("refused.example", kind))
        assert rcode(stream.receive()) == "REFUSED"


@pytest.mark.parametrize("packet", [b"", b"\0" * 11, ask(id=7)[:2] + b"\x81" + ask(id=7)[3:]])
def test_what_deserves_silence_ends_a_connection(front, packet):
    """No DNS client is at the other end."""
    with front.tcp() as stream:
        stream.send(packet)
        assert stream.receive() is None


def test_objections_over_tcp(front):
    """FORMERR and NOTIMP, and the connection goes on."""
    with front.tcp() as stream:
        stream.send(ask()[:12], ask()[:2] + b"\x20" + ask()[3:], ask())
        assert [rcode(stream.receive()) for _ in range(3)] == ["FORMERR", "NOTIMP", "NOERROR"]


def test_idle_and_slow_connections_are_closed(enforcer):
    """After `idle` seconds without a whole query: single octets do not count."""
    with Front(enforcer, limits=StreamLimits(idle=0.6)) as front:
        with front.tcp() as idle, front.tcp() as slow, front.tcp() as busy:
            started = time.monotonic()
            for number in range(10):
                with contextlib.suppress(OSError):
                    slow.sock.sendall(framed(ask())[number : number + 1])
                busy.send(ask())
                assert rcode(busy.receive()) == "NOERROR"
                time.sleep(0.12)
            assert idle.receive() is None
            assert slow.receive() is None
            assert time.monotonic() - started < 5
            busy.send(ask())
            assert rcode(busy.receive()) == "NOERROR"
        assert front.metrics()["tcp"]["cut_off"] == 2


def test_a_connection_waits_for_its_answers_longer_than_idle(enforcer):
    """A slow upstream is not the client's doing."""
    with Front(enforcer, limits=StreamLimits(idle=0.3)) as front:
        front.upstream.delay = lambda _query: 0.8
        with front.tcp() as stream:
            stream.send(ask())
            assert rcode(stream.receive()) == "NOERROR"


def served(front, stack, source):
    """Return a new connection that has got an answer, None when it is turned away."""
    with contextlib.suppress(OSError):
        stream = stack.enter_context(front.tcp(source=source))
        stream.send(ask())
        if stream.receive() is not None:
            return stream
    return None


def test_connections_are_limited_for_each_client(enforcer):
    """One more is closed at once; a place that becomes free can be taken."""
    with Front(enforcer, limits=StreamLimits(per_client=3)) as front, contextlib.ExitStack() as stack:
        mine = [served(front, stack, "127.0.0.11") for _ in range(4)]
        assert [bool(stream) for stream in mine] == [True, True, True, False]
        assert served(front, stack, "127.0.0.12")
        assert front.metrics()["tcp"]["turned_away"] == 1
        mine[0].sock.close()
        assert eventually(lambda: front.metrics()["tcp"]["connections"] == 3)
        assert served(front, stack, "127.0.0.11")


def test_when_all_places_are_taken_the_longest_quiet_connection_goes(enforcer):
    """Whoever sits there with many addresses shuts nobody out, and whoever asks keeps its place."""
    with Front(enforcer, limits=StreamLimits(connections=5, per_client=3)) as front, contextlib.ExitStack() as stack:
        busy = served(front, stack, "127.0.0.10")
        for number in range(11, 31):
            assert served(front, stack, f"127.0.0.{number}")
            busy.send(ask())
            assert rcode(busy.receive()) == "NOERROR"
        counted = front.metrics()["tcp"]
        assert (counted["connections"], counted["evicted"], counted["turned_away"]) == (5, 16, 0)


def test_a_query_that_goes_in_circles_comes_to_an_end(enforcer, caplog):
    """Two fronts that are each other's upstream: SERVFAIL for whoever asked, and both are idle again."""

    async def converse():
        one, two = [(LOOPBACK, port) for port in free_ports(2)]
        judge = QueryJudge(enforcer)
        async with contextlib.AsyncExitStack() as stack:
            each = []
            for address, upstream in ((one, two), (two, one)):
                upstreams = await stack.enter_async_context(Upstreams([upstream], timeout=20))
                each.append(DnsServer(judge, upstreams, listen=[address]))
                await stack.enter_async_context(each[-1].serve())
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(one)
                sock.send(ask(id=7))
                answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 512), 15)
            assert (answer[:2], rcode(answer)) == (b"\0\7", "SERVFAIL")
            counted = [server.metrics() for server in each]
            assert [metrics["outstanding"] for metrics in counted] == [0, 0]
            assert sum(metrics["in_circles"] for metrics in counted) == 1
            assert all(metrics["udp"]["queries"] <= 1_026 for metrics in counted)

    asyncio.run(converse())
    assert caplog.text.count("in circles") == 1


@pytest.mark.parametrize(
    ("listen", "upstream", "itself"),
    [
        ("127.0.0.1:53", "127.0.0.1:53", True),
        ("127.0.0.1:53", "127.0.0.1:54", False),
        ("127.0.0.1:53", "127.0.0.2:53", False),
        ("127.0.0.1:53", "0.0.0.0:53", True),
        ("0.0.0.0:53", "127.0.0.2:53", True),
        ("0.0.0.0:53", "0.0.0.0:53", True),
        ("0.0.0.0:53", "192.0.2.1:53", False),
        ("127.0.0.1:53", "[::ffff:127.0.0.1]:53", True),
        ("[::1]:53", "[0:0::1]:53", True),
        ("[::]:53", "[::1]:53", True),
        ("[::1]:53", "[::]:53", True),
        ("[::]:53", "127.0.0.1:53", False),
        ("[::]:53", "[2001:db8::1]:53", False),
    ],
)
def test_who_would_ask_itself(listen, upstream, itself):
    """However the address is written: this machine's own are listened on by a wildcard, and reached by one."""
    assert circles.asks_itself(read_address(listen), read_address(upstream)) is itself


def test_an_address_of_this_machine_is_its_own():
    """Whatever the network gave it; a machine without a network has none to try."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return
        own = sock.getsockname()[0]
    assert circles.asks_itself(("0.0.0.0", 53), (own, 53))


def test_a_network_of_64_bits_is_one_client():
    """Whoever has IPv6 has 2^64 addresses; the next network is somebody else."""

    class Guest(asyncio.Transport):
        def abort(self):
            raise AssertionError("nobody has to go")

    places = seats.Places(connections=100, per_client=2)
    peers = ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:0:8000::1", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"]
    taken = [places.take(Guest(), peer, is_one_client=True) for peer in peers]
    assert taken == [True, True, False, True, True, True]
    assert (len(places), places.turned_away) == (5, 1)
    assert places.take(Guest(), "2001:db8::3", is_one_client=False)


def test_too_many_queries_at_once_wait_their_turn(enforcer):
    """No more than `at_once` are asked at a time; all are answered."""
    with Front(enforcer, limits=StreamLimits(at_once=4)) as front:
        front.upstream.delay = lambda _query: 0.05
        with front.tcp() as stream:
            stream.send(*[ask(id=number) for number in range(40)])
            time.sleep(0.03)
            assert len(front.upstream.asked) <= 4
            assert {parsed(stream.receive()).id for _ in range(40)} == set(range(40))


def test_large_queries_wait_their_turn(front):
    """Of 65,535 octets no two are asked at a time on one connection: many connections make a front hold little."""
    front.upstream.delay = lambda _query: 0.1
    before = len(front.upstream.asked)
    with front.tcp() as stream:
        stream.send(*[ask(id=number).ljust(65_535, b"\0") for number in range(8)])
        for number in range(8):
            assert parsed(stream.receive()).id == number
            assert len(front.upstream.asked) - before <= number + 2
        stream.send(ask(id=8), ask(id=9))
        assert {parsed(stream.receive()).id for _ in range(2)} == {8, 9}


def test_a_client_that_does_not_read_is_cut_off(enforcer):
    """It asks and asks, and takes no answer: little is kept for it, and not for long."""
    with Front(enforcer, limits=StreamLimits(idle=0.5)) as front, front.tcp(source=FRENCH) as stream:
        stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.sock.settimeout(0.3)
        block = framed(ask("refused.example", use_edns=0)) * 1000
        with contextlib.suppress(OSError):
            for _ in range(2_000):
                stream.sock.sendall(block)
        assert eventually(lambda: front.metrics()["tcp"]["connections"] == 0)
        assert front.metrics()["tcp"]["cut_off"] == 1
        assert front.metrics()["tcp"]["queries"] < 300_000
        assert rcode(front.udp(ask())) == "NOERROR"


@pytest.mark.parametrize("installed", [True, False])
def test_uvloop_is_used_where_it_is_installed(installed, monkeypatch):
    """By the command and by each worker, which both run what serves in this way; asyncio's own loop does as well."""
    if installed:
        pytest.importorskip("uvloop", reason="one of the loops is uvloop's (extra `dns`)")
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    loops = []

    async def main():
        loops.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])

    run(main())
    assert loops == ["uvloop" if installed else "asyncio"]


# PROXY protocol

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def preface(client=FRANCE, *, local=False, kind=0x12, more=b""):
    source = ip_address(client).packed
    family = kind if len(source) == 4 else kind + 0x10
    data = (
        source + ip_address("192.0.2.99" if len(source) == 4 else "2001:db8::99").packed + pack("!HH", 4711, 53) + more
    )
    return V2 + bytes([0x20 if local else 0x21, family]) + len(data).to_bytes(2, "big") + data


@pytest.fixture(scope="module")
def behind(enforcer):
    """A front behind a load balancer at 127.0.0.1, and nowhere else."""
    with Front(enforcer, load_balancers=["127.0.0.1"]) as running:
        yield running


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (preface(FRANCE), "REFUSED"),
        (preface(GERMANY), "NOERROR"),
        (preface("2001:db8::33"), "REFUSED"),
        (preface("2001:db8::44"), "NOERROR"),
        (preface(FRANCE, kind=0x11), "REFUSED"),
        (preface(FRANCE, more=b"\x04\0\x01\0"), "REFUSED"),
        (preface(FRANCE, local=True), "NOERROR"),
        (b"PROXY UDP4 x\r\n", None),
        (b"PROXY TCP4 203.0.113.7 192.0.2.99 4711 53\r\n", "REFUSED"),
        (b"", None),
        (V2, None),
    ],
)
def test_a_load_balancer_says_whose_query_it_is(behind, header, expected):
    """Version 2 as dnsdist sends it, before each datagram and at the start of a stream; never without."""
    answer = behind.udp(header + ask("refused.example", id=1), timeout=0.2 if expected is None else 5)
    assert (answer and rcode(answer)) == expected
    with behind.tcp() as stream:
        with contextlib.suppress(OSError):
            stream.sock.sendall(header)
            stream.send(ask("refused.example"), ask("www.refused.example"))
            stream.sock.shutdown(socket.SHUT_WR)
        answers = [stream.receive(), stream.receive()]
        assert [answer and rcode(answer) for answer in answers] == [expected, expected]


def test_a_header_from_anybody_else_is_no_header(behind):
    """What a stranger claims to be is not even read: those octets are an unknown opcode, or end the connection."""
    answer = behind.udp(preface(GERMANY) + ask("refused.example"), source=FRENCH)
    assert rcode(answer) == "NOTIMP"
    assert rcode(behind.udp(ask("refused.example"), source=FRENCH)) == "REFUSED"
    with behind.tcp(source=FRENCH) as stream:
        stream.sock.sendall(preface(GERMANY))
        stream.send(ask("refused.example"))
        stream.sock.shutdown(socket.SHUT_WR)
        assert stream.receive() is None


def test_a_header_may_come_octet_by_octet(behind):
    """Over TCP it is waited for, as long as a connection may be idle."""
    with behind.tcp() as stream:
        for octet in preface(FRANCE):
            stream.sock.sendall(bytes([octet]))
        stream.send(ask("refused.example"))
        assert rcode(stream.receive()) == "REFUSED"


@pytest.mark.skipif(bool(dns_peers.missing("dnsdist")), reason=dns_peers.missing("dnsdist"))
def test_dnsdist_before_it(behind, tmp_path):
    """The real one, with useProxyProtocol: its clients are refused by their own addresses, over UDP and TCP."""
    with dns_peers.dnsdist(tmp_path, behind.port) as balancer:
        for source, expected in ((FRENCH, "REFUSED"), (LOOPBACK, "NOERROR")):
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.settimeout(5)
                sock.bind((source, 0))
                sock.sendto(ask("refused.example", use_edns=0), (LOOPBACK, balancer.port))
                assert rcode(sock.recv(4096)) == expected
            with socket.create_connection((LOOPBACK, balancer.port), timeout=5, source_address=(source, 0)) as sock:
                stream = Stream(sock)
                stream.send(ask("refused.example", use_edns=0))
                assert rcode(stream.receive()) == expected


# The rest


def test_a_forwarders_answers_are_kept_for_one_subnet(enforcer):
    """Through the whole front: the German client's answer has a scope, though the upstream gave none."""
    with Front(enforcer, forwarders=[LOOPBACK]) as front:
        for name, expected in (("refused.example", [24]), ("open.example", [])):
            query = ask(name, use_edns=0, options=[dns.edns.ECSOption("198.51.100.0", 24)])
            answers = [front.udp(query)]
            with front.tcp() as stream:
                stream.send(query)
                answers.append(stream.receive())
            for answer in answers:
                assert [option.scopelen for option in parsed(answer).options] == expected


def test_everything_is_counted(enforcer):
    """Plain integers, by outcome, transport and upstream."""
    with Front(enforcer) as front:
        front.udp(ask("refused.example"), source=FRENCH)
        for _ in range(2):
            front.udp(ask())
        front.udp(ask()[:12])
        front.udp(b"", timeout=0.1)
        with front.tcp() as stream:
            stream.send(ask())
            stream.receive()
        told = front.metrics()
        assert told["queries"] == {"refused": 1, "forwarded": 3, "objected": 1, "silent": 1, "failed": 0}
        assert (told["udp"]["queries"], told["tcp"]["queries"], told["outstanding"]) == (5, 1, 0)
        [upstream] = told["upstreams"]
        assert (upstream["up"], upstream["answers"], upstream["timeouts"]) == (True, 3, 0)
        assert 0 < upstream["seconds"] < 5
        assert sum(upstream["latency_buckets"].values()) == 3


def test_a_port_that_is_taken_is_a_config_error_and_a_port_left_is_free(enforcer):
    """By UDP or TCP; and the front lets go of its own when it ends."""
    with Front(enforcer) as front:
        with (
            pytest.raises(ConfigError, match="Address already in use"),
            Front(enforcer, listen=[(LOOPBACK, front.port)]),
        ):
            pass
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, front.port))
        with (
            pytest.raises(ConfigError, match="Address already in use"),
            Front(enforcer, listen=[(LOOPBACK, front.port)]),
        ):
            pass
    with Front(enforcer, listen=[(LOOPBACK, front.port)]) as again:
        assert rcode(again.udp(ask())) == "NOERROR"


def test_whatever_octets_come_the_front_goes_on(front):
    """2,000 seeded packets over UDP and 100 streams: every sound query after them is answered."""
    import random

    dice = random.Random(7)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        for number in range(2_000):
            data = bytearray(ask("refused.example" if number % 2 else "open.example", use_edns=0))
            for _ in range(dice.randint(1, 5)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            sock.sendto(bytes(data[: dice.randint(0, len(data))] if number % 5 == 0 else data), (LOOPBACK, front.port))
            if number % 100 == 0:
                assert front.udp(ask("refused.example"), source=FRENCH) is not None
    for _ in range(100):
        with contextlib.suppress(OSError), front.tcp() as stream:
            stream.sock.sendall(dice.randbytes(dice.randint(0, 300)))
    assert rcode(front.udp(ask("refused.example"), source=FRENCH)) == "REFUSED"
    assert eventually(
        lambda: (answer := front.udp(ask())) and rcode(answer) == "NOERROR"
    )  # the upstream has its queue to work off
    with front.tcp() as stream:
        stream.send(ask())
        assert rcode(stream.receive()) == "NOERROR"
