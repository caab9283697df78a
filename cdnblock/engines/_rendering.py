"""A rendered configuration that is still of use: until its plan ends, and as what the next one goes on from."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from cdnblock.exporters import Export
from cdnblock.exporters._plan import Plan
from cdnblock.matching.ruleset import RuleSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """A configuration, and of what it is one: it holds for these rules from `at` until its plan says."""

    rules: RuleSet
    at: datetime
    plan: Plan
    files: Mapping[str, bytes]
    missing: tuple[str, ...]
    export: Export

    def holds(self, rules: RuleSet, at: datetime) -> bool:
        """Tell whether it is that of these rules at an instant."""
        return self.rules is rules and self.at <= at and (self.plan.until is None or at < self.plan.until)


@contextmanager
def no_collections() -> Iterator[None]:
    """Put garbage collections off: a hundred thousand new names would start many, which find nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
