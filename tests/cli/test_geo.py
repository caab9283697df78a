"""`cdnblock geo`: look-ups, what a table is, where two tables disagree."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from cdnblock.cli.root import root


def run(*arguments, env=None):
    return CliRunner().invoke(root, ["geo", *map(str, arguments)], env=env)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CDNBLOCK_GEO", raising=False)


@pytest.fixture
def tables(tmp_path):
    made = []
    for name, networks in (
        ("a.mmdb", {"192.0.2.0/24": "FR", "198.51.100.0/24": "RE", "2001:db8::/32": "FR"}),
        ("b.mmdb", {"192.0.2.0/25": "FR", "198.51.100.0/24": "FR", "203.0.113.0/25": "GP", "2001:db8::/33": "FR"}),
    ):
        writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=name.upper())
        for network, code in networks.items():
            writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
        writer.to_db_file(str(tmp_path / name))
        made.append(tmp_path / name)
    return made


def test_an_address_is_looked_up_in_the_default_table():
    """The country, the table and its date; the tunnel if there is one."""
    done = run("lookup", "90.84.144.1", "2002:5a54:9001::1", "10.0.0.1", "203.0.113.9")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "ADDRESS            COUNTRY  TOLD BY",
        "90.84.144.1        FR       iptoasn of 2026-06-17",
        "2002:5a54:9001::1  FR       iptoasn of 2026-06-17, by 90.84.144.1 inside 6to4",
        "10.0.0.1           unknown  an address of no place",
        "203.0.113.9        unknown  not in iptoasn of 2026-06-17",
    ]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("90.84.144.1", {"client": "90.84.144.1", "tunnel": None, "country": "FR", "told_by": "iptoasn of 2026-06-17"}),
        (
            "::ffff:5a54:9001",
            {"client": "90.84.144.1", "tunnel": "IPv4-mapped", "country": "FR", "told_by": "iptoasn of 2026-06-17"},
        ),
        ("::1", {"client": "::1", "tunnel": None, "country": None, "told_by": "an address of no place"}),
    ],
)
def test_scripts_get_a_json_line_for_each_address(address, expected):
    """Every key, always."""
    done = run("lookup", address, address, "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"address": address} | expected] * 2


def test_what_is_no_address_exits_1():
    """The others are still answered; a text that would steer the terminal is shown, not sent."""
    done = run("lookup", "127.1", "\x1b[2Jx", "90.84.144.1")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1:] == [
        "127.1        unknown  not an address",
        "\\x1b[2Jx     unknown  not an address",
        "90.84.144.1  FR       iptoasn of 2026-06-17",
    ]


def test_a_table_is_taken_from_option_variable_and_settings(tables, tmp_path):
    """`--geo` before CDNBLOCK_GEO before cdnblock.toml."""
    a, b = tables
    (tmp_path / "cdnblock.toml").write_text(f'geo = "{b}"\n')
    assert "B.MMDB of" in run("lookup", "192.0.2.1").stdout
    assert "A.MMDB of" in run("lookup", "192.0.2.1", env={"CDNBLOCK_GEO": str(a)}).stdout
    assert "B.MMDB of" in run("lookup", "192.0.2.1", "--geo", b, env={"CDNBLOCK_GEO": str(a)}).stdout
    (tmp_path / "cdnblock.toml").write_text(f'[geo]\ninfo = {{ geo = "{a}" }}\n')
    assert "A.MMDB" in run("info").stdout
    assert "iptoasn" in run("lookup", "90.84.144.1").stdout


def test_the_default_table_is_described_with_its_weaknesses():
    """Source, date, age, licence, size; and plainly that it is dated, weak overseas, and how to bring a better one."""
    done = run("info")
    lines = done.stdout.splitlines()
    assert lines[0] == "source        iptoasn, version 2.3.2026061719"
    assert lines[1].startswith("date          2026-06-17, ")
    assert lines[1].endswith(" days old")
    assert lines[2:6] == [
        "licence       PDDL-1.0",
        "ranges        225,110 IPv4, 65,344 IPv6",
        "countries     239",
        "French codes  all but TF",
    ]
    for word in ("ages", "errors", "overseas", "--geo FILE.mmdb", "CDNBLOCK_GEO", "geo compare"):
        assert word in done.stdout


def test_a_table_is_described_in_json(tables):
    """The default one with its warning, another one without."""
    default = json.loads(run("info", "--json").stdout)
    assert default.keys() == {
        "source", "version", "date", "age_days", "licence", "ranges", "countries", "french_codes_missing", "warning",
    }  # fmt: skip
    assert default["date"] == "2026-06-17"
    assert "FR" in default["countries"]
    mine = json.loads(run("info", "--json", "--geo", tables[1]).stdout)
    assert mine["warning"] is None
    assert mine["licence"] is None
    assert mine["source"] == "B.MMDB"
    assert mine["age_days"] in {0, 1}
    assert mine["ranges"] == {"ipv4": 3, "ipv6": 1}
    assert mine["countries"] == ["FR", "GP"]


def test_two_tables_are_compared(tables):
    """Per country: both, only A, only B, what the other says instead, and the share on which they disagree."""
    done = run("compare", *tables, "--countries", "FR,RE,gp,TF")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("A: A.MMDB of 20")
    assert lines[1].startswith("B: B.MMDB of 20")
    assert lines[2:] == [
        "",
        "IPv4 addresses:",
        "COUNTRY  BOTH  ONLY A  B SAYS   ONLY B  A SAYS   DISAGREE",
        "FR       128   128     nothing  256     RE       75.0%",
        "RE       0     256     FR       0       -        100.0%",
        "GP       0     0       -        128     nothing  100.0%",
        "TF       0     0       -        0       -        -",
        "",
        "IPv6 /48 networks:",
        "COUNTRY  BOTH    ONLY A  B SAYS   ONLY B  A SAYS  DISAGREE",
        "FR       32,768  32,768  nothing  0       -       50.0%",
        "RE       0       0       -        0       -       -",
        "GP       0       0       -        0       -       -",
        "TF       0       0       -        0       -       -",
    ]


def test_a_comparison_in_json_counts_64s(tables):
    """The French codes unless told otherwise."""
    found = json.loads(run("compare", *tables, "--json").stdout)
    assert found["a"]["source"] == "A.MMDB"
    assert list(found["countries"]) == ["FR", "GP", "MQ", "GF", "RE", "YT", "PM", "BL", "MF", "WF", "PF", "NC", "TF"]
    assert found["countries"]["FR"]["ipv6"] == {
        "both": 1 << 31, "only_a": 1 << 31, "only_b": 0, "instead_a": None, "instead_b": None, "disagreement": 0.5,
    }  # fmt: skip


def test_a_table_agrees_with_itself():
    """`default` is the one in the package; nothing differs."""
    found = json.loads(run("compare", "default", "default", "--countries", "FR,RE", "--json").stdout)
    for country in ("FR", "RE"):
        for half in found["countries"][country].values():
            assert half["both"] > 0
            assert half["only_a"] == half["only_b"] == half["disagreement"] == 0


@pytest.mark.parametrize("countries", ["", ",", "F1", "France", "EU", "FR,ZZ"])
def test_a_word_that_is_no_country_is_a_usage_error(countries):
    """Exit 2, and what would be right."""
    done = run("compare", "default", "default", "--countries", countries)
    assert done.exit_code == 2
    assert "codes like FR,RE" in done.stderr


@pytest.mark.parametrize("command", [("lookup", "90.84.144.1", "--geo"), ("info", "--geo"), ("compare", "default")])
def test_a_file_that_is_no_table_exits_1(command, tmp_path):
    """With a message on stderr, nothing on stdout, and no traceback."""
    (tmp_path / "t.mmdb").write_bytes(b"nonsense")
    done = run(*command, tmp_path / "t.mmdb")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "is no MMDB file" in done.stderr
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("command", [(), ("lookup",), ("info",), ("compare",)])
def test_every_command_has_help_with_an_example(command):
    """What it does, and one to copy."""
    done = run(*command, "--help")
    assert done.exit_code == 0
    assert "Example: cdnblock geo" in " ".join(done.stdout.split())


def test_a_terminal_sees_a_bar_after_two_seconds(tables):
    """Not before, and never a pipe: here the clock runs fast."""
    code = (
        "import sys, itertools, time\n"
        "time.monotonic = itertools.count(0, 3).__next__\n"
        "from cdnblock.cli.root import root\n"
        "root(sys.argv[1:])"
    )
    package = Path(sys.modules["cdnblock"].__file__).parent
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-c", code, "geo", "info", "--geo", str(tables[0])]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True, cwd=package.parent)
    os.close(theirs)
    seen = b""
    while True:
        try:
            more = os.read(ours, 4096)
        except OSError:
            break
        if not more:
            break
        seen += more
    os.close(ours)
    assert b"networks read" in seen
    assert b"networks read" not in done.stdout
    piped = subprocess.run(arguments, capture_output=True, timeout=60, check=True, cwd=package.parent)
    assert piped.stderr == b""
