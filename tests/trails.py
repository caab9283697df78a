"""Trails as tests write them: small ones with several segments, and what their folders hold."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cdnblock.audit.reading import records
from cdnblock.audit.records import Kind
from cdnblock.audit.settings import Settings
from cdnblock.audit.tally import Tally
from cdnblock.audit.trail import Trail
from cdnblock.audit.writing import Writer
from cdnblock.matching.decision import Decision
from cdnblock.matching.ruleset import RuleSet, compile_orders
from cdnblock.orders.model import Measure, Name, Order, Territory

ORDER = "motogp"
PROXY = (Measure.PROXY,)
AT = datetime(2026, 11, 22, 3, 50, tzinfo=UTC).timestamp()
SMALLEST = 4096  # octets of a segment


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float = AT) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def rules_of(*names: str, order: str = ORDER) -> RuleSet:
    """Return the rules of one order over these names, in France, with all three measures."""
    return compile_orders([
        Order(
            id=order, court="Tribunal judiciaire de Paris", decided=date(2025, 3, 28), legal_basis="L. 333-10",
            claimant="SECP", territory=Territory(countries=frozenset({"FR"})), begins=date(2025, 4, 3),
            until=date(2195, 1, 1), names=tuple(Name(name=name) for name in names),
            measures={Measure.DNS: "refuse", Measure.CDN: "disable", Measure.PROXY: "terminate"},
        )
    ])  # fmt: skip


def decision_about(host: str = "www.motogpstream.me", *names: str) -> Decision:
    """Return the decision for a client in France."""
    at = datetime(2026, 11, 22, tzinfo=UTC)
    return rules_of(*(names or ("motogpstream.me",))).decide(host, country="FR", at=at, told_by="a table")


def enforce(tally: Tally, decision: Decision, host: str | bytes = "www.motogpstream.me", times: int = 1) -> None:
    """Count that a request was answered with a notice."""
    for _ in range(times):
        tally.note(decision, host, "90.84.144.1", measures=PROXY, action="answer", adapter="aiohttp_middleware")


def write_trail(folder: Path, records: int = 40, *, order: str = ORDER) -> None:
    """Write so many records, an `order-started` each, into segments of about ten."""
    writer = Writer(folder, segment_size=SMALLEST, on_record=lambda _: None)
    for number in range(records):
        fields = {"order": order if number % 2 else "other", "names": number, "about": "x" * 180}
        writer.append(AT + number, AT + number, Kind.ORDER_STARTED, fields)
    writer.append(AT + records, AT + records, Kind.TRAIL_CLOSED, {})
    writer.tell_head()
    writer.close()


def segments(folder: Path) -> list[Path]:
    """Return the segments of a trail, in their order."""
    return sorted(folder.glob("trail-*.jsonl"))


def lines(folder: Path) -> list[bytes]:
    """Return all lines of a trail, without their newlines."""
    return [line for path in segments(folder) for line in path.read_bytes().splitlines()]


def flushed(trail: Trail) -> None:
    """Have written what was told of so far."""
    assert trail.flush(), trail.status()


def opened(folder: Path, tally: Tally, clock: Clock, **settings: Any) -> Trail:
    """Return a trail with such settings and such a clock."""
    return Trail(folder, tally, settings=Settings(**settings), clock=clock)


def told(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the records of these kinds, all without any."""
    return list(records(folder, kinds=set(kinds)))
