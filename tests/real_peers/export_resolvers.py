"""What the tests of resolvers share: exporting for a stage, programs that answer queries, and examples of ours."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import ROOT, rules_of, wait_until
from free_ports import free_ports

from cdnblock import exporters
from cdnblock.cli.export import put
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.testing import on_loopback
from cdnblock.testing.dns_contract import open_dns_stage
from cdnblock.testing.dns_upstream import serving

READY = b"\0\1\1\0\0\1\0\0\0\0\0\0\5ready\7example\0\0\1\0\1"
"""A query for ready.example: everybody answers something. Of version.bind BIND tells only thrice a second."""


def export_for(stage, target, folder, *, partial=False, **settings):
    """Export the stage's orders as they are now, its countries moved to loopback; return the files that changed."""
    done = exporters.export(
        on_loopback(exporters.load(target)),
        rules_of(stage),
        open_geo_table(stage.geo),
        datetime.now(UTC),
        exporters.Options(folder=str(folder), trusted_proxies=stage.trusted_proxies, settings=settings),
        partial=partial,
    )
    assert partial or done.missing == ()
    return put(folder, done.files)


def answers(port):
    """Tell whether somebody answers queries on a port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        sock.send(READY)
        sock.recv(4096)
        return True
    return False


@contextlib.contextmanager
def resolving(command, port, log, env=None):
    """Run a resolver until the end of the block, once it answers on a port; what it says goes to a file."""
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or answers(port), lambda: log.read_text(errors="replace"))
            assert process.poll() is None, log.read_text(errors="replace")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def stage_with(folder, **orders):
    """Open a stage with these orders alone."""
    with open_dns_stage(folder, orders) as stage:
        yield stage


@contextlib.contextmanager
def started_example(name, folder, replaced=()):
    """Start an example as it stands but for its ports, 5300 and for upstream 5353, and yield where it answers.

    `replaced` are further texts of its files, each with what to put in its place.
    """
    (port,) = free_ports(1)
    shutil.copytree(ROOT / "examples" / name, folder / name)
    shutil.copytree(ROOT / "examples" / "orders", folder / "orders")
    command = folder / "bin" / "cdnblock"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec "{sys.executable}" -m cdnblock "$@"\n')
    command.chmod(0o755)
    with serving() as (_, upstream):
        for path in (folder / name).iterdir():
            text = path.read_text().replace("5300", str(port)).replace("5353", str(upstream))
            for old, new in replaced:
                text = text.replace(old, new)
            path.write_text(text)
        environment = {**os.environ, "PATH": f"{command.parent}:/usr/sbin:{os.environ['PATH']}"}
        with resolving([str(folder / name / "start.sh")], port, folder / "log", env=environment):
            yield port


class Resolver:
    """A resolver that is exported for, started and reloaded; `configure` writes its own configuration."""

    target: str
    settings: dict[str, str] = {}

    def __init__(self, stage, *, ours=True, **settings):
        self.stage, self.ours = stage, ours
        self.folder = stage.folder / ("ours" if ours else "plain")
        self.out = self.folder / "cdnblock"
        self.folder.mkdir(exist_ok=True)
        self.settings = self.settings | settings
        (self.port,) = free_ports(1)
        self.changing = threading.Lock()
        if ours:
            export_for(stage, self.target, self.out, **self.settings)


@contextlib.contextmanager
def meanwhile(ask):
    """Call `ask` over and over until the end of the block; what it returned is in the list then."""
    ended, answers = threading.Event(), []

    def ask_on():
        while not ended.is_set():
            answers.append(ask())

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()
