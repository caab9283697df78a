"""Runs inside the sandbox's mitmproxy (`-s`): ends it with the sandbox, and breaks a measure when told to.

However the sandbox ends, even by SIGKILL, the kernel closes its end of our standard input. That is the lifeline.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from typing import Final

from cdnblock.orders.model import Measure
from cdnblock.sandbox.sabotage import forget

BREAK: Final = "CDNBLOCK_SANDBOX_BREAK"
"""Names the measure that is to be broken in this process."""

READY: Final = "cdnblock: the front listens"
"""What is printed when mitmproxy listens: another program may answer on a port that mitmproxy did not get."""

FOLDER: Final = "CDNBLOCK_SANDBOX_FOLDER"
"""Names the sandbox's temporary folder, which only we can remove when the sandbox was killed."""

_GRACE: Final = 3.0  # seconds for a clean end


class TiedToTheSandbox:
    """Tells the sandbox when mitmproxy listens, and ends mitmproxy when its standard input ends."""

    def running(self) -> None:
        """Say that the ports are open (mitmproxy hook; they are by now, or mitmproxy has ended)."""
        print(READY, flush=True)  # noqa: T201 - that is how it is said

    def load(self, loader: object) -> None:  # noqa: ARG002 (mitmproxy's signature)
        """Start to watch (mitmproxy hook)."""
        threading.Thread(target=_end_with_input, name="lifeline", daemon=True).start()


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(1)


if os.environ.get(BREAK):
    forget(Measure(os.environ[BREAK]))

addons = [TiedToTheSandbox()]
