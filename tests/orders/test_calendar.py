"""When an order holds: deadlines, durations, windows, holidays and both switches of daylight saving time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from cdnblock.errors import OrderError
from cdnblock.orders.calendar import (
    EARLIEST,
    LATEST,
    LegalTime,
    addition_deadline,
    addition_starts_at,
    deadline,
    ends_at,
    french_public_holidays,
    instant,
    legal_time,
    starts_at,
    windows_of,
)
from cdnblock.orders.model import Addition, Anchor, Delay, DelayUnit, Measure, Order, Territory, Window

PARIS = "Europe/Paris"
MIN, HOURS, DAYS = DelayUnit.MINUTES, DelayUnit.HOURS, DelayUnit.DAYS
WORKING, MONTHS = DelayUnit.WORKING_DAYS, DelayUnit.MONTHS


def order(**changes):
    fields = {
        "id": "o",
        "court": "c",
        "decided": date(2025, 3, 28),
        "legal_basis": "l",
        "claimant": "c",
        "territory": Territory(world=True),
        "measures": {Measure.DNS: "refuse"},
        "until": date(2025, 11, 16),
    }
    return Order(**{**fields, **changes})


def wall(text):
    """A datetime without offset, as an order file mostly has them."""
    return datetime.fromisoformat(text)


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def paris(text):
    """A Paris wall-clock time written with its offset."""
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("year", "easter_monday", "ascension", "whit_monday"),
    [
        (1995, date(1995, 4, 17), date(1995, 5, 25), date(1995, 6, 5)),
        (2000, date(2000, 4, 24), date(2000, 6, 1), date(2000, 6, 12)),
        (2008, date(2008, 3, 24), date(2008, 5, 1), date(2008, 5, 12)),
        (2019, date(2019, 4, 22), date(2019, 5, 30), date(2019, 6, 10)),
        (2024, date(2024, 4, 1), date(2024, 5, 9), date(2024, 5, 20)),
        (2025, date(2025, 4, 21), date(2025, 5, 29), date(2025, 6, 9)),
        (2026, date(2026, 4, 6), date(2026, 5, 14), date(2026, 5, 25)),
        (2027, date(2027, 3, 29), date(2027, 5, 6), date(2027, 5, 17)),
        (2038, date(2038, 4, 26), date(2038, 6, 3), date(2038, 6, 14)),
    ],
)
def test_movable_holidays_follow_easter(year, easter_monday, ascension, whit_monday):
    """Easter Monday, Ascension and Whit Monday are public holidays, with the eight fixed ones and nothing else."""
    fixed = {date(year, m, d) for m, d in [(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)]}
    assert french_public_holidays(year) == fixed | {easter_monday, ascension, whit_monday}


@pytest.mark.parametrize(
    ("served", "delay", "due"),
    [
        # The two examples of the order file's page.
        (date(2025, 4, 4), Delay(3, DAYS), "2025-04-08T00:00+02:00"),
        (date(2025, 4, 2), Delay(3, DAYS), "2025-04-08T00:00+02:00"),
        # The day of service is not counted, and the last day ends at 24:00.
        (date(2025, 4, 1), Delay(3, DAYS), "2025-04-05T00:00+02:00"),
        (wall("2025-04-01T23:59"), Delay(3, DAYS), "2025-04-05T00:00+02:00"),
        (datetime(2025, 4, 1, 22, 30, tzinfo=UTC), Delay(3, DAYS), "2025-04-08T00:00+02:00"),  # 2 April in Paris
        # Public holidays: Good Friday is none, Easter Monday is; 1 May; Ascension; 8 May; Christmas.
        (date(2025, 4, 15), Delay(3, DAYS), "2025-04-19T00:00+02:00"),
        (date(2025, 4, 16), Delay(3, DAYS), "2025-04-23T00:00+02:00"),
        (date(2025, 4, 28), Delay(3, DAYS), "2025-05-03T00:00+02:00"),
        (date(2025, 5, 26), Delay(3, DAYS), "2025-05-31T00:00+02:00"),
        (date(2026, 5, 5), Delay(3, DAYS), "2026-05-12T00:00+02:00"),
        (date(2025, 12, 22), Delay(3, DAYS), "2025-12-27T00:00+01:00"),
        (date(2025, 12, 29), Delay(3, DAYS), "2026-01-03T00:00+01:00"),
        # Months: the same day number, or the month's last day; then art. 642 applies too.
        (date(2025, 1, 31), Delay(1, MONTHS), "2025-03-01T00:00+01:00"),
        (date(2024, 1, 31), Delay(1, MONTHS), "2024-03-01T00:00+01:00"),
        (date(2025, 1, 15), Delay(1, MONTHS), "2025-02-18T00:00+01:00"),
        (date(2025, 3, 31), Delay(1, MONTHS), "2025-05-01T00:00+02:00"),
        # Working days: Monday to Friday without public holidays.
        (date(2025, 4, 4), Delay(1, WORKING), "2025-04-08T00:00+02:00"),
        (date(2025, 4, 17), Delay(5, WORKING), "2025-04-26T00:00+02:00"),
        (date(2025, 4, 5), Delay(5, WORKING), "2025-04-12T00:00+02:00"),
        # Minutes and hours run on without pauses, over a week-end and over both switches.
        (wall("2025-04-04T20:00"), Delay(48, HOURS), "2025-04-06T20:00+02:00"),
        (wall("2025-04-04T20:00"), Delay(30, MIN), "2025-04-04T20:30+02:00"),
        (date(2025, 4, 4), Delay(48, HOURS), "2025-04-06T00:00+02:00"),
        (wall("2025-03-29T20:00"), Delay(24, HOURS), "2025-03-30T21:00+02:00"),
        (wall("2025-10-25T20:00"), Delay(24, HOURS), "2025-10-26T19:00+01:00"),
    ],
)
def test_deadline_is_counted_as_the_code_of_civil_procedure_counts(served, delay, due):
    """Articles 641 and 642: the expected instants are written out."""
    assert deadline(order(served=served, comply_within=delay)) == paris(due)


def test_holidays_of_the_operator_replace_the_built_in_ones():
    """A day the operator declares free moves the deadline."""
    local = order(served=date(2025, 4, 1), comply_within=Delay(3, DAYS))
    assert deadline(local, lambda _year: frozenset({date(2025, 4, 4)})) == paris("2025-04-08T00:00+02:00")


@pytest.mark.parametrize("changes", [{"served": date(2025, 4, 2)}, {"comply_within": Delay(3, DAYS)}])
def test_no_deadline_without_service_and_delay(changes):
    """The clock starts at service: without it, or without a delay, there is no deadline."""
    assert deadline(order(**changes)) is None


@pytest.mark.parametrize(
    ("duration", "anchor", "end"),
    [
        # 12 months "a compter de la mise en place", on a Saturday: a duration never moves to a working day.
        (Delay(12, MONTHS), date(2025, 4, 3), "2026-04-04T00:00+02:00"),
        (Delay(1, MONTHS), date(2025, 1, 15), "2025-02-16T00:00+01:00"),
        (Delay(1, MONTHS), date(2024, 1, 31), "2024-03-01T00:00+01:00"),
        (Delay(1, MONTHS), date(2023, 1, 31), "2023-03-01T00:00+01:00"),
        (Delay(12, MONTHS), date(2024, 2, 29), "2025-03-01T00:00+01:00"),
        (Delay(48, MONTHS), date(2024, 2, 29), "2028-03-01T00:00+01:00"),
        (Delay(11, MONTHS), date(2025, 1, 31), "2026-01-01T00:00+01:00"),
        (Delay(1, MONTHS), date(2025, 11, 30), "2025-12-31T00:00+01:00"),
        (Delay(1, DAYS), date(2025, 4, 4), "2025-04-06T00:00+02:00"),
        (Delay(3, DAYS), wall("2025-03-28T09:00"), "2025-04-01T00:00+02:00"),
        (Delay(2, WORKING), date(2025, 4, 18), "2025-04-24T00:00+02:00"),
        (Delay(48, HOURS), wall("2025-10-25T12:00"), "2025-10-27T11:00+01:00"),
        (Delay(90, MIN), wall("2025-03-30T01:00"), "2025-03-30T03:30+02:00"),
        (Delay(24, HOURS), date(2025, 4, 4), "2025-04-05T00:00+02:00"),
    ],
)
def test_duration_ends_on_its_own_last_day(duration, anchor, end):
    """`for` ends at 24:00 of its last day, Sundays and holidays included; minutes and hours run exactly."""
    lasting = order(until=None, duration=duration, counted_from=Anchor.IMPLEMENTED, implemented=anchor)
    assert ends_at(lasting) == paris(end)


@pytest.mark.parametrize(
    ("counted_from", "end"),
    [
        (Anchor.DECIDED, "2026-03-29T00:00+01:00"),
        (Anchor.SERVED, "2026-04-03T00:00+02:00"),
        (Anchor.IMPLEMENTED, "2026-04-04T00:00+02:00"),
    ],
)
def test_duration_counts_from_the_anchor_it_names(counted_from, end):
    """Deadline and duration are two clocks: the duration's is chosen by `counted_from`."""
    lasting = order(
        until=None,
        duration=Delay(12, MONTHS),
        counted_from=counted_from,
        served=date(2025, 4, 2),
        implemented=wall("2025-04-03T09:00"),
    )
    assert ends_at(lasting) == paris(end)


