"""Met, late by so much, or nobody can tell: what trails and order files say of a deadline."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from instances import DEADLINE, ORDER, paris, report, running

from cdnblock.reports.compliance import Verdict


def test_a_late_beginning_is_late_by_so_much(tmp_path, small_mmdb):
    """The instance ran before the deadline, and the file came after it."""
    with running(tmp_path, small_mmdb, "2025-04-01T08:00"):
        pass
    with running(tmp_path, small_mmdb, "2025-04-09T12:00") as instance:
        instance.write(ORDER)
    found = report(tmp_path, "audit")
    assert found.compliance.verdict is Verdict.LATE
    assert found.compliance.late_by == paris("2025-04-09T12:00") - DEADLINE
    assert "Enforcement began after the legal deadline." in found.warnings


def test_a_trail_that_begins_later_tells_nothing_of_the_deadline(tmp_path, small_mmdb):
    """The order was in its folder when it first started: nobody can tell since when."""
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "motogp.yaml").write_text(ORDER)
    with running(tmp_path, small_mmdb, "2025-04-09T12:00"):
        pass
    found = report(tmp_path, "audit").compliance
    assert found.verdict is Verdict.UNKNOWN
    assert (found.begun, found.not_before) == (paris("2025-04-09T12:00"), None)


def test_what_happened_between_two_runs_is_not_guessed(tmp_path, small_mmdb):
    """Not in force when one run ended, in force when the next began, the deadline in between."""
    with running(tmp_path, small_mmdb, "2025-04-07T23:00"):
        pass
    (tmp_path / "orders" / "motogp.yaml").write_text(ORDER)
    with running(tmp_path, small_mmdb, "2025-04-08T01:00"):
        pass
    found = report(tmp_path, "audit").compliance
    assert found.verdict is Verdict.UNKNOWN
    assert (found.not_before, found.begun) == (paris("2025-04-07T23:00"), paris("2025-04-08T01:00"))


def test_several_trails_are_one_report(tmp_path, small_mmdb):
    """One instance in time, one late: late. Their hits are added up."""
    for audit, at in (("one", "2025-04-03T09:30"), ("two", "2025-04-09T12:00")):
        (tmp_path / "orders" / "motogp.yaml").unlink(missing_ok=True)
        with running(tmp_path, small_mmdb, "2025-04-01T08:00", audit=audit):
            pass
        with running(tmp_path, small_mmdb, at, audit=audit) as instance:
            instance.write(ORDER)
            instance.refuse("live.example", "FR", 2)
    found = report(tmp_path, "one", "two")
    assert found.compliance.verdict is Verdict.LATE
    assert found.first_enforced == paris("2025-04-03T09:30")
    assert [(row.day.day, row.enforced) for row in found.hits] == [(3, 2), (9, 2)]


def test_an_instance_that_came_later_changes_no_verdict(tmp_path, small_mmdb):
    """Its trail begins after the deadline; the other's proves that the deadline was met."""
    with running(tmp_path, small_mmdb, "2025-04-03T09:30", audit="one") as instance:
        instance.write(ORDER)
    with running(tmp_path, small_mmdb, "2025-06-01T09:30", audit="two"):
        pass
    assert report(tmp_path, "one", "two").compliance.verdict is Verdict.MET


def test_a_report_order_enforces_nothing(tmp_path, small_mmdb):
    """What would have been refused is counted apart, and nothing is said to be in force."""
    with running(tmp_path, small_mmdb, "2025-04-03T09:30") as instance:
        instance.write(ORDER + "mode: report\n")
        instance.refuse("live.example", "FR", 4)
    found = report(tmp_path, "audit")
    assert [(row.enforced, row.would) for row in found.hits] == [(0, 4)]
    assert found.compliance.begun is None
    assert found.first_enforced is None
    assert any("mode report" in warning for warning in found.warnings)


def test_an_order_that_was_over_before_it_was_read_was_never_in_force(tmp_path, small_mmdb):
    """Its start and its end are both told as past."""
    with running(tmp_path, small_mmdb, "2025-12-01T08:00") as instance:
        instance.write(ORDER)
    found = report(tmp_path, "audit", at="2025-12-02T00:00")
    assert found.compliance.begun is None
    assert found.compliance.verdict is Verdict.UNKNOWN


