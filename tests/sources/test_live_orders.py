"""An orders folder in sequences of edits: what is in force is lost by no accident, and what is valid is enforced."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime, timedelta

import pytest
from order_texts import order_text

from cdnblock.sources import live_orders
from cdnblock.sources.live_orders import FileState, LiveOrders
from cdnblock.sources.state_folder import StateFolder

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def listed(prefix, count):
    return f"[{', '.join(f'{prefix}{number}.example' for number in range(count))}]"


def write(path, **changes):
    """Write an order file that counts as settled."""
    path.write_text(order_text(**changes))
    settle(path)


def settle(path):
    before = time.time() - 10
    os.utime(path, (before, before))


@pytest.fixture
def live(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.yaml", id=name, names=listed(name, 10))
    return LiveOrders(tmp_path, now=NOW)


def in_force(live):
    return sorted(live.rules.orders)


def states(live):
    return {path.name: state for path, (state, _) in live.files.items()}


def test_a_copy_takes_over_when_the_original_goes(live, tmp_path):
    """`cp` and then `rm`: the copy is refused while the original has the id, and in force afterwards."""
    shutil.copy2(tmp_path / "a.yaml", tmp_path / "z.yaml")
    live.refresh(NOW)
    assert states(live)["z.yaml"] is FileState.NOT_ENFORCED
    assert "a.yaml has the id a too" in str(live.problems[0])
    (tmp_path / "a.yaml").unlink()
    live.refresh(NOW)
    assert in_force(live) == ["a", "b", "c"]
    assert states(live) == dict.fromkeys(["b.yaml", "c.yaml", "z.yaml"], FileState.ENFORCED)
    assert live.problems == ()
    assert live.held == ()


def test_what_is_being_written_waits_until_it_has_settled(live, tmp_path, monkeypatch):
    """And for how long is told, of several files the shortest; what nobody writes to waits for nothing."""
    assert (live.refresh(NOW), live.settles_in) == (False, None)
    monkeypatch.setattr(live_orders, "SETTLE_SECONDS", 1000)
    for name, ago in (("x", 400), ("y", 600), ("z", 2000)):
        write(tmp_path / f"{name}.yaml", id=name, names=listed(name, 10))
        os.utime(tmp_path / f"{name}.yaml", (time.time() - ago,) * 2)
    live.refresh(NOW)
    assert in_force(live) == ["a", "b", "c", "z"]
    assert live.settles_in == pytest.approx(400, abs=60)
    monkeypatch.setattr(live_orders, "SETTLE_SECONDS", 0.05)
    live.refresh(NOW)
    assert in_force(live) == ["a", "b", "c", "x", "y", "z"]
    assert live.settles_in is None


def test_a_long_list_is_reread_with_pauses(tmp_path):
    """Those that the caller gives, and none at the start, when nobody can be waiting."""
    names = [f"a{number}.example" for number in range(20_000)]
    (tmp_path / "annex.txt").write_text("\n".join(names))
    (tmp_path / "a.yaml").write_text(order_text() + "names_file: annex.txt\n")
    settle(tmp_path / "annex.txt")
    settle(tmp_path / "a.yaml")
    pauses = []
    live = LiveOrders(tmp_path, now=NOW, pause=lambda: pauses.append(len(live.rules)))
    assert pauses == []
    (tmp_path / "annex.txt").write_text("\n".join([*names[1:], *(f"b{number}.example" for number in range(20_000))]))
    os.utime(tmp_path / "annex.txt", (1, 1))
    assert live.refresh(NOW)
    assert len(live.rules) == 40_000
    assert len(pauses) > 20
    assert set(pauses) == {20_001}


def test_of_a_long_list_only_what_changed_is_read_again(tmp_path):
    """One name more, then one fewer; but all of it when the protected list is another one."""
    names = [f"a{number}.example" for number in range(1_000)]

    def annex(*names):
        (tmp_path / "annex.txt").write_text("\n".join(names))
        os.utime(tmp_path / "annex.txt", (len(names), len(names)))

    def mark():
        return live.rules.orders["motogp"].names_file.names.mark

    (tmp_path / "a.yaml").write_text(order_text() + "names_file: annex.txt\n")
    settle(tmp_path / "a.yaml")
    annex(*names)
    live = LiveOrders(tmp_path, now=NOW, keep_texts=True)
    first = mark()
    annex(*names, "new.example")
    assert live.refresh(NOW)
    assert live.rules.is_in_force("new.example", NOW)
    annex(*names[1:], "new.example", "newer.example")
    assert live.refresh(NOW)
    assert not live.rules.is_in_force("a0.example", NOW)
    assert mark() is first
    (tmp_path / "protected.txt").write_text("elsewhere.example\n")
    settle(tmp_path / "protected.txt")
    annex(*names)
    assert live.refresh(NOW)
    assert live.rules.is_in_force("a0.example", NOW)
    assert mark() is not first
    (tmp_path / "protected.txt").write_text("a7.example\n")
    os.utime(tmp_path / "protected.txt", (9, 9))
    annex(*names, "new.example")
    assert live.refresh(NOW)
    assert states(live) == {"a.yaml": FileState.KEPT}
    assert "annex.txt:8:1" in str(live.problems[0])
    assert not live.rules.is_in_force("new.example", NOW)


def test_two_files_may_swap_their_ids(live, tmp_path):
    """In two steps, of which the first is a conflict."""
    write(tmp_path / "a.yaml", id="b", names=listed("a", 10))
    live.refresh(NOW)
    assert in_force(live) == ["a", "b", "c"]
    write(tmp_path / "b.yaml", id="a", names=listed("b", 10))
    live.refresh(NOW)
    assert in_force(live) == ["a", "b", "c"]
    assert live.problems == ()
    assert live.rules.orders["b"].names[0].name == "a0.example"


def test_a_held_release_does_not_go_through_by_itself(live, tmp_path):
    """However many names come into force meanwhile, it waits for consent."""
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "c.yaml").unlink()
    live.refresh(NOW)
    assert [held.path.name for held in live.held] == ["b.yaml", "c.yaml"]
    write(tmp_path / "new.yaml", id="new", names=listed("new", 100))
    for _ in range(3):
        live.refresh(NOW)
    assert in_force(live) == ["a", "b", "c", "new"]
    assert len(live.held) == 2
    live.refresh(NOW, accept_release=True)
    assert in_force(live) == ["a", "new"]
    assert live.held == ()


def test_a_held_release_ends_with_its_order(tmp_path):
    """What has ended by itself needs nobody's consent to go."""
    write(tmp_path / "a.yaml", id="a", names=listed("a", 10), until="2026-06-10")
    write(tmp_path / "b.yaml", id="b", names=listed("b", 3))
    live = LiveOrders(tmp_path, now=NOW)
    (tmp_path / "a.yaml").unlink()
    live.refresh(NOW)
    assert len(live.held) == 1
    live.refresh(NOW + timedelta(days=20))
    assert live.held == ()
    assert in_force(live) == ["b"]


