"""The DNS front and its trail: one refusal, one count, by its own name, through every door and from every worker."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from free_ports import free_ports

pytest.importorskip("dns", reason="the tests of the DNS front need dnspython, of the extra `test`")

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "adapters")]

import dns_peers
from dns_clients import any_certificate, over_http2, over_https, over_stream, over_udp, packet
from dns_orders import ORDER
from told import enforced, of_kind, wait_until

from cdnblock.audit.verifying import verify
from cdnblock.sources.control_socket import ask

NAMES = "one.example, two.example"


@pytest.fixture
def house(tmp_path, request):
    """A front with all doors and a trail, in front of nobody: what it does not refuse gets SERVFAIL."""
    workers = getattr(request, "param", 1)
    orders = tmp_path / "orders"
    orders.mkdir()
    (orders / "a.yaml").write_text(ORDER.format(id="long", variant="refuse", territory="world", name=NAMES))
    (orders / "b.yaml").write_text(
        ORDER.format(id="other", variant="nxdomain", territory="[DE]", name="german.example")
    )
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    dns_peers.write_certificate(certificate, key)
    tls, https, dead = free_ports(3)
    with dns_peers.front(
        tmp_path / "front", orders, [dead], "--timeout", "0.1", "--workers", str(workers), "--state", str(tmp_path / "state"),
        "--audit", str(tmp_path / "audit"), "--certificate", str(certificate), "--key", str(key),
        "--listen-tls", f"127.0.0.1:{tls}", "--listen-https", f"127.0.0.1:{https}",
    ) as front:  # fmt: skip
        yield front, tls, https, tmp_path


def is_refused(answer: bytes | None) -> bool:
    return answer is not None and answer[3] & 15 == 5


@pytest.mark.parametrize("house", [1, 2], ids=["alone", "two workers"], indirect=True)
def test_each_refusal_is_counted_once_by_its_own_name(house):
    """UDP, TCP, TLS and HTTPS; names of one list share a decision, and are told apart all the same."""
    front, tls, https, folder = house
    address, secure = ("127.0.0.1", front.port), any_certificate("dot")
    for _ in range(3):
        assert is_refused(over_udp(*address, packet("www.one.example")))
        assert is_refused(over_udp(*address, packet("tWo.ExAmPlE")))
        assert is_refused(over_udp(*address, packet("TWO.example")))
    assert is_refused(over_stream(*address, packet("one.example")))
    assert is_refused(over_stream("127.0.0.1", tls, packet("deep.down.two.example"), tls=secure))
    assert is_refused(over_https("127.0.0.1", https, packet("two.example")))
    assert is_refused(over_http2("127.0.0.1", https, packet("two.example")))
    for name in ("free.example", "german.example", "notone.example"):
        assert not is_refused(over_udp(*address, packet(name)))
    assert front.stop() == 0, front.said
    trail = folder / "audit"
    assert enforced(trail, "order", "name", "measure", "variant", "action", "adapter") == {
        ("long", "one.example", "dns", "refuse", "refused", "dns_server"): 4,
        ("long", "two.example", "dns", "refuse", "refused", "dns_server"): 9,
    }
    assert {record["client"] for record in of_kind(trail, "enforced")} == {"127.0.0.0/24"}
    hosts = {record["host"] for record in of_kind(trail, "enforced")} | {
        host for record in of_kind(trail, "counted") for host in record["hosts"]
    }
    assert hosts <= {"www.one.example", "one.example", "two.example", "deep.down.two.example"}
    assert of_kind(trail, "gap") == []
    assert verify(trail).ok
    assert "Traceback" not in front.said


@pytest.mark.parametrize("house", [2], ids=["two workers"], indirect=True)
def test_a_worker_that_is_killed_leaves_a_gap_that_is_told(house):
    """What it had told of stays, what it had not is a record, and the others go on."""
    front, _, _, folder = house
    address, trail = ("127.0.0.1", front.port), folder / "audit"
    told = wait_until(lambda: ask(folder / "state", {"command": "status"}, 10).get("dns"))
    workers = [worker["pid"] for worker in told["workers"]]
    assert is_refused(over_udp(*address, packet("one.example")))
    wait_until(lambda: of_kind(trail, "enforced"))
    os.kill(workers[0], signal.SIGKILL)
    (gap,) = wait_until(lambda: of_kind(trail, "gap"))
    assert (gap["lost"], gap["of"]) == (None, "enforced")
    assert f"worker {workers[0]} died" in gap["why"]
    assert gap["from"] <= gap["to"]
    for _ in range(20):
        answer = over_udp(*address, packet("two.example"), timeout=2)
        assert answer is None or is_refused(answer)
    assert front.stop() == 0, front.said
    assert enforced(trail, "name")["two.example",] >= 1
    assert "Traceback" not in front.said
    assert verify(trail).ok
