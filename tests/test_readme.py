"""The README is run: its commands, its order files, its Python, and its tables are held against the code.

A fenced block is one of these; anything else fails:

    bash      one of the two commands that .ci/run executes itself, below a marker `<!-- command: NAME -->`
    yaml      an order file; below `<!-- file: PATH -->` it is also there for the other blocks
    console   `$ command` lines and what they print; `…` stands for anything, alone on its line for any lines
    python    a script; a `text` block right after it is what it prints
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from free_ports import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

TRY = "python3 -m venv .venv && .venv/bin/pip install -q '.[all]' && .venv/bin/cdnblock sandbox --once"
TEST = "python3 -m venv .venv && .venv/bin/pip install -q '.[all,test]' && .venv/bin/pytest -n auto --dist loadscope"
SHOWN_PORTS = ("8000", "8080", "5353", "9460")
PACKAGES = {"curl": "curl", "dig": "dnsutils"}


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the line it starts on, the marker above it, the text block below it."""

    language: str
    text: str
    line: int
    marker: str
    prints: str | None

    def __str__(self):
        return f"{self.language}-line-{self.line}"


def blocks():
    fence = re.compile(
        r"(?:^<!-- (?P<marker>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
    )
    found = list(fence.finditer(README))
    for match, following in zip(found, [*found[1:], None], strict=True):
        prints = None
        if following and following["language"] == "text" and not README[match.end() : following.start()].strip():
            prints = following["text"]
        line = README.count("\n", 0, match.start("text"))
        yield Block(match["language"], match["text"], line, match["marker"] or "", prints)


BLOCKS = list(blocks())


def of(language):
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.language == language]


@pytest.fixture
def folder(tmp_path):
    """A folder with the README's files, the examples, and `cdnblock` on the path."""
    for block in BLOCKS:
        if block.marker.startswith("file: "):
            path = tmp_path / block.marker.removeprefix("file: ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    command = tmp_path / ".bin" / "cdnblock"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cdnblock "$@"\n')
    command.chmod(0o755)
    return tmp_path


def environment(folder):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CDNBLOCK_")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **kept,
        "PYTHONPATH": path,
        "PATH": f"{folder / '.bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "PYTHONUNBUFFERED": "1",
    }


def as_pattern(expected):
    """Return shown output as a pattern: `…` is anything on its line, alone on its line any number of lines."""
    lines = expected.rstrip("\n").split("\n")
    parts = [
        r"(?:.*\n)*?" if line.strip() == "…" else ".*".join(map(re.escape, line.rstrip().split("…"))) + r"[ \t]*\n"
        for line in lines
    ]
    return re.compile("".join(parts))


def assert_prints(shown, printed):
    printed = printed.rstrip("\n") + "\n"
    assert as_pattern(shown).fullmatch(printed), f"shown:\n{shown}\nprinted:\n{printed}"


def with_free_ports(text):
    ports = {shown: str(free_port()) for shown in SHOWN_PORTS}
    return re.sub("|".join(rf"\b{port}\b" for port in SHOWN_PORTS), lambda match: ports[match[0]], text)


def steps(text):
    """Return (command, shown output) of a console block; a backslash continues a command."""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append([line[2:], ""])
        elif found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1][0] = found[-1][0][:-1] + line.strip()
        else:
            found[-1][1] += line + "\n"
    return found


def wait_for_ports(process, command):
    """Wait until a server that was started listens on every port that its command names."""
    ports = re.findall(r"@(\d+)\b", command) or re.findall(r"\b(\d{4,5})\b", command)[:1]
    deadline = time.monotonic() + 60
    for port in ports:
        while True:
            assert process.poll() is None, f"ended with {process.returncode}: {command}"
            assert time.monotonic() < deadline, f"nobody listens on {port}: {command}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 1):
                break
            time.sleep(0.05)


@contextlib.contextmanager
def in_background(command, folder):
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, env=environment(folder), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for_ports(process, command)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)


