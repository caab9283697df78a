"""What the tests of exported configuration share: exporting for a stage, and programs that are started and stopped."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from datetime import UTC, datetime

import pytest

from cdnblock import exporters
from cdnblock.cli.export import put
from cdnblock.orders.model import Measure
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import load_orders

START = 20.0  # seconds that a slow machine may take to start a server


def needs(program, package):
    """Skip where a program is not installed."""
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is not installed (apt-get install {package})"
    )


def export_for(stage, target, folder, **settings):
    """Export the stage's orders as they are now; return the names of the files that changed."""
    done = exporters.export(
        exporters.load(target),
        load_orders(stage.orders),
        open_geo_table(stage.geo),
        datetime.now(UTC),
        exporters.Options(
            folder=str(folder),
            operator_url=stage.operator_url,
            trusted_proxies=stage.trusted_proxies,
            settings=settings,
        ),
    )
    assert done.missing == ()
    return put(folder, done.files)


def names_without_cache(stage):
    """Return the names whose stored answers have to go when they change."""
    return load_orders(stage.orders).covered_names(Measure.CDN, datetime.now(UTC))


@contextlib.contextmanager
def at_each_turn(stage, act):
    """Act whenever an order starts, ends, or opens or closes a window: servers know no calendar."""
    ended = threading.Event()

    def watch():
        seen = datetime.now(UTC)
        while not ended.wait(0.1):
            turn = load_orders(stage.orders).next_change(seen)
            if turn is not None and turn <= datetime.now(UTC):
                act()
                seen = turn

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def free_ports(count):
    """Return ports of loopback that nobody uses now."""
    with contextlib.ExitStack() as held:
        return [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


@contextlib.contextmanager
def running(command, port, log):
    """Run a server until the end of the block, once it listens on a port; what it says goes to a file."""
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or listens(port), lambda: log.read_text(errors="replace"))
            assert process.poll() is None, log.read_text(errors="replace")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def listens(port):
    """Tell whether somebody takes connections on a port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_until(holds, complaint=lambda: ""):
    """Wait until something holds, for as long as a slow machine may take."""
    deadline = time.monotonic() + START
    while not holds():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.02)