@pytest.mark.parametrize(
    ("until", "end"),
    [
        (date(2025, 11, 16), "2025-11-17T00:00+01:00"),
        (wall("2025-11-16T18:00"), "2025-11-16T18:00+01:00"),
        (datetime(2025, 11, 16, 18, 0, tzinfo=UTC), "2025-11-16T19:00+01:00"),
        (date(2025, 3, 30), "2025-03-31T00:00+02:00"),
        (date(2025, 10, 26), "2025-10-27T00:00+01:00"),
    ],
)
def test_bare_until_is_the_whole_day(until, end):
    """A bare date ends at its 24:00, a date-time at itself."""
    assert ends_at(order(until=until)) == paris(end)


@pytest.mark.parametrize(
    "changes",
    [{"until": None}, {"until": None, "duration": Delay(1, MONTHS), "counted_from": Anchor.SERVED}],
)
def test_order_without_end_has_no_end(changes):
    """No end, no enforcement: asking for it is an error of the order."""
    with pytest.raises(OrderError, match=r"no end|count from"):
        ends_at(order(**changes))


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"begins": wall("2025-04-03T09:00"), "served": date(2025, 4, 2)}, "2025-04-03T09:00+02:00"),
        ({"begins": date(2025, 4, 3)}, "2025-04-03T00:00+02:00"),
        ({"served": date(2025, 4, 2)}, "2025-04-02T00:00+02:00"),
        ({"served": wall("2025-04-02T14:30")}, "2025-04-02T00:00+02:00"),
        ({}, "2025-03-28T00:00+01:00"),
        ({"timezone": "Indian/Reunion"}, "2025-03-28T00:00+04:00"),
        ({"timezone": "Pacific/Tahiti"}, "2025-03-28T00:00-10:00"),
    ],
)
def test_start_falls_back_to_service_then_decision(changes, start):
    """`from`, else 00:00 of `served`, else 00:00 of `decided`, in the order's own zone."""
    assert starts_at(order(**changes)) == paris(start)


