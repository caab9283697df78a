"""A bug must not open the door: a real mitmdump whose decisions raise (fault.py breaks them)."""

from __future__ import annotations

from pathlib import Path

import dns.rcode
import pytest
from free_ports import free_ports
from mitmproxy_clients import Http2, Raw, ask, query, request
from mitmproxy_process import launch, until, wait_for, wait_for_dns, write_order


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, origin, upstream, countries):
    """Two proxies whose decisions fail for fault.example: on_error closed (the default) and open."""
    started = {}
    for policy in ("closed", "open"):
        folder = tmp_path_factory.mktemp(policy)
        (folder / "orders").mkdir()
        write_order(
            folder / "orders", "one", ["blocked.example"], {"proxy": "terminate", "dns": "refuse"}, territory="world"
        )
        http, regular, dns_port = free_ports(3)
        proxy = launch(
            folder, "--orders", "orders", "--geo", str(countries), "-s", str(Path(__file__).with_name("fault.py")),
            *(["--set", "cdnblock_on_error=open"] if policy == "open" else []),
            "--mode", f"reverse:http://127.0.0.1:{origin.port}@127.0.0.1:{http}",
            "--mode", f"regular@127.0.0.1:{regular}",
            "--mode", f"reverse:dns://127.0.0.1:{upstream.port}@127.0.0.1:{dns_port}",
        )  # fmt: skip
        started[policy] = proxy, http, regular, dns_port
    for proxy, *ports in started.values():
        wait_for(proxy, *ports)
        wait_for_dns(proxy, ports[-1])
        assert until(lambda http=ports[0]: request(http, "blocked.example").status == 451)
    yield started
    for proxy, *_ in started.values():
        proxy.stop()


def test_a_fault_refuses(faulty, origin, upstream):
    """By default: 503 over HTTP/1.1 and HTTP/2 and for CONNECT, SERVFAIL over DNS; the origin hears nothing."""
    proxy, http, regular, dns_port = faulty["closed"]
    before, asked, connections = len(origin.seen), len(upstream.asked), origin.connections
    refused = request(http, "fault.example", method="POST", body=b"x" * 100_000)
    assert (refused.status, refused.field("cache-control")) == (503, "no-store")
    with Http2(http, sni="fault.example") as client:
        assert client.get("fault.example").status == 503
    assert request(regular, "fault.example:443", method="CONNECT", target="fault.example:443").status == 503
    answer = ask(dns_port, query("fault.example", client=None))
    assert (answer.rcode(), answer.answer) == (dns.rcode.SERVFAIL, [])
    assert (len(origin.seen), len(upstream.asked), origin.connections) == (before, asked, connections)
    assert "a bug in the decision" in proxy.said


def test_others_are_not_touched_by_a_fault(faulty):
    """What can be decided still is."""
    _, http, _, dns_port = faulty["closed"]
    assert request(http, "other.example").status == 200
    assert request(http, "blocked.example").status == 451
    assert ask(dns_port, query("blocked.example", client=None)).rcode() == dns.rcode.REFUSED


def test_an_operator_may_want_it_open(faulty, origin):
    """With cdnblock_on_error=open what cannot be decided passes, and only that."""
    _, http, _, dns_port = faulty["open"]
    assert request(http, "fault.example").status == 200
    assert ask(dns_port, query("fault.example", client=None)).rcode() == dns.rcode.NOERROR
    assert request(http, "blocked.example").status == 451


def test_a_fault_is_told_once(faulty):
    """Not once per request: a log record costs mitmproxy more than the request's decision."""
    proxy, http, *_ = faulty["closed"]
    with Raw(http) as raw:
        for _ in range(20):
            raw.send(b"GET / HTTP/1.1\r\nHost: fault.example\r\n\r\n")
            assert raw.answer().status == 503
    assert proxy.said.count("no decision could be made") == 1
