"""`--report-only` of the commands that serve: they say loudly that nothing is refused, and refuse nothing."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from order_texts import order_text

from cdnblock.cli.root import root

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "sandbox"))

LOUD = "REPORT ONLY: what would be enforced is told and counted; nothing is refused"


def stage_of(name):
    """Return another test's file, for the stage that it sets up: by its place, since its name is not the only one."""
    spec = importlib.util.spec_from_file_location(f"stage_of_{name.replace('/', '_')}", TESTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "a.yaml").write_text(order_text(territory="world", names="[refused.example]", until="2090-01-01"))
    return folder


@pytest.mark.parametrize("workers", [2])
def test_dns_forwards_everything(orders, tmp_path, workers):
    """Also its workers, and after an edit; the status of both says so, and counts what would be refused."""
    pytest.importorskip("dns", reason="dnspython is the oracle of these tests (extra `dns`)")
    dns = stage_of("cli/test_dns")
    for upstream in dns.upstream.__wrapped__():
        state = tmp_path / "state"
        arguments = (
            "--upstream",
            upstream,
            "--orders",
            orders,
            "--state",
            state,
            "--workers",
            workers,
            "--report-only",
        )
        with dns.Running(*arguments) as front:
            assert LOUD in "".join(front.said)
            assert "1 name listed; REPORT ONLY: nothing is refused" in "".join(front.said)
            assert front.rcode() == "NOERROR"
            (orders / "b.yaml").write_text(order_text(id="b", territory="world", names="[more.example]"))
            assert CliRunner().invoke(root, ["reload", "--state", str(state)]).exit_code == 0
            assert front.rcode("more.example") == "NOERROR"
            told = dns.status(state)
            assert (told["report_only"], told["orders_reported"], told["names_in_force"]) == (True, 2, 0)
            assert {worker["revision"] for worker in told["dns"]["workers"]} == {told["revision"]}
            assert sum(worker["queries"]["refused"] for worker in told["dns"]["workers"]) == 0
            assert front.end() == 0


def test_the_decision_service_lets_everything_through(tmp_path, small_mmdb):
    """200 for a covered host, whatever the file says."""
    serve = stage_of("cli/test_serve")
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "motogp.yaml").write_text(order_text())
    with serve.serving(tmp_path, small_mmdb, "--report-only") as process:
        assert LOUD in process.said[0]
        assert "1 name listed; REPORT ONLY: nothing is refused" in process.said[-1]
        assert serve.ask(tmp_path, "www.motogpstream.me")[0] == 200


def test_an_engine_is_told_to_refuse_nothing(tmp_path):
    """`apply` writes a configuration without names, and says in it why; without the flag the names come back."""
    apply = stage_of("cli/test_apply")
    with apply.open_stage(tmp_path, ()) as stage:
        apply.put_orders(stage.orders, {"one": {"names": ["one.example"]}})
        once = ("traefik", "--orders", stage.orders, "--geo", stage.geo, "--out", stage.folder / "out", "--no-probe", "--once")  # fmt: skip
        written = stage.folder / "out" / "cdnblock.json"
        assert apply.run(*once, "--report-only").exit_code == 0
        assert "one.example" not in written.read_text()
        assert "report only: order one refuses nothing" in written.read_text()
        assert apply.run(*once).exit_code == 0
        assert "one.example" in written.read_text()


def test_a_rehearsal_of_a_dry_run(tmp_path):
    """The sandbox, mitmproxy in it, gets what the naive reading expects: nothing is refused, at no instant, to nobody."""
    pytest.importorskip("mitmproxy", reason="mitmproxy is not installed (extra `mitmproxy`)")
    command = stage_of("sandbox/test_command")
    (tmp_path / "all.yaml").write_text(order_text(until="2030-01-01"), encoding="utf-8")
    done = command.run("--once", "--json", "--report-only", "--orders", str(tmp_path))
    told = json.loads(done.stdout)
    assert (done.returncode, told["verdict"]) == (0, "passed")
    assert {probe["expected"] for probe in told["probes"]} <= {"answered", "200", "cached", "kept", "goes on"}
