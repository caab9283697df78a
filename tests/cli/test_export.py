"""`cdnblock export`: files in a folder, what it says, and how it ends."""

from __future__ import annotations

import stat

import pytest
from click.testing import CliRunner
from order_texts import order_text

from cdnblock.cli.export import put
from cdnblock.cli.root import root
from cdnblock.exporters import EXPORTERS, File, load, table

AT = "2025-05-01T12:00"


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "one.yaml").write_text(order_text(names="[a.example, b.example]", until="2035-12-31"))
    return folder


@pytest.fixture
def run(orders, small_mmdb, tmp_path):
    def done(target, *arguments):
        fixed = ("--orders", orders, "--geo", small_mmdb, "--out", tmp_path / "out", "--at", AT)
        return CliRunner().invoke(root, ["export", target, *map(str, (*fixed, *arguments))])

    return done


@pytest.mark.parametrize("target", EXPORTERS)
def test_files_are_written_and_named(target, run, tmp_path):
    """Each file's path on stdout, readable for all; nothing else is left in the folder."""
    needed = ("--set", "clients=192.0.2.0/24") if target == "unbound" else ()
    done = run(target, "--partial", *needed, *(() if load(target).territory else ("--clients-in", "FR")))
    assert done.exit_code == 0, done.output
    paths = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert sorted(done.stdout.split()) == [str(path) for path in paths]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o644}
    texts = [path.read_bytes() for path in paths]
    assert any(name in text for text in texts for name in (b"a.example", b"\1a\7example"))


def test_what_did_not_change_is_left_alone(run, orders, tmp_path):
    """A second export names and touches the files alone that became others; strangers' files stay."""
    run("haproxy")
    before = {path.name: path.stat() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "mine.cfg").write_text("mine")
    assert run("haproxy").stdout == ""
    (orders / "two.yaml").write_text(order_text(id="two", names="[c.example]", until="2035-12-31"))
    changed = {path.rpartition("/")[2] for path in run("haproxy").stdout.split()}
    assert changed == {f"cdnblock-{name}.map" for name in ("gates", "hosts", "territory", "actions", "notices")}
    for name, was in before.items():
        assert ((tmp_path / "out" / name).stat().st_ino != was.st_ino) is (name in changed)
    assert (tmp_path / "out" / "mine.cfg").read_text() == "mine"


def test_a_file_is_dated_after_the_one_it_replaces(tmp_path):
    """Some engines see a change only where the second of a file's date is a later one."""
    dates = []
    for text in ("a", "b", "b", "c"):
        put(tmp_path, [File("x.txt", text)])
        dates.append(int((tmp_path / "x.txt").stat().st_mtime))
    assert dates[0] < dates[1] == dates[2] < dates[3]


def test_data_that_is_no_text_is_written_as_it_is(tmp_path):
    """Octets are octets; the same ones are no change."""
    file = File("x.cdb", data=b"\xff\0\n")
    assert put(tmp_path, [file]) == ["x.cdb"]
    assert (tmp_path / "x.cdb").read_bytes() == b"\xff\0\n"
    assert put(tmp_path, [file]) == []


def test_what_cannot_be_said_ends_with_1_and_writes_nothing(run, tmp_path):
    """Order and reason on stderr."""
    done = run("dnsmasq", "--clients-in", "FR")
    assert done.exit_code == 1
    assert "order motogp: dns refuse: dnsmasq answers a listed name with NXDOMAIN" in done.stderr
    assert not (tmp_path / "out").exists()


def test_partial_writes_the_rest_and_says_what_is_missing(run, tmp_path):
    """On stderr and in the file."""
    done = run("dnsmasq", "--clients-in", "FR", "--partial")
    assert done.exit_code == 0
    missing = "order motogp: dns refuse: dnsmasq answers a listed name with NXDOMAIN, and gives no extended error; written as nxdomain"
    assert done.stderr == f"cdnblock: missing: {missing}\n"
    assert f"# MISSING: {missing}\n" in (tmp_path / "out" / "cdnblock-dnsmasq.conf").read_text()


def test_served_hosts_are_read_from_a_file(run, tmp_path):
    """One a line in any spelling, with comments; what is none is told with its line."""
    served = tmp_path / "served.txt"
    served.write_text("# ours\nWWW.A.Example.  # the shop\n\n*.b.example\n")
    run("haproxy", "--served", served)
    hosts = (tmp_path / "out" / "cdnblock-hosts.map").read_text()
    named = [line.split()[0] for line in hosts.splitlines() if line[0] != "#"]
    # the last are ends of the first: a look further
    assert named == ["=www.a.example", "b.example", "a.example", "www.a.example"]
    served.write_text("www.a.example\nhttp://b.example/\n")
    done = run("haproxy", "--served", served)
    assert (done.exit_code, "--served, line 2: 'http://b.example/' is no host name" in done.stderr) == (1, True)


def test_options_reach_the_text(run, tmp_path):
    """Where the server finds the files, whom it believes, and the target's own settings."""
    done = run(
        "haproxy", "--folder", "/etc/haproxy/cdnblock", "--trusted-proxies", "10.0.0.0/8, 192.0.2.1",
        "--operator-url", "https://edge.example/why", "--contact", "legal@edge.example", "--set", "defaults=base", "--stamp",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    read = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert "lua-load '/etc/haproxy/cdnblock/cdnblock.lua'" in read["cdnblock.cfg"]
    assert "defaults cdnblock from base" in read["cdnblock.cfg"]
    assert "acl trusted src -m ip 10.0.0.0/8\n  acl trusted src -m ip 192.0.2.1\n" in read["cdnblock.cfg"]
    assert '<https://edge.example/why>; rel="blocked-by"' in read["cdnblock-notices.map"]
    assert "legal@edge.example" in read["cdnblock-notices.map"]
    assert "# rendered 20" in read["cdnblock-hosts.map"]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("iis",), 1, "there is no target 'iis'"),
        (("haproxy", "--trusted-proxies", "10.0.0.0/99"), 1, "is no network"),
        (("haproxy", "--set", "nonsense=1"), 1, "haproxy has no setting 'nonsense'"),
        (("haproxy", "--set", "nonsense"), 2, "write NAME=VALUE"),
        (("domains", "--clients-in", "France"), 2, "is no ISO 3166-1 alpha-2 code"),
    ],
)
def test_wrong_arguments_are_told(arguments, code, complaint, run):
    """1 for what the server or the configuration cannot have, 2 for wrong usage."""
    done = run(*arguments)
    assert (done.exit_code, complaint in done.stderr) == (code, True), done.output


def test_the_list_of_targets():
    """The table on stdout, what can be set on stderr."""
    done = CliRunner().invoke(root, ["export", "--list"])
    assert (done.exit_code, done.stdout) == (0, table() + "\n")
    assert "haproxy: --set defaults=…: name of your defaults section that ours builds on" in done.stderr


def test_without_a_target_or_a_folder_it_is_wrong_usage():
    """Exit 2."""
    assert CliRunner().invoke(root, ["export"]).exit_code == 2
    assert CliRunner().invoke(root, ["export", "haproxy"]).exit_code == 2


def test_a_file_that_cannot_be_written_leaves_all_as_it_was(tmp_path):
    """No file is put in its place before all are written, and none of ours is left over."""
    (tmp_path / "b").mkdir()
    put(tmp_path, [File("a", "old")])
    with pytest.raises(OSError, match="directory"):
        put(tmp_path, [File("a", "new"), File("b", "new")])
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