def test_without_a_trail_the_order_file_is_asked(tmp_path):
    """And the report says that no trail proves it."""
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "motogp.yaml").write_text(ORDER + "implemented: 2025-04-03T09:00\n")
    found = report(tmp_path)
    assert (found.compliance.verdict, found.compliance.source) == (Verdict.MET, "order file")
    assert "no trail proves it" in found.compliance.because
    assert "No trail was given: nothing here tells what was enforced." in found.warnings


def test_a_claim_of_the_file_that_the_trail_denies_is_a_warning(tmp_path, small_mmdb):
    """The file says the 2nd, the trail the 9th: the trail counts."""
    with running(tmp_path, small_mmdb, "2025-04-01T08:00"):
        pass
    with running(tmp_path, small_mmdb, "2025-04-09T12:00") as instance:
        instance.write(ORDER + "implemented: 2025-04-02\n")
    found = report(tmp_path, "audit")
    assert found.compliance.verdict is Verdict.LATE
    assert any(
        warning.startswith("The order file says that it was implemented 2025-04-02;") for warning in found.warnings
    )


def test_a_rehearsal_that_becomes_real(tmp_path, small_mmdb):
    """In mode report first; from the moment at which the file says otherwise it is in force."""
    with running(tmp_path, small_mmdb, "2025-04-03T09:30") as instance:
        instance.write(ORDER + "mode: report\n")
        instance.refuse("live.example", "FR", 2)
    with running(tmp_path, small_mmdb, "2025-04-09T12:00") as instance:
        instance.write(ORDER)
        instance.refuse("live.example", "FR", 3)
    found = report(tmp_path, "audit")
    assert (found.compliance.verdict, found.compliance.begun) == (Verdict.LATE, paris("2025-04-09T12:00"))
    assert [(row.day.day, row.enforced, row.would) for row in found.hits] == [(3, 0, 2), (9, 3, 0)]


def test_an_instance_that_only_reported_and_is_restarted(tmp_path, small_mmdb):
    """`--report-only` is a rehearsal of everything; without it the order is in force, since some moment in between."""
    with running(tmp_path, small_mmdb, "2025-04-03T09:30", report_only=True) as instance:
        instance.write(ORDER)
    with running(tmp_path, small_mmdb, "2025-04-04T12:00"):
        pass
    found = report(tmp_path, "audit").compliance
    assert (found.verdict, found.begun) == (Verdict.MET, paris("2025-04-04T12:00"))
    assert found.not_before == paris("2025-04-03T09:30")


def applied(instance, result):
    """Have the trail hear what `cdnblock apply` did to its engine."""
    instance.enforcer.trail.event("applied", engine="haproxy", revision=instance.enforcer.rules.revision, result=result)


def test_an_engine_is_bound_when_it_is_in_step(tmp_path, small_mmdb):
    """`cdnblock apply` read the order in time, failed, and brought its engine in step after the deadline: late."""
    with running(tmp_path, small_mmdb, "2025-04-07T20:00") as instance:
        applied(instance, "probed, in step")
        instance.write(ORDER)
        applied(instance, "failed")
    with running(tmp_path, small_mmdb, "2025-04-08T03:00") as instance:
        applied(instance, "not in step for some names")
    with running(tmp_path, small_mmdb, "2025-04-08T06:00") as instance:
        applied(instance, "probed, in step")
    found = report(tmp_path, "audit").compliance
    assert (found.verdict, found.begun) == (Verdict.LATE, paris("2025-04-08T06:00"))


def test_an_engine_that_was_never_in_step_enforced_nothing(tmp_path, small_mmdb):
    """The order was read, and nothing came of it."""
    with running(tmp_path, small_mmdb, "2025-04-03T20:00") as instance:
        instance.write(ORDER)
        applied(instance, "failed")
    found = report(tmp_path, "audit").compliance
    assert (found.verdict, found.begun) == (Verdict.UNKNOWN, None)
