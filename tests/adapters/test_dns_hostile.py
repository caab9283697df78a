"""The running front among clients and upstreams that mean no good, or do not work; real sockets, real processes."""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import sys
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from free_ports import free_ports
from thoroughness import EVERYTHING

pytest.importorskip("dns", reason="dnspython judges these answers (extra `dns`)")

sys.path.insert(0, str(Path(__file__).parent))

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import dns_peers
from dns_clients import (
    MARK,
    Said,
    Stream,
    any_certificate,
    opt,
    option,
    over_udp,
    packet,
    subnet,
    udp_socket,
    wire_name,
)
from dns_flood import flood
from dns_orders import write_order
from dns_rude_upstream import FORGED, RudeUpstream

TIMEOUT = 1.0  # seconds that the front gives an upstream here


@dataclass(frozen=True)
class House:
    """A front before a rude upstream, and the file of its process."""

    front: dns_peers.Daemon
    upstream: RudeUpstream
    tls: int
    https: int

    @property
    def port(self) -> int:
        return self.front.port

    @property
    def resident(self) -> float:
        """How much memory the front holds (MB)."""
        pages = int(Path(f"/proc/{self.front.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    orders = folder / "orders"
    orders.mkdir()
    write_order(orders, "refused.example")
    write_order(orders, "gone.example", "nxdomain")
    dns_peers.write_certificate(folder / "certificate.pem", folder / "key.pem")
    tls, https = free_ports(2)
    with RudeUpstream() as upstream, dns_peers.front(
        folder / "front", orders, [upstream.port], "--timeout", str(TIMEOUT), "--idle", "2", "--trusted-forwarder", "127.0.0.1",
        "--certificate", str(folder / "certificate.pem"), "--key", str(folder / "key.pem"),
        "--listen-tls", f"127.0.0.1:{tls}", "--listen-https", f"127.0.0.1:{https}",
    ) as front:  # fmt: skip
        yield House(front, upstream, tls, https)
        assert front.process.poll() is None, front.said
        assert "Traceback" not in front.said, front.said


def stream(house, way="TCP", **options):
    return Stream(
        "127.0.0.1",
        *((house.port,) if way == "TCP" else (house.tls,)),
        tls=None if way == "TCP" else any_certificate("dot"),
        **options,
    )


def address(answer):
    return [record.to_text() for rrset in dns.message.from_wire(answer).answer for record in rrset]


@pytest.mark.parametrize("trick", ["id", "question", "count", "port", "query"])
def test_a_forged_answer_is_not_believed(house, trick):
    """Wrong ids, other questions, none or two of them, another port, no answer at all: the honest one still arrives."""
    for number in range(5):
        assert address(over_udp("127.0.0.1", house.port, packet(f"{trick}-{number}.example"))) == ["192.0.2.1"]


def test_ids_and_ports_towards_the_upstream_cannot_be_guessed(house):
    """A client's own id does not go upstream; ids and ports differ without any order."""
    house.upstream.asked.clear()
    with udp_socket("127.0.0.1", house.port) as sock:
        for number in range(400):
            sock.send(packet(f"unguessed{number}.example", number=7))
            sock.recv(65_535)
    ids = [int.from_bytes(query[:2]) for _, query, _ in house.upstream.asked]
    ports = {sender[1] for _, _, sender in house.upstream.asked}
    assert len(ids) == 400
    assert len(set(ids)) > 390
    steps = {(later - earlier) & 0xFFFF for earlier, later in pairwise(ids)}
    assert len(steps) > 390
    assert len(ports) >= 3


def test_an_upstream_that_does_not_answer(house):
    """SERVFAIL with the reason (RFC 8914 §4.23, no reachable authority), in time; meanwhile others are served."""
    began = time.monotonic()
    with udp_socket("127.0.0.1", house.port) as sock:
        sock.send(packet("silent.example", counts=(1, 0, 0, 1), rest=opt()))
        sock.send(MARK)
        assert sock.recv(65_535)[:2] == MARK[:2]
        answer = Said.of(sock.recv(65_535))
    assert answer.rcode == "SERVFAIL"
    assert answer.ede.startswith("22")
    assert TIMEOUT * 0.9 < time.monotonic() - began < TIMEOUT * 4


@pytest.mark.parametrize("way", ["TCP", "TLS"])
def test_answers_overtake_each_other_on_a_stream(house, way):
    """RFC 7766 §6.2.1.1: what is ready goes out; each answer has the id of its query."""
    with stream(house, way) as client:
        client.send(
            packet("slow4-a.example", number=1), packet("slow2-b.example", number=2), packet("quick.example", number=3),
            packet("refused.example", number=4),
        )  # fmt: skip
        answers = [client.receive() for _ in range(4)]
    assert [int.from_bytes(answer[:2]) for answer in answers] in ([4, 3, 2, 1], [3, 4, 2, 1])
    names = {int.from_bytes(answer[:2]): dns.message.from_wire(answer).question[0].name.to_text() for answer in answers}
    assert names == {1: "slow4-a.example.", 2: "slow2-b.example.", 3: "quick.example.", 4: "refused.example."}


@pytest.mark.parametrize("way", ["TCP", "TLS"])
def test_many_queries_in_one_segment_and_one_query_in_many(house, way):
    """Where TCP cuts means nothing."""
    with stream(house, way) as client:
        client.send(*[packet("www.refused.example", number=number) for number in range(500)])
        assert [int.from_bytes(client.receive()[:2]) for _ in range(500)] == list(range(500))
        for octet in len(MARK).to_bytes(2) + MARK:
            client.sock.sendall(bytes([octet]))
        assert client.receive()[:2] == MARK[:2]


def test_a_client_that_has_asked_all_it_wants(house):
    """It closes its half of the connection, and still gets what is due."""
    with stream(house) as client:
        client.send(packet("slow3-c.example", number=9), packet("refused.example", number=10))
        client.sock.shutdown(socket.SHUT_WR)
        assert {client.receive()[:2], client.receive()[:2]} == {b"\0\x09", b"\0\x0a"}
        assert client.receive() is None


@pytest.mark.parametrize("way", ["TCP", "TLS"])
def test_a_client_that_goes_before_its_answer(house, way):
    """Nobody minds."""
    for number in range(20):
        with stream(house, way) as client:
            client.send(packet(f"slow1-{number}.example"))
    assert Said.of(over_udp("127.0.0.1", house.port, MARK)).rcode == "REFUSED"


def test_streams_from_one_client_are_limited(house):
    """Beyond 64 they are turned away; the others, and other clients, are served."""
    held = [stream(house) for _ in range(80)]
    try:
        served = sum(client.ask(MARK) is not None for client in held if is_open(client, MARK))
        assert 1 <= served <= 64
        with Stream("127.0.0.1", house.port, source="127.0.0.3") as other:
            assert other.ask(MARK)[:2] == MARK[:2]
    finally:
        for client in held:
            client.sock.close()


def is_open(client, query):
    """Tell whether a connection still takes a query."""
    try:
        return client.ask(query) is not None
    except OSError:
        return False


def test_slow_senders_are_cut_off(house):
    """Single octets, half queries, nothing at all, half a handshake, half an HTTP request: all of it ends."""
    clients = {}
    for what, port in (("TCP", house.port), ("TLS", house.tls), ("HTTPS", house.https)):
        clients[f"{what}: nothing"] = socket.create_connection(("127.0.0.1", port))
        clients[f"{what}: octets"] = socket.create_connection(("127.0.0.1", port))
    tls = any_certificate().wrap_socket(socket.create_connection(("127.0.0.1", house.https)))
    tls.sendall(
        b"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Type: application/dns-message\r\nContent-Length: 99\r\n\r\n"
    )
    clients["HTTPS: half a body"] = tls
    clients["HTTPS: half of HTTP/2"] = any_certificate().wrap_socket(
        socket.create_connection(("127.0.0.1", house.https))
    )
    clients["HTTPS: half of HTTP/2"].sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    clients["TLS: half a query"] = any_certificate().wrap_socket(socket.create_connection(("127.0.0.1", house.tls)))
    clients["TLS: half a query"].sendall(b"\0\x40" + MARK[:20])
    end = time.monotonic() + 30
    waiting = dict(clients)
    while waiting and time.monotonic() < end:
        for what, sock in list(waiting.items()):
            sock.settimeout(0.05)
            try:
                if "octets" in what:
                    sock.sendall(b"\0")
                while sock.recv(4096):
                    pass
                del waiting[what]
            except TimeoutError:
                pass
            except OSError:
                del waiting[what]
    for sock in clients.values():
        sock.close()
    assert not waiting


def test_a_client_that_does_not_read(house):
    """Its answers do not pile up in our memory, and it is cut off."""
    before = house.resident
    with stream(house) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sock.settimeout(0.5)
        many = b"".join(len(MARK).to_bytes(2) + MARK for _ in range(2000))
        end = time.monotonic() + 20
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                client.sock.send(many)
        assert time.monotonic() < end
    assert house.resident - before < 20
    assert Said.of(over_udp("127.0.0.1", house.port, MARK)).rcode == "REFUSED"


SEEDS = [
    # What is mutated: covered names and others, with and without what can be wrong with them.
    packet("www.refused.example"), packet("gone.example", 28), packet("www.open.example"),
    packet(counts=(1, 0, 0, 1), rest=opt()), packet("gone.example", counts=(1, 0, 0, 1), rest=opt(flags=0x8000)),
    packet(counts=(1, 0, 0, 1), rest=opt(subnet("203.0.113.7", 24) + option(10, b"8 octets"))),
    packet("open.example", counts=(1, 0, 0, 1), rest=opt(option(12, b"\0" * 40))),
    packet("a.b.c.refused.example", counts=(1, 1, 1, 1), rest=b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4" * 2 + opt()),
]  # fmt: skip


def mutated(chance: random.Random, number: int) -> bytes:
    """Return a packet with the id `number` and up to six octets changed, inserted, taken away, doubled or cut off."""
    octets = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(2, len(octets)) if len(octets) > 2 else 2
        match chance.randrange(6):
            case 0:
                octets[place:place] = chance.randbytes(chance.randint(1, 3))
            case 1:
                del octets[place : place + chance.randint(1, 3)]
            case 2:
                octets[place : place + 1] = bytes([chance.choice((0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF))])
            case 3:
                octets[place:place] = octets[place : place + chance.randint(1, 40)]
            case 4 if chance.random() < 0.2:
                del octets[place:]
            case _:
                octets[place : place + 1] = chance.randbytes(1)
    octets[:2] = number.to_bytes(2)
    return bytes(octets)


@pytest.mark.parametrize("round_", range(50 if EVERYTHING else 1))
def test_mutated_queries_over_udp(house, round_):
    """20,000 of them, a million when everything is run.

    No crash, no answer to an answer, none too large, none that gives away a covered name.
    """
    chance = random.Random(20_261 + round_)
    asked = {number: mutated(chance, number) for number in range(20_000)}
    answers: dict[int, bytes] = {}
    with udp_socket("127.0.0.1", house.port, timeout=TIMEOUT * 5) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

        def read_until_marked():
            while (answer := sock.recv(65_535))[:2] != MARK[:2]:
                number = int.from_bytes(answer[:2])
                assert number not in answers
                answers[number] = answer
                check(asked[number], answer)

        for number, query in asked.items():
            sock.send(query)
            if number % 100 == 99:
                sock.send(MARK)
                read_until_marked()
        time.sleep(TIMEOUT * 1.5)  # what the upstream does not understand is SERVFAIL by then
        sock.send(MARK)
        read_until_marked()
    silent = [query for number, query in asked.items() if number not in answers]
    assert all(len(query) < 12 or query[2] & 0x80 for query in silent)
    assert len(answers) > 15_000


def check(query: bytes, answer: bytes) -> None:
    """Raise when an answer is not what its query may get, whatever is wrong with that."""
    assert query, "an answer to nothing"
    assert len(query) >= 12
    assert not query[2] & 0x80
    assert answer[2] & 0x80
    assert len(answer) <= max(512, room(query))
    assert FORGED not in answer
    if covered(query):
        assert answer[6:8] == b"\0\0", (query, answer)
        assert answer[3] & 0xF in (1, 3, 4, 5, 0), (query, answer)


def room(query: bytes) -> int:
    """Return the client's UDP size as dnspython reads it, the most there is when it cannot."""
    try:
        return dns.message.from_wire(query, ignore_trailing=True).payload or 0
    except dns.exception.DNSException:
        return 1232


def covered(query: bytes) -> bool:
    """Tell whether dnspython reads one question, for a name that is to be refused."""
    if query[4:6] != b"\0\1":
        return False
    try:
        name, length = dns.name.from_wire(query, 12)
    except dns.exception.DNSException:
        return False
    if len(query) < 12 + length + 4:
        return False
    return any(name.is_subdomain(dns.name.from_text(refused)) for refused in ("refused.example", "gone.example"))


def test_mutated_streams(house):
    """The same over TCP and TLS, also with lengths that are not true: the connection ends at most."""
    chance = random.Random(20_262)
    for way in ("TCP", "TLS"):
        for _ in range(100):
            with stream(house, way) as client:
                octets = b"".join(
                    (len(query) + chance.choice((0, 0, 0, 1, -1, 200))).to_bytes(2) + query
                    for query in (mutated(chance, number) for number in range(chance.randint(1, 20)))
                )
                try:
                    client.sock.sendall(octets)
                    client.sock.settimeout(0.02)
                    client.sock.recv(65_535)
                except OSError:
                    pass
        with stream(house, way) as client:
            assert client.ask(MARK)[:2] == MARK[:2]


def test_a_flood_of_random_names_takes_no_memory(house):
    """Fresh ports, names that nobody has asked before, an upstream that lets half of them wait."""
    flood(house.port, ["refused.example", "silent.example"], until=time.monotonic() + 1, seed=1)
    before = house.resident
    asked = flood(house.port, ["refused.example", "gone.example"], until=time.monotonic() + 2, seed=2)
    assert asked > 300
    assert house.resident - before < 25
    assert Said.of(over_udp("127.0.0.1", house.port, MARK)).rcode == "REFUSED"


def test_upstreams_that_are_down(tmp_path):
    """With nobody there it is SERVFAIL at once, each time (RFC 8914: 23, network error); else the second one answers."""
    orders = tmp_path / "orders"
    orders.mkdir()
    write_order(orders, "refused.example")
    dead, dead_too = free_ports(2)
    with dns_peers.front(tmp_path / "down", orders, [dead, dead_too], "--timeout", "30") as front:
        for ask, why in ((over_udp, "23"), (over_tcp, "22")) * 20:
            answer = Said.of(ask("127.0.0.1", front.port, packet("open.example", counts=(1, 0, 0, 1), rest=opt())))
            assert (answer.rcode, answer.ede) == ("SERVFAIL", why)
            assert Said.of(ask("127.0.0.1", front.port, MARK)).rcode == "REFUSED"
    with RudeUpstream() as second, dns_peers.front(tmp_path / "second", orders, [dead, second.port]) as front:
        for number in range(10):
            for ask in (over_udp, over_tcp):
                assert address(ask("127.0.0.1", front.port, packet(f"open{number}.example"))) == ["192.0.2.1"]


def over_tcp(host, port, query):
    with Stream(host, port) as client:
        return client.ask(query)


def test_orders_change_while_queries_run(tmp_path):
    """Each query gets an answer, by the old rules or by the new ones, and after the first refusal no address."""
    orders = tmp_path / "orders"
    orders.mkdir()
    write_order(orders, "refused.example")
    with RudeUpstream() as upstream, dns_peers.front(tmp_path / "front", orders, [upstream.port]) as front:
        said, stop = [], threading.Event()

        def ask_on():
            with udp_socket("127.0.0.1", front.port) as sock:
                for number in range(1 << 16):
                    if stop.is_set():
                        return
                    sock.send(packet("www.changing.example", number=number))
                    answer = sock.recv(65_535)
                    assert int.from_bytes(answer[:2]) == number
                    said.append(Said.of(answer).rcode)

        asking = threading.Thread(target=ask_on)
        asking.start()
        time.sleep(0.3)
        write_order(orders, "changing.example")
        end = time.monotonic() + 20
        while "REFUSED" not in said and time.monotonic() < end:
            time.sleep(0.02)
        for number in range(5):
            write_order(orders, f"another{number}.example")
            time.sleep(0.1)
        stop.set()
        asking.join(10)
    first = said.index("REFUSED")
    assert set(said[:first]) == {"NOERROR"}
    assert set(said[first:]) == {"REFUSED"}


def test_a_truncated_answer_of_the_upstream(house):
    """Over UDP it goes to the client with its TC; over streams the front gets the whole one."""
    answer = over_udp("127.0.0.1", house.port, packet("cut.example"))
    assert answer[2] & 2
    for way in ("TCP", "TLS"):
        with stream(house, way) as client:
            assert address(client.ask(packet("cut.example"))) == ["192.0.2.1"]


def test_an_upstream_that_drops_connections(house):
    """The client gets SERVFAIL, its connection stays."""
    with stream(house) as client:
        assert Said.of(client.ask(packet("drop.example"))).rcode == "SERVFAIL"
        assert address(client.ask(packet("open.example"))) == ["192.0.2.1"]


def test_names_of_others_are_not_mixed_up(house):
    """Many clients at once: everybody gets the answer to his own question."""
    wrong = []

    def ask(client):
        with udp_socket("127.0.0.1", house.port) as sock:
            for number in range(30):
                name = f"slow{number % 2}-{client}-{number}.example"
                sock.send(packet(name, number=client))
                if wire_name(name) not in sock.recv(65_535):
                    wrong.append(name)

    clients = [threading.Thread(target=ask, args=(client,)) for client in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(30)
    assert wrong == []
