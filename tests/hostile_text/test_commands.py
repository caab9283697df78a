"""No text of an order, a file, a client or a variable steers the terminal of whoever runs a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click import unstyle
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from hostile import ALLOWED, NEWLINE, PAYLOADS, check_lines, check_page, write_allowed, write_broken

from cdnblock.cli.root import COMMANDS, root
from cdnblock.exporters import EXPORTERS

AT = ("--at", "2025-05-02T12:00+02:00")


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    return write_allowed(tmp_path_factory.mktemp("hostile") / "orders")


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return write_broken(tmp_path_factory.mktemp("hostile") / "broken")


def run(*arguments, environment=None, data=None):
    """Run a command in this process; return its exit code and all that it says, which steers nothing."""
    done = CliRunner().invoke(root, [str(argument) for argument in arguments], env=environment, input=data)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    check_lines(done.stdout, f"{arguments} stdout")
    check_lines(done.stderr, f"{arguments} stderr")
    return done.exit_code, done.stdout


def test_the_orders_are_as_hostile_as_orders_can_be(orders):
    """Every text that an order may hold is there, and the folder is valid: what follows looks at real orders."""
    assert run("check", orders)[0] == 0
    _, listed = run("orders", "--orders", orders, "--json")
    held = {order["id"]: order["court"] for order in json.loads(listed)}
    assert held == {f"hostile-{name}": text for name, text in ALLOWED.items()}


@pytest.mark.parametrize("layout", ["text", "json", "github"])
def test_check_of_broken_files(broken, layout):
    """Names of files, keys and values come out escaped, in all formats, and JSON says them exactly."""
    code, text = run("check", broken, "--format", layout)
    assert code == 1
    if layout == "json":
        files = {Path(problem["file"]).name for problem in json.loads(text)}
        assert any("\x1b[31mred" in file for file in files)
        assert any("\nFAKE" in file for file in files)


@pytest.mark.parametrize(
    "arguments",
    [
        ["orders"], ["orders", "--json"], *(["orders", "show", f"hostile-{name}"] for name in ALLOWED),
        ["explain", "h1.example", "90.84.144.1", *AT], ["explain", "add2.example"], ["explain", "xn--80ak6aa92e.example"],
        ["decide", "h1.example", "90.84.144.1"], ["sandbox", "--help"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_commands_that_show_orders(orders, arguments):
    """Whatever is shown of an order is on one line and in reading order."""
    own = () if "--help" in arguments else ("--orders", orders)
    assert run(*arguments, *own)[0] == 0


def test_an_order_that_hides_nothing_is_shown_as_it_is(orders):
    """Escaping is for what cannot be seen: letters of all scripts, quotes and markup stay readable."""
    _, text = run("orders", "show", "hostile-html", "--orders", orders)
    assert ALLOWED["html"] in text
    _, text = run("orders", "show", "hostile-newline", "--orders", orders)
    assert "one\\nFAKE: all is well\\r\\nSet-Cookie: fake=1" in text


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
def test_what_is_typed(orders, text, tmp_path):
    """Hosts, clients, times, codes, paths, ids, options and names of commands are quoted without doing anything."""
    typed = text.replace("\x00", "")
    for arguments in (
        ["decide", typed, typed, "--orders", orders], ["explain", typed, typed, "--orders", orders],
        ["explain", "h1.example", "--country", typed, "--orders", orders], ["explain", typed, "--at", typed],
        ["orders", "show", typed, "--orders", orders], ["orders", "--orders", typed], ["orders", "--expiring", typed],
        ["check", typed], ["geo", "lookup", typed], ["geo", "lookup", "1.1.1.1", "--geo", tmp_path / typed[:9].replace("/", "")],
        ["export", typed, "--out", tmp_path, "--orders", orders], ["status", "--state", typed], ["reload", "--state", typed],
        ["diff", typed, typed], ["report", "--order", typed, "--orders", orders], ["report", "expiring", "--orders", typed],
        ["audit", "verify", typed], ["audit", "show", typed], ["verify", typed, "--orders", orders],
        ["apply", typed, "--out", tmp_path, "--no-probe", "--orders", orders], ["apply", "nginx", "--out", tmp_path, "--probe", typed],
        ["serve", "--listen", typed], ["serve", "--listen", "127.0.0.1:0", "--contact", typed, "--orders", orders],
        ["serve", "--listen", "127.0.0.1:0", "--operator-url", typed, "--orders", orders], ["dns", "--upstream", typed],
        [f"--{typed}"], ["decide", f"--{typed}"], ["--config", typed, "check"], [typed],
    ):  # fmt: skip
        code, _ = run(*arguments)
        assert code != 0 or arguments[0] in ("decide", "explain", "geo"), arguments


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
def test_what_stands_in_variables_and_in_the_settings(orders, text, tmp_path, monkeypatch):
    """CDNBLOCK_* and cdnblock.toml are quoted without doing anything, too."""
    monkeypatch.chdir(tmp_path)
    value = text.replace("\x00", "").replace("\n", " ") if "\x00" in text else text
    for name in ("ORDERS", "GEO", "STATE", "AUDIT", "TRUSTED_PROXIES"):
        variables = {f"CDNBLOCK_{name}": value.replace("\x00", "")}
        for command in (
            ["orders"],
            ["decide", "x.example", "1.1.1.1"],
            ["status"],
            ["serve", "--listen", "x"],
            ["audit", "verify"],
        ):
            run(*command, environment=variables)
    (tmp_path / "cdnblock.toml").write_text(f"{json.dumps(text)} = {json.dumps(text)}\n")
    assert run("check", orders)[0] == 1
    (tmp_path / "cdnblock.toml").write_text(f"orders = {json.dumps(text)}\n")
    run("orders")


def test_batches(orders):
    """Each line of a batch is answered on one line of ASCII, whatever it holds."""
    lines = [text.replace("\n", " ").replace("\r", " ") for text in PAYLOADS.values()]
    data = "".join(f"{line}\t{line}\t{line}\n" for line in lines).encode()
    code, told = run("decide", "--batch", "-", "--orders", orders, data=data)
    assert code == 0
    assert len(told.splitlines()) == len(lines)
    assert told.isascii()


def test_diff_of_hostile_folders(orders, tmp_path, broken):
    """What a change says of orders, in text and JSON, and what keeps it from being said."""
    (tmp_path / "empty").mkdir()
    for old, new in ((orders, tmp_path / "empty"), (tmp_path / "empty", orders), (orders, broken)):
        run("diff", old, new, *AT)
        run("diff", old, new, *AT, "--json")


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_reports(orders, name):
    """A report on each order: Markdown without markup of the order's, HTML that is a page of ours, JSON."""
    for layout in ("markdown", "html", "json"):
        code, text = run("report", "--order", f"hostile-{name}", "--orders", orders, "--format", layout)
        assert code == 0
        if layout == "html":
            check_page(text, name, svg=True)
        if layout == "markdown":
            assert "<script" not in text


