"""The numbers that Prometheus reads are those of what was really done; names, types and texts stand in one table."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import threading
import urllib.request
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from order_texts import order_text
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_page import openmetrics, plain, samples, value

from cdnblock.adapters.aiohttp_middleware import CdnblockMiddleware
from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError
from cdnblock.http_gate import HttpGate
from cdnblock.metrics import FAMILIES, Collector, Kind, exposition, serve_metrics

FRANCE = "203.0.113.7"
NOW = datetime(2025, 5, 1, 12, tzinfo=UTC).timestamp()
ORDER = order_text(id="main", names="[refused.example]", measures="{dns: refuse, proxy: terminate}", until="2025-06-01")


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "main.yaml").write_text(ORDER)
    return folder


@pytest.fixture
def clock():
    return [NOW]


@pytest.fixture
def enforcer(orders, small_mmdb, clock):
    with Enforcer(
        orders, geo=small_mmdb, trusted_proxies=["127.0.0.1"], follow=False, clock=lambda: clock[0]
    ) as enforcer:
        yield enforcer


def page(enforcer, accept=None):
    return exposition(Collector(enforcer), accept)[1].decode()


def test_every_family_has_the_type_and_text_of_the_table(enforcer):
    """What is exposed is in the table and as it says, and counters alone end in _total."""
    for family in plain(page(enforcer)):
        kind = FAMILIES.get(family.name) or FAMILIES[f"{family.name}_total"]
        assert family.type == {Kind.INFO: "gauge"}.get(kind.kind, kind.kind)
        assert family.documentation == kind.text
        for sample in family.samples:
            assert {*sample.labels} == {*kind.labels}
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"cdnblock(_[a-z]+)+", name)
        assert name.endswith("_total") == (family.kind is Kind.COUNTER)
        assert family.text.endswith(".")


def test_promtool_finds_nothing_to_mend(enforcer):
    """Prometheus' own linter is content with names, units and texts."""
    promtool = shutil.which("promtool") or pytest.skip("promtool is not installed (Debian: prometheus)")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page(enforcer), capture_output=True, text=True, timeout=20, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_numbers_of_the_orders(enforcer, orders, clock):
    """States, names, ends and deadlines are those of the instant at which somebody asks."""
    (orders / "later.yaml").write_text(
        order_text(id="later", begins="2025-05-10", until="2025-07-01", names="[a.example, b.example]")
        + "served: 2025-05-01T09:00\ncomply_within: 3 days\n"
    )
    (orders / "dry.yaml").write_text(order_text(id="dry", names="[dry.example]") + "mode: report\n")
    enforcer.reload()
    found = samples(page(enforcer))
    assert value(found, "cdnblock_orders", state="in force", mode="enforce") == 1
    assert value(found, "cdnblock_orders", state="in force", mode="report") == 1
    assert value(found, "cdnblock_orders", state="pending", mode="enforce") == 1
    assert value(found, "cdnblock_names") == 4
    assert value(found, "cdnblock_revision_info", revision=enforcer.rules.revision) == 1
    ends = datetime(2025, 6, 1, 22, tzinfo=UTC).timestamp()  # its last day is over at midnight in Paris
    assert value(found, "cdnblock_order_expires_timestamp_seconds", order="main") == ends
    due = datetime(2025, 5, 5, 22, tzinfo=UTC).timestamp()  # the third day is a Sunday
    assert value(found, "cdnblock_order_deadline_timestamp_seconds", order="later") == due
    assert value(found, "cdnblock_order_deadline_timestamp_seconds", order="main") is None
    assert [value(found, "cdnblock_order_in_force", order=order) for order in ("main", "later", "dry")] == [1, 0, 0]
    begins = datetime(2025, 5, 9, 22, tzinfo=UTC).timestamp()
    assert value(found, "cdnblock_next_change_timestamp_seconds") == begins
    clock[0] = begins
    found = samples(page(enforcer))
    assert value(found, "cdnblock_order_in_force", order="later") == 1
    assert value(found, "cdnblock_orders", state="pending", mode="enforce") == 0


def test_reloads_and_what_is_wrong(enforcer, orders):
    """Each reload with a difference counts under what came of it; errors and held releases are there while they last."""
    collector = Collector(enforcer)

    def told(*names):
        found = samples(exposition(collector)[1].decode())
        return [value(found, f"cdnblock_{name}") for name in names], {
            result: value(found, "cdnblock_reloads_total", result=result)
            for result in ("changed", "unchanged", "invalid", "failed")
        }

    assert told("file_errors", "held_release") == (
        [0, 0], {"changed": 0, "unchanged": 0, "invalid": 0, "failed": 0},
    )  # fmt: skip
    (orders / "more.yaml").write_text(order_text(id="more", names="[more.example]"))
    enforcer.reload()
    assert told("names", "file_errors")[1]["changed"] == 1
    (orders / "more.yaml").write_text("cdnblock: 1\nid: [\n")
    enforcer.reload()
    assert told("names", "file_errors") == ([2, 1], {"changed": 1, "unchanged": 0, "invalid": 1, "failed": 0})
    (orders / "more.yaml").unlink()
    (orders / "main.yaml").unlink()
    enforcer.reload()
    assert told("names", "file_errors", "held_release", "held_names")[0] == [2, 0, 2, 2]
    assert told("reload_seconds")[0][0] > 0


