"""`cdnblock audit`: what people and scripts get to see of a trail, and what they are told of a broken one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from trails import ORDER, decision_about, enforce, flushed, lines, segments, write_trail

from cdnblock.audit.chain import anchor
from cdnblock.audit.records import Kind
from cdnblock.audit.segments import Head
from cdnblock.audit.settings import OrderText
from cdnblock.audit.tally import Tally
from cdnblock.audit.trail import Trail
from cdnblock.audit.verifying import verify
from cdnblock.cli.root import root

ROOT = Path(__file__).parents[2]
HOSTILE = {
    "escape": "\x1b[2J\x1b]0;title\x07", "newline": "a\nOK: verified\r", "override": "\u202egpj.exe", "c1": "\x9b31m",
    "html": "<script>alert(1)</script>", "surrogate": "\udcff", "zero width": "a\u200b\u2066b", "separator": "a\u2028b",
}  # fmt: skip


def run(*arguments, **environment):
    return CliRunner().invoke(root, ["audit", *map(str, arguments)], auto_envvar_prefix="CDNBLOCK", env=environment)


@pytest.fixture
def trail(tmp_path):
    """A run with hits of two hosts, and life of two orders."""
    folder = tmp_path / "audit"
    decision = decision_about()
    with Trail(folder, tally := Tally()) as trail:
        trail.loaded([OrderText(order=ORDER, file="motogp.yaml", text=b"id: motogp\n")], revision=decision.revision)
        trail.event(Kind.ORDER_STARTED, order=ORDER, names=1)
        trail.event(Kind.ORDER_ENDED, order="other")
        flushed(trail)
        enforce(tally, decision, times=5)
        flushed(trail)
        enforce(tally, decision, "tv.motogpstream.me", times=5)
    return folder


def change(folder):
    path = segments(folder)[-1]
    path.write_bytes(path.read_bytes().replace(b"90.84.144.0", b"90.84.145.0"))


def test_a_whole_trail_verifies(trail):
    """Exit 0, how many records, and the head to write down."""
    done = run("verify", trail)
    head = verify(trail).head
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        f"{trail}: 7 records in 1 segments: is what was written", f"head {anchor(head.seq, head.chain)}",
    ]  # fmt: skip


def test_a_changed_record_is_told_with_file_and_line(trail):
    """Exit 1, and the place in the form that editors jump to."""
    change(trail)
    done = run("verify", trail)
    assert done.exit_code == 1
    assert f"{segments(trail)[0].name}:5: record 5 was changed" in done.output
    assert "IS NOT what was written: 1 findings" in done.output


def test_scripts_get_json(trail):
    """The same as a mapping, whole or not."""
    told = json.loads(run("verify", trail, "--json").output)
    assert (told["ok"], told["records"], told["findings"]) == (True, 7, [])
    change(trail)
    done = run("verify", trail, "--json")
    (finding,) = json.loads(done.output)["findings"]
    assert done.exit_code == 1
    assert (finding["wrong"], finding["file"], finding["line"], finding["seq"]) == (
        "changed", segments(trail)[0].name, 5, 5,
    )  # fmt: skip


def test_a_head_is_expected(trail):
    """The right one is; another, or one that is none, is not."""
    head = verify(trail).head
    assert run("verify", trail, "--expect", anchor(head.seq, head.chain)).exit_code == 0
    assert run("verify", trail, "--expect", anchor(head.seq, b"\1" * 32)).exit_code == 1
    assert run("verify", trail, "--expect", anchor(head.seq + 1, head.chain)).exit_code == 1
    done = run("verify", trail, "--expect", "7:rubbish")
    assert done.exit_code == 2
    assert "is no head of a trail" in done.output


def test_the_folder_comes_from_the_environment(trail):
    """CDNBLOCK_AUDIT, as for whoever writes it."""
    assert run("verify", CDNBLOCK_AUDIT=str(trail)).exit_code == 0
    assert run("show", CDNBLOCK_AUDIT=str(trail)).exit_code == 0
    assert run("verify").exit_code == 2


def test_what_cannot_be_read_is_exit_5(tmp_path, trail):
    """No folder, and a segment that may not be read: neither right nor wrong."""
    assert run("verify", tmp_path / "nowhere").exit_code == 5
    assert run("show", tmp_path / "nowhere").exit_code == 5
    if os.geteuid():
        segments(trail)[0].chmod(0)
        assert run("verify", trail).exit_code == 5


def test_an_empty_folder_is_no_trail(tmp_path):
    """Nothing is wrong with no records but that they are not there."""
    done = run("verify", tmp_path)
    assert done.exit_code == 1
    assert "there is no trail here" in done.output


def kinds(done):
    assert done.exit_code == 0, done.output
    return [json.loads(line)["kind"] for line in done.output.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["trail-opened", "loaded", "order-started", "order-ended", "enforced", "counted", "trail-closed"]),
        (("--order", ORDER), ["loaded", "order-started", "enforced", "counted"]),
        (("--order", "other"), ["order-ended"]),
        (("--order", "nobody"), []),
        (("--name", "motogpstream.me"), ["enforced", "counted"]),
        (("--name", "WWW.MotoGPstream.me."), ["enforced", "counted"]),
        (("--name", "tv.motogpstream.me"), ["counted"]),
        (("--kind", "enforced", "--kind", "order-ended"), ["order-ended", "enforced"]),
        (("--country", "fr"), ["enforced", "counted"]),
        (("--country", "DE"), []),
        (("--since", "2999-01-01"), []),
        (("--until", "2000-01-01"), []),
        (("--since", "2000-01-01", "--until", "2999-01-01", "--last", "2"), ["counted", "trail-closed"]),
    ],
    ids=range(13),
)
def test_records_are_chosen(trail, options, expected):
    """By order, name or host, kind, country and time; the last ones of them."""
    assert kinds(run("show", trail, "--json", *options)) == expected


def test_people_get_a_table(trail):
    """A line for each record: what, of which order and name, for whom, and how often."""
    done = run("show", trail)
    assert done.exit_code == 0
    header, *rows = done.output.splitlines()
    assert header.split() == ["SEQ", "TIME", "(UTC)", "KIND", "WHAT"]
    assert len(rows) == 7
    assert "order=motogp  names=1" in rows[2]
    assert rows[4].endswith(
        "motogp motogpstream.me (www.motogpstream.me) proxy:terminate answer FR 90.84.144.0/24 aiohttp_middleware"
    )
    assert " x9 from " in rows[5]


@pytest.mark.parametrize("option", [("--kind", "rubbish"), ("--since", "yesterday"), ("--last", "0")], ids=range(3))
def test_a_wrong_choice_is_a_usage_error(trail, option):
    """Exit 2, and what would be right."""
    assert run("show", trail, *option).exit_code == 2


def test_evidence_is_exported_and_verifies(trail, tmp_path):
    """Elsewhere, by the same command; and not once it was changed."""
    out = tmp_path / "evidence.json"
    done = run("export", trail, "--order", ORDER, "--out", out)
    assert done.exit_code == 0, done.output
    assert "6 records, 1 of other orders as digests, 1 files" in done.output
    assert out.stat().st_mode & 0o777 == 0o600
    assert run("verify", out).exit_code == 0
    assert json.loads(run("verify", out, "--json").output)["omitted"] == 1
    out.write_bytes(out.read_bytes().replace(b"90.84.144.0", b"90.84.145.0"))
    done = run("verify", out)
    assert done.exit_code == 1
    assert "record 5 was changed" in done.output


def test_evidence_of_a_broken_trail_is_exported_with_a_warning(trail, tmp_path):
    """Exit 1: it is written, and says what is wrong."""
    change(trail)
    out = tmp_path / "evidence.json"
    done = run("export", trail, "--order", ORDER, "--out", out)
    assert done.exit_code == 1
    assert "record 5 was changed" in done.output
    assert run("verify", out).exit_code == 1


def test_no_evidence_is_written_where_there_is_none(trail, tmp_path):
    """Of an order that nobody knows, or where nothing can be written; what was there stays."""
    out = tmp_path / "evidence.json"
    out.write_text("before")
    done = run("export", trail, "--order", "nobody\x1b[2J", "--out", out)
    assert done.exit_code == 1
    assert out.read_text() == "before"
    assert "\x1b" not in done.output
    assert run("export", trail, "--order", ORDER, "--out", tmp_path / "nowhere" / "x").exit_code == 5
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def is_safe(text):
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_in_a_trail_steers_a_terminal(tmp_path, text):
    """Whatever names, hosts and orders are called: in every command's output."""
    folder, out = tmp_path / "audit", tmp_path / "evidence.json"
    with Trail(folder, Tally()) as trail:
        trail.event(Kind.ORDER_STARTED, order=text, names=[text], about={text: text})
        trail.event(Kind.GAP, why=text, lost={text: text})
        trail.event(text, order=text)
        for kind in (Kind.ENFORCED, Kind.COUNTED):
            trail.event(kind, order=text, name=text, host=text, client=text, country=text, count=text, first=text)
    for options in (
        ("show", folder), ("show", folder, "--json"), ("verify", folder), ("verify", folder, "--json"),
        ("export", folder, "--order", text, "--out", out), ("verify", out), ("verify", out, "--json"),
        ("show", folder, "--order", text, "--name", text, "--country", text),
    ):  # fmt: skip
        done = run(*options)
        assert is_safe(done.output), (options, done.output)
        assert done.exit_code == 0, (options, done.output)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_in_a_forged_trail_steers_a_terminal(tmp_path, text):
    """Raw octets where a trail would have escaped them, in records, heads and names of files."""
    folder = tmp_path / "audit"
    write_trail(folder, 8)
    path = segments(folder)[0]
    octets = text.encode("utf-8", "surrogateescape") if "\udcff" in text else text.encode()
    path.write_bytes(path.read_bytes().replace(b"other", octets) + octets + b"\n")
    (folder / "head").write_bytes(octets)
    for options in (("show", folder), ("show", folder, "--json"), ("verify", folder), ("verify", folder, "--json")):
        done = run(*options)
        assert is_safe(done.output), (options, done.output)
    evil = tmp_path / "evidence.json"
    evil.write_bytes(b'{"evidence":"cdnblock evidence 1","x' + octets + b'":1}')
    assert is_safe(run("verify", evil).output)


