"""What the commands say of orders in mode report: nobody can take a dry run for enforcement."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from order_texts import order_text
from small_table import FRANCE, GERMANY

from cdnblock.cli.root import root

AT = ("--at", "2025-05-01T12:00")


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "motogp.yaml").write_text(order_text(measures="{dns: refuse}", until="2025-11-16"))
    reported = order_text(
        id="dry", measures="{proxy: close}", until="2025-11-16", names="[motogpstream.me, only.example]"
    )
    (folder / "dry.yaml").write_text(reported + "mode: report\n")
    return folder


def run(*arguments):
    return CliRunner().invoke(root, [str(argument) for argument in arguments])


def decided(orders, small_mmdb, host, client, *more):
    done = run("decide", host, client, "--orders", orders, "--geo", small_mmdb, *AT, *more)
    return done.exit_code, json.loads(done.stdout)


def test_decide_tells_what_would_be_apart(orders, small_mmdb):
    """`measures` and `orders` stay what is enforced; `would` and `would_orders` are what is not."""
    _, told = decided(orders, small_mmdb, "motogpstream.me", FRANCE)
    assert told["measures"] == {"dns": "refuse"}
    assert [(item["id"], "mode" in item) for item in told["orders"]] == [("motogp", False)]
    assert told["would"] == {"proxy": "close"}
    assert told["would_orders"] == [
        {
            "id": "dry", "name": "motogpstream.me", "notice": None, "until": "2025-11-17T00:00:00+01:00", "mode": "report",
        }
    ]  # fmt: skip


def test_decide_exits_3_for_what_is_enforced_alone(orders, small_mmdb):
    """A dry run applies no measure."""
    code, told = decided(orders, small_mmdb, "only.example", FRANCE, "--exit-code")
    assert (code, told["measures"], told["would"]) == (0, {}, {"proxy": "close"})
    assert decided(orders, small_mmdb, "motogpstream.me", FRANCE, "--exit-code")[0] == 3


def test_decide_says_that_an_order_which_does_not_apply_is_reported(orders, small_mmdb):
    """Outside its territory."""
    _, told = decided(orders, small_mmdb, "only.example", GERMANY)
    assert told["not_applied"] == [{"id": "dry", "name": "only.example", "why": "outside-territory", "mode": "report"}]


def test_explain_says_let_through(orders, small_mmdb):
    """With what would apply, and that it is only reported."""
    done = run("explain", "only.example", FRANCE, "--orders", orders, "--geo", small_mmdb, *AT)
    assert "let through for a client in FR" in done.stdout
    assert "BLOCKED" not in done.stdout
    assert "would apply, and is only reported: proxy close, until 2025-11-17T00:00:00+01:00" in done.stdout


def test_explain_for_everybody_says_let_through(orders, small_mmdb):
    """Without a client: nobody is blocked, wherever he is."""
    done = run("explain", "only.example", "--orders", orders, "--geo", small_mmdb, *AT)
    assert "BLOCKED" not in done.stdout
    assert "only reported, for clients in: FR" in done.stdout


def test_orders_show_the_mode(orders):
    """In the list, on an order's page and in JSON."""
    listed = run("orders", "list", "--orders", orders, *AT).stdout.splitlines()
    assert [" in force, report only  " in line for line in listed] == [False, True, False]
    page = run("orders", "show", "dry", "--orders", orders, *AT).stdout
    assert "mode         report (report only: nothing is refused)" in page.splitlines()
    assert "mode         enforce" in run("orders", "show", "motogp", "--orders", orders, *AT).stdout.splitlines()
    found = json.loads(run("orders", "list", "--orders", orders, "--json", *AT).stdout)
    assert {item["id"]: item["mode"] for item in found} == {"dry": "report", "motogp": "enforce"}


def test_check_counts_what_is_only_reported(orders):
    """Valid, and told."""
    done = run("check", orders)
    assert (done.exit_code, done.stderr.strip()) == (
        0,
        "2 files, 2 valid orders, 3 names, 0 errors, 0 warnings; 1 of the orders report only, refusing nothing",
    )