def test_a_file_that_comes_back_is_no_release(live, tmp_path):
    """And its new names count from then on."""
    text = (tmp_path / "b.yaml").read_text()
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "c.yaml").unlink()
    live.refresh(NOW)
    (tmp_path / "b.yaml").write_text(text)
    settle(tmp_path / "b.yaml")
    live.refresh(NOW)
    assert [held.path.name for held in live.held] == ["c.yaml"]
    write(tmp_path / "c.yaml", id="c", names=listed("c", 12))
    live.refresh(NOW)
    assert live.held == ()
    assert live.rules.is_in_force("c11.example", NOW)


def test_a_renamed_and_shortened_file_loses_nothing_it_still_lists(live, tmp_path):
    """Accepting the release releases what was taken out, and no more."""
    (tmp_path / "a.yaml").unlink()
    (tmp_path / "b.yaml").unlink()
    write(tmp_path / "z.yaml", id="a", names="[a0.example, a1.example]")
    live.refresh(NOW)
    assert live.rules.is_in_force("a9.example", NOW)
    live.refresh(NOW, accept_release=True)
    assert in_force(live) == ["a", "c"]
    assert live.rules.is_in_force("a1.example", NOW)
    assert not live.rules.is_in_force("a9.example", NOW)


def test_nothing_is_compiled_while_nothing_changes(live, tmp_path):
    """A held release costs nothing at each sweep: the rules stay the same object."""
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "c.yaml").unlink()
    live.refresh(NOW)
    rules = live.rules
    assert not live.refresh(NOW)
    assert live.rules is rules


def test_a_single_file_may_be_missing_at_a_start(tmp_path):
    """With what it said last in the state folder; it is read when it is back."""
    order, state = tmp_path / "one.yaml", tmp_path / "state"
    write(order, id="one", names=listed("a", 3))
    with StateFolder(state) as kept:
        LiveOrders(order, state=kept, now=NOW)
    order.unlink()
    with StateFolder(state) as kept:
        live = LiveOrders(order, state=kept, now=NOW)
        assert in_force(live) == ["one"]
        write(order, id="one", names=listed("a", 4))
        live.refresh(NOW)
        assert live.rules.is_in_force("a3.example", NOW)


@pytest.mark.parametrize("clock", [datetime(1990, 1, 1, tzinfo=UTC), NOW])
def test_a_clock_that_is_years_behind_releases_nothing(tmp_path, clock):
    """A restart over a half-synchronised folder: orders that seem to be still to start are held back as well."""
    folder, state = tmp_path / "orders", tmp_path / "state"
    folder.mkdir()
    for name in ("a", "b", "c"):
        write(folder / f"{name}.yaml", id=name, names=listed(name, 10))
    with StateFolder(state) as kept:
        LiveOrders(folder, state=kept, now=NOW)
    (folder / "a.yaml").unlink()
    (folder / "b.yaml").unlink()
    with StateFolder(state) as kept:
        live = LiveOrders(folder, state=kept, now=clock)
        assert [held.path.name for held in live.held] == ["a.yaml", "b.yaml"]
    with StateFolder(state) as kept:
        live = LiveOrders(folder, state=kept, now=NOW)
        assert in_force(live) == ["a", "b", "c"]


