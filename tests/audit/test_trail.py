"""What a trail records of a run: groups and repeats, life, segments, retention, clients, keys, clocks."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import time
from datetime import timedelta

import pytest
from trails import AT, ORDER, PROXY, decision_about, enforce, flushed, lines, rules_of, segments

from cdnblock.audit import minutes
from cdnblock.audit.clients import network_of
from cdnblock.audit.hits import Hit
from cdnblock.audit.reading import records
from cdnblock.audit.records import Kind
from cdnblock.audit.settings import ClientForm, Fsync, OrderText, Settings
from cdnblock.audit.tally import Tally
from cdnblock.audit.trail import Trail
from cdnblock.audit.verifying import verify
from cdnblock.errors import ConfigError

DAY = 86_400


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now=AT):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tally(clock):
    return Tally(clock=clock)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


def opened(folder, tally, clock, **settings):
    return Trail(folder, tally, settings=Settings(**settings), clock=clock)


def told(folder, *kinds):
    return list(records(folder, kinds=set(kinds)))


def test_the_first_is_told_at_once_and_repeats_once_a_minute(folder, tally, clock):
    """Two records for a thousand requests of a minute: none is lost, each minute begins anew."""
    decision = decision_about()
    with opened(folder, tally, clock) as trail:
        for minute in range(3):
            enforce(tally, decision, times=1000)
            flushed(trail)
            clock.now += 60
            flushed(trail)
            assert len(told(folder, Kind.ENFORCED, Kind.COUNTED)) == 2 * (minute + 1)
    first, counted = told(folder, Kind.ENFORCED, Kind.COUNTED)[:2]
    assert {key: first[key] for key in first.keys() - {"seq", "chain", "revision"}} == {
        "at": "2026-11-22T03:50:00.000000Z", "kind": "enforced", "order": ORDER, "name": "motogpstream.me",
        "notice": None, "host": "www.motogpstream.me", "measure": "proxy", "variant": "terminate", "country": "FR",
        "client": "90.84.144.0/24", "adapter": "aiohttp_middleware", "action": "answer", "file": None, "count": 1,
    }  # fmt: skip
    assert (counted["of"], counted["count"], counted["host"]) == ("enforced", 999, "www.motogpstream.me")
    assert (counted["hosts"], counted["others"]) == ({"www.motogpstream.me": 999}, {"hosts": 0, "count": 0})
    assert first["revision"].startswith("sha256:")
    assert verify(folder).ok


def test_the_first_is_on_the_disk_soon_without_anybody_asking(folder):
    """Within a second, by the trail's own thread."""
    tally = Tally()
    with Trail(folder, tally):
        enforce(tally, decision_about())
        until = time.monotonic() + 10
        while not told(folder, Kind.ENFORCED):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_hosts_of_a_group_are_told_with_their_numbers(folder, tally, clock):
    """Up to eight, the most frequent ones, and how many others there were at least."""
    decision = decision_about()
    with opened(folder, tally, clock) as trail:
        for number in range(12):
            enforce(tally, decision, f"h{number}.motogpstream.me", times=number + 1)
        flushed(trail)
    (counted,) = told(folder, Kind.COUNTED)
    assert len(counted["hosts"]) == 8
    assert counted["hosts"]["h11.motogpstream.me"] == 12
    assert counted["count"] == sum(range(1, 13)) - 1
    assert counted["others"]["count"] == counted["count"] - sum(counted["hosts"].values())
    assert len(told(folder, Kind.ENFORCED)) == 1


def test_countries_measures_adapters_and_actions_are_groups_of_their_own(folder, tally, clock):
    """The first of each is told at once."""
    rules = rules_of("motogpstream.me")
    with opened(folder, tally, clock) as trail:
        decision = decision_about()
        for adapter, action in (("a", "answer"), ("a", "close"), ("b", "answer")):
            tally.note(decision, "motogpstream.me", None, measures=PROXY, action=action, adapter=adapter)
        flushed(trail)
        assert len(told(folder, Kind.ENFORCED)) == 3
    assert rules.orders


def test_hits_of_other_processes_are_told_like_ones_own(folder, tally, clock):
    """A worker's rows become the same records, and are counted with one's own."""
    other = Tally(clock=clock)
    other.recording = True
    enforce(other, decision_about(), times=5)
    rows = json.loads(json.dumps(other.drain()))
    with opened(folder, tally, clock) as trail:
        enforce(tally, decision_about(), times=5)
        flushed(trail)
        trail.add([Hit(*row) for row in rows])
    assert [record["count"] for record in told(folder, Kind.ENFORCED, Kind.COUNTED)] == [1, 9]


def test_a_flood_of_groups_is_counted_together(folder, tally, clock, monkeypatch):
    """Beyond so many groups in a minute there is one record for an order, measure and country: bounded, and none lost."""
    monkeypatch.setattr(minutes, "MOST_GROUPS", 50)
    names = [f"n{number}.example" for number in range(300)]
    rules = rules_of(*names)
    from datetime import UTC, datetime

    at = datetime(2026, 11, 22, tzinfo=UTC)
    with opened(folder, tally, clock):
        for host in names:
            enforce(tally, rules.decide(host, country="FR", at=at), host, times=2)
    counted = told(folder, Kind.COUNTED)
    assert len(told(folder, Kind.ENFORCED)) == 50
    assert len(counted) == 51
    (fold,) = [record for record in counted if "names" in record]
    assert (fold["name"], fold["names"], fold["count"]) == (None, 250, 500)
    assert 50 + sum(record["count"] for record in counted) == 600


