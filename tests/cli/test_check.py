"""`cdnblock check`: every problem, and where."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from order_texts import order_text

from cdnblock.cli.root import root


def run(*arguments):
    return CliRunner().invoke(root, [str(argument) for argument in arguments], auto_envvar_prefix="CDNBLOCK")


def test_a_good_folder_is_silent_and_exits_0(tmp_path):
    """Results go to stdout, the count to stderr."""
    (tmp_path / "motogp.yaml").write_text(order_text())
    done = run("check", tmp_path)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "1 file, 1 valid order, 1 name, 0 errors, 0 warnings" in done.stderr


def test_every_problem_of_every_file_with_its_place(tmp_path):
    """One line each, `FILE:LINE:COLUMN: KEY: what; what would be right`, sorted by file and line; exit 1."""
    (tmp_path / "a.yaml").write_text(
        order_text(names="[http://motogpstream.me/live, '*.livetv822.me']", territory="[UK]")
    )
    (tmp_path / "b.yml").write_text(order_text(id="b") + "cour: typo\n")
    done = run("check", tmp_path)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    places = [line.removeprefix(f"{tmp_path}/").split(": ")[:2] for line in lines]
    assert places == [
        ["a.yaml:9:13", "territory.0"], ["a.yaml:11:9", "names.0"], ["a.yaml:11:38", "names.1"], ["b.yml:12:1", "cour"],
    ]  # fmt: skip
    assert "motogpstream.me" in lines[1]
    assert "court" in lines[3]


def test_json_has_the_agreed_keys(tmp_path):
    """`[{"file","line","column","key","severity","message"}]`."""
    (tmp_path / "a.yaml").write_text(order_text(names="[a.b, a.b]", measures="{dns: maybe}"))
    done = run("check", tmp_path, "--format", "json")
    found = json.loads(done.stdout)
    assert [sorted(item) for item in found] == [sorted(["file", "line", "column", "key", "severity", "message"])] * len(
        found
    )
    assert {(item["line"], item["severity"]) for item in found} >= {(10, "error"), (11, "warning")}
    assert done.exit_code == 1


def test_github_annotations_are_escaped(tmp_path):
    """A percent sign or a comma in a path cannot end a property."""
    odd = tmp_path / "50%,a.yaml"
    odd.write_text(order_text(measures="{}"))
    done = run("check", odd, "--format", "github")
    assert done.stdout.startswith(f"::error file={tmp_path}/50%25%2Ca.yaml,line=10,col=")


def test_warnings_do_not_fail(tmp_path):
    """The same name twice is a warning; it is shown and the exit code stays 0."""
    (tmp_path / "a.yaml").write_text(order_text(names="[a.example, a.example]"))
    done = run("check", tmp_path)
    assert done.exit_code == 0
    assert ": names: warning: `a.example` is listed already" in done.stdout


def test_two_files_with_one_id(tmp_path):
    """The later file, by name, is refused and names the earlier one."""
    (tmp_path / "a.yaml").write_text(order_text())
    (tmp_path / "b.yaml").write_text(order_text())
    done = run("check", tmp_path)
    assert done.exit_code == 1
    assert "b.yaml:2:5: id: " in done.stdout
    assert "a.yaml has the id motogp too" in done.stdout


def test_hidden_and_temporary_files_and_sub_folders_are_no_orders(tmp_path):
    """What editors leave, and what lies deeper, is not read."""
    (tmp_path / "good.yaml").write_text(order_text())
    for name in (".hidden.yaml", "#good.yaml#", "good.yaml~", "good.yaml.swp", "notes.txt", "~good.yaml"):
        (tmp_path / name).write_text("{")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "bad.yaml").write_text("{")
    done = run("check", tmp_path)
    assert done.exit_code == 0, done.stdout


HOSTILE = {
    "brackets": b"[" * 200_000,
    "closed brackets": b"[" * 100_000 + b"]" * 100_000,
    "braces": b"{" * 200_000,
    "keys in keys": b"? " * 100_000,
    "lists in lists": b"- " * 100_000,
    "an alias bomb": b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 110)),
    "an alias of itself": b"a: &a [*a]\n",
    "a 10 kB host": order_text(names="[" + "a" * 10_000 + ".example]").encode(),
    "a 10 kB host of dots": order_text(names="['" + "a." * 5_000 + "example']").encode(),
    "NULs": b"cdnblock: 1\0\0\0\n",
    "a BOM and rubbish": b"\xef\xbb\xbf\x00",
    "UTF-16": "cdnblock: 1\n".encode("utf-16"),
    "invalid UTF-8": b"cdnblock: 1\ntitle: \xff\xfe\n",
    "a 5 MB scalar": b"title: " + b"x" * 5_000_000,
    "5 MB of quotes": b"'" * 5_000_000,
    "100,000 documents": b"---\n" * 100_000,
    "100,000 keys": b"".join(b"k%d: 1\n" % number for number in range(100_000)),
    "a tag": b"!!python/object/apply:os.system ['true']\n",
    "an empty file": b"",
    "only a comment": b"# nothing\n",
    "a number": b"42\n",
    "tabs": b"\tcdnblock: 1\n",
    "a huge number": b"cdnblock: " + b"9" * 10_000 + b"\n",
    "a huge exponent": b"cdnblock: 1e999999999\n",
    "a date far away": order_text(until="9999-12-31").encode(),
    "a long delay": order_text().encode() + b"served: 2025-04-01\ncomply_within: 99999999999999 months\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_time(tmp_path, kind):
    """A whole process, because a crash of the parser would be the process's: exit 1 and a place, in seconds."""
    (tmp_path / "hostile.yaml").write_bytes(HOSTILE[kind])
    done = subprocess.run(
        [sys.executable, "-m", "cdnblock", "check", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1, done.stderr[-500:]
    assert "Traceback" not in done.stderr
    assert f"{tmp_path}/hostile.yaml:" in done.stdout


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    """A FIFO, a folder and a dangling link called x.yaml; a file that nobody may read."""
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to("nowhere")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    done = run("check", tmp_path)
    assert done.exit_code == 1
    assert "fifo.yaml:1:1: file: is a FIFO; an order is a regular file" in done.stdout
    assert "folder.yaml:1:1: file: is a folder; an order is a regular file" in done.stdout
    assert "link.yaml:1:1: file: cannot be read: No such file" in done.stdout
    assert "loop.yaml:1:1: file: cannot be read: Too many levels" in done.stdout


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_editors_of_other_systems_are_welcome(tmp_path, newline, mark):
    """A byte order mark and CRLF are fine."""
    (tmp_path / "a.yaml").write_bytes((mark + order_text().replace("\n", newline)).encode())
    assert run("check", tmp_path).exit_code == 0


def test_a_path_that_does_not_exist(tmp_path):
    """Exit 1 with what would be right, on stderr."""
    done = run("check", tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "no such file or folder; give a folder of *.yaml order files" in done.stderr


def test_the_folder_may_come_from_the_environment(tmp_path, monkeypatch):
    """CDNBLOCK_ORDERS is the default of every command."""
    (tmp_path / "a.yaml").write_text(order_text(measures="{}"))
    monkeypatch.setenv("CDNBLOCK_ORDERS", str(tmp_path))
    assert run("check").exit_code == 1
