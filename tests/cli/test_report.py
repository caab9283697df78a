"""`cdnblock report`: for courts and regulators, from the command line."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from order_texts import order_text

sys.path.insert(0, str(Path(__file__).parent.parent / "reports"))

from instances import ORDER, running

from cdnblock.cli.root import root


def run(*arguments):
    return CliRunner().invoke(root, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def story(tmp_path_factory, small_mmdb):
    """An order folder, and the trail of an instance that enforced it."""
    tmp_path = tmp_path_factory.mktemp("story")
    with running(tmp_path, small_mmdb, "2025-04-03T09:30") as instance:
        instance.write(ORDER + "received: 2025-04-02T10:20\nacknowledged: 2025-04-02T11:05\nmember_state: FR\n")
        instance.refuse("www.live.example", "FR", 5)
    return tmp_path


def test_an_order_as_markdown(story):
    """To stdout, from the folder and the trail."""
    done = run(
        "--order", "motogp", "--orders", story / "orders", "--trail", story / "audit", "--at", "2025-06-01T12:00"
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# Order motogp\n")
    assert "**Deadline: met: in force 2025-04-03 09:30:00+02:00" in done.stdout
    assert "| 2025-04-03 | FR | proxy | 5 |" in done.stdout


def test_an_order_as_json(story):
    """As plain ASCII."""
    done = run("--order", "motogp", "--orders", story / "orders", "--trail", story / "audit", "--format", "json")
    found = json.loads(done.stdout)
    assert done.stdout.isascii()
    assert found["deadline"]["verdict"] == "met"
    assert found["trails"][0]["whole"] is True


def test_an_order_as_html_in_a_file(story, tmp_path):
    """Whole or not at all, and nothing on stdout."""
    out = tmp_path / "new" / "motogp.html"
    done = run("--order", "motogp", "--orders", story / "orders", "--format", "html", "--out", out)
    assert (done.exit_code, done.stdout) == (0, "")
    page = out.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>\n")
    assert "<script" not in page
    assert "default-src" in page


def test_an_order_that_left_the_folder_is_in_the_trail(story, tmp_path):
    """An ended order's file may be gone; what it said is not."""
    (tmp_path / "orders").mkdir()
    for folder in (tmp_path / "orders", tmp_path / "missing"):
        done = run("--order", "motogp", "--orders", folder, "--trail", story / "audit")
        assert done.exit_code == 0, done.output
        assert "| Court | Tribunal judiciaire de Paris |" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--order", "nobody"], 1, "no order 'nobody' in"),
        ([], 2, "give --order ID, or one of the commands: expiring, dsa-15"),
        (["--order", "motogp", "expiring"], 2, "takes no --order"),
        (["--order", "motogp", "--trail", "/nowhere"], 2, "does not exist"),
        (["dsa-15", "--from", "2025-01-01"], 2, "--to"),
        (["dsa-15", "--from", "2025-12-31", "--to", "2025-01-01"], 2, "lies before"),
        (["dsa-15", "--from", "1.1.2025", "--to", "2025-12-31"], 2, "write it like 2025-12-31"),
        (["expiring", "--within", "soon"], 2, "write it like 30d"),
        (["expiring", "--config", "/nowhere"], 2, "does not exist"),
    ],
)
def test_mistakes_are_told(story, arguments, code, words):
    """With what would be right."""
    at = ["--orders", str(story / "orders")]
    done = run(*(arguments + at if "expiring" not in arguments[:1] and "dsa-15" not in arguments else arguments))
    assert done.exit_code == code
    assert words in done.output


def test_a_folder_that_is_no_trail_tells_nothing(story, tmp_path):
    """It is empty: the report says so, and is no proof of anything."""
    done = run("--order", "motogp", "--orders", story / "orders", "--trail", tmp_path)
    assert done.exit_code == 0, done.output
    assert "tells nothing of this order" in done.stdout


