"""What all tests share: order files to write, and a small country table of documentation addresses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def small_mmdb(tmp_path_factory):
    """A real MMDB: 203.0.113.0/24 and 2001:db8::/48 in FR, 192.0.2.0/24 in RE, 198.51.100.0/24 in DE."""
    from mmdb_writer import MMDBWriter
    from netaddr import IPSet

    writer = MMDBWriter(6, "Test-Country", languages=["en"], ipv4_compatible=True)
    for network, country in {
        "203.0.113.0/24": "FR", "2001:db8::/48": "FR", "192.0.2.0/24": "RE", "198.51.100.0/24": "DE",
    }.items():  # fmt: skip
        writer.insert_network(IPSet([network]), {"country": {"iso_code": country}})
    path = tmp_path_factory.mktemp("geo") / "small.mmdb"
    writer.to_db_file(str(path))
    return path
