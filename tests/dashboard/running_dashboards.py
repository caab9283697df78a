"""A dashboard that really runs, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from contextlib import contextmanager

from order_texts import order_text

from cdnblock.adapters._decision_listening import Listen
from cdnblock.dashboard.door import Door
from cdnblock.dashboard.server import Dashboard
from cdnblock.dashboard.view import View
from cdnblock.enforcer import Enforcer

MORE = """\
title: "Ligue <b>MotoGP</b> & fils"
served: 2025-04-02
comply_within: 3 days
implemented: 2025-04-03
publication: https://court.example/decision?id=1&part=2
additions:
  - {notice: "ARCOM 12", notified: 2025-05-02, names: [second.example]}
lifted:
  - {names: [blog.motogpstream.me], at: 2025-06-01T12:00, reason: moved}
"""
FRANCE, GERMANY = "203.0.113.7", "198.51.100.7"


class Running:
    """A dashboard that answers at `url`, of an enforcer that follows `folder`."""

    def __init__(self, folder, small_mmdb, *, token=None, names=(), audit=None, geo=None, clock=time.time, **settings):
        self.folder = folder
        self.enforcer = Enforcer(folder, geo=geo or small_mmdb, audit=audit, clock=clock, **settings)
        view = View(self.enforcer, folder, trail=audit, clock=clock)
        self._dashboard = Dashboard(view, Door(token, names))
        self._loop, self._ended = asyncio.new_event_loop(), asyncio.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._listens.wait(10)
        self.url = f"http://127.0.0.1:{self.port}"

    async def _serve(self):
        async with self._dashboard.serve(Listen(host="127.0.0.1")) as self.port:
            self._listens.set()
            await self._ended.wait()

    def stop(self):
        """Stop answering; the enforcer goes on."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(10)
            self._loop.close()

    def close(self):
        """Stop everything."""
        self.stop()
        self.enforcer.close()


@contextmanager
def running(folder, small_mmdb, **settings):
    """Run a dashboard until leaving."""
    found = Running(folder, small_mmdb, **settings)
    try:
        yield found
    finally:
        found.close()


def written(folder):
    """Return an orders folder in which an order is in force, one is over, and one is only reported."""
    folder.mkdir(parents=True)
    (folder / "motogp.yaml").write_text(order_text() + MORE)
    (folder / "ended.yaml").write_text(
        order_text(id="ended", territory="[DE]", until="2025-05-20", names="[bücher.example]")
    )
    many = ", ".join(f"n{number}.example" for number in range(20))  # beside which a few may go without consent
    (folder / "many.yaml").write_text(order_text(id="many", names=f"[{many}]"))
    (folder / "rehearsed.yaml").write_text(order_text(id="rehearsed", names="[third.example]") + "mode: report\n")
    return folder


@contextmanager
def another_file(dashboard, text, name="new.yaml"):
    """Put a file into the orders folder until leaving."""
    file = dashboard.folder / name
    before = file.read_text() if file.exists() else None
    file.write_text(text)
    try:
        yield
    finally:
        if before is None:
            file.unlink()
        else:
            file.write_text(before)


def enforce(enforcer, *hosts):
    """Have it decide, and note what came of it, as a host does."""
    for host in hosts:
        decision = enforcer.decide(host, FRANCE)
        measures, action = (decision.measures, "answer") if decision else (decision.would, "would")
        enforcer.tally.note(decision, host, FRANCE, measures=tuple(measures), action=action, adapter="test")
    assert enforcer.trail.flush()


def ask(dashboard, path="/", method="GET", body=None, **fields):
    """Status, headers and text of an answer; fields as keywords, `_` for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    connection.close()
    return answer.status, answer.headers, text
