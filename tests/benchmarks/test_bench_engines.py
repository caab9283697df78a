"""The benchmark of engines still runs, with next to nothing to measure."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pymispwarninglists", reason="the names come with pymispwarninglists")

HERE = Path(__file__).parent


def ran(*options):
    command = [sys.executable, str(HERE / "bench_engines.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("engine", ["haproxy"])
def test_the_cost_of_a_request(engine):
    """One row, with both costs, their ratio beside its goal, and what the start and the memory are."""
    if shutil.which(engine, path=f"/usr/sbin:{sys.prefix}/bin:/usr/bin:/usr/local/bin") is None:
        pytest.skip(f"{engine} is not installed")
    *_, row = ran("cost", "--engines", engine, "--names", "14", "--starts", "2", "--pairs", "2")
    assert re.fullmatch(
        rf"\| {engine} \| 14 \| [\d.]+ \| [\d.]+ \| [\d.]+ \([\d.]+ to [\d.]+\) \| ≤ 1.10 \| [\d.]+ \| -?\d+ \|", row
    )


def test_the_rendering_of_a_target():
    """One row for each target and number of names."""
    *_, first, second = ran("render", "--targets", "haproxy", "hosts", "--names", "14")
    for name, row in (("haproxy", first), ("hosts", second)):
        assert re.fullmatch(rf"\| `{name}` \| 14 \| [\d.]+ \| [\d.]+ \| \d+ \| [\d.]+ \|", row), row
