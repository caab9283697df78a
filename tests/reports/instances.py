"""Real trails for the tests of reports: real enforcers that follow a folder, at the instants that a test wants."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

from small_table import FRANCE, GERMANY, REUNION

from cdnblock import Enforcer
from cdnblock.orders.calendar import french_public_holidays
from cdnblock.orders.model import Measure
from cdnblock.reports.order_making import order_report
from cdnblock.reports.trails import read_trails
from cdnblock.sources.order_folder import load_orders

PARIS = ZoneInfo("Europe/Paris")
PLACES = {"FR": FRANCE, "RE": REUNION, "DE": GERMANY}
ORDER = """\
cdnblock: 1
id: motogp
title: Canal+ v. Edge
court: Tribunal judiciaire de Paris
case: RG 25/00000
decided: 2025-03-28
legal_basis: Code du sport, art. L. 333-10
claimant: SECP
addressee: Edge
served: 2025-04-02
comply_within: 3 days
from: 2025-04-03T09:00
until: 2025-11-16
territory: [FR, RE]
measures: {dns: refuse, proxy: terminate}
names: [live.example, {name: exact.example, subdomains: false, note: annex p. 3}]
"""


def paris(text):
    """Return an instant of legal time in Paris."""
    return datetime.fromisoformat(text).replace(tzinfo=PARIS)


DEADLINE = paris("2025-04-08T00:00")  # served on a Wednesday, 3 days: Saturday, so Monday 24:00


class Instance:
    """An enforcer whose clock stands still."""

    def __init__(self, enforcer, folder):
        self.enforcer = enforcer
        self.folder = folder

    def write(self, text, name="motogp.yaml"):
        """Put an order file into the folder, and have it read."""
        (self.folder / name).write_text(text, encoding="utf-8")
        self.enforcer.reload(accept_release=True)

    def refuse(self, host, place, times=1, measure=Measure.PROXY):
        """Have a request refused so many times, as an adapter does."""
        decision = self.enforcer.decide(host, PLACES[place])
        action = "would" if decision.would else "answer"
        for _ in range(times):
            self.enforcer.tally.note(
                decision, host, PLACES[place], measures=(measure,), action=action, adapter="aiohttp_middleware"
            )


@contextmanager
def running(tmp_path, small_mmdb, at, *, audit="audit", **more):
    """Run an enforcer at an instant, with its orders in `orders` and its trail in `audit`."""
    folder = tmp_path / "orders"
    folder.mkdir(exist_ok=True)
    instant = paris(at).timestamp()
    with Enforcer(
        folder, geo=small_mmdb, follow=False, audit=tmp_path / audit, clock=lambda: instant, **more
    ) as enforcer:
        yield Instance(enforcer, folder)


def report(tmp_path, *audits, at="2025-06-01T12:00"):
    """The report on the order of `orders`, with these trails."""
    order = load_orders(tmp_path / "orders").orders["motogp"]
    trails = list(read_trails([tmp_path / audit for audit in audits], order))
    return order_report(order, trails, at=paris(at), software="1.2.3", holidays=french_public_holidays)
