"""What a trail records of a run: groups and their repeats, the life of orders, their files."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime

from trails import ORDER, PROXY, decision_about, enforce, flushed, opened, rules_of, told

from cdnblock.audit import minutes
from cdnblock.audit.hits import Hit
from cdnblock.audit.records import Kind
from cdnblock.audit.settings import OrderText, Settings
from cdnblock.audit.tally import Tally
from cdnblock.audit.trail import Trail
from cdnblock.audit.verifying import verify


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


def test_orders_with_many_files_beside_them_are_told_whole(folder, tally, clock):
    """Forty names files for each of two hundred orders: every digest is in a record, and every file is verified."""
    beside = {f"{number:064}-notified.txt": b"%d" % number for number in range(40)}
    orders = [
        OrderText(order=f"o-{number}", file="o.yaml", text=b"%d" % number, beside=beside) for number in range(200)
    ]
    with opened(folder, tally, clock) as trail:
        trail.loaded(orders, revision="sha256:1")
    loaded = told(folder, Kind.LOADED)
    assert [record["cut"] for record in loaded if "cut" in record] == []
    assert [item["order"] for record in loaded for item in record["files"]] == [order.order for order in orders]
    assert {len(item["beside"]) for record in loaded for item in record["files"]} == {40}
    assert verify(folder).ok


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


def test_a_trail_verifies_while_it_is_written(tmp_path):
    """Again and again, through rotations: what is not whole yet is nobody's mistake."""
    folder = tmp_path / "audit"
    done = threading.Event()

    def write():
        while not done.is_set():
            for number in range(50):
                trail.event(Kind.ORDER_STARTED, order="motogp", number=number, about="x" * 400)
            trail.flush()

    with Trail(folder, Tally(), settings=Settings(segment_size=65_536)) as trail:
        writer = threading.Thread(target=write)
        writer.start()
        results, until = [verify(folder)], time.monotonic() + 20
        while (len(results) < 25 or results[-1].segments < 4) and time.monotonic() < until:
            results.append(verify(folder))
        done.set()
        writer.join()
    assert all(result.ok for result in results), [result.findings for result in results if not result.ok][:1]
    assert all(result.in_use for result in results)
    assert results[-1].segments >= 4
