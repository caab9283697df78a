"""What the audit trail costs: counting a request, writing a record, verifying and reading many.

    python tests/benchmarks/bench_audit.py [--records 1000000] [--rounds 100] [--folder DIR]

Prints Markdown. Nothing is asserted: a slow machine is no mistake. The trail is on the disk of --folder.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from measuring import empty_call, heading, median, say, table
from trails import PROXY, decision_about, rules_of

from cdnblock.audit.checking import verify_evidence
from cdnblock.audit.evidence import export
from cdnblock.audit.minutes import first_fields
from cdnblock.audit.reading import records
from cdnblock.audit.records import Kind
from cdnblock.audit.tally import COUNT, Tally
from cdnblock.audit.trail import Trail
from cdnblock.audit.verifying import verify
from cdnblock.audit.writing import Writer

CALLS = 1_000  # between two looks at the clock
RULES = rules_of("motogpstream.me")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    say("counting, and then writing and reading: up to a minute")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = [*counting(options.rounds), *writing(Path(folder) / "audit", options.records)]
    print(f"{heading('The audit trail')}\n\n{table(['what', 'takes'], list(map(list, rows)))}")


def counting(rounds: int) -> list[tuple[str, str]]:
    """Return what it costs to count a request whose group is known, and one whose is not."""
    tally, decision, host = Tally(), decision_about(), "www.motogpstream.me"
    tally.recording, tally.rules = True, lambda: RULES
    series = tally.series(PROXY, "answer", "bench")
    series.note(decision, host, "90.84.144.1")

    def repeat() -> None:
        for _ in range(CALLS):
            tally.note(decision, host, "90.84.144.1", measures=PROXY, action="answer", adapter="bench")

    def in_place() -> None:
        for _ in range(CALLS):
            series.cells[id(decision), host][COUNT] += 1

    def of_new_groups() -> None:
        tally.drain(turn=True)
        for number in range(CALLS):
            tally.note(decision, f"h{number}.{host}", "90.84.144.1", measures=PROXY, action="answer", adapter="bench")

    empty = empty_call()
    return [
        (f"counting {what}", f"{cost:,.0f} ns ({cost / empty:.1f} E)")
        for what, run in (
            ("a repeat: `tally.note`", repeat),
            ("a repeat in place, as the DNS front does", in_place),
            ("a host that was not seen in this minute", of_new_groups),
        )
        for cost in (median([per_call(run) for _ in range(rounds)]),)
    ]


def per_call(run) -> float:
    """Return what one call costs, in ns of CPU."""
    before = time.thread_time_ns()
    run()
    return (time.thread_time_ns() - before) / CALLS


def writing(folder: Path, many: int) -> list[tuple[str, str]]:
    """Return what it takes to write, verify, search and export so many records."""
    fields, at = _fields(), time.time()
    writer = Writer(folder, segment_size=64 << 20, on_record=lambda _: None)
    before = time.perf_counter()
    writer.append(at, at, Kind.ORDER_STARTED, {"order": "bench"})
    for _ in range(many - 2):
        writer.append(at, at, Kind.ENFORCED, fields)
    writer.append(at, at, Kind.TRAIL_CLOSED, {})
    writer.tell_head()
    writer.sync()
    wrote = time.perf_counter() - before
    writer.close()
    size = sum(path.stat().st_size for path in folder.glob("trail-*"))
    found = [("writing a record, one `write` each", f"{wrote / many * 1e6:,.1f} µs: {many / wrote:,.0f} a second")]
    found += [timed(f"verifying {many:,} records, {size / 1e6:,.0f} MB", lambda: verify(folder).ok)]
    found += [timed(f"finding one order's among {many:,}", lambda: len(list(records(folder, order="bench"))) == 1)]
    evidence = folder.parent / "evidence.json"
    found += [timed("exporting its evidence", lambda: exported(folder, evidence))]
    size = evidence.stat().st_size
    found += [timed(f"verifying that, {size / 1e6:,.0f} MB", lambda: verify_evidence(evidence).ok)]
    found += [synced(folder.parent / "synced")]
    return [*found, ("memory at the end", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")]


def exported(folder: Path, evidence: Path) -> bool:
    """Export one order's evidence."""
    out = io.BytesIO()
    done = export(folder, "bench", out, at=time.time())
    evidence.write_bytes(out.getvalue())
    return done.verification.ok


def timed(what: str, run) -> tuple[str, str]:
    """Return how long something takes, which must come out right."""
    wall, cpu = time.perf_counter(), time.process_time()
    if not run():
        raise SystemExit(f"{what}: came out wrong")
    return what, f"{time.perf_counter() - wall:,.2f} s ({time.process_time() - cpu:,.2f} s of CPU)"


def synced(folder: Path) -> tuple[str, str]:
    """Return how long it takes until what is told of is on the disk."""
    took = []
    with Trail(folder, Tally()) as trail:
        for number in range(50):
            before = time.perf_counter()
            trail.event(Kind.ORDER_STARTED, order="bench", number=number)
            trail.flush()
            took.append(time.perf_counter() - before)
    return "an event until it is on the disk, synced", f"{median(took) * 1e3:,.2f} ms"


def _fields() -> dict[str, object]:
    tally = Tally()
    tally.recording = True
    decision = RULES.decide("www.motogpstream.me", country="FR", at=datetime.now(UTC))
    tally.note(decision, "www.motogpstream.me", "90.84.144.1", measures=PROXY, action="answer", adapter="http")
    (hit,) = tally.drain()
    return first_fields(hit._replace(order="motogp"), "90.84.144.0/24", f"sha256:{'0' * 64}")[1]


if __name__ == "__main__":
    main()
