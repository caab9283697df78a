"""Runs inside the sandbox's mitmproxy (`-s`): ends it with the sandbox, and breaks a measure when told to.

However the sandbox ends, even by SIGKILL, the kernel closes its end of our standard input. That is the lifeline.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any, Final

BREAK: Final = "CDNBLOCK_SANDBOX_BREAK"
"""Names the measure whose refusals this script undoes, so that tests see the probes notice it."""

_GRACE: Final = 3.0  # seconds for a clean end


class EndWithTheSandbox:
    """Ends mitmproxy when its standard input does."""

    def load(self, loader: object) -> None:  # noqa: ARG002 (mitmproxy's signature)
        """Start to watch (mitmproxy hook)."""
        threading.Thread(target=_end_with_input, name="lifeline", daemon=True).start()


class Sabotage:
    """Takes the refusals of one measure back, behind the addon's back."""

    def __init__(self, measure: str) -> None:
        self._measure = measure

    def request(self, flow: Any) -> None:
        """Let a refused request through (mitmproxy hook)."""
        if self._measure == "proxy":
            flow.response = None

    def dns_request(self, flow: Any) -> None:
        """Let a refused question through (mitmproxy hook)."""
        if self._measure == "dns":
            flow.response = None


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(1)


addons = [EndWithTheSandbox(), *([Sabotage(os.environ[BREAK])] if os.environ.get(BREAK) else [])]
