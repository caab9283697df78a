"""The report on one order, from trails that a real enforcer wrote."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from instances import ORDER, paris, running

from cdnblock.audit.reading import records
from cdnblock.orders.calendar import french_public_holidays
from cdnblock.orders.model import Territory
from cdnblock.reports.compliance import Verdict
from cdnblock.reports.markdown import as_markdown
from cdnblock.reports.order import TrailReport
from cdnblock.reports.order_document import order_document
from cdnblock.reports.order_json import as_json
from cdnblock.reports.order_making import order_report
from cdnblock.reports.trail_facts import facts_of
from cdnblock.reports.trails import orders_of_trails, read_trails
from cdnblock.sources.order_folder import load_orders

DEADLINE = paris("2025-04-08T00:00")  # served on a Wednesday, 3 days: Saturday, so Monday 24:00


def report(tmp_path, *audits, at="2025-06-01T12:00"):
    order = load_orders(tmp_path / "orders").orders["motogp"]
    trails = list(read_trails([tmp_path / audit for audit in audits], order))
    return order_report(order, trails, at=paris(at), software="1.2.3", holidays=french_public_holidays)


@pytest.fixture(scope="module")
def story(tmp_path_factory, small_mmdb):
    """An instance that got the order in time, a notice later, a lifting at the end; requests on three days."""
    tmp_path = tmp_path_factory.mktemp("story")
    with running(tmp_path, small_mmdb, "2025-04-01T08:00"):
        pass
    with running(tmp_path, small_mmdb, "2025-04-03T09:30") as instance:
        instance.write(ORDER)
        instance.refuse("www.live.example", "FR", 5)
        instance.refuse("www.live.example", "RE", 2)
        instance.refuse("www.live.example", "DE", 9)  # let through: not counted
    notice = "additions: [{notice: ARCOM 7, authority: ARCOM, notified: 2025-05-02T14:05, comply_within: 3 days, names: [late.example]}]\n"
    with running(tmp_path, small_mmdb, "2025-05-12T10:00") as instance:
        instance.write(ORDER + notice)
        instance.refuse("late.example", "FR", 3)
    lifted = "lifted: [{names: [live.example], at: 2025-05-20T12:00, reason: lawful now}]\n"
    with running(tmp_path, small_mmdb, "2025-05-20T12:30") as instance:
        instance.write(ORDER + notice + lifted)
        instance.refuse("exact.example", "FR", 1)
    return tmp_path


def test_the_deadline_was_met(story):
    """Served on a Wednesday: due on the Monday after; in force on the Thursday, as the trail shows."""
    found = report(story, "audit").compliance
    assert found.verdict is Verdict.MET
    assert (found.deadline, found.begun, found.source) == (DEADLINE, paris("2025-04-03T09:30"), "trail")
    assert found.not_before == found.begun


def test_a_notice_has_a_deadline_of_its_own(story):
    """Notified on Friday 2 May, 3 days: Monday 5 May 24:00; in force a week later, which the trail shows too."""
    (notice,) = report(story, "audit").notices
    assert notice.compliance.verdict is Verdict.LATE
    assert notice.compliance.deadline == paris("2025-05-06T00:00")
    assert notice.compliance.late_by == paris("2025-05-12T10:00") - paris("2025-05-06T00:00")
    assert notice.first_enforced == paris("2025-05-12T10:00")


def test_names_have_their_lives(story):
    """The lifted name until its lifting, the others until the order's end, the notified one from its notice."""
    groups = [(group.names, group.since, group.until, group.lifted) for group in report(story, "audit").names]
    begin, end = paris("2025-04-03T09:00"), paris("2025-11-17T00:00")
    assert groups == [
        (("live.example",), begin, paris("2025-05-20T12:00"), True),
        (("exact.example",), begin, end, False),
        (("late.example",), paris("2025-05-02T14:05"), end, False),
    ]


