"""Orders in mode report: no target's configuration enforces anything of them, and its header says that they are there."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from order_texts import order_text

from cdnblock.exporters import Options, export, load
from cdnblock.matching.ruleset import compile_orders
from cdnblock.sources.order_folder import load_orders

sys.path.insert(0, str(Path(__file__).parent))
from test_targets import AT, ORDERS, TABLE, TARGETS

NUMBERS = re.compile("[0-9a-f]{16,}|^(?:end|stop) .*$", re.MULTILINE)
REPORT = "mode: report\n"


def exported(folder, target, options):
    rules = load_orders(folder) if any(folder.iterdir()) else compile_orders(())
    settings = Options(**{"folder": "/etc/cdnblock"} | options)
    return export(load(target), rules, TABLE, AT, settings, partial=True)


def texts(done):
    """Return the lines of each text, without those of the header that differ, and without digests and lengths of it."""
    return {
        file.name: [
            line.removesuffix(",")
            for line in NUMBERS.sub("", file.text).splitlines()
            if "revision" not in line and "report only" not in line
        ]
        for file in done.files
        if file.data is None
    }


@pytest.mark.parametrize(("target", "options"), TARGETS, ids=[target for target, _ in TARGETS])
def test_what_is_only_reported_is_no_configuration(tmp_path, target, options):
    """With reported orders alone the text is that of an empty folder, beside the header that names them."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "reported").mkdir()
    for order_id, changes in ORDERS.items():
        text = order_text(id=order_id, until="2035-12-31", **changes) + REPORT
        (tmp_path / "reported" / f"{order_id}.yaml").write_text(text)
    nothing, reported = (exported(tmp_path / name, target, options) for name in ("empty", "reported"))
    assert reported.missing == ()
    assert (reported.plan.orders, reported.plan.groups, reported.plan.until) == ((), (), None)
    assert texts(reported) == texts(nothing)
    whole = b"".join(file.octets for file in reported.files).decode("latin-1")
    assert "alone.example" not in whole
    for order_id in ORDERS:
        assert f"report only: order {order_id} refuses nothing, so nothing of it is here" in whole


@pytest.mark.parametrize(("target", "options"), TARGETS, ids=[target for target, _ in TARGETS])
def test_a_reported_order_changes_nothing_beside_others(tmp_path, target, options):
    """Neither names nor the instant until which the text is right, although its names are in the others, too."""
    for order_id, changes in ORDERS.items():
        (tmp_path / f"{order_id}.yaml").write_text(order_text(id=order_id, until="2035-12-31", **changes))
    before = exported(tmp_path, target, options)
    changes = {"names": "[a.example, www.c.example, d.example]", "territory": "world", "until": "2025-06-01"}
    (tmp_path / "extra.yaml").write_text(order_text(id="extra", **changes) + REPORT)
    after = exported(tmp_path, target, options)
    assert texts(after) == texts(before)
    assert after.plan.until == before.plan.until == datetime(2035, 12, 31, 23, tzinfo=UTC)
