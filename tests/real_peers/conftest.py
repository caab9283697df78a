"""Which scenarios are replayed on which server, and which of what `apply` does: all of it takes a quarter of an hour.

Each server gets a third of them, and each another third, so that all are replayed here and there every time; the servers
inside this process (tests/adapters) get them all. `CDNBLOCK_TESTS=all` in the environment replays everything on everybody.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
SCENARIO = "test_scenario["
ALWAYS = ("TestHAProxy", "TestNginx")  # are kept in step before all eyes every time; of the others a third is


def pytest_collection_modifyitems(config, items):
    """Leave out two thirds of the scenarios, the same ones in each process."""
    if os.environ.get("CDNBLOCK_TESTS") == "all":
        return
    left_out = [item for item in items if HERE in item.path.parents and _is_left_out(item)]
    if left_out:
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=left_out)


def _is_left_out(item):
    kept_in_step = item.path.name.startswith("test_apply") and item.cls is not None and item.cls.__name__ not in ALWAYS
    if not item.name.startswith(SCENARIO) and not kept_in_step:
        return False
    server = f"{item.path.name}::{item.cls.__name__}"
    return sha256(f"{server}{item.name}".encode()).digest()[0] % 3 > 0