@pytest.mark.parametrize(
    ("local", "offset_before", "kind"),
    [
        (wall("2025-03-30T01:59"), "2025-03-30T00:59", LegalTime.CLEAR),
        (wall("2025-03-30T02:30"), "2025-03-30T01:30", LegalTime.SKIPPED),
        (wall("2025-03-30T03:00"), "2025-03-30T01:00", LegalTime.CLEAR),
        (wall("2026-03-29T02:00"), "2026-03-29T01:00", LegalTime.SKIPPED),
        (wall("2025-10-26T02:30"), "2025-10-26T00:30", LegalTime.TWICE),
        (wall("2025-10-26T03:00"), "2025-10-26T02:00", LegalTime.CLEAR),
        (wall("2026-10-25T02:00"), "2026-10-25T00:00", LegalTime.TWICE),
        (date(2025, 3, 30), "2025-03-29T23:00", LegalTime.CLEAR),
    ],
)
def test_local_times_around_both_switches(local, offset_before, kind):
    """A skipped time takes the offset before the switch, a doubled one is the first: fold 0 of PEP 495."""
    assert instant(local, PARIS) == utc(offset_before)
    assert legal_time(local, PARIS) is kind


def test_written_offset_is_never_ambiguous():
    """With its offset, 02:30 of the switch day is one instant."""
    second = datetime(2025, 10, 26, 2, 30, tzinfo=timezone(timedelta(hours=1)))
    assert instant(second, PARIS) == utc("2025-10-26T01:30")
    assert legal_time(second, PARIS) is LegalTime.CLEAR


