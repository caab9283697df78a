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

from instances import DEADLINE, ORDER, paris, report, running

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


def test_the_last_refusal_is_when_it_was_and_not_when_it_was_told(story):
    """The repeats of the order's last minute are recorded after its end; that is no refusal outside of its time."""
    hit = {"seq": 1, "at": "2025-11-16T23:05:00.000000Z", "kind": "counted", "of": "enforced", "order": "motogp",
           "country": "FR", "measure": "proxy", "count": 2, "first": "2025-11-16T22:59:10.000000Z",
           "last": "2025-11-16T22:59:50.000000Z"}  # fmt: skip
    facts = facts_of([hit], story / "audit", {"motogp": "Europe/Paris"})["motogp"]
    assert facts.last_enforced == paris("2025-11-16T23:59:50")