@pytest.mark.parametrize("form", ["markdown", "json", "html", "csv"])
def test_dsa_15(story, form):
    """One order of a French authority, in each form."""
    done = run(
        "dsa-15", "--from", "2025-01-01", "--to", "2025-12-31", "--orders", story / "orders", "--trail", story / "audit",
        "--service", "Edge", "--format", form,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    if form == "csv":
        rows = list(csv.reader(io.StringIO(done.stdout)))
        assert rows[1][5:10] == ["TOTAL", "1", "2", "0.75", "23.17"]
    elif form == "json":
        assert json.loads(done.stdout)["rows"][0]["median_hours_to_give_effect"] == 23.17
    else:
        assert "23.17" in done.stdout


def test_another_file_that_is_invalid_is_no_hindrance(story, tmp_path):
    """A report on one order does not wait for somebody to mend another one; on an unknown one it tells of both."""
    (tmp_path / "good.yaml").write_text(ORDER)
    (tmp_path / "bad.yaml").write_text("cdnblock: 1\nid: bad\n")
    assert run("--order", "motogp", "--orders", tmp_path).exit_code == 0
    done = run("--order", "bad", "--orders", tmp_path)
    assert (done.exit_code, "`court` is missing" in done.output) == (1, True)


def test_dsa_15_counts_orders_that_left_the_folder(story, tmp_path):
    """What came in the year counts, also when it has ended since and its file is gone."""
    (tmp_path / "other.yaml").write_text(order_text(id="other"))
    done = run(
        "dsa-15", "--from", "2025-01-01", "--to", "2025-12-31", "--orders", tmp_path, "--trail", story / "audit",
        "--format", "json",
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert [order["order"] for order in found["orders"]] == ["motogp"]
    assert [order["order"] for order in found["left_out"]] == ["other"]


def test_an_order_of_which_nothing_is_left_is_named(story, tmp_path):
    """The trail names it, and its kept file is gone: it is in no number, and not passed over."""
    shutil.copytree(story / "audit", tmp_path / "audit")
    shutil.rmtree(tmp_path / "audit" / "files")
    (tmp_path / "orders").mkdir()
    done = run(
        "dsa-15", "--from", "2025-01-01", "--to", "2025-12-31", "--orders", tmp_path / "orders",
        "--trail", tmp_path / "audit", "--format", "json",
    )  # fmt: skip
    (left_out,) = json.loads(done.stdout)["left_out"]
    assert left_out == {"order": "motogp", "why": "a trail names it, and its file is not kept any more"}
    assert run("--order", "motogp", "--orders", tmp_path / "orders", "--trail", tmp_path / "audit").exit_code == 1


def test_a_trail_that_is_given_twice_is_refused(story, tmp_path):
    """Its hits would count twice; a copy of it is the same trail."""
    shutil.copytree(story / "audit", tmp_path / "copy")
    for other in (story / "audit", story / "orders" / ".." / "audit", tmp_path / "copy"):
        done = run("--order", "motogp", "--orders", story / "orders", "--trail", story / "audit", "--trail", other)
        assert done.exit_code == 1
        assert "is the same trail as" in done.output


def test_expiring_and_orders_list_agree(story):
    """The same orders, by the same rule."""
    for at, expected in (("2025-11-01", ["motogp"]), ("2025-10-01", []), ("2025-11-17", [])):
        done = run("expiring", "--orders", story / "orders", "--at", at, "--json")
        listed = CliRunner().invoke(
            root, ["orders", "--orders", str(story / "orders"), "--at", at, "--json", "--expiring", "30d"]
        )
        assert [item["order"] for item in json.loads(done.stdout)["expiring"]] == expected
        assert [item["id"] for item in json.loads(listed.stdout)] == expected


def test_expiring_with_exit_code(story, tmp_path):
    """0 while what is exported is right, 1 when it carries an order that is over; and only if it was asked for."""
    orders, out = story / "orders", tmp_path / "out"
    done = CliRunner().invoke(
        root,
        ["export", "domains", "--orders", str(orders), "--out", str(out), "--at", "2025-05-01", "--clients-in", "FR", "--partial"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for at, code in (("2025-05-02", 0), ("2025-12-01", 1)):
        assert run("expiring", "--orders", orders, "--config", out, "--at", at, "--exit-code").exit_code == code
        assert run("expiring", "--orders", orders, "--config", out, "--at", at).exit_code == 0
    done = run("expiring", "--orders", orders, "--at", "2025-12-01", out)
    assert "order motogp, ended since 2025-11-16 23:00+00:00; still in it: live.example" in done.stdout


def test_defaults_come_from_the_settings_file(story, tmp_path, monkeypatch):
    """Shared keys, and a table for each command below."""
    monkeypatch.chdir(tmp_path)
    settings = f'orders = "{story}/orders"\n[report.dsa-15]\nservice = "From the file"\n'
    (tmp_path / "cdnblock.toml").write_text(settings)
    assert run("--order", "motogp").exit_code == 0
    assert run("expiring").exit_code == 0
    done = run("dsa-15", "--from", "2025-01-01", "--to", "2025-12-31", "--format", "json")
    assert json.loads(done.stdout)["service"] == "From the file"
