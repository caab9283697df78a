"""Which servers a text names, who asks them, and how they are told of him."""

from __future__ import annotations

import asyncio
import time

import broken_edges as edges
import pytest
from broken_edges import running
from conftest import clients, edge_of, verified
from free_ports import free_port

from cdnblock.errors import ConfigError
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.geo.proxy_protocol import proxy_protocol
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import load_orders
from cdnblock.verification.clients import Client, Told
from cdnblock.verification.comparing import compare, compare_now
from cdnblock.verification.places import find_places
from cdnblock.verification.probes import Way
from cdnblock.verification.servers import Edge, Resolver, read_server
from cdnblock.verification.standpoints import read_client, told_clients


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("http://127.0.0.1:8080", Edge(host="127.0.0.1", port=8080)),
        ("http://edge.example", Edge(host="edge.example", port=80)),
        ("https://edge.example/a/b?c=d", Edge(host="edge.example", port=443, tls=True, path="/a/b?c=d")),
        ("https://[2001:db8::1]:8443/", Edge(host="2001:db8::1", port=8443, tls=True)),
        ("dns://resolver.example", Resolver(host="resolver.example")),
        ("dns://192.0.2.1:5353/", Resolver(host="192.0.2.1", port=5353)),
        ("192.0.2.1", Resolver(host="192.0.2.1")),
        ("192.0.2.1:5353", Resolver(host="192.0.2.1", port=5353)),
        ("::1", Resolver(host="::1")),
        ("[::1]", Resolver(host="::1")),
        ("[::1]:5353", Resolver(host="::1", port=5353)),
    ],
)
def test_a_server_is_read(text, server):
    """A URL is an edge, an address or dns:// a resolver; what is printed can be read again."""
    assert read_server(text) == server
    assert read_server(str(server)) == server


@pytest.mark.parametrize(
    "text",
    [
        "", "edge.example", "edge.example:80", "127.0.0.1:dns", "http://", "http:///path", "http://127.0.0.1:0", "ftp://a",
        "http://a:99999", "http://user@a/", "http://a/#b", "dns://192.0.2.1/path", "http://a/ä", "http://[::1", "1.2.3",
    ],
)  # fmt: skip
def test_what_names_no_server_says_what_would_be_right(text):
    """Nothing is guessed."""
    with pytest.raises(ConfigError):
        read_server(text)


@pytest.mark.parametrize("told", [Told.PROXY_V1, Told.PROXY_V2])
@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8:f::7"])
@pytest.mark.parametrize("server", ["127.0.0.1", "::1"])
def test_a_proxy_header_is_read_as_the_client(told, address, server):
    """By our own reader of the protocol, whatever family the server's address is of; in a datagram too."""
    client = Client(label="x", country="FR", address=address, told=told)
    for datagram in (False, True):
        header = client.preamble(server, 53, datagram=datagram)
        assert proxy_protocol(header + b"GET") == (address, len(header))


@pytest.mark.parametrize("told", [Told.X_FORWARDED_FOR, Told.FORWARDED])
@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8:f::7"])
def test_a_forwarded_field_is_read_as_the_client(told, address):
    """By our own reader, from a trusted proxy."""
    client = Client(label="x", country="FR", address=address, told=told)
    assert TrustedProxies(["127.0.0.1"]).client_address("127.0.0.1", client.fields()) == address


def test_another_field_may_hold_the_address():
    """`--header`: it holds nothing else."""
    client = Client(
        label="x", country="FR", address="203.0.113.7", told=Told.X_FORWARDED_FOR, header="CF-Connecting-IP"
    )
    assert client.fields() == (("CF-Connecting-IP", "203.0.113.7"),)


def test_clients_come_from_where_the_table_says(stage):
    """A place in each territory, one outside, and one of no country; a missing one is told."""
    table, rules = open_geo_table(stage.geo), load_orders(stage.orders)
    found, missing = told_clients(table, rules, told=Told.CLIENT_SUBNET)
    assert {client.country for client in found} == {"FR", "RE", "DE", None}
    assert [place.label for place in missing] == ["French Polynesia"]
    assert all(table.locate(client.address) == client.country for client in found)
    places, _ = find_places(open_geo_table(None), ["AT"])
    assert "AT" in {place.country for place in places}


def test_a_client_is_where_one_says_or_else_where_the_table_says(stage):
    """`ADDRESS=CODE`, `ADDRESS=none`, `ADDRESS`."""
    table = open_geo_table(stage.geo)
    read = [
        read_client(text, table, told=Told.FORWARDED, header=None, source=None).country
        for text in ("203.0.113.7", "203.0.113.7=DE", "203.0.113.7=none", "198.51.100.7=re")
    ]
    assert read == ["FR", "DE", None, "RE"]


def test_names_are_compared_for_whoever_applies_a_configuration(stage):
    """`compare_now`: nothing where all is as decided, findings where not, OSError where nobody is."""
    rules = load_orders(stage.orders)

    def decide(name, country):
        return rules.decide(name, country=country, at=edges.dt.datetime.now(edges.dt.UTC))

    names = ["cdn.refused.example", "other.example"]
    with running(edges.Sound, stage) as host:
        assert compare_now(edge_of(host), names, clients(), decide) == []
    with running(edges.Undecided, stage) as host:
        findings = compare_now(edge_of(host), names, clients()[::2], decide, ways=[Way.HTTP1])
    assert [str(finding) for finding in findings] == [
        "cdn.refused.example (in force), http/1.1, as france (FR, 203.0.113.7): expected 451, got 200"
    ]
    with pytest.raises(OSError, match="not reached: Connection refused"):
        compare_now(Edge(host="127.0.0.1", port=free_port()), names, clients(), decide)
    stranger = [Client(label="x", country="FR", address="203.0.113.7")]
    with running(edges.Sound, stage) as host, pytest.raises(OSError, match="Cannot assign requested address"):
        asyncio.run(compare(edge_of(host), names, stranger, decide))


def test_few_are_asked_at_once_and_slowly(stage):
    """No more names at a time than `at_once`, and no more probes a second than `rate`."""

    class Counting(edges.Sound):
        now = most = 0

        async def _answer(self, exchange):
            Counting.now += 1
            Counting.most = max(Counting.most, Counting.now)
            await asyncio.sleep(0.01)
            Counting.now -= 1
            return await super()._answer(exchange)

    with running(Counting, stage) as host:
        report = verified(edge_of(host), stage, about="cdn.refused.example", sample=1, at_once=3)
        assert report.asked > 50
        assert Counting.most == 3
        started = time.monotonic()
        report = verified(edge_of(host), stage, about="cdn.refused.example", sample=1, rate=100)
        assert time.monotonic() - started > report.asked / 100 - 0.1
