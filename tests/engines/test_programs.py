"""The programs that an engine is, found by what they leave behind."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cdnblock.engines import load
from cdnblock.engines._engine import Change, DownError
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
    told = "names no process" if kind in ("empty", "words", "/dev/zero", "/dev/null") else ""
    with pytest.raises(DownError, match=f"nginx does not run: .*{told}"):
        running(str(file), "nginx")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pid /nowhere/a.pid;\n", "/nowhere/a.pid"),
        ("user root; worker_processes 1; pid /nowhere/a.pid; daemon off;\n", "/nowhere/a.pid"),
        ('worker_processes 1;\n  pid "/nowhere/a.pid" ;\n', "/nowhere/a.pid"),
        ("events { }pid /nowhere/a.pid;", "/nowhere/a.pid"),
        ("pid logs/a.pid;", "/usr/share/nginx/logs/a.pid"),
        ("# pid /nowhere/b.pid;\npid /nowhere/a.pid;\n", "/nowhere/a.pid"),
        ("daemon off; # ; pid /nowhere/b.pid;\npid /nowhere/a.pid;\n", "/nowhere/a.pid"),
        ("my_pid /nowhere/b.pid;\npid /nowhere/a.pid;\n", "/nowhere/a.pid"),
    ],
)
def test_nginx_is_found_by_its_own_configuration(tmp_path, text, found):
    """Wherever in a line the directive stands; a comment is none."""
    (tmp_path / "nginx.conf").write_text(text)
    kind = load("nginx")
    nginx = kind.make(kind.means(tmp_path, [("config", str(tmp_path / "nginx.conf")), ("check", "true")]))
    with pytest.raises(DownError, match=re.escape(f"nginx does not run: {found}")):
        nginx.take(Change(folder=tmp_path, before={}, after={}, whole=True))
