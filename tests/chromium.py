"""A real Chromium for whoever looks at pages, and what tells whether everybody can use them."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def browser(*reaches):
    """Start one that reaches these hosts and no other."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    rules = ", ".join(["MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in reaches)])
    arguments = [f"--host-resolver-rules={rules}", "--disable-gpu", "--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with playwright.sync_playwright() as found:
        started = found.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


def axe_core():
    """Return axe-core's script, as it comes with axe-playwright-python."""
    found = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (Path(found.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
