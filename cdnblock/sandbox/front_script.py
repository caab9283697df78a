"""Runs inside the sandbox's mitmproxy (`-s`): ends it with the sandbox, and breaks a measure when told to.

However the sandbox ends, even by SIGKILL, the kernel closes its end of our standard input. That is the lifeline.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

from cdnblock.orders.model import Measure
from cdnblock.sandbox.sabotage import forget

BREAK: Final = "CDNBLOCK_SANDBOX_BREAK"
"""Names the measure that is to be broken in this process."""

_GRACE: Final = 3.0  # seconds for a clean end


class EndWithTheSandbox:
    """Ends mitmproxy when its standard input does."""

    def load(self, loader: object) -> None:  # noqa: ARG002 (mitmproxy's signature)
        """Start to watch (mitmproxy hook)."""
        threading.Thread(target=_end_with_input, name="lifeline", daemon=True).start()


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(1)


if os.environ.get(BREAK):
    forget(Measure(os.environ[BREAK]))

addons = [EndWithTheSandbox()]
