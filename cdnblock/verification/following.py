"""Decisions while orders change: what is decided now, and whether it is old enough for a server to have heard of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cdnblock.matching.decision import Decision
from cdnblock.matching.ruleset import RuleSet


class Following:
    """Decides by the rules of the moment. Servers get `settle` seconds to follow a change of them, or an instant's."""

    def __init__(self, rules: Callable[[], RuleSet], settle: float) -> None:
        self.revisions: list[str] = []
        """Every revision that was decided by, in order."""
        self._rules = rules
        self._settle = settle
        self._seen: RuleSet | None = None
        self._changed = time.monotonic() - settle

    @property
    def rules(self) -> RuleSet:
        """What is enforced now."""
        rules = self._rules()
        if rules is not self._seen:
            if self._seen is not None:
                self._changed = time.monotonic()
            self._seen = rules
            self.revisions.append(rules.revision)
        return rules

    def decide(self, name: str, country: str | None) -> Decision:
        """Return what is decided now."""
        return self.rules.decide(name, country=country, at=datetime.now(UTC))

    def unsettled(self, name: str, country: str | None) -> float:
        """Return how many seconds a difference has to wait before it counts, 0 where nothing has just changed."""
        left = self._changed + self._settle - time.monotonic()
        if left > 0:
            return left
        now = datetime.now(UTC)
        before = self.rules.decide(name, country=country, at=now - timedelta(seconds=self._settle))
        return 0.0 if before.measures == self.decide(name, country).measures else self._settle
