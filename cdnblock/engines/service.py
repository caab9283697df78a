"""Keep an engine in step for as long as a service runs: at each change of the orders, and at each of their instants."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cdnblock.enforcer import Enforcer
from cdnblock.engines._engine import DownError
from cdnblock.engines._recorded import record_applied, record_failure
from cdnblock.engines.applying import Applied, Applier
from cdnblock.errors import CdnblockError

LOOK: Final = 60.0  # seconds between two looks at an engine that nobody has changed

_SOONEST, _LATEST = 1.0, 300.0  # seconds until what failed is tried again: twice as long each time
_AHEAD: Final = 60.0  # seconds before an instant at which what is to be in force then is made ready
_DOWN: Final = 2.0  # seconds until somebody who was down is looked for again
_REPEAT: Final = 600.0  # seconds after which a complaint that has not changed is made again
_LOG: Final = logging.getLogger("cdnblock.apply")


@dataclass(kw_only=True, eq=False)
class Service:
    """Follows an enforcer, and has an applier do what that takes. `said` hears what was done, `look` is in seconds."""

    enforcer: Enforcer
    applier: Applier
    said: Callable[[Applied], None]
    now: Callable[[], datetime]
    look: float = LOOK
    _woken: threading.Event = field(init=False, default_factory=threading.Event)
    _ended: bool = field(init=False, default=False)
    _failures: int = field(init=False, default=0)
    _complaint: str = field(init=False, default="")
    _complained_at: float = field(init=False, default=0.0)
    _applied: Applied | None = field(init=False, default=None)
    _applied_at: datetime | None = field(init=False, default=None)
    _wrong: tuple[str, ...] = field(init=False, default=())

    def run(self) -> None:
        """Keep the engine in step until `end`; what has begun then is finished first."""
        unsubscribe = self.enforcer.subscribe(lambda _old, _new: self._woken.set())
        self.enforcer.report("apply", self.status)
        try:
            while not self._ended:
                pause = self._prepare(self._pass())
                if not self._woken.wait(pause) and not self._ended and self._failures == 0:
                    self.applier.is_still_so(self.enforcer.rules)
                    self._tell_wrong()
        finally:
            unsubscribe()
            notify("STOPPING=1")

    def end(self) -> None:
        """Have `run` return soon; may be called from a signal handler."""
        self._ended = True
        self._woken.set()

    def wake(self) -> None:
        """Have the orders reread, and the engine looked at, now; may be called from a signal handler."""
        threading.Thread(target=self._reread, name="cdnblock-reload", daemon=True).start()

    def status(self) -> Mapping[str, Any]:
        """Return what the engine goes by, and what keeps it from going by the orders, as JSON has it."""
        applied = self._applied
        return {
            "target": self.applier.exporter.name,
            "revision": None if applied is None else applied.revision,
            "at": None if self._applied_at is None else self._applied_at.isoformat(),
            "until": None if applied is None or applied.until is None else applied.until.isoformat(),
            "missing": [] if applied is None else list(applied.missing),
            "failing": self._complaint or "; ".join(self._wrong) or None,
        }

    def _pass(self) -> float:
        """Apply the orders as they are now; return how long nothing needs to be done (s)."""
        self._woken.clear()
        try:
            applied = self.applier.apply(self.enforcer.rules)
        except (CdnblockError, OSError) as error:
            return self._failed(error)
        except Exception:  # noqa: BLE001 (logged with its trace; a service goes on, and so does the engine)
            _LOG.exception("cdnblock: a fault of ours")
            return self._failed(CdnblockError("a fault of ours, whose trace is in the log"))
        if self._failures:
            _LOG.warning("cdnblock: %s is in step again", self.applier.exporter.name)
        self._failures, self._complaint = 0, ""
        self._tell_wrong()
        if applied.changed or self._applied is None:
            self.said(applied)
            record_applied(self.enforcer.trail, self._engine, applied, is_probed=self.applier.prober is not None)
        self._applied, self._applied_at = applied, self.now()
        notify(f"READY=1\nSTATUS=in step with {applied.revision}")
        return self.look

    def _prepare(self, pause: float) -> float:
        """Have what comes next ready in time; return how long nothing needs to be done then (s)."""
        until = None if self._applied is None or self._failures else self._applied.until
        if until is None:
            return pause
        left = (until - self.now()).total_seconds() - _AHEAD
        if left > 0:
            return min(pause, left)
        try:
            self.applier.prepare(self.enforcer.rules)
        except (CdnblockError, OSError) as error:
            self._complain(f"what is to be in force at {until.isoformat()} will not be: {error}")
        return pause

    def _tell_wrong(self) -> None:
        """Say what single names get otherwise than decided, once."""
        for wrong in self.applier.wrong:
            if wrong not in self._wrong:
                _LOG.error("cdnblock: %s is not in step for a name: %s", self.applier.exporter.name, wrong)
        if self._wrong and not self.applier.wrong:
            _LOG.warning("cdnblock: %s is in step for every name again", self.applier.exporter.name)
        self._wrong = self.applier.wrong

    @property
    def _engine(self) -> str:
        return self.applier.exporter.name

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            record_failure(self.enforcer.trail, self._engine, self.enforcer.rules.revision, complaint)
        if complaint != self._complaint or time.monotonic() - self._complained_at > _REPEAT:
            _LOG.error("cdnblock: %s is not in step: %s", self.applier.exporter.name, complaint)
            self._complained_at = time.monotonic()
        self._complaint = complaint

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        complaint = str(error)
        self._complain(complaint)
        first = complaint.splitlines()[0] if complaint else ""
        if isinstance(error, DownError):  # whose start may wait for us
            notify(f"READY=1\nSTATUS=waiting for the engine: {first}")
            return _DOWN
        notify(f"STATUS=not in step: {first}")
        return float(min(_LATEST, _SOONEST * 2 ** (self._failures - 1)))

    def _reread(self) -> None:
        self.enforcer.reload()
        self._woken.set()


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), where it started us and wants to know; never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
        told.connect("\0" + address[1:] if address.startswith("@") else address)
        told.sendall(state.encode(errors="replace"))
