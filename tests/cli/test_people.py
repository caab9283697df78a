"""`explain`, `orders`, `schema` and the root command: what people read."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from order_texts import order_text
from small_table import FRANCE, GERMANY

from cdnblock.cli.root import COMMANDS, root


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    extra = "served: 2025-04-02\ncomply_within: 3 days\ntitle: MotoGP\nlifted:\n  - {names: [blog.motogpstream.me], at: 2025-06-01T12:00}\n"
    (folder / "motogp.yaml").write_text(order_text(until="2025-11-16") + extra)
    (folder / "german.yaml").write_text(
        order_text(
            id="german", territory="[DE]", measures="{cdn: disable}", until="2025-05-20", names="[bücher.example]"
        )
    )
    return folder


def run(*arguments):
    return CliRunner().invoke(root, [str(argument) for argument in arguments])


def explain(orders, small_mmdb, *arguments):
    done = run("explain", *arguments, "--orders", orders, "--geo", small_mmdb)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_explain_says_why_with_file_and_line(orders, small_mmdb):
    """The order, its place in the file, the measures, and until when."""
    text = explain(orders, small_mmdb, "www.motogpstream.me", FRANCE, "--at", "2025-05-01T12:00")
    assert "BLOCKED for a client in FR" in text
    assert f"{orders}/motogp.yaml:11" in text
    assert "dns refuse, cdn disable, proxy terminate, until 2025-11-17T00:00:00+01:00" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["motogpstream.me", GERMANY, "--at", "2025-05-01"], "the client is outside its territory"),
        (["motogpstream.me", FRANCE, "--at", "2025-04-01"], "it is not yet in force, from 2025-04-03T09:00:00+02:00"),
        (["motogpstream.me", FRANCE, "--at", "2025-12-01"], "it has ended, at 2025-11-17T00:00:00+01:00"),
        (
            ["blog.motogpstream.me", FRANCE, "--at", "2025-06-02"],
            "it was lifted for this name, at 2025-06-01T12:00:00+02:00",
        ),
        (["example.com", FRANCE], "no order names it"),
        (["http://motogpstream.me/live", FRANCE], "not a host name"),
        (["motogpstream.me", "--at", "2025-05-01"], "in force, for clients in: FR"),
        (["motogpstream.me", "--country", "FR", "--at", "2025-05-01"], "BLOCKED for a client in FR"),
        (["BÜCHER.example", GERMANY, "--at", "2025-05-01"], "BÜCHER.example = xn--bcher-kva.example (bücher.example)"),
    ],
)
def test_explain_says_why_not(orders, small_mmdb, arguments, words):
    """Every reason that there is, in words."""
    assert words in explain(orders, small_mmdb, *arguments)


def test_explain_cannot_be_made_to_steer_a_terminal(orders, small_mmdb):
    """Escape sequences and direction overrides in a host come out as text."""
    text = explain(orders, small_mmdb, "\x1b[31mred\u202eexample", FRANCE)
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_orders_list_shows_state_and_deadline(orders):
    """The deadline counted in law: Saturday 5 April 2025 moves to Monday, 24:00."""
    done = run("orders", "list", "--orders", orders, "--at", "2025-05-01")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["ID", "STATE", "STARTS", "ENDS"]
    assert "motogp  in force  2025-04-03 09:00  2025-11-17 00:00  2025-04-08 00:00  2025-06-01 12:00" in lines[2]
    assert run("orders", "--orders", orders, "--at", "2025-05-01").stdout == done.stdout


@pytest.mark.parametrize(
    ("at", "states"),
    [
        ("2025-04-01", ["pending", "pending"]),
        ("2025-05-01", ["in force", "in force"]),
        ("2025-06-01", ["ended", "in force"]),
        ("2026-01-01", ["ended", "ended"]),
    ],
)
def test_orders_json(orders, at, states):
    """States over the orders' life."""
    found = json.loads(run("orders", "list", "--orders", orders, "--json", "--at", at).stdout)
    assert [(item["id"], item["state"]) for item in found] == list(zip(["german", "motogp"], states, strict=True))


