"""The enforcer: rules, place and time behind one method, following a folder while it is edited."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from order_texts import order_text
from small_table import FRANCE, GERMANY, NOWHERE, REUNION

from cdnblock import ConfigError, Enforcer, Measure, OrderError
from cdnblock.sources.live_orders import LiveOrders

BOUND = 5.0  # seconds; far above what it takes, so that a slow machine does not fail


def wait_until(condition, seconds=BOUND):
    """Wait for a condition, and fail when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.005)


@contextmanager
def enforcing(folder, small_mmdb, **options):
    with Enforcer(folder, geo=small_mmdb, **options) as enforcer:
        yield enforcer


@pytest.fixture
def folder(tmp_path):
    orders = tmp_path / "orders"
    orders.mkdir()
    (orders / "motogp.yaml").write_text(order_text())
    # So many other names that releasing one or two of them needs nobody's consent.
    (orders / "others.yaml").write_text(
        order_text(id="others", names=f"[{', '.join(f'other{n}.example' for n in range(9))}]")
    )
    return orders


def names(enforcer):
    candidates = ["motogpstream.me", "second.example", "third.example"]
    return [name for name in candidates if enforcer.decide(name, FRANCE)]


@pytest.mark.parametrize(
    ("client", "country", "blocked"),
    [
        (FRANCE, "FR", True), (f"::ffff:{FRANCE}", "FR", True), ("2002:cb00:7107::1", "FR", True), ("2001:db8::1", "FR", True),
        (f"64:ff9b::{FRANCE}", "FR", True), (REUNION, "RE", False), (GERMANY, "DE", False), (NOWHERE, None, False),
        ("127.0.0.1", None, False), ("", None, False), ("nonsense", None, False), (None, None, False), ("9" * 5000, None, False),
        ("203.0.113.07", None, False), (42, None, False), ([], None, False),
    ],
    ids=repr,
)  # fmt: skip
def test_the_clients_country_decides(folder, small_mmdb, client, country, blocked):
    """Every family of addresses; what is no address has no country, and nothing raises."""
    with enforcing(folder, small_mmdb, follow=False) as enforcer:
        for _ in range(2):  # the second time from the memo
            decision = enforcer.decide("www.motogpstream.me", client)
            assert (decision.country, bool(decision)) == (country, blocked)


@pytest.mark.parametrize("host", ["", "a b", b"\xff", None, 5, [], "x" * 20_000, "\ud800", "a..b"], ids=ascii)
def test_no_host_raises(folder, small_mmdb, host):
    """What is no host name matches nothing, and says that it is malformed."""
    with enforcing(folder, small_mmdb, follow=False) as enforcer:
        decision = enforcer.decide(host, FRANCE)
        assert not decision
        assert decision.malformed


def test_query_names_are_dns_names(folder, small_mmdb):
    """The same rules by the DNS's idea of a name."""
    with enforcing(folder, small_mmdb, follow=False) as enforcer:
        assert enforcer.decide_query_name("a b.MotoGPStream.me.", FRANCE).measures[Measure.DNS] == "refuse"
        assert not enforcer.decide_query_name("motogpstream%2eme", FRANCE)


def test_trusted_proxies_speak_for_their_clients(folder, small_mmdb):
    """A forwarded header counts from a trusted peer alone."""
    with enforcing(folder, small_mmdb, follow=False, trusted_proxies=["10.0.0.0/8"]) as enforcer:
        assert enforcer.client_address("10.1.2.3", {"X-Forwarded-For": FRANCE}) == FRANCE
        assert enforcer.client_address(GERMANY, {"X-Forwarded-For": FRANCE}) == GERMANY


