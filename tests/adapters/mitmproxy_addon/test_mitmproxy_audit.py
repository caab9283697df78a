"""A proxy with a trail: `cdnblock mitmproxy --audit`, and what it records of HTTP and of DNS."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from free_ports import free_ports
from mitmproxy_clients import ask, query, request
from mitmproxy_process import launch, wait_for, wait_for_dns, write_order

sys.path.insert(0, str(Path(__file__).parents[2] / "audit_of_hosts"))

from told import enforced, of_kind

from cdnblock.adapters._mitmproxy_options import Settings, trail_settings
from cdnblock.audit.verifying import verify
from cdnblock.errors import ConfigError

MEASURES = {
    "refused": {"dns": "refuse", "proxy": "terminate"},
    "closed": {"proxy": "close"},
    "uncached": {"cdn": "disable"},
    "dry": {"dns": "refuse", "proxy": "terminate"},
}


def test_what_it_enforces_is_recorded_once(tmp_path, origin, countries, upstream):
    """Requests, closed connections, answers kept out of caches, queries, and a dry run; nothing of anybody's address."""
    (tmp_path / "orders").mkdir()
    for name, measures in MEASURES.items():
        more = {"mode": "report"} if name == "dry" else {}
        write_order(tmp_path / "orders", name, [f"{name}.example"], measures, territory="world", **more)
    http, dns = free_ports(2)
    proxy = launch(
        tmp_path, "--orders", "orders", "--geo", str(countries), "--audit", "audit", "--audit-clients", "none",
        "--audit-fsync", "record", "--mode", f"reverse:http://127.0.0.1:{origin.port}@127.0.0.1:{http}",
        "--mode", f"reverse:dns://127.0.0.1:{upstream.port}@127.0.0.1:{dns}",
    )  # fmt: skip
    try:
        wait_for(proxy, http)
        wait_for_dns(proxy, dns)
        assert [request(http, f"{name}.example").status for name in ("refused", "refused", "uncached", "dry", "other")] == [
            451, 451, 200, 200, 200,
        ]  # fmt: skip
        assert request(http, "closed.example").status == 0
        for name in ("www.refused.example", "dry.example", "other.example"):
            ask(dns, query(name))
    finally:
        proxy.stop()
    trail = tmp_path / "audit"
    assert enforced(trail, "order", "measure", "action", "host") == {
        ("refused", "proxy", "answer", "refused.example"): 2,
        ("closed", "proxy", "close", "closed.example"): 1,
        ("uncached", "cdn", "uncached", "uncached.example"): 1,
        ("refused", "dns", "refused", "www.refused.example"): 1,
    }
    assert enforced(trail, "order", "measure", kind="would") == {("dry", "proxy"): 1, ("dry", "dns"): 1}
    assert {record["client"] for record in of_kind(trail, "enforced")} == {None}
    assert verify(trail).ok


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"audit_retention": "nine"}, "no span of time"), ({"audit_retention": "0d"}, "too short"),
        ({"audit_clients": "all"}, "'all' is not known"), ({"audit_fsync": ""}, "'' is not known"),
    ],
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_refused(chosen, said):
    """mitmdump reads them as text."""
    with pytest.raises(ConfigError, match=said):
        trail_settings(Settings(**chosen))
