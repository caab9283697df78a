"""Values that hold hostile text: what is shown of them, logged of them and sent of them, and what operators must not say."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from hostile import PAYLOADS, check_lines, write_allowed

from cdnblock.cli.root import root
from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError
from cdnblock.http_gate import HttpGate
from cdnblock.matching.ruleset import compile_orders
from cdnblock.measures import dns_refusal
from cdnblock.orders.model import Measure, Name, Order, Territory
from cdnblock.shown import LogLines, ShownRecord, ShownStream, json_text, shown, shown_lines


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    return write_allowed(tmp_path_factory.mktemp("hostile") / "orders")


def built(text):
    """Return rules of an order that was built in Python, with a text in it that no file may hold."""
    order = Order(
        id="built", court=text, decided=date(2025, 3, 28), legal_basis=text, claimant=text, title=text, case=text,
        contact=text, publication=text, territory=Territory(world=True), measures={Measure.DNS: "refuse", Measure.PROXY: "terminate"},
        names=(Name(name="built.example"),), until=date(2199, 1, 1),
    )  # fmt: skip
    return compile_orders([order])


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
def test_orders_built_in_python(text):
    """What no file may hold comes out as harmless: explanations, notices, and what DNS says beside a refusal."""
    decision = built(text).decide("built.example", country="FR", at=datetime(2025, 5, 1, tzinfo=UTC))
    assert decision
    check_lines(decision.explain())
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x05built\x07example\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
    answer = dns_refusal.answer(query, decision, contact=text)
    extra = answer[answer.index(b"built", 20) :].decode("utf-8")
    check_lines(extra)


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
def test_log_lines(text):
    """A log line is one line, with its message, its arguments and the error that it is about."""
    record = logging.LogRecord("cdnblock", logging.ERROR, __file__, 1, "what %s", (text,), None)
    line = LogLines().format(record)
    check_lines(line)
    assert "\n" not in line
    try:
        raise ConfigError(text)  # noqa: TRY301 (a trace is wanted)
    except ConfigError:
        record.exc_info = sys.exc_info()
    first, *trace = LogLines().format(record).splitlines()
    assert first == line
    assert trace
    assert all(rest.startswith("  ") for rest in trace)
    check_lines("\n".join(trace))


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
def test_what_is_shown_can_be_told_apart(text):
    """What was escaped is there in JSON exactly as it was, and on a terminal in another form."""
    check_lines(shown(text))
    check_lines(shown_lines(text))
    check_lines(json_text([text], indent=1))
    assert json.loads(json_text([text])) == [text]
    assert shown("é, ß, 中, ع, 🦊, a\u00a0b\u202fc") == "é, ß, 中, ع, 🦊, a\u00a0b\u202fc"


@pytest.mark.parametrize(
    ("operator_url", "contact", "said"),
    [
        ("javascript:alert(1)", None, "operator URL"), ("data:text/html,x", None, "operator URL"),
        ("//edge.example/", None, "operator URL"), ("https://court.example@edge.example/", None, "operator URL"),
        ("", None, "operator URL"), (None, "javascript:alert(1)", "no way to reach"), (None, "a\nb", "line ends"),
        (None, "\x1b[31m", "cannot be seen"), (None, "\u202elegal@edge.example", "cannot be seen"), (None, " ", "empty"),
    ],
)  # fmt: skip
def test_what_the_operator_must_not_say(orders, operator_url, contact, said, tmp_path):
    """A page or a contact that nobody should be shown ends the start, and says why, in every command that takes one."""
    with Enforcer(orders, follow=False) as enforcer, pytest.raises(ConfigError, match=said):
        HttpGate(enforcer, operator_url=operator_url, contact=contact)
    own = [f"--operator-url={operator_url}"] if operator_url is not None else [f"--contact={contact}"]
    for command in (
        ["serve", "--listen", "127.0.0.1:0", "--trusted-caller", "127.0.0.1", "--orders", orders],
        ["export", "nginx", "--out", tmp_path, "--partial", "--orders", orders],
        ["apply", "nginx", "--out", tmp_path, "--no-probe", "--orders", orders],
        *([["dns", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9", "--orders", orders]] if contact else []),
    ):
        done = CliRunner().invoke(root, [*map(str, command), *own])
        assert (done.exit_code, said in done.output) == (1, True), (command, done.output)
        check_lines(done.output)


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
def test_what_other_programs_print_and_log(text):
    """mitmproxy's own lines about clients and origins keep their colours, and bring no other sequence along."""
    printed = io.StringIO()
    stream = ShownStream(printed)
    print(f"\x1b[32mGET\x1b[0m {text}", file=stream)
    stream.flush()
    assert printed.getvalue().startswith("\x1b[32mGET\x1b[0m ")
    left = re.sub("\x1b\\[[0-9;]*m", "", printed.getvalue())
    check_lines(left.replace("\nFAKE", "").replace("\nSet-Cookie", ""))
    record = ShownRecord("x", logging.ERROR, __file__, 1, "what %s", (text,), None)
    check_lines(logging.Formatter("%(message)s").format(record))
