"""HAProxy beside the same HAProxy without the exported section: hosts that no order covers notice nothing."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import QUESTIONS, needs, running, said_without_clocks, stage_with, texts_of
from free_ports import free_ports
from test_export_haproxy import HAProxy

pytestmark = needs("haproxy", "haproxy")

ORDERS = {
    "first": {"names": ["a.example", {"name": "alone.example", "subdomains": False}]},
    "lifted": {"names": ["b.example"], "lifted": [{"names": ["free.b.example"], "at": "2025-05-01T12:00"}]},
    "uncached": {"names": ["c.example"], "measures": {"cdn": "disable"}},
}
OTHERWISE = (b"Upgrade: h2c", b"GET / HTTP/1.1\r\n%(rest)s")
"""What is told to be otherwise: upgrades to anything but WebSockets are taken out, and without a host there is a 400."""


def test_uncovered_hosts_get_what_they_get_without_us(tmp_path):
    """Octet for octet, both ways; clocks and counters apart."""
    questions = [question for question in QUESTIONS if not any(part in question for part in OTHERWISE)]
    assert len(questions) == len(QUESTIONS) - len(OTHERWISE)
    with stage_with(tmp_path, **ORDERS) as stage:
        haproxy = HAProxy(stage)
        with haproxy.run(), _alone(haproxy, tmp_path / "alone") as plain:
            for text in texts_of(questions):
                assert said_without_clocks(haproxy.port, text) == said_without_clocks(plain, text), text


@contextmanager
def _alone(haproxy, folder):
    """Run the same HAProxy without a line of ours; yield its port."""
    folder.mkdir()
    port, tls = free_ports(2)
    base, _, edge = haproxy.files
    text = base.read_text().replace(str(haproxy.stage.folder), str(folder)) + edge.read_text()
    text = text.replace("from cdnblock", "from base").replace(f":{haproxy.port}\n", f":{port}\n")
    text = text.replace(f":{haproxy.tls} ", f":{tls} ").replace("!{ var(txn.cdnblock_action) -m str uncached }", "TRUE")
    assert "cdnblock" not in text
    file = folder / "haproxy.cfg"
    file.write_text(text)
    with running(["haproxy", "-W", "-db", "-f", str(file)], port, folder / "haproxy.log"):
        yield port
