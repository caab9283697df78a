"""The benchmarks still run: each once, with next to nothing to measure. What they measure is nobody's business here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pymispwarninglists", reason="the names come with pymispwarninglists")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import table

README = HERE.parents[1] / "README.md"


def between(text):
    return text.partition(table.BEGIN)[2].partition(table.END)[0]


def rows(text):
    """Return the rows of the Markdown table in a text, the heads first."""
    return [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split(" |")]
        for line in re.findall(r"^\|.*", text, re.MULTILINE)
        if not line.startswith("| ---")
    ]


def ran(*options):
    return subprocess.run(
        [sys.executable, str(HERE / "table.py"), *map(str, options)], capture_output=True, text=True, timeout=180, check=False
    )  # fmt: skip


def test_all_benchmarks_make_one_table(tmp_path):
    """All that is measured is in it, for the number of names that it was measured with; the rest of the file stays."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    done = ran("--quick", "--into", page)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == between(page.read_text()).strip()
    assert page.read_text().startswith(f"before\n{table.BEGIN}\n")
    assert page.read_text().endswith(f"\n{table.END}\nafter\n")
    heads, *found = rows(done.stdout)
    assert heads == ["", "goal", "14 names"]
    assert [row[0] for row in found] == [figure.what for figure in table.FIGURES]
    for what, _, measured in found:
        assert re.fullmatch(r"[\d,]+\.\d", measured) or (measured == "not installed" and "`" in what), what
    assert "4 of them" in done.stdout


def test_a_file_without_the_markers_is_refused_before_anything_is_measured(tmp_path):
    """It is left as it is."""
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    done = ran("--quick", "--into", page)
    assert done.returncode == 1
    assert table.BEGIN in done.stderr
    assert page.read_text() == "nothing\n"


def test_the_readme_shows_the_table():
    """Every figure with its goal, each measured with some number of names, below the machine and the date."""
    shown = between(README.read_text(encoding="utf-8"))
    _, *found = rows(shown)
    assert [row[:2] for row in found] == [[figure.what, table.at_most(figure.goal)] for figure in table.FIGURES]
    assert all(any(row[2:]) for row in found)
    assert re.search(r"Python 3\.\d+\.\d+, 20\d\d-\d\d-\d\d; E,", shown)


def test_the_hidden_primary_is_measured():
    """A change behind each resolver that is installed here is one row."""
    pytest.importorskip("dns", reason="of the extra `dns`")
    if not (shutil.which("unbound") or shutil.which("unbound", path="/usr/sbin")):
        pytest.skip("unbound is not installed (apt-get install unbound)")
    command = [
        sys.executable,
        str(HERE / "bench_rpz_primary.py"),
        "--sizes",
        "20",
        "--changes",
        "1",
        "--resolvers",
        "unbound",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, check=False,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PATH": f"{os.environ['PATH']}:/usr/sbin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    heads, row = rows(done.stdout)
    assert row[:2] == ["20", "unbound"]
    assert len(row) == len(heads)
