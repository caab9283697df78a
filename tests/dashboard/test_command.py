"""`cdnblock serve --dashboard`, as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from running_dashboards import written

from cdnblock.cli.root import root

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(*arguments):
    """Run it until leaving; yield the process and what it said at its start."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CDNBLOCK_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "cdnblock", "serve", *map(str, arguments)],
        env=environment | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        said = ""
        while "dashboard on" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        yield process, said
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside the decision service"])
def test_it_shows_what_is_enforced_and_ends(tmp_path, small_mmdb, beside):
    """Alone or beside the decision service; with a trail; SIGTERM ends it with exit code 0."""
    orders = written(tmp_path / "orders")
    listen = ["--listen", f"unix:{tmp_path / 's'}"] if beside else []
    with serving(
        "--orders", orders, "--geo", small_mmdb, "--dashboard", "127.0.0.1:0", "--audit", tmp_path / "audit", *listen
    ) as (process, said):
        assert ("deciding on unix:" in said) is beside
        url = re.search(r"dashboard on (http://127\.0\.0\.1:\d+/)", said)[1]
        with urllib.request.urlopen(url, timeout=10) as answer:
            page = answer.read().decode()
        assert "of 25 listed" in page
        assert ">recording</a>" in page
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "nothing to serve"),
        (["--dashboard", "0.0.0.0:9460"], 1, "could be read from elsewhere"),
        (["--dashboard", "nonsense"], 1, "cannot listen on"),
        (["--dashboard", "127.0.0.1:9460", "--dashboard-token-file", "/nonexistent/token"], 1, "cannot be read"),
    ],
)
def test_it_does_not_start_where_that_would_be_wrong(arguments, code, words):
    """Each mistake is told before anything is loaded."""
    done = CliRunner().invoke(root, ["serve", "--orders", "/nonexistent", *arguments])
    assert done.exit_code == code
    assert words in done.stderr
