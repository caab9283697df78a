"""How often something was enforced, as it came over the wire: each has to be counted by the host, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cdnblock.testing.judging import UNAVAILABLE
from cdnblock.testing.scenarios import Outcome
from cdnblock.testing.site import MARK
from cdnblock.testing.wire import Answer

_PROXY: Final = ("answer", "close", "cut")
_MORE: Final = (Outcome.HARMLESS, Outcome.UNSERVED)
_TARGETED: Final = "CDN-Cache-Control"


@dataclass(slots=True)
class Counted:
    """What came: requests that were refused, ended, or served such that nobody stores the answer.

    `doubtful` are those that ended without an answer where an order need not be why, and what a host may have taken
    for one more request.
    """

    refused: int = 0
    ended: int = 0
    uncached: int = 0
    doubtful: int = 0

    def take(self, answer: Answer, outcome: Outcome | None) -> None:
        """Take one answer; the outcome is what it should have been."""
        self.doubtful += outcome in _MORE
        if answer.status == UNAVAILABLE and not answer.of(MARK[0]):
            self.refused += 1
        elif not answer.status:
            self.ended += outcome is Outcome.CLOSED
            self.doubtful += outcome is not Outcome.CLOSED
        elif answer.of(MARK[0]) and answer.of(_TARGETED) == ["no-store"]:
            self.uncached += 1

    def differing(self, before: Mapping[str, int], now: Mapping[str, int]) -> Iterator[str]:
        """Yield what a host counted otherwise, between two readings of its count."""
        proxy = sum(now.get(action, 0) - before.get(action, 0) for action in _PROXY)
        least = self.refused + self.ended
        if not least <= proxy <= least + self.doubtful:
            yield f"{least} requests were refused or ended, {self.doubtful} more may have been; counted were {proxy}"
        uncached = now.get("uncached", 0) - before.get("uncached", 0)
        if uncached != self.uncached:
            yield f"{self.uncached} requests were kept out of caches, counted were {uncached}"