def test_reports_on_all_orders(orders):
    """What ends soon, and the figures of the Digital Services Act."""
    assert run("report", "expiring", "--orders", orders)[0] == 0
    assert run("report", "dsa-15", "--orders", orders, "--from", "2025-01-01", "--until", "2025-12-31")[0] in (0, 2)


@pytest.mark.parametrize("target", EXPORTERS)
def test_exported_configuration(orders, target, tmp_path):
    """No comment, no string and no notice of a configuration holds what ends it: no line of it is an order's."""
    own = ["--set", "clients=any"] if target == "unbound" else []
    arguments = ["export", target, "--orders", orders, "--out", tmp_path / "out", "--partial", *AT, *own]
    contact = "Legal: <b>legal</b>@edge.example"
    code, told = run(*arguments, "--operator-url", "https://edge.example/", "--contact", contact)
    assert (code, bool(told)) == (0, True)
    for file in sorted((tmp_path / "out").rglob("*")):
        text = file.read_bytes() if file.is_file() else b""
        if b"\x00" in text:
            continue  # a table in a format of its own
        for line in text.decode("utf-8", "replace").splitlines():
            assert not line.startswith(("FAKE", "Set-Cookie")), (file.name, line)
            if line.lstrip().startswith(("#", "//", "--", ";", "/*")):
                check_lines(line, file.name)


def test_every_command_is_among_these():
    """A command that is new is to be driven here as well: add what it shows to the tests above."""
    driven = {
        "check", "decide", "explain", "orders", "report", "diff", "status", "reload", "audit", "export", "apply",
        "verify", "sandbox", "mitmproxy", "dns", "rpz-primary", "serve", "geo", "schema",
    }  # fmt: skip
    assert {*COMMANDS} == driven
    assert NEWLINE in PAYLOADS.values()


def test_names_of_files_that_are_no_text(broken, tmp_path):
    """A file whose name is not UTF-8 has its problem told, and ends nothing in a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "cdnblock", "check", broken],
        capture_output=True, timeout=60, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False)
    check_lines(done.stdout.decode())
    assert rb"\udcff\x1b[31m.yaml" in done.stdout


def test_the_sandboxs_report(orders):
    """The table and the JSON of a rehearsal: courts, warnings and tables of countries are shown and no more."""
    from cdnblock.sandbox import naive_reading
    from cdnblock.sandbox.report import Report
    from cdnblock.verification.places import Missing

    for text in PAYLOADS.values():
        report = Report(
            papers=naive_reading.read(orders), results=[], places=[], missing=[Missing(label="RE", reason=text)],
            warnings=[f"{text}:1:1: {text}"], revision="sha256:0", geo=text, seconds=1.0,
        )  # fmt: skip
        check_lines(unstyle(report.table()))
        check_lines(report.as_json())
        assert json.loads(report.as_json())["geo"] == text
    assert r"one\nFAKE" in report.table()
