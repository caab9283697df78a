"""What may not be told as met, nor as late: another order's beginning, an order that was gone again, changed records, copies."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from instances import DEADLINE, ORDER, paris, report, running

from cdnblock.errors import ConfigError
from cdnblock.reports.compliance import Verdict
from cdnblock.reports.order_json import as_json

IN_TIME, LATE = "2025-04-03T10:00", "2025-05-03T10:00"


def remove(instance):
    """Take the order's file away."""
    (instance.folder / "motogp.yaml").unlink()
    instance.enforcer.reload(accept_release=True)


def test_an_order_that_had_the_id_before_is_another_one(tmp_path, small_mmdb):
    """What was in force a year before the order was decided is neither its beginning nor its hits."""
    with running(tmp_path, small_mmdb, "2024-04-03T10:00") as instance:
        instance.write(ORDER.replace("2025-", "2024-"))
        instance.refuse("live.example", "FR", 5)
    with running(tmp_path, small_mmdb, LATE) as instance:
        instance.write(ORDER)
        instance.refuse("live.example", "FR", 2)
    found = report(tmp_path, "audit")
    assert (found.compliance.verdict, found.compliance.begun) == (Verdict.LATE, paris(LATE))
    assert [(row.day.year, row.enforced) for row in found.hits] == [(2025, 2)]
    assert any("of another one with its id" in warning for warning in found.warnings)


def gone(instance):
    """Its file, there once, is gone."""
    instance.write(ORDER)
    remove(instance)


def only_reported(instance):
    """In force once, in mode report then."""
    instance.write(ORDER)
    instance.write(ORDER + "mode: report\n")


@pytest.mark.parametrize("out", [gone, only_reported])
def test_out_of_force_at_the_deadline_is_not_in_time(tmp_path, small_mmdb, out):
    """In force in time, out of force at the deadline, in force again a month later: late, and told from when to when."""
    with running(tmp_path, small_mmdb, IN_TIME) as instance:
        out(instance)
    with running(tmp_path, small_mmdb, "2025-05-01T10:00"):
        pass
    with running(tmp_path, small_mmdb, LATE) as instance:
        instance.write(ORDER)
    found = report(tmp_path, "audit")
    assert (found.compliance.verdict, found.compliance.begun) == (Verdict.LATE, paris(LATE))
    assert found.compliance.late_by == paris(LATE) - DEADLINE
    assert any(
        "out of force from 2025-04-03 10:00:00+02:00 until 2025-05-03 10:00:00+02:00" in warning
        for warning in found.warnings
    )
    (trail,) = as_json(found)["trails"]
    assert trail["out_of_force"] == [{"from": paris(IN_TIME).isoformat(), "to": paris(LATE).isoformat()}]
    assert trail["pauses"] == []


def test_a_file_that_goes_between_two_runs_is_missed(tmp_path, small_mmdb):
    """The next run begins without it: out of force since the run before, and not again since."""
    with running(tmp_path, small_mmdb, IN_TIME) as instance:
        instance.write(ORDER)
    (tmp_path / "orders" / "motogp.yaml").unlink()
    with running(tmp_path, small_mmdb, LATE):
        pass
    (tmp_path / "orders" / "motogp.yaml").write_text(ORDER)
    found = report(tmp_path, "audit")
    assert (found.compliance.verdict, found.compliance.begun) == (Verdict.UNKNOWN, None)
    assert any("and not again since" in warning for warning in found.warnings)


def test_out_of_force_for_a_while_before_the_deadline_is_in_time(tmp_path, small_mmdb):
    """Taken away and put back before the deadline: met."""
    with running(tmp_path, small_mmdb, IN_TIME) as instance:
        instance.write(ORDER)
        remove(instance)
        instance.write(ORDER)
    found = report(tmp_path, "audit")
    assert (found.compliance.verdict, found.compliance.begun) == (Verdict.MET, paris(IN_TIME))


def test_a_rehearsal_that_is_taken_away_was_never_in_force(tmp_path, small_mmdb):
    """The record by which its file is gone is no beginning."""
    with running(tmp_path, small_mmdb, IN_TIME) as instance:
        instance.write(ORDER + "mode: report\n")
        remove(instance)
    (tmp_path / "orders" / "motogp.yaml").write_text(ORDER)
    found = report(tmp_path, "audit")
    assert (found.compliance.verdict, found.compliance.begun) == (Verdict.UNKNOWN, None)


def test_what_the_file_says_and_a_trail_denies_is_not_met(tmp_path, small_mmdb):
    """Implemented in time, says the file; an instance ran from before the deadline to after it and only reported."""
    with running(tmp_path, small_mmdb, "2025-04-01T10:00") as instance:
        instance.write(ORDER + "implemented: 2025-04-03T09:00\nmode: report\n")
    with running(tmp_path, small_mmdb, LATE):
        pass
    found = report(tmp_path, "audit").compliance
    assert (found.verdict, found.source) == (Verdict.UNKNOWN, "order file")
    assert "a trail has it not in force" in found.because


def test_what_the_file_says_of_before_the_trail_stands(tmp_path, small_mmdb):
    """An instance that came after the deadline denies nothing."""
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "motogp.yaml").write_text(ORDER + "implemented: 2025-04-03T09:00\n")
    with running(tmp_path, small_mmdb, LATE):
        pass
    assert report(tmp_path, "audit").compliance.verdict is Verdict.MET


def test_an_instance_whose_file_came_a_moment_after_its_start_is_not_late(tmp_path, small_mmdb):
    """It came after the deadline itself; the other instance's trail has the deadline met."""
    with running(tmp_path, small_mmdb, IN_TIME, audit="one") as instance:
        instance.write(ORDER)
        (instance.folder / "motogp.yaml").unlink()
    with running(tmp_path, small_mmdb, LATE, audit="two") as instance:
        instance.write(ORDER)
    assert report(tmp_path, "two").compliance.verdict is Verdict.UNKNOWN
    assert report(tmp_path, "one", "two").compliance.verdict is Verdict.MET


