"""How much is tried: all of it where there is time for it, and a third of the random examples otherwise."""

from __future__ import annotations

import os
from typing import Final

EVERYTHING: Final = os.environ.get("CDNBLOCK_TESTS") == "all"


def examples(number: int) -> int:
    """Return how many random examples to try of so many."""
    return number if EVERYTHING else number // 3
