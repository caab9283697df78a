"""The report on one order as a file to take along: what `cdnblock report --order` writes, by the same code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from cdnblock.audit.clocks import software
from cdnblock.dashboard.view import View
from cdnblock.reports.html import as_html
from cdnblock.reports.markdown import as_markdown
from cdnblock.reports.order_document import order_document
from cdnblock.reports.order_json import as_json
from cdnblock.reports.order_making import order_report
from cdnblock.reports.trails import read_trails
from cdnblock.sources.protected_list import load_holidays

FORMS: Final[Mapping[str, str]] = {"html": "text/html", "md": "text/markdown", "json": "application/json"}
"""How a report ends → its media type."""


def report(view: View, order_id: str, form: str) -> str | None:
    """Return the report on an order, None where there is none of this id; reads and verifies the whole trail.

    Raises:
        ConfigError: the trail cannot be read.

    """
    row = view.register().row(order_id)
    if row is None or form not in FORMS:
        return None
    trails = [] if view.trail is None else list(read_trails([view.trail.folder], row.order))
    holidays, _ = load_holidays(view.folder)
    made = order_report(
        row.order, trails, at=view.now(), software=software().removeprefix("cdnblock "), holidays=holidays
    )
    if form == "json":
        return json.dumps(as_json(made), indent=1) + "\n"
    return (as_html if form == "html" else as_markdown)(order_document(made))
