"""The benchmarks still run: each once, with next to nothing to measure. What they measure is nobody's business here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "adapters"))

from dns_peers import missing

TINY_DNS = "--seconds 0.1 --rounds 1 --names 600 --asked 500 --new 500 --memory 0.2"


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("bench_decisions.py", ["--sizes", "14", "600", "--rounds", "2"], "| seen before, not covered |"),
        ("bench_reload.py", ["--sizes", "600", "--changes", "1", "--reloads", "4"], "| after 4 |"),
        ("bench_dns.py", TINY_DNS.split(), "| forwarded: cdnblock dns, asyncio |"),
    ],
)
def test_a_benchmark_runs(script, options, said):
    """It prints its Markdown tables, with no error among them."""
    pytest.importorskip("pymispwarninglists", reason="the names come with pymispwarninglists")
    if script == "bench_dns.py" and (why := missing("dnsperf", "unbound", "nsd")):
        pytest.skip(why)
    ran = subprocess.run(
        [sys.executable, str(HERE / script), *options], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert said in ran.stdout
    assert "Traceback" not in ran.stderr
