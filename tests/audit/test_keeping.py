"""How a trail is kept: segments, retention, what outlasts a loss of power, clients, keys, clocks."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from datetime import timedelta

import pytest
from trails import AT, ORDER, Clock, decision_about, enforce, flushed, lines, opened, segments, told

from cdnblock.audit.clients import network_of
from cdnblock.audit.reading import records
from cdnblock.audit.records import Kind
from cdnblock.audit.settings import ClientForm, Fsync, OrderText, Settings
from cdnblock.audit.tally import Tally
from cdnblock.audit.verifying import verify
from cdnblock.errors import ConfigError

DAY = 86_400


def test_a_segment_ends_when_it_is_full_and_the_chain_goes_on(folder, tally, clock, caplog):
    """The next one says how it ended, and so does the log: that is the head to write down."""
    with caplog.at_level(logging.INFO, "cdnblock.audit"), opened(folder, tally, clock, segment_size=4096) as trail:
        for number in range(40):
            trail.event(Kind.ORDER_STARTED, order=ORDER, number=number, about="x" * 200)
    result = verify(folder)
    assert result.ok
    assert result.segments >= 4
    rotated = told(folder, Kind.ROTATED)
    assert len(rotated) == result.segments - 1
    assert all(path.stat().st_size < 4096 + 600 for path in segments(folder))
    heads = re.findall(r"ended at (\d+:[0-9a-f]{64})", caplog.text)
    assert heads == [record["head"] for record in rotated]
    assert verify(folder, expect=heads[0]).ok


def test_a_day_ends_its_segment(folder, tally, clock):
    """Also when nothing happens."""
    with opened(folder, tally, clock) as trail:
        clock.now += DAY
        flushed(trail)
        assert [path.name for path in segments(folder)] == [
            "trail-000000000001-2026-11-22.jsonl", "trail-000000000002-2026-11-23.jsonl",
        ]  # fmt: skip
    assert verify(folder).ok


def run_days(folder, clock, days, **settings):
    """Have a trail of so many days, two records each."""
    for _ in range(days):
        with opened(folder, Tally(clock=clock), clock, **settings) as trail:
            trail.event(Kind.ORDER_STARTED, order=ORDER)
        clock.now += DAY


def test_what_is_older_than_its_time_is_deleted_by_whole_segments(folder, clock):
    """A record tells of each, and then nothing is missing."""
    run_days(folder, clock, 10)
    with opened(folder, Tally(clock=clock), clock, retention=timedelta(days=4)) as trail:
        flushed(trail)
        flushed(trail)
    result = verify(folder)
    assert result.ok, result.findings
    retired = told(folder, Kind.RETIRED)
    assert [record["segment"][-16:-6] for record in retired] == [f"2026-11-{day}" for day in range(22, 28)]
    assert result.first == retired[-1]["seqs"][1] + 1
    assert result.first > 10
    assert verify(folder, expect=retired[-1]["head"]).ok


def test_retired_segments_are_missing_where_no_record_says_so(folder, clock):
    """One more that is deleted by hand is found."""
    run_days(folder, clock, 6)
    with opened(folder, Tally(clock=clock), clock, retention=timedelta(days=4)) as trail:
        flushed(trail)
    assert verify(folder).ok
    segments(folder)[0].unlink()
    (finding,) = verify(folder).findings
    assert "no record says that their time was over" in finding.message


def test_a_clock_that_leaps_deletes_nothing_at_once(folder, clock):
    """Ten years ahead everything would be too old: whoever watches the log has a day to set the clock right."""
    run_days(folder, clock, 6)
    before = segments(folder)
    with opened(folder, Tally(clock=clock), clock, retention=timedelta(days=400)) as trail:
        clock.now += 3650 * DAY
        flushed(trail)
        flushed(trail)
        assert set(before) <= set(segments(folder))
    with opened(folder, Tally(clock=clock), clock, retention=timedelta(days=4)) as trail:
        clock.now += 3650 * DAY
        flushed(trail)
    with opened(folder, Tally(clock=clock), clock, retention=timedelta(days=4)) as trail:
        flushed(trail)
        flushed(trail)
    assert verify(folder).ok


def test_a_trail_outlives_its_records(folder, clock):
    """Year after year: retired records are retired themselves, and it still verifies."""
    for _ in range(4):
        run_days(folder, clock, 3, retention=timedelta(days=2))
        clock.now += 20 * DAY
    assert verify(folder).ok
    assert len(segments(folder)) < 6


@pytest.mark.parametrize("fsync", Fsync)
def test_life_is_always_synced_and_requests_as_the_operator_chose(folder, tally, clock, fsync, monkeypatch):
    """The policy decides over records of requests alone."""
    synced = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(descriptor), fdatasync(descriptor)))
    with opened(folder, tally, clock, fsync=fsync) as trail, trail._turning:  # no turn of the thread comes between
        synced.clear()
        enforce(tally, decision_about())
        trail._turn(is_full=False)
        assert bool(synced) is (fsync is Fsync.RECORD)
        trail._turn(is_full=True)
        assert bool(synced) is (fsync is not Fsync.NEVER)
        synced.clear()
        trail._recorder.take([], [__import__("cdnblock.audit.outage", fromlist=["Event"]).Event(
            at=AT, kind=Kind.ORDER_STARTED, fields={})], turn=False, is_full=False)  # fmt: skip
        assert synced


NETWORKS = [
    ("90.84.144.1", "90.84.144.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("::ffff:90.84.144.1", "90.84.144.0/24"),
    ("fe80::1%eth0", "fe80::/48"), ("[2001:db8::1]", "2001:db8::/48"), (None, None), ("", None), ("rubbish", None),
    ("\x1b[31m", None), ("1" * 10_000, None), (7, None), ("2002:5a54:9001::7", "2002:5a54:9000::/40"),
]  # fmt: skip


@pytest.mark.parametrize(("client", "network"), NETWORKS, ids=range(len(NETWORKS)))
def test_a_client_is_told_by_its_network(client, network):
    """/24 of IPv4, /48 of IPv6, nothing of what is no address; 6to4 has a whole IPv4 address in its /48."""
    assert network_of(client) == network


def test_nothing_of_a_client_is_told_where_nothing_is_to_be(folder, tally, clock):
    """And the address is nowhere in the folder."""
    with opened(folder, tally, clock, clients=ClientForm.NONE) as trail:
        enforce(tally, decision_about())
        flushed(trail)
    assert told(folder, Kind.ENFORCED)[0]["client"] is None
    assert not any(b"90.84" in line for line in lines(folder))


def test_a_pseudonym_is_the_same_until_its_key_is_changed(folder, clock):
    """The key is this user's alone, changes in time, and is deleted in time; each change is a record."""
    settings = {
        "clients": ClientForm.PSEUDONYM, "key_every": timedelta(days=30), "key_kept": timedelta(days=10),
    }  # fmt: skip
    seen = []
    with opened(folder, tally := Tally(clock=clock), clock, **settings) as trail:
        for days in (0, 1, 30, 11):
            clock.now += days * DAY
            enforce(tally, decision_about())
            flushed(trail)
            clock.now += 60
            flushed(trail)
            seen.append(told(folder, Kind.ENFORCED)[-1]["client"])
    assert re.fullmatch(r"[0-9a-f]{8}:[0-9a-f]{16}", seen[0])
    assert seen[0] == seen[1] != seen[2]
    assert stat.S_IMODE((folder / "client-keys").stat().st_mode) == 0o600
    keys = json.loads((folder / "client-keys").read_text())
    assert [key["id"] for key in keys] == [seen[2].partition(":")[0]]
    first, second, third = told(folder, Kind.KEY_ROTATED)
    assert (first["key"], second["key"]) == (seen[0].partition(":")[0], seen[2].partition(":")[0])
    assert (first["deleted"], second["deleted"], third["deleted"]) == ([], [], [first["key"]])
    assert not any(b"90.84" in line for line in lines(folder))


