"""How a host tells what it did about a request: one call each, on the request's own path, and never in its way.

    notes = Notes(enforcer.tally, "my_proxy")
    notes.http(decision, host, client, Acted.ANSWER)          # the 451 was sent
    notes.http(decision, host, client, None)                  # let through: only what an order in a dry run would do

What was let through by no order at all is never told: for nearly all requests nothing here is called.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, Protocol

from cdnblock.audit.tally import Series
from cdnblock.matching.decision import Decision
from cdnblock.orders.model import Measure

COMPLAIN_EVERY: Final = 60.0  # seconds between two log records about what could not be noted

_LOG: Final = logging.getLogger(__name__)


class Acted(StrEnum):
    """What was done about a request."""

    REFUSED = "refused"
    """Measure `dns`: the query was refused."""
    ANSWER = "answer"
    """Measure `proxy`: the notice was sent in the place of an answer."""
    CLOSE = "close"
    """Measure `proxy: close`: the connection or stream was ended without an answer."""
    CUT = "cut"
    """Measure `proxy`: what was under way was ended when an order took effect."""
    UNCACHED = "uncached"
    """Measure `cdn`: it was served without any cache."""
    WOULD = "would"
    """Nothing: the order is in a dry run (`mode: report`)."""


class Tells(Protocol):
    """Whom it is told: `cdnblock.audit.tally.Tally`."""

    def series(self, measures: tuple[Measure, ...], action: str, adapter: str) -> Series:
        """Return what counts one kind of enforcement."""


_ANSWER, _UNCACHED = Acted.ANSWER, Acted.UNCACHED  # a member is not found as quickly through its class
_DNS: Final = (Measure.DNS,)
_PROXY: Final = (Measure.PROXY,)
_CDN: Final = (Measure.CDN,)


def meant(
    decide: Callable[[str | bytes, str | None], Decision],
    hosts: Sequence[str | bytes],
    client: str | None,
    decision: Decision,
) -> str | bytes:
    """Return which of a request's names a decision is about."""
    if len(hosts) == 1:
        return hosts[0]
    return next((host for host in hosts if decide(host, client) is decision), hosts[0] if hosts else "")


class Notes:
    """What one host did, told to one tally. Nothing in it raises: a request is worth more than its record.

    Each thing that is done has a series of its own, `refusals`, `answers` and so on: a host that counts nanoseconds may
    count repeats in their `cells` itself.
    """

    def __init__(self, tally: Tells, adapter: str) -> None:
        self.failures = 0
        """How many enforcements could not be noted because something raised; logged once a minute."""
        self.refusals = tally.series(_DNS, Acted.REFUSED.value, adapter)
        self.answers = tally.series(_PROXY, Acted.ANSWER.value, adapter)
        self.closings = tally.series(_PROXY, Acted.CLOSE.value, adapter)
        self.cuts = tally.series(_PROXY, Acted.CUT.value, adapter)
        self.uncached = tally.series(_CDN, Acted.UNCACHED.value, adapter)
        self._dry = {
            measures[0]: tally.series(measures, Acted.WOULD.value, adapter) for measures in (_DNS, _PROXY, _CDN)
        }
        self._complained = -COMPLAIN_EVERY

    def http(
        self, decision: Decision, host: str | bytes, client: str | None, acted: Acted | None, *, dry_run: bool = True
    ) -> None:
        """Tell what was done about a request over HTTP for `host`; None is nothing, and only a dry run is told then.

        A dry run is told by the one measure that would have come first: what is refused has no caching to switch off.
        Whoever has told it already says so.
        """
        try:
            if acted is not None:  # where a dry run is to be told as well, there is more than a repeat
                self._series_of(acted).note(decision, host, client, keep=not decision.would)
            if decision.would and dry_run:
                would = next((measure for measure in (Measure.PROXY, Measure.CDN) if measure in decision.would), None)
                if would is not None:
                    self._dry[would].note(decision, host, client)
        except Exception as error:  # noqa: BLE001 (whatever it is, the request goes its way)
            self._failed(error)

    def dns(self, decision: Decision, name: str | bytes, client: str | None, *, refused: bool) -> None:
        """Tell what was done about a query for `name`, in text or as it stands in a packet."""
        try:
            would = bool(decision.would) and Measure.DNS in decision.would
            if refused:
                self.refusals.note(decision, name, client, keep=not would)
            if would:
                self._dry[Measure.DNS].note(decision, name, client)
        except Exception as error:  # noqa: BLE001 (as above)
            self._failed(error)

    def _series_of(self, acted: Acted) -> Series:
        if acted is _ANSWER:
            return self.answers
        if acted is _UNCACHED:
            return self.uncached
        return self.closings if acted is Acted.CLOSE else self.cuts

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        now = time.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            _LOG.error(
                "cdnblock: what was enforced could not be noted, %d times so far (told once a minute): %s",
                self.failures, error, exc_info=error,
            )  # fmt: skip
