"""The benchmark of recording still runs. What it measures is nobody's business here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_it_prints_both_tables():
    """One row each, with no error: what a request costs, and what one more refusal costs to tell."""
    script = Path(__file__).with_name("bench_recording.py")
    command = [sys.executable, str(script), "--pairs", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [line.partition(" |")[0] for line in ran.stdout.splitlines()[1:]] == [
        "| µs of CPU per request, 1 % refused", "| ---", "| aiohttp", "| to tell one more refusal", "| ---", "| ns",
    ]  # fmt: skip
