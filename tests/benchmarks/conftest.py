"""Which benchmarks are tried: the long ones only where everything is (`CDNBLOCK_TESTS=all`)."""

from __future__ import annotations

import os

LONG = ("test_all_benchmarks_make_one_table", "test_the_cost_of_a_request", "test_the_rendering_of_a_target")


def pytest_collection_modifyitems(config, items):
    """Leave out what takes half a minute to say that it still runs."""
    if os.environ.get("CDNBLOCK_TESTS") == "all":
        return
    left_out = [item for item in items if item.path.parent.name == "benchmarks" and item.name.startswith(LONG)]
    if left_out:
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=left_out)