def test_orders_expiring(orders):
    """Only those in force that end within the span."""
    found = json.loads(run("orders", "--orders", orders, "--json", "--expiring", "30d", "--at", "2025-05-01").stdout)
    assert [item["id"] for item in found] == ["german"]
    assert run("orders", "--orders", orders, "--expiring", "soon").exit_code == 2


def test_orders_show(orders):
    """One order: everything, with liftings and names as people write them."""
    done = run("orders", "show", "german", "--orders", orders)
    assert "xn--bcher-kva.example (bücher.example)" in done.stdout
    assert (
        "blog.motogpstream.me at 2025-06-01T12:00:00+02:00"
        in run("orders", "show", "motogp", "--orders", orders).stdout
    )
    assert run("orders", "show", "nobody", "--orders", orders).exit_code == 1
    assert run("orders", "show", "--orders", orders).exit_code == 2


def test_schema_is_a_json_schema():
    """Draft 2020-12, with the keys of the order file."""
    schema = json.loads(run("schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"cdnblock", "id", "names", "measures", "for", "from"} <= set(schema["properties"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(command):
    """`--help` is there, and shows an example."""
    done = run(command, "--help")
    assert done.exit_code == 0, done.output
    assert "xample" in done.stdout


def test_a_misspelt_command_gets_the_nearest_one():
    """Exit 2, and a hint."""
    done = run("chek")
    assert done.exit_code == 2
    assert "Did you mean 'check'?" in done.stderr


def test_settings_from_a_file(orders, tmp_path, small_mmdb):
    """cdnblock.toml gives defaults; the command line and a variable win over it."""
    settings = tmp_path / "settings.toml"
    settings.write_text(f'orders = "{orders}"\ngeo = "{small_mmdb}"\n[decide]\nat = "2025-05-01"\n')
    done = run("--config", settings, "decide", "motogpstream.me", FRANCE)
    assert json.loads(done.stdout)["measures"], done.output
    settings.write_text("ordres = 'x'\n")
    done = run("--config", settings, "decide", "motogpstream.me", FRANCE)
    assert done.exit_code == 1
    assert "did you mean 'orders'?" in done.stderr


def test_explain_refuses_what_is_no_country(orders):
    """A typing error must not end in a confident answer about nowhere."""
    done = run("explain", "motogpstream.me", "--country", "UK", "--orders", orders)
    assert done.exit_code == 2
    assert "the United Kingdom GB" in done.stderr


def test_an_exemption_stays_in_every_report(tmp_path, small_mmdb):
    """An over-broad name that was let through says so wherever it is shown."""
    names = "[{name: co.uk, overbroad: the court said so, note: annex p. 3}]"
    (tmp_path / "broad.yaml").write_text(order_text(names=names))
    assert (
        "co.uk, annex p. 3, over-broad and let through: the court said so"
        in run("orders", "show", "motogp", "--orders", tmp_path).stdout
    )
    assert "over-broad and let through: the court said so" in explain(tmp_path, small_mmdb, "a.co.uk", FRANCE)


def test_a_span_does_not_hide_the_order_that_was_asked_for(orders):
    """`orders show` shows; `orders list` lists."""
    assert run("orders", "show", "german", "--expiring", "1d", "--orders", orders, "--at", "2025-01-01").exit_code == 0
    assert run("orders", "list", "german", "--orders", orders).exit_code == 2


def test_an_hour_that_the_clocks_skip_comes_out_as_the_one_it_is(orders, small_mmdb):
    """02:30 on 30 March 2025 is 03:30 summer time."""
    done = run("decide", "motogpstream.me", FRANCE, "--orders", orders, "--geo", small_mmdb, "--at", "2025-03-30T02:30")
    assert json.loads(done.stdout)["at"] == "2025-03-30T03:30:00+02:00"


def test_the_version_is_told_installed_or_not():
    """Never a traceback."""
    done = run("--version")
    assert done.exit_code == 0
    assert done.stdout.strip()
