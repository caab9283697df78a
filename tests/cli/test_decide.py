"""`cdnblock decide`: what scripts rely on."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from order_texts import order_text
from small_table import FRANCE, GERMANY, NOWHERE, REUNION

from cdnblock.cli.root import root


@pytest.fixture
def orders(tmp_path):
    (tmp_path / "motogp.yaml").write_text(order_text(until="2025-11-16"))
    (tmp_path / "other.yaml").write_text(
        order_text(id="other", territory="[DE]", measures="{dns: nxdomain}", until="2025-12-31")
    )
    return tmp_path


def run(*arguments, stdin=None):
    return CliRunner().invoke(root, [str(argument) for argument in arguments], input=stdin)


def test_the_whole_answer(orders, small_mmdb):
    """Every agreed key, with times in the order's time zone."""
    done = run(
        "decide", "WWW.MotoGPStream.me.", FRANCE, "--orders", orders, "--geo", small_mmdb, "--at", "2025-05-01T10:00Z"
    )
    answer = json.loads(done.stdout)
    assert answer.pop("revision").startswith("sha256:")
    assert answer == {
        "host": "www.motogpstream.me",
        "client": FRANCE,
        "country": "FR",
        "at": "2025-05-01T12:00:00+02:00",
        "measures": {"dns": "refuse", "cdn": "disable", "proxy": "terminate"},
        "orders": [{"id": "motogp", "name": "motogpstream.me", "notice": None, "until": "2025-11-17T00:00:00+01:00"}],
        "would": {},
        "would_orders": [],
        "not_applied": [{"id": "other", "name": "motogpstream.me", "why": "outside-territory"}],
        "changes_at": "2025-11-17T00:00:00+01:00",
    }
    assert done.exit_code == 0


def test_exit_code_3_says_that_a_measure_applies(orders, small_mmdb):
    """Only with --exit-code, and only when one does."""
    common = ("--orders", orders, "--geo", small_mmdb, "--at", "2025-05-01")
    assert run("decide", "motogpstream.me", FRANCE, "--exit-code", *common).exit_code == 3
    assert run("decide", "motogpstream.me", REUNION, "--exit-code", *common).exit_code == 0
    assert run("decide", "motogpstream.me", FRANCE, *common).exit_code == 0


BATCH = [
    (f"motogpstream.me\t{FRANCE}\t2025-05-01T12:00+02:00", "FR", ["dns", "cdn", "proxy"]),
    (f"www.motogpstream.me\t{GERMANY}\t2025-05-01T12:00+02:00", "DE", ["dns"]),
    (f"motogpstream.me\t{NOWHERE}\t2025-05-01T12:00+02:00", None, []),
    (f"mymotogpstream.me\t{FRANCE}\t2025-05-01T12:00+02:00", None, []),
    (f"motogpstream.me\t{FRANCE}\t2025-04-03T08:59:59+02:00", "FR", []),
    (f"motogpstream.me\t{FRANCE}\t2025-04-03T09:00:00+02:00", "FR", ["dns", "cdn", "proxy"]),
    (f"motogpstream.me\t{FRANCE}\t2025-11-16T23:59:59+01:00", "FR", ["dns", "cdn", "proxy"]),
    (f"motogpstream.me\t{FRANCE}\t2025-11-16T23:00:00Z", "FR", []),
    (f"motogpstream.me\t{FRANCE}\t2025-05-01T12:00", "FR", ["dns", "cdn", "proxy"]),
    ("", None, []),
    ("\t\t", None, []),
    ("a b\tnonsense\t2025-05-01", None, []),
    ("motogpstream.me", None, []),
    ("motogpstream.me\tnonsense\t2025-05-01T12:00Z", None, []),
    (f"motogpstream.me\t{FRANCE}\tyesterday", None, []),
    (f"motogpstream.me\t{FRANCE}\t9999-12-31T23:59:59-12:00", None, []),
    (f"motogpstream.me\t{FRANCE}\t0001-01-01T00:00:00+14:00", None, []),
    ("x" * 10_000 + f"\t{FRANCE}", None, []),
]


def test_a_batch_is_answered_line_by_line_in_order(orders, small_mmdb):
    """Also for nonsense: one JSON line for each line, never a crash."""
    stdin = b"\n".join(line.encode() for line, *_ in BATCH) + b"\n\xff\xfe\t\x00\r\n"
    done = run("decide", "--batch", "-", "--orders", orders, "--geo", small_mmdb, stdin=stdin)
    assert done.exit_code == 0, done.output
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(BATCH) + 1
    for answer, (line, country, measures) in zip(answers, BATCH, strict=False):
        assert (list(answer["measures"]), answer["country"]) == (measures, country), line
    assert "is no time" in answers[14]["error"]


def test_a_batch_file(orders, small_mmdb, tmp_path):
    """The same from a file, with --at for the lines that have no time."""
    (tmp_path / "batch.tsv").write_text(f"motogpstream.me\t{FRANCE}\r\nexample.com\t{FRANCE}\r\n")
    done = run(
        "decide", "--batch", tmp_path / "batch.tsv", "--orders", orders, "--geo", small_mmdb, "--at", "2025-05-01"
    )
    assert [bool(json.loads(line)["measures"]) for line in done.stdout.splitlines()] == [True, False]


@pytest.mark.parametrize(
    "arguments",
    [
        ["decide"],
        ["decide", "a.example"],
        ["decide", "a.example", "::1", "--at", "soon"],
        ["decide", "--batch", "-", "a", "b"],
    ],
)
def test_wrong_usage_exits_2(arguments, orders):
    """HOST and CLIENT, or --batch, never both."""
    assert run(*arguments, "--orders", orders, stdin="").exit_code == 2


def test_invalid_orders_exit_1_with_their_problems(orders, small_mmdb):
    """On stderr, with file and line; nothing on stdout."""
    (orders / "bad.yaml").write_text("cdnblock: 2\n")
    done = run("decide", "motogpstream.me", FRANCE, "--orders", orders, "--geo", small_mmdb)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "bad.yaml:1:11: cdnblock: " in done.stderr


def test_the_default_table_places_real_addresses(orders):
    """Without --geo the dated table in the package is asked."""
    done = run("decide", "motogpstream.me", "90.84.144.1", "--orders", orders, "--at", "2025-05-01")
    assert json.loads(done.stdout)["country"] == "FR"


def test_as_a_process(orders, small_mmdb):
    """`python -m cdnblock` is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "cdnblock", "decide", "motogpstream.me", FRANCE, "--orders", orders, "--geo", small_mmdb],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert json.loads(done.stdout)["country"] == "FR", done.stderr
