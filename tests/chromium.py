"""A real Chromium for whoever looks at pages, and what tells whether everybody can use them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def browser(*reaches):
    """Start one that reaches these hosts and no other."""
    playwright, program = _found()
    rules = ", ".join(["MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in reaches)])
    with playwright.sync_playwright() as found:
        started = found.chromium.launch(executable_path=program, args=[f"--host-resolver-rules={rules}", *_arguments()])
        yield started
        started.close()


@contextmanager
def browser_with_doh(folder, template, *, key, mode="secure", within=()):
    """Start one that asks this DNS over HTTPS for every name, and nobody else; the digest of its key is trusted.

    Its profile is new and in `folder`. With mode `automatic` it may ask the system's resolver as well. The command
    `within` runs it where it is to be.
    """
    playwright, program = _found()
    profile, wrapper = folder / "profile", folder / "chromium"
    profile.mkdir()
    settings = {"dns_over_https": {"mode": mode, "templates": template}}
    (profile / "Local State").write_text(json.dumps(settings), encoding="utf-8")
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join([*within, program])} "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    arguments = ["--disable-quic", f"--ignore-certificate-errors-spki-list={key}", *_arguments()]
    with playwright.sync_playwright() as found:
        started = found.chromium.launch_persistent_context(profile, executable_path=wrapper, args=arguments)
        yield started
        started.close()


def _found():
    """Return what drives a Chromium, and where that is; skip where one of them is not."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    return playwright, program


def _arguments():
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return ["--disable-gpu", "--disable-dev-shm-usage", *sandbox]


def axe_core():
    """Return axe-core's script, as it comes with axe-playwright-python."""
    found = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (Path(found.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
