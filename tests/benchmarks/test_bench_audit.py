"""The benchmark of the audit trail still runs. What it measures is nobody's business here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parent / "bench_audit.py"


def test_the_cost_of_a_trail_is_measured(tmp_path):
    """All rows are there, and what was written verifies."""
    command = [sys.executable, str(BENCHMARK), "--records", "300", "--rounds", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n| ") == 12
    assert "verifying 300 records" in done.stdout