@pytest.mark.parametrize("block", of("console"))
def test_commands_print_what_is_shown(block, folder):
    """Every command of the README runs, in a folder with the README's own files, and prints what stands below it."""
    for tool, package in PACKAGES.items():
        if re.search(rf"^\$ {tool} ", block.text, re.MULTILINE) and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt-get install {package})")
    with contextlib.ExitStack() as servers:
        for command, shown in steps(with_free_ports(block.text)):
            if command.endswith("&"):
                servers.enter_context(in_background(command[:-1].strip(), folder))
                continue
            done = subprocess.run(
                ["bash", "-c", command], cwd=folder, env=environment(folder), stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert_prints(shown, done.stdout.replace("\r", ""))


@pytest.mark.parametrize("block", of("python"))
def test_python_runs_and_prints_what_is_shown(block, folder):
    """Every Python block of the README runs as a script, and prints the text block below it, if there is one."""
    done = subprocess.run(
        [sys.executable, "-c", block.text], cwd=folder, env=environment(folder), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if block.prints is not None:
        assert_prints(block.prints, done.stdout)


@pytest.mark.parametrize("block", of("yaml"))
def test_order_files_are_valid(block, tmp_path):
    """Every order file of the README loads without an error or a warning."""
    from cdnblock.sources.order_folder import read_orders

    path = tmp_path / "order.yaml"
    path.write_text(block.text, encoding="utf-8")
    found = read_orders(path)
    assert [str(problem) for problem in found.problems] == []
    assert len(found.orders) == 1


def test_every_block_is_run():
    """No block escapes: each is in a language that one of these tests runs, and the two commands are as promised."""
    commands = {block.marker: block.text.strip() for block in BLOCKS if block.language == "bash"}
    assert commands == {"command: try": TRY, "command: test": TEST}
    for block in BLOCKS:
        assert block.language in {"bash", "console", "python", "yaml", "text"}, f"line {block.line}"
    printed = [block.prints for block in BLOCKS if block.language == "python" and block.prints is not None]
    assert [block.text for block in BLOCKS if block.language == "text"] == printed


@pytest.mark.parametrize(("name", "command"), [("try", TRY), ("test", TEST)])
def test_ci_runs_the_commands_of_this_page(name, command):
    """.ci/run takes its commands from here, by the markers, exactly."""
    function = re.search(
        r"^readme_command\(\) \{.*?^\}$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE | re.DOTALL
    )[0]
    done = subprocess.run(
        ["bash", "-c", f"{function}\nreadme_command {name}"], cwd=ROOT, capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
    assert done.stdout == f"{command}\n"


@pytest.mark.parametrize(
    ("log", "accepted"),
    [
        ("=== 12 passed in 3.45s ===\n", True),
        ("=== 12 passed, 1 warning in 61.00s (0:01:01) ===\n", True),
        ("SKIPPED [1] a.py:1: no dig\n=== 11 passed, 1 skipped in 3.45s ===\n", False),
        ("SKIPPED [3] c.py:9: cannot: http2: no TLS\n=== 9 passed, 3 skipped in 3.45s ===\n", True),
        ("SKIPPED [3] c.py:9: cannot: x: y\nSKIPPED [1] a.py:1: no dig\n=== 9 passed, 4 skipped in 3.45s ===\n", False),
        ("SKIPPED [1] a.py:1: it cannot: be\n=== 11 passed, 1 skipped in 3.45s ===\n", False),
        ("=== 11 passed, 1 skipped in 3.45s ===\n", False),
        ("Killed\n", False),
    ],
)
def test_ci_accepts_no_skipped_test(log, accepted, tmp_path):
    """.ci/run reads pytest's summary line, and fails where it is missing or a test was skipped.

    Only what a host has declared that it cannot do may be skipped, and is printed.
    """
    (tmp_path / "log").write_text(log)
    function = re.search(r"^summary_of\(\) \{.*?^\}$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE | re.DOTALL)[0]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{function}\nsummary_of log"], cwd=tmp_path, capture_output=True, text=True,
        timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) is accepted
    assert done.stdout == (log.splitlines(keepends=True)[-1] if accepted else "")
    assert ("a host cannot (3 times): http2: no TLS" in done.stderr) == (accepted and "SKIPPED" in log)


def test_links_lead_somewhere():
    """Every relative link and picture is there, and every link within the page has its heading."""
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def table_below(heading):
    """Return the rows of the first table below a heading, as lists of cells without their backquotes."""
    section = re.split(rf"^#+ {re.escape(heading)}$", README, flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)[0]
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in table.splitlines()]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows[2:]]


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_commands_is_whole():
    """The table of commands names each command there is, with the sentence that `cdnblock --help` has."""
    from cdnblock.cli.root import COMMANDS

    assert {
        quoted(name)[0].removeprefix("cdnblock ").split()[0]: text for name, text in table_below("Commands")
    } == dict(COMMANDS)


def test_the_table_of_mitmproxy_options_is_whole():
    """The table of options names each option of the addon, with its default."""
    from cdnblock.adapters._mitmproxy_options import OPTIONS

    shown = {quoted(name)[0]: default for name, default, *_ in table_below("Options of the addon")}
    defaults = {f"cdnblock_{name}": default for name, _, default, _ in OPTIONS}
    assert {name: quoted(cell)[0] if quoted(cell) else None for name, cell in shown.items()} == {
        name: (str(default).lower() if isinstance(default, bool) else default) or None
        for name, default in defaults.items()
    }


def test_the_table_of_keys_is_whole():
    """The table of the order file's keys has each key of the format, and marks those that must be there."""
    from cdnblock.orders.schema import order_schema

    schema = order_schema()
    rows = table_below("Keys")
    shown = [(key, "required" in text) for cell, text in rows for key in quoted(cell)]
    assert sorted(key for key, _ in shown) == sorted(schema["properties"])
    assert sorted(key for key, required in shown if required) == sorted(schema["required"])


def test_the_table_of_measures_is_whole():
    """The table of measures has each measure with its variants, the strictest first."""
    from cdnblock.orders.model import VARIANTS

    shown = [(quoted(name)[0], quoted(variant)[0]) for name, variant, *_ in table_below("Measures")]
    assert sorted(shown) == sorted((measure.value, variant) for measure, of in VARIANTS.items() for variant in of)


def test_the_presets_of_territories_are_whole():
    """The table of presets has each of them, with the codes that it stands for."""
    from cdnblock.orders.territories import PRESETS

    shown = {quoted(name)[0]: tuple(codes.split()) for name, codes, *_ in table_below("Territories")}
    assert shown == dict(PRESETS)


def test_the_date_of_the_country_table_is_told_right():
    """The README names the source, licence and date of the country table that is in the package."""
    from cdnblock.sources.geo_tables import open_geo_table

    origin = open_geo_table(None).origin
    sentence = f"{origin.source} of {origin.built.isoformat()}"
    assert sentence in README
    assert origin.licence in README