def test_holding_one_file_releases_no_other(tmp_path):
    """`mv d.yaml a.yaml` drops the order of a and moves that of d: while a is held, d's stays where it was."""
    write(tmp_path / "a.yaml", id="p", names=listed("p", 11))
    write(tmp_path / "d.yaml", id="s", names=listed("s", 20))
    live = LiveOrders(tmp_path, now=NOW)
    (tmp_path / "d.yaml").rename(tmp_path / "a.yaml")
    for _ in range(2):
        live.refresh(NOW)
        assert in_force(live) == ["p", "s"]
    live.refresh(NOW, accept_release=True)
    assert in_force(live) == ["s"]
    assert live.problems == ()


def test_renumbered_files_lose_no_order(tmp_path):
    """`rm 01; mv 02 01; mv 03 02`: only the first order is in question."""
    for number, count in (("01", 12), ("02", 10), ("03", 10)):
        write(tmp_path / f"{number}.yaml", id=f"o{number}", names=listed(f"o{number}-", count))
    live = LiveOrders(tmp_path, now=NOW)
    (tmp_path / "01.yaml").unlink()
    (tmp_path / "02.yaml").rename(tmp_path / "01.yaml")
    (tmp_path / "03.yaml").rename(tmp_path / "02.yaml")
    live.refresh(NOW)
    assert in_force(live) == ["o01", "o02", "o03"]
    live.refresh(NOW, accept_release=True)
    assert in_force(live) == ["o02", "o03"]
    assert live.problems == ()


@pytest.mark.parametrize("clock", [datetime(1990, 1, 1, tzinfo=UTC), NOW])
def test_a_file_cut_short_is_held_whatever_the_clock_says(tmp_path, clock):
    """A list of a hundred names that becomes one, in an order that seems to be still to start."""
    write(tmp_path / "a.yaml", id="a", names=listed("a", 100))
    live = LiveOrders(tmp_path, now=clock)
    write(tmp_path / "a.yaml", id="a", names="[a0.example]")
    live.refresh(clock)
    assert [held.names for held in live.held] == [99]
    assert live.rules.is_in_force("a99.example", NOW)


def test_what_is_in_force_and_what_is_to_start_count_together(tmp_path):
    """Fifty of ninety names, twenty of them in force."""
    for number in range(6):
        write(tmp_path / f"now{number}.yaml", id=f"now{number}", names=listed(f"now{number}-", 10))
    for number in range(3):
        write(
            tmp_path / f"soon{number}.yaml", id=f"soon{number}", names=listed(f"soon{number}-", 10), begins="2190-01-01"
        )
    live = LiveOrders(tmp_path, now=NOW)
    for name in ("now0", "now1", "soon0", "soon1", "soon2"):
        (tmp_path / f"{name}.yaml").unlink()
    live.refresh(NOW)
    assert len(live.held) == 5


def test_what_is_to_start_does_not_dilute_what_is_in_force(tmp_path):
    """Half of the names in force are held, however many more the orders list that are still to start."""
    write(tmp_path / "a.yaml", id="a", names=listed("a", 5))
    write(tmp_path / "b.yaml", id="b", names=listed("b", 5))
    write(tmp_path / "soon.yaml", id="soon", names=listed("soon", 100), begins="2190-01-01")
    live = LiveOrders(tmp_path, now=NOW)
    (tmp_path / "a.yaml").unlink()
    live.refresh(NOW)
    assert [held.path.name for held in live.held] == ["a.yaml"]


def test_a_held_release_waits_across_a_restart(tmp_path):
    """Also when other names have come into force meanwhile; accepted, it is gone for good."""
    folder, state = tmp_path / "orders", tmp_path / "state"
    folder.mkdir()
    for name in ("a", "b"):
        write(folder / f"{name}.yaml", id=name, names=listed(name, 10))
    with StateFolder(state) as kept:
        live = LiveOrders(folder, state=kept, now=NOW)
        (folder / "a.yaml").unlink()
        live.refresh(NOW)
        write(folder / "new.yaml", id="new", names=listed("new", 100))
        live.refresh(NOW)
        since = live.held[0].since
    for _ in range(2):
        with StateFolder(state) as kept:
            live = LiveOrders(folder, state=kept, now=NOW + timedelta(days=1))
            assert [(held.path.name, held.names, held.since) for held in live.held] == [("a.yaml", 10, since)]
            assert in_force(live) == ["a", "b", "new"]
    with StateFolder(state) as kept:
        live = LiveOrders(folder, state=kept, now=NOW)
        live.refresh(NOW, accept_release=True)
    with StateFolder(state) as kept:
        live = LiveOrders(folder, state=kept, now=NOW)
        assert (in_force(live), live.held) == (["b", "new"], ())