def test_a_long_verification_draws_a_bar_on_a_terminal_only(trail):
    """Not in the results, and not for scripts."""
    import pty

    code = (
        "import sys, cdnblock.cli.progress as p, cdnblock.audit.verifying as v; p._AFTER = -1; v._TOLD_EVERY = 1\n"
        "from cdnblock.cli.root import root\n"
        f"root(['audit', 'verify', {str(trail)!r}])"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False, text=True
    )  # fmt: skip
    os.close(theirs)
    drawn = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "octets of the trail" in drawn
    assert "[###" in drawn
    assert "#" not in done.stdout


def test_a_trail_may_be_shown_while_it_is_written(tmp_path):
    """Whoever reads gets whole records only."""
    folder = tmp_path / "audit"
    with Trail(folder, Tally()) as trail:
        trail.event(Kind.ORDER_STARTED, order=ORDER)
        flushed(trail)
        with segments(folder)[0].open("ab") as file:
            file.write(b'{"seq":3,"at"')
        assert kinds(run("show", folder, "--json")) == ["trail-opened", "order-started"]
        told = json.loads(run("verify", folder, "--json").output)
        assert told["ok"]
        assert told["in_use"]
        assert any("it is being written" in note for note in told["notes"])
    assert Head() != trail.head
    assert lines(folder)
