"""A dashboard that runs, and a real Chromium that looks at it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from chromium import browser

sys.path.insert(0, str(Path(__file__).parent))
from running_dashboards import enforce, running, written


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory, small_mmdb):
    """A dashboard with a trail, in which something was enforced."""
    folder = tmp_path_factory.mktemp("dashboard")
    with running(written(folder / "orders"), small_mmdb, audit=folder / "audit") as found:
        enforce(found.enforcer, "www.motogpstream.me", "third.example")
        yield found


@pytest.fixture(scope="module")
def chromium():
    """One browser, whose every request but those to loopback fails."""
    with browser("127.0.0.1") as found:
        yield found


@pytest.fixture
def look(chromium, dashboard):
    """Open a page in a context of its own; afterwards nothing may have gone elsewhere, failed, or been complained of."""
    contexts, asked, complaints = [], [], []

    def open_page(path="/", *, at=dashboard, **settings):
        settings = {"viewport": {"width": 1366, "height": 850}} | settings
        context = chromium.new_context(**settings)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(at.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith("http://127.0.0.1:")] == []
    # What a test brought about: pages that are not there, and a server that is gone.
    meant = ("status of 40", "net::ERR_CONNECTION", "htmx:sendError", "htmx:afterRequest")
    assert [text for text in complaints if not any(words in text for words in meant)] == []


@pytest.fixture
def keep(tmp_path):
    """Keep a screenshot: in the folder that CDNBLOCK_SCREENSHOTS names, or where pytest keeps its files."""
    folder = Path(os.environ.get("CDNBLOCK_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def kept(page, name):
        page.screenshot(path=str(folder / f"{name}.png"), full_page=True)

    return kept