def test_a_trail_in_which_something_was_changed_proves_nothing(tmp_path, small_mmdb):
    """Whoever dates a late beginning back is believed to have it in force, and not when."""
    with running(tmp_path, small_mmdb, "2025-04-20T10:00") as instance:
        instance.write(ORDER)
    (segment,) = (tmp_path / "audit").glob("trail-*")
    segment.write_text(segment.read_text().replace("2025-04-20", "2025-04-05"))
    found = report(tmp_path, "audit").compliance
    assert (found.verdict, found.because) == (Verdict.UNKNOWN, "a trail that is not whole proves nothing")


def test_an_older_copy_of_a_trail_is_the_same_trail(tmp_path, small_mmdb):
    """Also when the trail's first segment was retired meanwhile: its hits would count twice."""
    for at in ("2025-04-03T10:00", "2025-04-05T10:00"):
        with running(tmp_path, small_mmdb, at) as instance:
            instance.write(ORDER)
            instance.refuse("live.example", "FR", 2)
    shutil.copytree(tmp_path / "audit", tmp_path / "backup")
    min((tmp_path / "audit").glob("trail-*")).unlink()
    with running(tmp_path, small_mmdb, "2025-04-08T10:00"):
        pass
    with pytest.raises(ConfigError, match="older copy"):
        report(tmp_path, "audit", "backup")


def test_another_version_at_the_deadline_is_told(tmp_path, small_mmdb):
    """One of the two names came a month late: the report says that the file was another one."""
    with running(tmp_path, small_mmdb, IN_TIME) as instance:
        instance.write(ORDER.replace("live.example, ", ""))
    with running(tmp_path, small_mmdb, LATE) as instance:
        instance.write(ORDER)
    assert any(
        "another version of the file in force at the deadline" in told for told in report(tmp_path, "audit").warnings
    )


def test_a_lifting_from_before_the_trail_has_no_moment(tmp_path, small_mmdb):
    """An instance that came in August does not say that a lifting of June took effect in August."""
    with running(tmp_path, small_mmdb, "2025-08-03T10:00") as instance:
        instance.write(ORDER + "lifted: [{names: [live.example], at: 2025-06-01T12:00}]\n")
    (lifting,) = report(tmp_path, "audit", at="2025-09-01T00:00").liftings
    assert lifting.took_effect == (None,)


def test_a_start_that_is_put_off_begins_anew(tmp_path, small_mmdb):
    """In force in time; then the file has it begin after the deadline: out of force in between."""
    later = ORDER.replace("from: 2025-04-03T09:00", "from: 2025-04-20T09:00")
    with running(tmp_path, small_mmdb, IN_TIME) as instance:
        instance.write(ORDER)
    with running(tmp_path, small_mmdb, "2025-04-04T10:00") as instance:
        instance.write(later)
    with running(tmp_path, small_mmdb, "2025-04-21T10:00"):
        pass
    found = report(tmp_path, "audit")
    assert (found.compliance.verdict, found.compliance.not_before) == (Verdict.LATE, paris("2025-04-20T09:00"))
    assert any("out of force from 2025-04-04 10:00:00" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    "end", [("until: 2025-11-16", "until: 2025-04-04"), ("names:", "lifted: [{at: 2025-04-05}]\nnames:")]
)
def test_an_end_that_is_taken_back_after_the_deadline_is_not_in_time(tmp_path, small_mmdb, end):
    """The file had it over too early, and the deadline passed."""
    with running(tmp_path, small_mmdb, IN_TIME) as instance:
        instance.write(ORDER.replace(*end))
    with running(tmp_path, small_mmdb, "2025-04-06T10:00"):
        pass
    with running(tmp_path, small_mmdb, LATE) as instance:
        instance.write(ORDER)
    found = report(tmp_path, "audit")
    assert (found.compliance.verdict, found.compliance.begun) == (Verdict.LATE, paris(LATE))
    assert any("until 2025-05-03 10:00:00+02:00" in warning for warning in found.warnings)


def test_what_ended_in_its_time_was_in_time(tmp_path, small_mmdb):
    """Its own end is no time out of force, also where the file of an order that is over is edited."""
    short = ORDER.replace("until: 2025-11-16", "until: 2025-04-30")
    for at, text in ((IN_TIME, short), ("2025-05-02T10:00", short), (LATE, f"# a remark\n{short}")):
        with running(tmp_path, small_mmdb, at) as instance:
            instance.write(text)
    found = report(tmp_path, "audit")
    assert (found.compliance.verdict, found.compliance.begun) == (Verdict.MET, paris(IN_TIME))
    assert not any("out of force" in warning for warning in found.warnings)
    assert as_json(found)["trails"][0]["out_of_force"] == []


def test_two_notices_with_one_reference_are_told_apart(tmp_path, small_mmdb):
    """The first in time, the second a month late."""
    notice = "{{notice: n1, notified: {}, comply_within: 3 days, names: [{}.example]}}".format
    first, second = notice("2025-04-10T10:00", "new"), notice("2025-05-10T10:00", "newer")
    with running(tmp_path, small_mmdb, "2025-04-10T12:00") as instance:
        instance.write(f"{ORDER}additions: [{first}]\n")
    with running(tmp_path, small_mmdb, "2025-06-20T10:00") as instance:
        instance.write(f"{ORDER}additions: [{first}, {second}]\n")
    found = report(tmp_path, "audit", at="2025-07-01T00:00").notices
    assert [item.compliance.verdict for item in found] == [Verdict.MET, Verdict.LATE]