EDITS = {
    "rewritten in place": lambda path, text: path.write_text(text),
    "written beside and renamed": lambda path, text: (
        path.with_name(".motogp.yaml.swp").write_text(text),
        path.with_name(".motogp.yaml.swp").rename(path),
    ),
    "deleted and made again": lambda path, text: (path.unlink(), path.write_text(text)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_file_takes_effect(folder, small_mmdb, edit):
    """Whatever way an editor saves, without a restart; subscribers see the old and the new rules."""
    with enforcing(folder, small_mmdb) as enforcer:
        seen = []
        enforcer.subscribe(lambda old, new: seen.append((len(old), len(new))))
        EDITS[edit](folder / "motogp.yaml", order_text(names="[motogpstream.me, second.example]"))
        wait_until(lambda: names(enforcer) == ["motogpstream.me", "second.example"])
        wait_until(lambda: seen and seen[-1][1] == 2 + 9)


def test_a_new_file_and_a_removed_one_take_effect(folder, small_mmdb):
    """Files come and go."""
    with enforcing(folder, small_mmdb) as enforcer:
        (folder / "second.yaml").write_text(order_text(id="second", names="[second.example]"))
        wait_until(lambda: names(enforcer) == ["motogpstream.me", "second.example"])
        (folder / "motogp.yaml").unlink()
        wait_until(lambda: names(enforcer) == ["second.example"])


def test_a_file_that_becomes_invalid_keeps_its_last_good_version(folder, small_mmdb, caplog):
    """Loudly, while the changes of other files go live; mended, it takes effect again."""
    with enforcing(folder, small_mmdb) as enforcer:
        (folder / "motogp.yaml").write_text(order_text(names="[motogpstream.me, second..example]"))
        (folder / "third.yaml").write_text(order_text(id="third", names="[third.example]"))
        wait_until(lambda: names(enforcer) == ["motogpstream.me", "third.example"])
        wait_until(lambda: [problem.line for problem in enforcer.problems] == [11])
        wait_until(lambda: "last good version stays enforced" in caplog.text)
        (folder / "motogp.yaml").write_text(order_text(names="[second.example]"))
        wait_until(lambda: names(enforcer) == ["second.example", "third.example"])
        assert enforcer.problems == ()


def test_a_second_file_with_the_same_id_does_not_replace_the_first(folder, small_mmdb):
    """The id belongs to the file that has it."""
    with enforcing(folder, small_mmdb) as enforcer:
        (folder / "a.yaml").write_text(order_text(names="[second.example]"))
        wait_until(lambda: enforcer.problems)
        assert names(enforcer) == ["motogpstream.me"]
        assert enforcer.problems[0].file.endswith("a.yaml")


def test_a_renamed_file_stays_in_force(folder, small_mmdb):
    """`mv` moves an id from one file to another without a gap or a complaint."""
    with enforcing(folder, small_mmdb) as enforcer:
        (folder / "motogp.yaml").rename(folder / "renamed.yaml")
        (folder / "second.yaml").write_text(order_text(id="second", names="[second.example]"))
        wait_until(lambda: names(enforcer) == ["motogpstream.me", "second.example"])
        assert enforcer.problems == ()


def test_a_folder_that_vanishes_keeps_everything(folder, small_mmdb):
    """And is followed again when it comes back."""
    with enforcing(folder, small_mmdb) as enforcer:
        moved = folder.with_name("away")
        folder.rename(moved)
        wait_until(lambda: enforcer.problems)
        assert names(enforcer) == ["motogpstream.me"]
        (moved / "second.yaml").write_text(order_text(id="second", names="[second.example]"))
        moved.rename(folder)
        wait_until(lambda: names(enforcer) == ["motogpstream.me", "second.example"])
        wait_until(lambda: enforcer.problems == ())


def test_a_names_file_beside_the_order_is_followed(folder, small_mmdb):
    """A change of the annex alone takes effect."""
    (folder / "annex.txt").write_text("motogpstream.me\n")
    text = order_text().replace("names: [motogpstream.me]", "names_file: annex.txt")
    (folder / "motogp.yaml").write_text(text)
    with enforcing(folder, small_mmdb) as enforcer:
        (folder / "annex.txt").write_text("motogpstream.me\nsecond.example\n")
        wait_until(lambda: names(enforcer) == ["motogpstream.me", "second.example"])


def test_a_configmap_mount_is_followed(tmp_path, small_mmdb):
    """Kubernetes swaps the symlink `..data`; the order file is a symlink through it."""
    mount = tmp_path / "mount"
    for version, listed in (("..1", "[motogpstream.me]"), ("..2", "[motogpstream.me, second.example]")):
        (mount / version).mkdir(parents=True)
        (mount / version / "motogp.yaml").write_text(order_text(names=listed))
    (mount / "..data").symlink_to("..1")
    (mount / "motogp.yaml").symlink_to("..data/motogp.yaml")
    with enforcing(mount, small_mmdb) as enforcer:
        assert names(enforcer) == ["motogpstream.me"]
        (mount / "..new").symlink_to("..2")
        (mount / "..new").rename(mount / "..data")
        wait_until(lambda: names(enforcer) == ["motogpstream.me", "second.example"])


def test_an_order_starts_and_ends_at_its_instant_without_a_file_changing(folder, small_mmdb):
    """By the machine's own clock, and subscribers are told (old is new); `test_follower.py` says how soon."""
    start = datetime.now(UTC) + timedelta(seconds=2)
    end = start + timedelta(seconds=1)
    (folder / "motogp.yaml").write_text(order_text(begins=start.isoformat(), until=end.isoformat()))
    with enforcing(folder, small_mmdb) as enforcer:
        called = []
        enforcer.subscribe(lambda old, new: called.append((time.time(), old is new)))
        covered = names(enforcer)
        assert covered == [] or datetime.now(UTC) >= start
        wait_until(lambda: datetime.now(UTC) >= start)
        covered = names(enforcer)
        assert covered == ["motogpstream.me"] or datetime.now(UTC) >= end
        wait_until(lambda: names(enforcer) == [])
        assert datetime.now(UTC) >= end
        wait_until(lambda: called and called[-1][0] >= end.timestamp())
        assert called[0][0] >= start.timestamp()
        assert all(same for _, same in called)


def test_a_stepped_clock_is_noticed(folder, small_mmdb):
    """A clock that jumps over the end and back: decisions follow at once, subscribers soon."""
    offset = [0.0]
    with enforcing(folder, small_mmdb, clock=lambda: time.time() + offset[0]) as enforcer:
        called = threading.Event()
        enforcer.subscribe(lambda *_: called.set())
        offset[0] = 200 * 365 * 86_400.0
        assert names(enforcer) == []
        assert called.wait(BOUND)
        called.clear()
        offset[0] = 0.0
        assert names(enforcer) == ["motogpstream.me"]
        assert called.wait(BOUND)


def test_a_failing_subscriber_does_not_end_the_following(folder, small_mmdb):
    """A listener's mistake is logged; the next change still takes effect."""
    with enforcing(folder, small_mmdb) as enforcer:
        enforcer.subscribe(lambda *_: 1 / 0)
        for number in ("second", "third"):
            (folder / f"{number}.yaml").write_text(order_text(id=number, names=f"[{number}.example]"))
            wait_until(lambda number=number: enforcer.decide(f"{number}.example", FRANCE))


def test_an_unsubscribed_callback_is_not_called(folder, small_mmdb):
    """The function that `subscribe` returns ends it, more than once without harm."""
    with enforcing(folder, small_mmdb) as enforcer:
        called = []
        unsubscribe = enforcer.subscribe(lambda *_: called.append(1))
        unsubscribe()
        unsubscribe()
        (folder / "second.yaml").write_text(order_text(id="second", names="[second.example]"))
        wait_until(lambda: enforcer.decide("second.example", FRANCE))
        time.sleep(0.05)
        assert called == []


def test_without_following_nothing_changes(folder, small_mmdb):
    """`follow=False` loads once and starts no thread."""
    before = threading.active_count()
    with enforcing(folder, small_mmdb, follow=False) as enforcer:
        assert threading.active_count() == before
        (folder / "motogp.yaml").unlink()
        time.sleep(0.2)
        assert names(enforcer) == ["motogpstream.me"]


def test_closing_ends_the_threads(folder, small_mmdb):
    """No thread survives the enforcer."""
    before = set(threading.enumerate())
    with enforcing(folder, small_mmdb):
        assert set(threading.enumerate()) > before
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_it_refuses_to_start_with_an_invalid_file(folder, small_mmdb):
    """At start there is no last good version: nothing is enforced by half."""
    (folder / "broken.yaml").write_text("cdnblock: 1\n")
    with pytest.raises(OrderError) as caught:
        Enforcer(folder, geo=small_mmdb)
    assert {problem.file for problem in caught.value.problems} == {str(folder / "broken.yaml")}


@pytest.mark.parametrize(
    "options",
    [{"geo": "missing.mmdb"}, {"trusted_proxies": ["10.0.0.0/33"]}, {"client_header": "no header"}],
    ids=str,
)
def test_wrong_options_are_config_errors(folder, options):
    """The operator is told what is not usable."""
    with pytest.raises(ConfigError):
        Enforcer(folder, **options)


def test_a_missing_folder_is_a_config_error(tmp_path):
    """With the path in the message."""
    with pytest.raises(ConfigError, match="nowhere"):
        Enforcer(tmp_path / "nowhere")


RELEASES = {
    "a file is removed": lambda folder: (folder / "others.yaml").unlink(),
    "a file lists less": lambda folder: (folder / "others.yaml").write_text(
        order_text(id="others", names="[other1.example]")
    ),
    "everything is removed": lambda folder: [path.unlink() for path in folder.iterdir()],
    "an order is lifted": lambda folder: (folder / "others.yaml").write_text(
        order_text(id="others", names=f"[{', '.join(f'other{n}.example' for n in range(9))}]")
        + "lifted: [{at: 2025-06-01}]\n"
    ),
    "an order ends earlier": lambda folder: (folder / "others.yaml").write_text(
        order_text(id="others", until="2025-06-01", names=f"[{', '.join(f'other{n}.example' for n in range(9))}]")
    ),
}


@pytest.mark.parametrize("change", RELEASES)
def test_a_change_that_releases_too_much_is_held_back(folder, small_mmdb, change, caplog):
    """More than a third of the names in force, or all: it waits until somebody accepts it, and says so."""
    with enforcing(folder, small_mmdb) as enforcer:
        RELEASES[change](folder)
        wait_until(lambda: enforcer.status()["held"])
        assert enforcer.decide("other2.example", FRANCE)
        assert "held back until accepted" in caplog.text
        time.sleep(0.3)
        assert enforcer.decide("other2.example", FRANCE)
        enforcer.reload(accept_release=True)
        assert not enforcer.decide("other2.example", FRANCE)
        assert enforcer.status()["held"] == []


def test_a_held_release_does_not_hold_up_other_files(folder, small_mmdb):
    """The changes of other files go live; a file that comes back is no release any more."""
    with enforcing(folder, small_mmdb) as enforcer:
        text = (folder / "others.yaml").read_text()
        (folder / "others.yaml").unlink()
        (folder / "second.yaml").write_text(order_text(id="second", names="[second.example]"))
        wait_until(lambda: names(enforcer) == ["motogpstream.me", "second.example"])
        assert [held["file"] for held in enforcer.status()["held"]] == [str(folder / "others.yaml")]
        (folder / "others.yaml").write_text(text)
        wait_until(lambda: enforcer.status()["held"] == [])
        assert enforcer.decide("other2.example", FRANCE)


def test_a_few_names_are_released_without_asking(folder, small_mmdb):
    """A third or less: a lifting is an ordinary event."""
    with enforcing(folder, small_mmdb) as enforcer:
        listed = f"[{', '.join(f'other{n}.example' for n in range(6))}]"
        (folder / "others.yaml").write_text(order_text(id="others", names=listed))
        wait_until(lambda: not enforcer.decide("other8.example", FRANCE))
        assert enforcer.status()["held"] == []


def test_names_that_a_parent_still_covers_are_not_released(folder, small_mmdb):
    """Listing a domain instead of its ten sub-domains releases nothing."""
    with enforcing(folder, small_mmdb) as enforcer:
        (folder / "others.yaml").write_text(
            order_text(id="others", names="[example.test, 'other1.example', 'other2.example']")
        )
        wait_until(lambda: enforcer.status()["held"])
        listed = ", ".join(f"other{n}.example" for n in range(9))
        (folder / "a.yaml").write_text(order_text(id="a", names=f"[{listed}]"))
        wait_until(lambda: not enforcer.status()["held"])
        assert enforcer.decide("other8.example", FRANCE)
        assert enforcer.decide("example.test", FRANCE)


def test_the_end_of_an_order_is_no_release(folder, small_mmdb):
    """What ends by itself was ordered to end: nothing is held back when a file of an ended order is removed."""
    (folder / "others.yaml").write_text(
        order_text(id="others", until="2025-06-01", names="[a.example, b.example, c.example]")
    )
    with enforcing(folder, small_mmdb) as enforcer:
        (folder / "others.yaml").unlink()
        wait_until(lambda: "others" not in enforcer.rules.orders)
        assert enforcer.status()["held"] == []


def test_a_replaced_file_with_the_same_times_and_size_is_found_by_its_content(folder, small_mmdb):
    """Where metadata lies, the content does not."""
    live = LiveOrders(folder)
    path = folder / "motogp.yaml"
    live.refresh(datetime.now(UTC))
    live._seen[path] = live._now(path)
    path.write_text(order_text(names="[motogpztream.me]"))
    time.sleep(0.06)
    live._seen[path] = live._now(path)  # as on a file system whose times and numbers do not move
    assert not live.refresh(datetime.now(UTC))
    assert live.refresh(datetime.now(UTC), by_content=True)
    assert "motogpztream.me" in {name.name for name in live.rules.orders["motogp"].each_name()}


def test_the_last_good_set_survives_a_restart(folder, small_mmdb, tmp_path):
    """With a state folder, a start with a broken file goes on with its last good version, loudly."""
    state = tmp_path / "state"
    with enforcing(folder, small_mmdb, state=state):
        pass
    (folder / "motogp.yaml").write_text("half an ord")
    with pytest.raises(OrderError):
        Enforcer(folder, geo=small_mmdb)
    with enforcing(folder, small_mmdb, state=state) as enforcer:
        assert names(enforcer) == ["motogpstream.me"]
        assert [problem.file for problem in enforcer.problems] == [str(folder / "motogp.yaml")]
        assert {file["state"] for file in enforcer.status()["files"]} == {"enforced", "last good version kept"}
    with enforcing(folder, small_mmdb, state=state) as enforcer:
        assert names(enforcer) == ["motogpstream.me"]


def test_a_start_with_an_emptied_folder_releases_nothing_unasked(folder, small_mmdb, tmp_path):
    """The release guard knows what was in force before the restart."""
    state = tmp_path / "state"
    with enforcing(folder, small_mmdb, state=state):
        pass
    for path in folder.iterdir():
        path.unlink()
    with enforcing(folder, small_mmdb, state=state) as enforcer:
        assert names(enforcer) == ["motogpstream.me"]
        assert len(enforcer.status()["held"]) == 2
    folder.rmdir()
    with enforcing(folder, small_mmdb, state=state) as enforcer:
        assert names(enforcer) == ["motogpstream.me"]
        folder.mkdir()
        enforcer.reload(accept_release=True)
        assert names(enforcer) == []
    with enforcing(folder, small_mmdb, state=state) as enforcer:
        assert names(enforcer) == []


def test_a_repointed_symlink_is_followed(tmp_path, small_mmdb):
    """The root itself is a link, as in releases that are switched by `ln -sfn`; watchers do not see that."""
    for version, listed in (("one", "[motogpstream.me]"), ("two", "[motogpstream.me, second.example]")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "motogp.yaml").write_text(order_text(names=listed))
    (tmp_path / "current").symlink_to("one")
    with enforcing(tmp_path / "current", small_mmdb) as enforcer:
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(tmp_path / "current")
        wait_until(lambda: names(enforcer) == ["motogpstream.me", "second.example"])


def test_orders_that_are_still_to_start_do_not_vanish_unasked(tmp_path, small_mmdb):
    """An emptied folder is held back even when nothing of it is in force yet."""
    (tmp_path / "pending.yaml").write_text(order_text(begins="2190-01-01"))
    with enforcing(tmp_path, small_mmdb) as enforcer:
        (tmp_path / "pending.yaml").unlink()
        wait_until(lambda: enforcer.status()["held"])
        assert "motogp" in enforcer.rules.orders
        enforcer.reload(accept_release=True)
        assert not enforcer.rules.orders
