"""The benchmark of the HTTP middlewares still runs. What it measures is nobody's business here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_it_prints_both_tables():
    """One row each, with no error: what a request costs, and how fast streams are cut."""
    script = Path(__file__).with_name("bench_adapters.py")
    options = "--servers aiohttp --pairs 1 --streams 5 --bystanders 2"
    ran = subprocess.run(
        [sys.executable, str(script), *options.split()], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert [line.partition(" |")[0] for line in ran.stdout.splitlines()] == [
        ran.stdout.splitlines()[0], "| µs of CPU per request", "| ---", "| aiohttp", "| 5 streams cut, ms", "| ---", "| aiohttp",
    ]  # fmt: skip
