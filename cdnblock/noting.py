"""How a host tells what it did about a request: one call each, on the request's own path, and never in its way.

    notes = Notes(enforcer.tally, "my_proxy")
    notes.http(decision, host, client, Acted.ANSWER)          # the 451 was sent
    notes.http(decision, host, client, None)                  # let through: only what an order in a dry run would do

What was let through by no order at all is never told: for nearly all requests nothing here is called.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
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

    def note(
        self,
        decision: Decision,
        host: str | bytes,
        client: str | None,
        *,
        measures: tuple[Measure, ...],
        action: str,
        adapter: str,
    ) -> None:
        """Count one enforcement."""

    def series(self, measures: tuple[Measure, ...], action: str, adapter: str) -> Series:
        """Return what counts one kind of enforcement."""


_DNS: Final = (Measure.DNS,)
_PROXY: Final = (Measure.PROXY,)
_CDN: Final = (Measure.CDN,)
_BY: Final[Mapping[Acted, tuple[Measure, ...]]] = {
    Acted.ANSWER: _PROXY,
    Acted.CLOSE: _PROXY,
    Acted.CUT: _PROXY,
    Acted.UNCACHED: _CDN,
}


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
    """What one host did, told to one tally. Nothing in it raises: a request is worth more than its record."""

    def __init__(self, tally: Tells, adapter: str) -> None:
        self.failures = 0
        """How many enforcements could not be noted because something raised; logged once a minute."""
        self.refusals = tally.series(_DNS, Acted.REFUSED, adapter)
        """The refusals of DNS queries: a host may count repeats in its `cells` itself."""
        self._tally = tally
        self._adapter = adapter
        self._complained = -COMPLAIN_EVERY

    def http(
        self, decision: Decision, host: str | bytes, client: str | None, acted: Acted | None, *, dry_run: bool = True
    ) -> None:
        """Tell what was done about a request for `host`; None is nothing, and then only a dry run is told.

        A dry run is told by the one measure that would have come first: what is refused has no caching to switch off.
        Whoever has told it already says so.
        """
        try:
            if acted is not None:
                self._tally.note(decision, host, client, measures=_BY[acted], action=acted, adapter=self._adapter)
            if decision.would and dry_run:
                would = _PROXY if Measure.PROXY in decision.would else _CDN if Measure.CDN in decision.would else None
                if would is not None:
                    self._tally.note(decision, host, client, measures=would, action=Acted.WOULD, adapter=self._adapter)
        except Exception as error:  # noqa: BLE001 (whatever it is, the request goes its way)
            self._failed(error)

    def dns(self, decision: Decision, name: str | bytes, client: str | None, *, refused: bool) -> None:
        """Tell what was done about a query for `name`, in text or as it stands in a packet."""
        try:
            would = Measure.DNS in decision.would
            if refused and would:  # two things to tell, each time
                self._tally.note(decision, name, client, measures=_DNS, action=Acted.REFUSED, adapter=self._adapter)
            elif refused:
                self.refusals.note(decision, name, client)
            if would:
                self._tally.note(decision, name, client, measures=_DNS, action=Acted.WOULD, adapter=self._adapter)
        except Exception as error:  # noqa: BLE001 (as above)
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        now = time.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            _LOG.error(
                "cdnblock: what was enforced could not be noted, %d times so far (told once a minute): %s",
                self.failures, error, exc_info=error,
            )  # fmt: skip