def test_a_pseudonym_survives_a_restart(folder, clock):
    """The key is in the folder."""
    seen = set()
    for _ in range(2):
        with opened(folder, tally := Tally(clock=clock), clock, clients=ClientForm.PSEUDONYM):
            enforce(tally, decision_about())
        seen.add(told(folder, Kind.ENFORCED)[-1]["client"])
    assert len(seen) == 1


def test_keys_that_others_may_read_are_an_error_at_the_start(folder, tally, clock):
    """A key that is known makes a pseudonym an address."""
    opened(folder, tally, clock, clients=ClientForm.PSEUDONYM).close()
    (folder / "client-keys").chmod(0o644)
    with pytest.raises(ConfigError, match="others may read it"):
        opened(folder, tally, clock, clients=ClientForm.PSEUDONYM)


def test_a_clock_that_is_set_is_told_of(folder, tally, clock):
    """By how much, forwards and backwards."""
    with opened(folder, tally, clock) as trail:
        flushed(trail)
        for step in (3600, -7200):
            clock.now += step
            flushed(trail)
    assert [round(record["seconds"], 1) for record in told(folder, Kind.CLOCK_STEP)] == [3600, -7200]
    assert verify(folder).ok


@pytest.mark.parametrize("now", [-1e18, 1e18, 253402300800.0], ids=["before all", "after all", "year 10000"])
def test_a_mad_clock_stops_nothing(folder, now):
    """Times that no calendar has are told as the last one that it has."""
    clock = Clock(now)
    with opened(folder, tally := Tally(clock=clock), clock) as trail:
        enforce(tally, decision_about(), times=3)
        flushed(trail)
    assert verify(folder).ok
    assert sum(record.get("count", 0) for record in records(folder)) == 3


@pytest.mark.parametrize(
    "wrong", [{"retention": timedelta()}, {"key_every": timedelta()}, {"key_kept": timedelta(-1)}, {"segment_size": 10}],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong):
    """With what would be right."""
    with pytest.raises(ConfigError, match="of a trail"):
        Settings(**wrong)


def test_the_folder_is_for_its_user_alone(folder, tally, clock):
    """0700; the keys 0600, and what a group of auditors might read 0640."""
    with opened(folder, tally, clock, clients=ClientForm.PSEUDONYM) as trail:
        trail.loaded([OrderText(order=ORDER, file="x.yaml", text=b"x")], revision="sha256:1")
        flushed(trail)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in segments(folder)} == {0o640}