def test_life_is_told_in_order_and_with_its_time(folder, tally, clock):
    """Events come out as they were told, whatever they say."""
    with opened(folder, tally, clock) as trail:
        trail.event(Kind.ORDER_STARTED, order=ORDER, names=14)
        clock.now += 5
        trail.event("order-ended", order=ORDER, why={"deep": ["\x1b[2J", None]})
        flushed(trail)
        life = [record["kind"] for record in trail.recent if record["kind"] != "clock-step"]
        assert life == ["trail-opened", "order-started", "order-ended"]
    started, ended = told(folder, Kind.ORDER_STARTED, Kind.ORDER_ENDED)
    assert (started["at"], started["names"]) == ("2026-11-22T03:50:00.000000Z", 14)
    assert (ended["at"], ended["why"]) == ("2026-11-22T03:50:05.000000Z", {"deep": ["\x1b[2J", None]})


def test_an_opening_tells_of_software_and_clock(folder, tally, clock):
    """What wrote, on what, and how far its clock can be believed."""
    opened(folder, tally, clock).close()
    (record,) = told(folder, Kind.TRAIL_OPENED)
    assert record["software"].startswith("cdnblock ")
    assert record["python"].startswith("CPython 3.")
    assert record["clock"].keys() == {"utc", "monotonic", "timezone", "synchronised", "max_error"}
    assert record["clock"]["synchronised"] in (True, False, None)
    assert (record["fsync"], record["clients"], record["retention_days"]) == ("second", "network", 365.0)


def text(order=ORDER, content=b"an order", **beside):
    return OrderText(order=order, file=f"{order}.yaml", text=content, beside=beside)


def test_order_files_are_kept_as_they_were(folder, tally, clock):
    """Each content once, under its digest; a record names what changed, and hits name the file of their revision."""
    decision = decision_about()
    with opened(folder, tally, clock) as trail:
        trail.loaded([text(), text("other", b"\xff\0", names=b"a\nb\n")], revision=decision.revision, added=3)
        enforce(tally, decision)
        flushed(trail)
        trail.loaded([text(content=b"changed")], revision="sha256:2", before=decision.revision)
        flushed(trail)
    first, second = told(folder, Kind.LOADED)
    assert (first["orders"], first["added"], [item["order"] for item in first["files"]]) == (2, 3, [ORDER, "other"])
    assert (second["orders"], second["gone"], second["before"]) == (1, ["other"], decision.revision)
    contents = {path.read_bytes() for path in (folder / "files").iterdir()}
    assert contents == {b"an order", b"\xff\0", b"a\nb\n", b"changed"}
    assert told(folder, Kind.ENFORCED)[0]["file"] == first["files"][0]["digest"]


def test_a_thousand_orders_are_several_records(folder, tally, clock):
    """No record is longer than readers take."""
    with opened(folder, tally, clock) as trail:
        trail.loaded([text(f"order-{number}") for number in range(1000)], revision="sha256:1")
    assert [len(record["files"]) for record in told(folder, Kind.LOADED)] == [200] * 5
    assert verify(folder).ok


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


def test_a_trail_outlives_its_records(folder, clock):
    """Year after year: retired records are retired themselves, and it still verifies."""
    for _ in range(4):
        run_days(folder, clock, 3, retention=timedelta(days=2))
        clock.now += 30 * DAY
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
    ("\x1b[31m", None), ("1" * 10_000, None), (7, None),
]  # fmt: skip


@pytest.mark.parametrize(("client", "network"), NETWORKS, ids=range(len(NETWORKS)))
def test_a_client_is_told_by_its_network(client, network):
    """/24 of IPv4, /48 of IPv6, nothing of what is no address."""
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


def test_a_child_of_a_fork_holds_nothing(folder, tally, clock):
    """The folder is free when the parent has closed it, although a child lives, and the child writes nothing."""
    trail = opened(folder, tally, clock)
    flushed(trail)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(write)
        trail.event(Kind.ORDER_STARTED, order="child")
        trail.close()
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    trail.close()
    opened(folder, Tally(clock=clock), clock).close()
    os.close(write)
    os.waitpid(child, 0)
    assert not told(folder, Kind.ORDER_STARTED)
    assert verify(folder).ok


def test_closing_twice_is_closing_once(folder, tally, clock):
    """And what is told afterwards goes nowhere, and raises nothing."""
    trail = opened(folder, tally, clock)
    trail.close()
    trail.close()
    trail.event(Kind.ORDER_STARTED, order=ORDER)
    enforce(tally, decision_about())
    assert tally.totals["aiohttp_middleware", "proxy", "answer"] == 1
    assert len(told(folder, Kind.TRAIL_CLOSED)) == 1


def test_status_tells_what_to_write_down(folder, tally, clock):
    """The head in the form in which it is expected later."""
    with opened(folder, tally, clock) as trail:
        trail.event(Kind.ORDER_STARTED, order=ORDER)
        flushed(trail)
        head = trail.status()["head"]
        assert verify(folder, expect=head).ok
        assert json.loads(json.dumps(trail.status()))["failing"] is None


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
        trail.loaded([text()], revision="sha256:1")
        flushed(trail)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in segments(folder)} == {0o640}
