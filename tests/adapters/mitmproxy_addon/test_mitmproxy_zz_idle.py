"""What takes time to show. Last in the alphabet, so that its time has passed while the other tests ran."""

from __future__ import annotations

import time

import dns.message
import dns.rcode
from mitmproxy_clients import query

IDLE = 21  # seconds; mitmproxy forgets a UDP client after 20, and its socket layer then drops what comes


def test_a_resolver_with_a_fixed_port_is_not_shut_out(edge):
    """The same UDP socket is answered again after more than 20 s of silence, refused and passed alike."""
    time.sleep(max(0.0, edge.quiet_since + IDLE - time.monotonic()))
    for name, rcode in (("blocked.example", dns.rcode.REFUSED), ("other.example", dns.rcode.NOERROR)):
        edge.quiet.send(query(name).to_wire())
        assert dns.message.from_wire(edge.quiet.recv(65535)).rcode() == rcode
