"""The benchmark of resolvers still runs. What it measures is nobody's business here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pymispwarninglists", reason="the names come with pymispwarninglists")
sys.path.insert(0, str(Path(__file__).parent.parent / "adapters"))
from dns_peers import missing


@pytest.mark.skipif(bool(missing("dnsperf", "nsd", "unbound")), reason=missing("dnsperf", "nsd", "unbound"))
def test_it_prints_both_tables():
    """A row for the engine alone and one for each client, and a row of what the names cost."""
    script = Path(__file__).with_name("bench_resolvers.py")
    options = "--engines unbound --names 14 --seconds 0.2 --rounds 1"
    ran = subprocess.run(
        [sys.executable, str(script), *options.split()], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert [line.partition(" |")[0] for line in ran.stdout.splitlines() if line.startswith("| ")] == [
        "| who asks", "| ---", "| unbound alone", "| unbound, from France", "| unbound, from Germany", "| unbound, refusals",
        "| engine", "| ---", "| unbound",
    ]  # fmt: skip