def test_what_is_enforced_over_sockets_is_what_is_counted(enforcer, tmp_path):
    """A covered host is asked for seven times, once in a dry run, and others beside it: exactly that is told."""

    async def ask(times):
        async def origin(_request):
            return web.Response(text="content")

        application = web.Application()
        CdnblockMiddleware(HttpGate(enforcer)).install(application)
        application.router.add_route("*", "/{path:.*}", origin)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        statuses = []
        async with aiohttp.ClientSession() as session:
            for host, client in times:
                async with session.get(url, headers={"Host": host, "X-Forwarded-For": client}) as response:
                    statuses.append(response.status)
        await runner.cleanup()
        return statuses

    asked = (
        [("refused.example", FRANCE)] * 7 + [("refused.example", "198.51.100.7")] * 3 + [("open.example", FRANCE)] * 5
    )
    assert asyncio.run(ask(asked)) == [451] * 7 + [200] * 8
    text = page(enforcer)
    found = samples(text)
    decisions = {labels: number for (name, labels), number in found.items() if name == "cdnblock_decisions_total"}
    assert decisions == {
        (("action", "answer"), ("adapter", "aiohttp_middleware"), ("measure", "proxy")): 7,
    }
    assert "refused.example" not in text
    assert FRANCE not in text


def test_a_failing_decision_is_counted(enforcer, clock):
    """What could not be decided is an alarm of its own."""
    gate = HttpGate(enforcer)
    clock[0] = None
    gate.judge(method="GET", hosts=["refused.example"], peer=FRANCE, headers=())
    clock[0] = NOW
    assert value(page(enforcer), "cdnblock_decision_failures_total") == 1


def test_the_trail_is_counted(orders, small_mmdb, tmp_path):
    """Records, errors of writing and gaps are those of the trail."""
    with Enforcer(orders, geo=small_mmdb, audit=tmp_path / "audit", follow=False) as enforcer:
        assert enforcer.trail.flush()
        lines = sum(len(file.read_bytes().splitlines()) for file in (tmp_path / "audit").glob("*.jsonl"))
        found = samples(page(enforcer))
        assert value(found, "cdnblock_audit_records_total") == lines > 0
        assert value(found, "cdnblock_audit_write_errors_total") == value(found, "cdnblock_audit_gaps_total") == 0
        assert value(found, "cdnblock_audit_failing") == 0
        last = json.loads(max((tmp_path / "audit").glob("*.jsonl")).read_bytes().splitlines()[-1])["at"]
        written = value(found, "cdnblock_audit_last_write_timestamp_seconds")
        assert written == pytest.approx(datetime.fromisoformat(last).timestamp(), abs=0.001)


def test_a_registry_of_somebody_elses(enforcer):
    """A collector goes into a registry once, and there stands beside whatever else is in it."""
    registry = CollectorRegistry()
    registry.register(Collector(enforcer))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector(enforcer))
    assert value(generate_latest(registry).decode(), "cdnblock_names") == 1


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"), ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=\x1b[31m", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=999999999999999999999" * 200, "text/plain; version=0.0.4; charset=utf-8"),
    ],
)  # fmt: skip
def test_the_format_is_negotiated(enforcer, accept, content_type):
    """OpenMetrics for whoever asks for it in a version that there is, the plain text for everybody else."""
    found, octets = exposition(Collector(enforcer), accept)
    assert found.startswith(content_type.removesuffix("; charset=utf-8"))
    parse = openmetrics if "openmetrics" in found else plain
    assert value(samples(octets.decode(), parse=parse), "cdnblock_names") == 1


def test_scrapes_while_the_folder_changes(orders, small_mmdb):
    """Every page is whole and sound while orders come and go, and the counters on it never fall."""
    with Enforcer(orders, geo=small_mmdb, follow=False) as enforcer:
        ended = threading.Event()

        def change():
            for number in range(12):
                (orders / "more.yaml").write_text(order_text(id="more", names=f"[n{number}.example]"))
                enforcer.reload(accept_release=True)
            ended.set()

        thread = threading.Thread(target=change)
        thread.start()
        collector, changed, pages = Collector(enforcer), 0.0, 0
        while not ended.is_set():
            found = samples(exposition(collector)[1].decode())
            assert value(found, "cdnblock_names") in (1, 2)
            now = value(found, "cdnblock_reloads_total", result="changed")
            assert now >= changed
            changed, pages = now, pages + 1
        thread.join()
        assert pages > 1
        assert value(page(enforcer), "cdnblock_reloads_total", result="changed") == 12


def test_an_address_of_its_own(enforcer):
    """`--metrics` answers GET /metrics there, and says so where it cannot."""
    with serve_metrics(("127.0.0.1", 0), Collector(enforcer)) as (host, port):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"http://{host}:{port}/metrics", timeout=10
        ) as response:
            assert value(response.read().decode(), "cdnblock_names") == 1
        with (
            pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"),
            serve_metrics(("127.0.0.1", port), Collector(enforcer)),
        ):
            pass
