"""`cdnblock apply`: what its command line takes, and what it turns down before it touches anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cdnblock.cli.root import root
from cdnblock.engines import ENGINES
from cdnblock.exporters import EXPORTERS


def run(*arguments):
    return CliRunner().invoke(root, ["apply", *map(str, arguments)])


def test_each_engine_is_a_target_of_export():
    """Nothing is kept in step that could not be written."""
    assert ENGINES.keys() <= EXPORTERS.keys()


def test_the_list_names_each_engine_and_how_it_is_reached():
    """Each with its settings and their defaults."""
    done = run("--list")
    assert done.exit_code == 0
    assert [line for line in done.output.splitlines() if not line.startswith(" ")] == [*ENGINES]
    assert "  --engine config=/etc/nginx/nginx.conf: its main file" in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nginx",), 2, "--out"),
        (("nginx", "--out", "out"), 2, "--no-probe"),
        (("nginx", "--out", "out", "--no-probe", "--probe", "http://127.0.0.1"), 2, "--no-probe"),
        (("hosts", "--out", "out", "--no-probe"), 1, "nothing keeps 'hosts' in step"),
        (("nginx", "--out", "out", "--no-probe", "--engine", "config=missing"), 1, "is missing"),
        (("nginx", "--out", "out", "--no-probe", "--engine", "colour=blue"), 1, "no engine setting 'colour'"),
        (("nginx", "--out", "out", "--no-probe", "--engine", "config"), 2, "write NAME=VALUE"),
        (("nginx", "--out", "out", "--no-probe", "--engine", "pid=a", "--engine", "pid=b"), 1, "given twice"),
        (("nginx", "--out", "out", "--no-probe", "--engine", "config=main", "--engine", "key=("), 1, "regular expression"),
        (("nginx", "--out", "out", "--no-probe", "--engine", "config=main", "--engine", "key=x"), 1, "(?P<host>"),
        (("nginx", "--out", "out", "--engine", "config=main", "--probe", "ftp://a"), 1, "neither a URL"),
        (("nginx", "--out", "out", "--engine", "config=main", "--probe", "http://a", "--probe-client", "FR"), 1, "CODE=ADDRESS"),
        (("haproxy", "--out", "out", "--no-probe", "--engine", "config=main"), 1, "stats socket"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_turned_down(arguments, code, said, tmp_path, monkeypatch):
    """With a word about what would be right, and before the folder is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main").write_text("")
    (tmp_path / "orders").mkdir()
    done = run(*arguments)
    assert (done.exit_code, said in done.output) == (code, True), done.output
    assert not (tmp_path / "out").exists()


def test_a_folder_has_one_keeper(tmp_path, monkeypatch):
    """A second service on the same folder would undo what the first does."""
    from cdnblock.engines._folder import ConfigFolder

    monkeypatch.chdir(tmp_path)
    (tmp_path / "main").write_text("")
    (tmp_path / "orders").mkdir()
    with ConfigFolder(tmp_path / "out"):
        done = run("nginx", "--out", "out", "--no-probe", "--engine", "config=main", "--once")
    assert (done.exit_code, "is in use by" in done.output) == (1, True), done.output
