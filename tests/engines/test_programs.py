"""The programs that an engine is, found by what they leave behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdnblock.engines._engine import DownError
from cdnblock.engines._programs import running


def test_a_process_is_found_by_the_file_that_names_it(tmp_path):
    """And by its name, since its number may be somebody else's by now."""
    file = tmp_path / "engine.pid"
    file.write_text(f"{os.getpid()}\n")
    name = Path("/proc/self/comm").read_text().strip()
    assert running(str(file), name) == os.getpid()
    with pytest.raises(DownError, match=rf"names the process {os.getpid()}, which is {name}"):
        running(str(file), "nginx")


@pytest.mark.parametrize("kind", ["missing", "empty", "words", "pipe", "/dev/zero", "/dev/null", "folder", "long"])
def test_what_names_no_process_is_waited_for_by_nobody(tmp_path, kind):
    """Whoever writes the file: it is read as far as a number is long."""
    file = tmp_path / kind if not kind.startswith("/") else Path(kind)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind in ("empty", "words", "long"):
        file.write_text({"empty": "", "words": "no number", "long": "9" * 10_000_000}[kind])
    with pytest.raises(DownError, match="nginx does not run"):
        running(str(file), "nginx")
