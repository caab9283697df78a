"""examples/monitoring: the alert rules fire when they should, and everything asks for metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cdnblock.metrics import FAMILIES, Kind

FOLDER = Path(__file__).parents[2] / "examples" / "monitoring"
RULES = yaml.safe_load((FOLDER / "cdnblock-alerts.yml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
TESTS = sorted(FOLDER.glob("cdnblock-alerts.*.test.yml"))
DASHBOARD = json.loads((FOLDER / "cdnblock-dashboard.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
EXPRESSIONS = [(title, target["expr"]) for title, panel in PANELS.items() for target in panel.get("targets", ())]
EXPRESSIONS += [(note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"] if "expr" in note]


def promtool(*arguments, cwd=FOLDER):
    program = shutil.which("promtool") or pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        [program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exposed(expression):
    """Return each metric of ours in an expression with the labels that are asked of it; fail for one that there is not."""
    found = []
    for name, braces in re.findall(r"\b(cdnblock_[a-z_]+)(\{[^}]*\})?", re.sub(r'"[^"]*"', '""', expression)):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        family = FAMILIES.get(name) or FAMILIES[base]
        assert name == base or family.kind is Kind.HISTOGRAM
        labels = set(re.findall(r"([a-z_]+)\s*[=!]", braces or ""))
        assert labels <= {*family.labels, "job", "instance", "le"}, (name, labels)
        found.append(name)
    return found


def test_promtool_reads_the_rules():
    """Every expression and template of the rules is sound."""
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", "cdnblock-alerts.yml")


@pytest.mark.parametrize("tests", TESTS, ids=[file.name for file in TESTS])
def test_the_rules_fire_when_they_should(tests):
    """And not before, and no longer: on series written out in the example's own tests."""
    assert "SUCCESS" in promtool("test", "rules", tests.name)


def test_every_rule_is_tried_both_ways():
    """Each alert has an instant at which it fires, and one at which it does not."""
    tried = [
        case for file in TESTS for test in yaml.safe_load(file.read_text())["tests"] for case in test["alert_rule_test"]
    ]
    assert {case["alertname"] for case in tried if case["exp_alerts"]} == {*ALERTS}
    assert {case["alertname"] for case in tried if not case["exp_alerts"]} == {*ALERTS}


@pytest.mark.parametrize("name", ALERTS)
def test_a_rule_asks_for_what_there_is(name):
    """Its metrics and their labels are the collector's, and it says what to do."""
    rule = ALERTS[name]
    assert exposed(rule["expr"]) or name == "CdnblockDown"
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert {*rule["annotations"]} == {"summary", "description"}


def test_the_dashboard_asks_for_what_there_is():
    """Every panel's metrics and labels are the collector's; the dashboard shows all that matters."""
    named = {name for _, expression in EXPRESSIONS for name in exposed(expression)}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert {"cdnblock_decisions_total", "cdnblock_order_expires_timestamp_seconds", "cdnblock_held_release"} <= shown


def test_promtool_reads_the_dashboards_expressions(tmp_path):
    """With Grafana's variables filled in, each is an expression of PromQL."""
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__(rate_)?interval", "5m", expression).replace("$", "")}
        for number, (_, expression) in enumerate(EXPRESSIONS)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", "rules.yml", cwd=tmp_path)


def test_the_dashboard_is_one_that_grafana_imports():
    """Grafana's classic model: panels with ids of their own that do not overlap, and a data source that is chosen."""
    assert {"title", "uid", "schemaVersion", "templating", "time", "panels"} <= {*DASHBOARD}
    assert DASHBOARD["id"] is None
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"]) == len(PANELS)
    variables = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "job": "query", "instance": "query"}
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_readme_lists_every_metric():
    """With its labels, its kind and what it says: the table is the code's."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = [line for line in readme.splitlines() if line.startswith("| `cdnblock_")]
    assert listed == [
        f"| `{name}{'{' + ','.join(family.labels) + '}' if family.labels else ''}` | {family.kind} | {family.text} |"
        for name, family in FAMILIES.items()
    ]
