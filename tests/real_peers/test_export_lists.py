"""Plain lists, read by programs that read such lists."""

from __future__ import annotations

import socket
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest
from free_ports import free_ports
from order_texts import order_text

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import needs, running

from cdnblock import exporters
from cdnblock.cli.export import put
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import load_orders

CONFIGURATION = """
conf-file={list}
no-resolv
no-hosts
server=127.0.0.1#{upstream}
port={port}
listen-address=127.0.0.1
bind-interfaces
"""


@pytest.fixture
def upstream():
    """Answer every question with one address, on a free port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        ended = threading.Event()

        def answer():
            server.settimeout(0.1)
            while not ended.is_set():
                try:
                    packet, client = server.recvfrom(4096)
                except TimeoutError:
                    continue
                reply = dns.message.make_response(dns.message.from_wire(packet), recursion_available=True)
                reply.answer.append(dns.rrset.from_text(reply.question[0].name, 5, "IN", "A", "192.0.2.80"))
                server.sendto(reply.to_wire(), client)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        ended.set()
        thread.join()


@needs("dnsmasq", "dnsmasq-base")
def test_dnsmasq_reads_its_list(tmp_path, upstream):
    """NXDOMAIN for a name and all below it, but for what is let go; look-alikes and others are answered."""
    (tmp_path / "one.yaml").write_text(
        order_text(names="[a.example]", measures="{dns: nxdomain}")
        + "lifted: [{names: [free.a.example], at: 2025-04-20}]\n"
    )
    done = exporters.export(
        exporters.load("dnsmasq"), load_orders(tmp_path / "one.yaml"), open_geo_table(None), datetime.now(UTC),
        exporters.Options(folder=str(tmp_path), clients_in="FR"),
    )  # fmt: skip
    put(tmp_path, done.files)
    (port,) = free_ports(1)
    (tmp_path / "dnsmasq.conf").write_text(
        CONFIGURATION.format(list=tmp_path / "cdnblock-dnsmasq.conf", upstream=upstream, port=port)
    )
    command = ["dnsmasq", "-k", "-C", str(tmp_path / "dnsmasq.conf"), "--user=", f"--pid-file={tmp_path}/pid"]
    with running(command, port, tmp_path / "log"):
        answered = {
            name: dns.rcode.to_text(dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", 10, port).rcode())
            for name in ("a.example", "x.y.A.example", "free.a.example", "x.free.a.example", "xa.example", "b.example")
        }
    refused = {name for name, rcode in answered.items() if rcode == "NXDOMAIN"}
    assert refused == {"a.example", "x.y.A.example"}
    assert {*answered.values()} == {"NXDOMAIN", "NOERROR"}
