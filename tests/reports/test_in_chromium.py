"""The printed page as people see it: in a real Chromium, in light and dark, on a telephone, and hostile."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hostile_reports import TEXTS, report

from cdnblock.reports.html import as_html
from cdnblock.reports.order_document import order_document

AXE = "async () => (await axe.run()).violations.map(rule => [rule.id, rule.nodes.map(node => node.target.join(' '))])"


@pytest.fixture(scope="module")
def chromium():
    """One browser, which reaches nobody."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-gpu", "--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with playwright.sync_playwright() as found:
        browser = found.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe():
    """axe-core, as it comes with axe-playwright-python."""
    found = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (Path(found.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


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
