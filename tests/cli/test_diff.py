"""`cdnblock diff`: what a change would do, for people, for scripts, and for a check of a pull request."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from order_texts import order_text

from cdnblock.cli.root import root

AT = ("--at", "2025-05-01T12:00")


@pytest.fixture
def folders(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "motogp.yaml").write_text(order_text(until="2025-11-16"))
    return tmp_path / "old", tmp_path / "new"


def run(*arguments):
    return CliRunner().invoke(root, [str(argument) for argument in arguments])


def test_in_words(folders):
    """What a file says otherwise, what that does, from when until when, and what the release guard would say."""
    old, new = folders
    (new / "motogp.yaml").write_text(order_text(until="2025-12-16", names="[motogpstream.me, b.example]"))
    done = run("diff", old, new, *AT)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"order motogp ({new}/motogp.yaml): changed",
        "  until: 2025-11-17T00:00+01:00 -> 2025-12-17T00:00+01:00",
        "  +1 name in its lists",
        "    +b.example",
        "  now",
        "    blocks 1 name (dns refuse, cdn disable, proxy terminate) in FR, until 2025-12-17 00:00+01:00",
        "      b.example",
        "  from 2025-11-17 00:00+01:00",
        "    goes on blocking 1 name (dns refuse, cdn disable, proxy terminate) in FR, until 2025-12-17 00:00+01:00",
        "      motogpstream.me",
        "",
        "in total: the same",
    ]


def test_the_release_guard_is_foretold(folders):
    """Before the change goes live: a dry run in place of enforcement releases everything."""
    old, new = folders
    (new / "motogp.yaml").write_text(order_text(until="2025-11-16") + "mode: report\n")
    lines = run("diff", old, new, *AT).stdout.splitlines()
    assert "  mode: enforce -> report" in lines
    assert (
        "    releases 1 name (dns refuse, cdn disable, proxy terminate) in FR, so far until 2025-11-17 00:00+01:00"
        in lines
    )
    assert (
        "    report only: would block 1 name (dns refuse, cdn disable, proxy terminate) in FR, until 2025-11-17 00:00+01:00"
        in lines
    )
    assert lines[-1] == (
        "the release guard would hold this back: it releases 1 of 1 name in force;"
        " `cdnblock reload --accept-release` where that is meant"
    )


def test_json_has_the_same(folders):
    """For scripts: kinds, measures, places, instants, names with how many there are."""
    old, new = folders
    (new / "second.yaml").write_text(
        order_text(id="second", names="[b.example, c.example]", territory="world", until="2025-11-16")
    )
    done = run("diff", old, new, *AT, "--json", "--names", "1")
    told = json.loads(done.stdout)
    assert (told["old"], told["new"], told["differs"]) == (str(old), str(new), True)
    (order,) = told["orders"]
    assert (order["id"], order["what"], order["file"]) == ("second", "new", f"{new}/second.yaml")
    assert order["changes"] == told["total"]
    assert told["total"] == [
        {
            "scope": "whole",
            "count": 2,
            "names": ["b.example"],
            "turns": [
                {
                    "kind": "blocks",
                    "mode": "enforce",
                    "measures": {"dns": "refuse", "cdn": "disable", "proxy": "terminate"},
                    "instead_of": {},
                    "places": {"all_but": [], "unknown": True},
                    "since": "2025-05-01T10:00:00+00:00",
                    "until": "2025-11-16T23:00:00+00:00",
                }
            ],
        }
    ]
    assert told["guard"] == {"held": False, "now": 0, "later": 0, "in_force": 1}


@pytest.mark.parametrize(("until", "code"), [("2025-11-16", 0), ("2025-11-17", 3)], ids=["the same", "a day longer"])
def test_exit_code_3_says_that_decisions_become_otherwise(folders, until, code):
    """Only with --exit-code."""
    old, new = folders
    (new / "motogp.yaml").write_text(order_text(until=until))
    assert run("diff", old, new, *AT, "--exit-code").exit_code == code
    assert run("diff", old, new, *AT).exit_code == 0


def test_single_files_and_empty_folders(folders, tmp_path):
    """Either side may be one file, and a folder that has no order yet has none."""
    old, new = folders
    (tmp_path / "empty").mkdir()
    assert "nothing differs" in run("diff", old / "motogp.yaml", new, *AT).stdout
    assert "order motogp" in run("diff", tmp_path / "empty", new / "motogp.yaml", *AT).stdout


@pytest.mark.parametrize("side", ["old", "new"])
def test_an_invalid_side_is_exit_1_with_its_problems(folders, side):
    """As `check` tells them, and no word on what would change."""
    old, new = folders
    broken = (old if side == "old" else new) / "motogp.yaml"
    broken.write_text(order_text(territory="france"))
    done = run("diff", old, new, *AT)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{broken}:9:12: territory: `france` is no preset")


def test_both_sides_problems_are_told(folders):
    """At once, so that nobody mends one only to hear of the other."""
    for folder in folders:
        (folder / "motogp.yaml").write_text("id: 1")
    done = run("diff", *folders, *AT)
    assert done.exit_code == 1
    assert all(f"{folder}/motogp.yaml:1:" in done.stderr for folder in folders)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing"], 2, "Missing argument"),
        (["missing", "missing"], 1, "no such file or folder"),
        (["missing", "missing", "--names", "-1"], 2, "write a number of names, or `all`"),
        (["missing", "missing", "--names", "²"], 2, "write a number of names, or `all`"),
        (["missing", "missing", "--at", "tomorrow"], 2, "is no time"),
    ],
)
def test_wrong_usage(arguments, code, words):
    """Usage is 2, an input that is not there 1."""
    done = run("diff", *arguments)
    assert (done.exit_code, words in done.stderr) == (code, True)


def test_a_hostile_folder_steers_no_terminal(tmp_path):
    """Neither by the name of a file nor by what stands in it."""
    (tmp_path / "old").mkdir()
    new = tmp_path / "new\x1b[31m\u202e"
    new.mkdir()
    (new / "x\x1b]0;y\x07.yaml").write_text(order_text())
    done = run("diff", tmp_path / "old", new, *AT)
    assert done.exit_code == 0
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert "new\\x1b[31m\\u202e" in done.stdout


def test_all_names_come_out_of_a_process(folders):
    """As a command of its own: `python -m cdnblock diff`, with every name where all are asked for."""
    old, new = folders
    names = [f"n{number}.example" for number in range(700)]
    (new / "annex.txt").write_text("\n".join(names))
    (new / "second.yaml").write_text(
        order_text(id="second", until="2025-11-16").replace("names: [motogpstream.me]", "names_file: annex.txt")
    )
    done = subprocess.run(
        [sys.executable, "-m", "cdnblock", "diff", str(old), str(new), *AT, "--names", "all"],
        capture_output=True, text=True, check=True, env=os.environ, timeout=60,
    )  # fmt: skip
    assert sorted(line.strip() for line in done.stdout.splitlines() if line.startswith("      ")) == sorted(names)
