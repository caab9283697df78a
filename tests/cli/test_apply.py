"""`cdnblock apply`: what its command line takes, and what it turns down before it touches anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cdnblock.cli.root import root
from cdnblock.engines import ENGINES
from cdnblock.exporters import EXPORTERS
from cdnblock.testing.stage import open_stage, put_orders


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
        (("nginx", "--out", "out", "--no-probe", "--engine", "check='"), 1, "--engine check=': no command, No closing"),
        (("nginx", "--out", "out", "--no-probe", "--accept-release"), 2, "--accept-release goes with --once"),
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


def test_once_guards_releases_from_one_run_to_the_next(tmp_path):
    """Without a state folder, too: an emptied folder releases nobody until that is said to be meant."""
    with open_stage(tmp_path, ()) as stage:
        put_orders(stage.orders, {"one": {"names": ["one.example"]}, "two": {"names": ["two.example"]}})
        once = ("traefik", "--orders", stage.orders, "--geo", stage.geo, "--out", stage.folder / "out", "--no-probe", "--once")  # fmt: skip
        written = stage.folder / "out" / "cdnblock.json"
        assert run(*once).exit_code == 0
        (stage.orders / "one.yaml").unlink()
        held = run(*once)
        assert (held.exit_code, "would release 1 names in force: it is held back" in held.output) == (1, True)
        assert "one.example" in written.read_text()
        (stage.orders / "two.yaml").write_text("cdnblock: 1\nnames: [")
        assert run(*once).exit_code == 1
        assert "two.example" in written.read_text()
        put_orders(stage.orders, {"two": {"names": ["two.example"]}})
        meant = run(*once, "--accept-release")
        assert meant.exit_code == 0, meant.output
        assert "one.example" not in written.read_text()
        assert run(*once).exit_code == 0


def test_once_ends_with_1_where_nothing_can_be_written(tmp_path):
    """5 would say that checked files wait for the engine's start; they do not."""
    with open_stage(tmp_path, ()) as stage:
        put_orders(stage.orders, {"one": {"names": ["one.example"]}})
        out, state = stage.folder / "out", stage.folder / "own"
        (out / "cdnblock.json").mkdir(parents=True)  # a folder stands where the file belongs
        once = ("traefik", "--orders", stage.orders, "--geo", stage.geo, "--out", out, "--state", state, "--no-probe", "--once")  # fmt: skip
        done = run(*once)
        assert (done.exit_code, "traefik is not in step: " in done.output) == (1, True), done.output