def test_results_are_in_utc():
    """Datetimes of one zone compare by wall clock in Python; only UTC compares instants."""
    assert instant(date(2025, 7, 1), PARIS).tzinfo is UTC
    assert ends_at(order()).tzinfo is UTC


def test_windows_are_sorted_and_merged():
    """Windows that touch or overlap are one; a bare `until` reaches 24:00."""
    matches = (
        Window(begins=wall("2025-04-27T12:00"), until=wall("2025-04-27T18:00")),
        Window(begins=wall("2025-04-13T12:30"), until=wall("2025-04-13T18:00")),
        Window(begins=wall("2025-04-13T17:00"), until=wall("2025-04-13T17:30")),
        Window(begins=wall("2025-04-27T18:00"), until=date(2025, 4, 27)),
    )
    assert windows_of(order(windows=matches)) == (
        (paris("2025-04-13T12:30+02:00"), paris("2025-04-13T18:00+02:00")),
        (paris("2025-04-27T12:00+02:00"), paris("2025-04-28T00:00+02:00")),
    )
    assert windows_of(order()) == ()


@pytest.mark.parametrize(
    ("fields", "start", "due"),
    [
        ({}, "2025-05-02T14:05+02:00", None),
        ({"begins": wall("2025-05-02T15:00")}, "2025-05-02T15:00+02:00", None),
        ({"comply_within": Delay(3, DAYS)}, "2025-05-02T14:05+02:00", "2025-05-06T00:00+02:00"),
        ({"comply_within": Delay(30, MIN)}, "2025-05-02T14:05+02:00", "2025-05-02T14:35+02:00"),
        ({"notified": date(2025, 3, 1)}, "2025-04-03T09:00+02:00", None),
    ],
)
def test_additions_have_their_own_start_and_deadline(fields, start, due):
    """An addition starts at its `from`, else when notified, but never before its order."""
    whole = order(begins=wall("2025-04-03T09:00"))
    addition = Addition(**{"notice": "n", "notified": wall("2025-05-02T14:05"), **fields})
    assert addition_starts_at(whole, addition) == paris(start)
    assert addition_deadline(whole, addition) == (due and paris(due))


@pytest.mark.parametrize("unit", DelayUnit)
@pytest.mark.parametrize(
    "anchor", [date.min, date(2199, 12, 31), date.max, wall("0001-01-01T00:00"), wall("9999-12-31T23:59")]
)
def test_nothing_overflows(unit, anchor):
    """However far the dates and however long the delays, results stay between 1900 and 2200."""
    far = order(
        served=anchor,
        comply_within=Delay(10**12, unit),
        until=None,
        duration=Delay(10**12, unit),
        counted_from=Anchor.SERVED,
    )
    for moment in (deadline(far), ends_at(far), starts_at(far)):
        assert moment.date() + timedelta(days=1) >= EARLIEST
        assert moment.date() <= LATEST