def test_hits_are_counted_by_day_country_and_measure(story):
    """As the trail has them; clients elsewhere are in no count."""
    rows = [(row.day, row.country, row.measure, row.enforced, row.would) for row in report(story, "audit").hits]
    assert rows == [
        (date(2025, 4, 3), "FR", "proxy", 5, 0),
        (date(2025, 4, 3), "RE", "proxy", 2, 0),
        (date(2025, 5, 12), "FR", "proxy", 3, 0),
        (date(2025, 5, 20), "FR", "proxy", 1, 0),
    ]


def test_a_lifting_tells_when_it_took_effect(story):
    """The file says noon; the instance took it in half an hour later."""
    (lifting,) = report(story, "audit").liftings
    assert (lifting.at.at, lifting.names, lifting.reason) == (
        paris("2025-05-20T12:00"),
        ("live.example",),
        "lawful now",
    )
    assert lifting.took_effect == (paris("2025-05-20T12:30"),)


def test_the_trail_is_whole_and_says_what_wrote_it(story):
    """Verification, runs, and the order file as it was."""
    (trail,) = report(story, "audit").trails
    assert trail.whole
    assert len(trail.facts.runs) == 4
    assert [item["file"] for record in trail.facts.files for item in record["files"]] == ["motogp.yaml"] * 5


def test_the_text_for_people(story):
    """What a reader looks for, in his words."""
    text = as_markdown(order_document(report(story, "audit")))
    for line in (
        "# Order motogp",
        "**Deadline: met: in force 2025-04-03 09:30:00+02:00, before 2025-04-08 00:00:00+02:00 (a trail has it in force before the deadline).**",
        "- Names of these notices were enforced after their deadlines: ARCOM 7.",
        "| had to be in force before | 2025-04-08 00:00:00+02:00 | counted: 3 days from service |",
        "| live.example | the order | 2025-04-03 09:00:00+02:00 | 2025-05-20 12:00:00+02:00 (lifted) |  |",
        "| exact.example | the order; this exact name only | 2025-04-03 09:00:00+02:00 | 2025-11-17 00:00:00+01:00 | annex p. 3 |",
        "| 2025-04-03 | FR | proxy | 5 |",
        "Clients in: FR France, RE Réunion.",
        "| Verification | whole: no record is changed, cut, moved or missing |",
    ):
        assert line in text, line
    assert "late by 6 days 10 h: due before 2025-05-06 00:00:00+02:00, in force 2025-05-12 10:00:00+02:00" in text


def test_json_has_every_value(story):
    """And survives a round trip."""
    found = json.loads(json.dumps(as_json(report(story, "audit"))))
    assert found["deadline"]["verdict"] == "met"
    assert found["deadline"]["begun"] == "2025-04-03T09:30:00+02:00"
    assert found["notices"][0]["deadline"]["late_by_seconds"] == 6 * 86400 + 10 * 3600
    assert sum(row["enforced"] for row in found["hits"]) == 11
    assert found["trails"][0]["whole"] is True
    assert found["territory"] == {"FR": "France", "RE": "Réunion"}


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


def test_a_changed_record_is_said_to_be_one(story, tmp_path):
    """The trail is not whole, in the report's own words; its counts are shown as they are."""
    shutil.copytree(story, tmp_path / "copy")
    (segment,) = (tmp_path / "copy" / "audit").glob("trail-*-2025-04-03.jsonl")
    segment.write_text(segment.read_text().replace('"country":"RE"', '"country":"DE"', 1))
    found = report(tmp_path / "copy", "audit")
    assert [row.country for row in found.hits if row.day == date(2025, 4, 3)] == ["DE", "FR", "RE"]
    assert not found.trails[0].whole
    assert any("is not whole" in warning for warning in found.warnings)
    assert "NOT WHOLE" in as_markdown(order_document(found))


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


def test_an_order_that_left_the_folder_is_read_from_the_trail(story):
    """The trail keeps its file as it was in force last."""
    order = orders_of_trails([story / "audit"]).get("motogp")
    assert order is not None
    assert [addition.notice for addition in order.additions] == ["ARCOM 7"]
    assert list(orders_of_trails([story / "audit"])) == ["motogp"]


