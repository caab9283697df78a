"""The printed page as people see it: in a real Chromium, in light and dark, on a telephone, and hostile."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from chromium import axe_core, browser

sys.path.insert(0, str(Path(__file__).parent))

from hostile_reports import TEXTS, report

from cdnblock.reports.html import as_html
from cdnblock.reports.order_document import order_document

AXE = "async () => (await axe.run()).violations.map(rule => [rule.id, rule.nodes.map(node => node.target.join(' '))])"


@pytest.fixture(scope="module")
def chromium():
    """One browser, which reaches nobody."""
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def axe():
    """What finds whom a page shuts out."""
    return axe_core()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(scheme, chromium, axe, tmp_path):
    """Everybody can use it, nothing is fetched, nothing runs, the style is the page's own; no text breaks it."""
    text = " ".join(text for key, text in TEXTS.items() if key != "long")
    page_file = tmp_path / "report.html"
    page_file.write_text(as_html(order_document(report(tmp_path, text))), encoding="utf-8")
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 1100, "height": 900})
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.goto(page_file.as_uri())
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(251, 250, 247)", "dark": "rgb(21, 23, 27)"}[scheme]
    assert page.locator("h1").inner_text() == "Order motogp"
    page.evaluate(axe)
    assert page.evaluate(AXE) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert (asked, complaints) == ([page_file.as_uri()], [])
    context.close()