def test_whether_anybody_else_was_touched(story, tmp_path):
    """Nobody, as far as the trail tells; where the file's territory and times are others now, who was."""
    found = report(story, "audit")
    assert "None of them is of a client outside of the territory" in as_markdown(order_document(found))
    assert "No trail has a refusal by measure dns: the instances may not carry it out." in found.warnings
    order = replace(
        found.order,
        territory=Territory(countries=frozenset({"FR"})),
        begins=paris("2025-04-04T00:00"),
        until=paris("2025-05-20T12:00"),
    )
    narrow = order_report(order, found.trails, at=found.made_at, software="1", holidays=french_public_holidays)
    assert [warning for warning in narrow.warnings if warning.startswith(("Refusals are", "A refusal is"))] == [
        "Refusals are recorded of clients outside of the territory that the file has now (RE: 2).",
        "A refusal is recorded at 2025-04-03 09:30:00+02:00, outside of the order's time.",
        "A refusal is recorded at 2025-05-20 12:30:00+02:00, outside of the order's time.",
    ]
    assert "None of them" not in as_markdown(order_document(narrow))


def test_what_was_counted_together_is_called_so(story):
    """In a flood over many countries; and who could not be located."""
    hits = [{"seq": 1, "at": "2025-04-04T08:00:00.000000Z", "kind": "counted", "of": "enforced", "order": "motogp",
             "country": country, "measure": "proxy", "count": 7} for country in ("*", None)]  # fmt: skip
    facts = facts_of(hits, story / "audit", {"motogp": "Europe/Paris"})["motogp"]
    order = load_orders(story / "orders").orders["motogp"]
    trail = TrailReport(facts=facts, whole=True, records=2)
    found = order_report(order, [trail], at=paris("2025-06-01"), software="1", holidays=french_public_holidays)
    text = as_markdown(order_document(found))
    assert "| several together | 7 |" in text
    assert "| unknown | 7 |" in text
    assert any("outside of the territory that the file has now (unknown: 7)" in warning for warning in found.warnings)


def test_time_without_a_record_is_told(story):
    """Between two runs nobody recorded: how often, how long, and the longest."""
    found = report(story, "audit")
    (warning,) = (warning for warning in found.warnings if "no record" in warning)
    assert "has no record 2 times between two runs while the order was in force, 47 days 3 h in all" in warning
    assert "the longest from 2025-04-03 09:30:00+02:00 to 2025-05-12 10:00:00+02:00" in warning


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


def test_the_record_of_the_start_may_be_retired(story):
    """What is left of the trail has it in force, since when is not known: at the latest from its first refusal."""
    found = [record for record in records(story / "audit") if record["kind"] not in ("order-started", "loaded")]
    facts = facts_of(found, story / "audit", {"motogp": "Europe/Paris"})["motogp"]
    assert (facts.in_force.at, facts.in_force.not_before) == (paris("2025-04-03T09:30"), None)


def test_a_report_as_of_an_instant_knows_nothing_later(story):
    """As it would have been made on that day."""
    order = load_orders(story / "orders").orders["motogp"]
    (trail,) = read_trails([story / "audit"], order, until=paris("2025-05-01T00:00"))
    assert sum(trail.facts.hits.values()) == 7
    assert trail.facts.notices == {}
    assert trail.whole


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"])
def test_a_clock_that_is_far_off_is_shown_as_it_was(at, story):
    """No year is too early or too late for a report."""
    known = load_orders(story / "orders").orders["motogp"]
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles"):
        order = replace(known, timezone=zone)
        found = [record | {"at": at, "first": at} for record in records(story / "audit")]
        facts = facts_of(found, story / "audit", {"motogp": zone})["motogp"]
        trail = TrailReport(facts=facts, whole=True, records=len(found))
        told = order_report(order, [trail], at=paris("2025-06-01"), software="1", holidays=french_public_holidays)
        assert at[:4] in as_markdown(order_document(told))
        assert at[:4] in json.dumps(as_json(told))


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
