"""`cdnblock status` and `cdnblock reload`: of a running instance, over its control socket."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from order_texts import order_text
from small_table import FRANCE

from cdnblock import Enforcer
from cdnblock.cli.root import root
from cdnblock.sources.control_socket import ControlServer, ask

ROOT = Path(__file__).parents[2]
BROKEN = "cdnblock: 1\nid: [\n"
STABLE = {
    "pid", "started", "revision", "orders", "names", "names_in_force", "next_change", "last_reload", "files",
    "problems", "held", "deadlines", "state_folder_error", "report_only", "orders_reported", "expiring",
    "enforced",
}  # fmt: skip


def run(*arguments, **environment):
    return CliRunner().invoke(
        root, [str(argument) for argument in arguments], auto_envvar_prefix="CDNBLOCK", env=environment
    )


@pytest.fixture
def folder(tmp_path):
    orders = tmp_path / "orders"
    orders.mkdir()
    put(orders / "motogp.yaml", order_text(names="[motogpstream.me, second.example, third.example]"))
    return orders


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def put(path, text):
    """Write a file as an editor does, whole, some time ago: a reload need not wait until nobody writes to it."""
    new = path.with_name(f".{path.name}.tmp")
    new.write_text(text)
    os.utime(new, (1e9 + len(text), 1e9))
    new.rename(path)


@contextmanager
def running(folder, state, small_mmdb, **options):
    with Enforcer(folder, state=state, geo=small_mmdb, **({"follow": False} | options)) as enforcer:
        yield enforcer


def row(output, start):
    return next(line for line in output.splitlines() if line.startswith(start))


def test_a_healthy_instance(folder, state, small_mmdb):
    """Everything on the disk is enforced: exit 0, and who, since when, what, until when."""
    with running(folder, state, small_mmdb) as enforcer:
        done = run("status", "--state", state)
        assert (done.exit_code, done.stderr) == (0, "")
        assert row(done.stdout, "instance").startswith(f"instance     pid {os.getpid()}, started 20")
        assert row(done.stdout, "revision") == f"revision     {enforcer.rules.revision}"
        assert row(done.stdout, "in force") == "in force     3 names; 3 names listed in 1 order"
        assert row(done.stdout, "next change").startswith("next change  2195-01-02T00:00:00+01:00, in ")
        assert row(done.stdout, "last reload") == "last reload  none since the start"
        assert row(done.stdout, str(folder)).split() == [str(folder / "motogp.yaml"), "enforced", "motogp", "3"]


def test_status_json_has_the_stable_keys(folder, state, small_mmdb):
    """What scripts may rely on; the same as the library's `status()`."""
    with running(folder, state, small_mmdb) as enforcer:
        found = json.loads(run("status", "--state", state, "--json").stdout)
        assert set(found) == STABLE
        assert found == enforcer.status()
        assert found["files"] == [
            {
                "file": str(folder / "motogp.yaml"), "state": "enforced", "order": "motogp", "mode": "enforce", "names": 3,
                "problems": [],
            }
        ]  # fmt: skip
        assert (found["report_only"], found["orders_reported"]) == (False, 0)
        assert (found["names_in_force"], found["held"], found["last_reload"]) == (3, [], None)


def test_the_state_folder_may_come_from_the_environment(folder, state, small_mmdb):
    """CDNBLOCK_STATE, for both."""
    with running(folder, state, small_mmdb):
        assert run("status", CDNBLOCK_STATE=str(state)).exit_code == 0
        assert run("reload", CDNBLOCK_STATE=str(state)).exit_code == 0
    assert run("status").exit_code == 2


def test_an_order_that_is_only_reported_says_so(folder, state, small_mmdb):
    """Its file has that state, and its names are not in force; nothing is wrong."""
    put(folder / "second.yaml", order_text(id="second", names="[fourth.example]") + "mode: report\n")
    with running(folder, state, small_mmdb):
        done = run("status", "--state", state)
        assert done.exit_code == 0
        assert row(done.stdout, "in force") == "in force     3 names; 4 names listed in 2 orders, 1 of them report only"
        assert row(done.stdout, f"{folder}/second.yaml").split()[1:] == ["report", "only", "second", "1"]
        assert "REPORT ONLY" not in done.stdout


def test_an_instance_that_only_reports_says_so_loudly(folder, state, small_mmdb, caplog):
    """In its log at the start, and in the status: nothing is refused, whatever the files say."""
    with running(folder, state, small_mmdb, report_only=True) as enforcer:
        assert "REPORT ONLY: what would be enforced is told and counted; nothing is refused" in caplog.text
        done = run("status", "--state", state)
        assert row(done.stdout, "REPORT ONLY") == (
            "REPORT ONLY  nothing is refused; what would be enforced is told and counted"
        )
        assert row(done.stdout, "in force") == "in force     0 names; 3 names listed in 1 order, 1 of them report only"
        assert row(done.stdout, str(folder)).split()[1:3] == ["report", "only"]
        assert enforcer.status()["report_only"]
        assert enforcer.status()["files"][0]["mode"] == "report"


@pytest.mark.parametrize("command", ["status", "reload"])
def test_nobody_there_is_exit_5(state, command):
    """No folder, an empty one, or the socket of a killed instance: the message says where it looked."""
    done = run(command, "--state", state)
    assert (done.exit_code, done.stdout) == (5, "")
    assert done.stderr == f"cdnblock: {state}/control.sock: no running instance has this state folder\n"
    state.mkdir()
    assert run(command, "--state", state, "--json").exit_code == 5


def test_after_the_instance_is_closed_nobody_is_there(folder, state, small_mmdb):
    """And the next one is reached where the first one was."""
    for _ in range(2):
        with running(folder, state, small_mmdb):
            assert run("status", "--state", state).exit_code == 0
        assert run("status", "--state", state).exit_code == 5


def test_only_this_user_gets_in(folder, state, small_mmdb):
    """The folder 0700, the socket and the files 0600."""
    with running(folder, state, small_mmdb):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state, *state.iterdir())}
        assert modes == {
            "state": 0o700, "files": 0o700, "control.sock": 0o600, "last-good.json": 0o600, "lock": 0o600
        }  # fmt: skip


def test_reload_takes_a_change_at_once(folder, state, small_mmdb):
    """It prints both revisions and the names that came and went, and when it returns they are enforced."""
    with running(folder, state, small_mmdb) as enforcer:
        before = enforcer.rules.revision
        put(folder / "motogp.yaml", order_text(names="[motogpstream.me, second.example, fourth.example]"))
        done = run("reload", "--state", state)
        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            f"revision     {enforcer.rules.revision}, before {before}", "added        1 name: fourth.example",
            "released     1 name: third.example", "in force     3 names of 1 order",
        ]  # fmt: skip
        assert enforcer.decide("fourth.example", FRANCE)
        assert not enforcer.decide("third.example", FRANCE)
        again = run("reload", "--state", state)
        assert again.stdout.startswith(f"unchanged    {enforcer.rules.revision}\nlast reload  20")
        assert "ms; the rules changed\n" in again.stdout
        assert again.exit_code == 0


def test_reload_json(folder, state, small_mmdb):
    """The status, and what changed."""
    with running(folder, state, small_mmdb) as enforcer:
        before = enforcer.rules.revision
        put(folder / "second.yaml", order_text(id="second", names="[fourth.example, second.example]"))
        found = json.loads(run("reload", "--state", state, "--json").stdout)
        assert found.keys() == STABLE | {"before", "added", "released", "added_names", "released_names"}
        assert (found["before"], found["revision"]) == (before, enforcer.rules.revision)
        assert (found["added"], found["added_names"], found["released"]) == (1, ["fourth.example"], 0)


def test_a_file_that_is_just_being_written_is_waited_for(folder, state, small_mmdb):
    """`cp` and then `cdnblock reload`: what was there when it was called is enforced when it returns."""
    with running(folder, state, small_mmdb) as enforcer:
        (folder / "second.yaml").write_text(order_text(id="second", names="[fourth.example]"))
        assert "fourth.example" in run("reload", "--state", state).stdout
        assert enforcer.decide("fourth.example", FRANCE)


def test_an_invalid_file_is_told_with_its_line(folder, state, small_mmdb):
    """Exit 1 from both; the other file's change is live, the last good version stays."""
    with running(folder, state, small_mmdb) as enforcer:
        put(folder / "motogp.yaml", order_text(names="[motogpstream.me, second..example]"))
        put(folder / "second.yaml", order_text(id="second", names="[fourth.example]"))
        put(folder / "third.yaml", BROKEN)
        reloaded, told = (run(command, "--state", state) for command in ("reload", "status"))
        assert (reloaded.exit_code, told.exit_code) == (1, 1)
        for done in (reloaded, told):
            assert f"\n{folder}/motogp.yaml:11:26: names.1: " in done.stdout
            assert f"\n{folder}/third.yaml:3:1: file: " in done.stdout
        assert f"\n{folder}/motogp.yaml: last good version kept\n" in reloaded.stdout
        assert f"\n{folder}/third.yaml: not enforced\n" in reloaded.stdout
        assert "last good version kept" in row(told.stdout, f"{folder}/motogp.yaml ")
        assert row(told.stdout, f"{folder}/third.yaml ").split()[1:] == ["not", "enforced", "-", "-", "1", "problem"]
        assert all(enforcer.decide(name, FRANCE) for name in ("second.example", "fourth.example"))
        put(folder / "motogp.yaml", order_text(names="[motogpstream.me, second.example, third.example]"))
        (folder / "third.yaml").unlink()
        assert run("reload", "--state", state).exit_code == 0
        assert run("status", "--state", state).exit_code == 0


def test_a_warning_is_shown_and_is_healthy(folder, state, small_mmdb):
    """The same name twice: enforced, exit 0."""
    put(folder / "motogp.yaml", order_text(names="[a.example, a.example]"))
    with running(folder, state, small_mmdb):
        done = run("status", "--state", state)
        assert done.exit_code == 0
        assert ": names: warning: `a.example` is listed already" in done.stdout


@pytest.mark.parametrize("emptied", [True, False])
def test_a_held_release_waits_for_its_acceptance(folder, state, small_mmdb, emptied):
    """Exit 1, what it would release, and the very command that accepts it."""
    with running(folder, state, small_mmdb) as enforcer:
        if emptied:
            (folder / "motogp.yaml").unlink()
        else:
            put(folder / "motogp.yaml", order_text(names="[motogpstream.me]"))
        number = 3 if emptied else 2
        for command in ("reload", "status"):
            done = run(command, "--state", state)
            assert done.exit_code == 1
            assert f"\n{folder}/motogp.yaml: would release {number} names in force; held back since 20" in done.stdout
            assert f"\nif that is meant: cdnblock reload --state {state} --accept-release\n" in done.stdout
            assert enforcer.decide("third.example", FRANCE)
        assert "release held" in row(done.stdout, f"{folder}/motogp.yaml ")
        accepted = run("reload", "--state", state, "--accept-release")
        assert accepted.exit_code == 0
        assert row(accepted.stdout, "released").startswith(f"released     {number} names: ")
        assert not enforcer.decide("third.example", FRANCE)
        assert bool(enforcer.decide("motogpstream.me", FRANCE)) is not emptied
        assert run("status", "--state", state).exit_code == 0


def served(days_ago, **changes):
    """Return an order that was served some days ago and has to be obeyed within 24 hours of that."""
    day = datetime.now(ZoneInfo("Europe/Paris")) - timedelta(days=days_ago)
    extra = "".join(f"{key}: {value}\n" for key, value in changes.items())
    return order_text(id=f"served{days_ago}").replace(
        "court:", f"served: {day:%Y-%m-%dT%H:%M}\ncomply_within: 24 hours\n{extra}court:"
    )


def test_orders_that_are_about_to_end_are_shown(folder, state, small_mmdb):
    """Within 30 days, with the instant; an order that runs for long is not among them."""
    put(folder / "soon.yaml", order_text(id="soon", until=f"{datetime.now() + timedelta(days=5):%Y-%m-%d}"))
    with Enforcer(folder, geo=small_mmdb, state=state, follow=False):
        lines = run("status", "--state", state).stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("ABOUT TO END"))
    assert lines[at + 1].startswith("soon")
    assert lines[at + 1].endswith("in 5 d")
    assert len(lines) == at + 2


def test_deadlines_that_are_near_or_past_are_shown(folder, state, small_mmdb):
    """Of orders that the file does not call implemented; being late is the operator's to judge, and exits 0."""
    (folder / "motogp.yaml").unlink()
    put(folder / "late.yaml", served(3))
    put(folder / "near.yaml", served(0))
    put(folder / "done.yaml", served(2, implemented=f"{datetime.now():%Y-%m-%d}"))
    with running(folder, state, small_mmdb):
        done = run("status", "--state", state)
    assert done.exit_code == 0
    lines = done.stdout[done.stdout.index("DEADLINE OF") :].splitlines()
    assert [line.split()[0] for line in lines] == ["DEADLINE", "served3", "served0"]
    assert lines[1].endswith(" ago, and not said to be implemented")
    assert " in 23 h" in lines[2]


def test_a_state_folder_that_cannot_be_written_is_told(folder, state, small_mmdb):
    """Exit 1: what is enforced now would not survive a restart."""
    with running(folder, state, small_mmdb) as enforcer:
        (state / "files").rename(state / "elsewhere")
        (state / "files").write_text("")
        put(folder / "second.yaml", order_text(id="second", names="[fourth.example]"))
        done = run("reload", "--state", state)
        assert done.exit_code == 1
        assert f"\n{state}: Not a directory; what is enforced now would not survive a restart\n" in done.stdout
        assert enforcer.decide("fourth.example", FRANCE)
        (state / "files").unlink()
        (state / "elsewhere").rename(state / "files")
        assert run("reload", "--state", state).exit_code == 0


def test_what_files_are_called_cannot_steer_a_terminal(folder, state, small_mmdb):
    """Control characters come out escaped."""
    with running(folder, state, small_mmdb):
        put(folder / "\x1b[2J\nx.yaml", BROKEN)
        for command in ("reload", "status"):
            out = run(command, "--state", state).stdout
            assert "\x1b" not in out
            assert "\\x1b[2J\\nx.yaml" in out


def test_names_that_are_too_many_to_list_are_counted(folder, state, small_mmdb):
    """A reload of thousands of names prints the first hundred."""
    (folder / "annex.txt").write_text("".join(f"n{number:04}.example\n" for number in range(2500)))
    with running(folder, state, small_mmdb):
        put(folder / "many.yaml", order_text(id="many").replace("names: [motogpstream.me]", "names_file: annex.txt"))
        line = row(run("reload", "--state", state).stdout, "added")
    assert line.startswith("added        2,500 names: n0000.example n0001.example ")
    assert line.endswith(" n0099.example and 2,400 more")


def test_colours_for_people_only(folder, state, small_mmdb):
    """On a terminal, unless NO_COLOR is set."""
    with running(folder, state, small_mmdb):
        code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'cdnblock', 'status', '--state', sys.argv[1]]) >> 8)"
        for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
            plain = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
            done = subprocess.run(
                [sys.executable, "-c", code, str(state)], cwd=ROOT, env=plain | environment | {"TERM": "xterm"},
                capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False,
            )  # fmt: skip
            assert (b"\x1b[32m" in done.stdout, done.returncode) == (coloured, 0)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({}, "another version"), ({"held": 5}, "another version"), ({"error": "OSError: no"}, "could not answer: OSError: no"),
        ({"held": [], "problems": [{"severity": "grave"}], "files": [], "state_folder_error": None}, "another version"),
    ],
    ids=["nothing", "other types", "an error", "unknown words"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["status", "reload"])
def test_an_answer_that_is_not_understood_is_exit_5(state, command, reply, message):
    """Another version's instance, or one that fails: no traceback."""
    state.mkdir()
    server = ControlServer(state, lambda _: reply)
    try:
        done = run(command, "--state", state)
    finally:
        server.close()
    assert (done.exit_code, done.stdout) == (5, "")
    assert message in done.stderr


def test_an_unknown_request_changes_nothing(folder, state, small_mmdb):
    """A reload is a reload only by that word, and a release is accepted only by `true`."""
    with running(folder, state, small_mmdb) as enforcer:
        (folder / "motogp.yaml").unlink()
        for request in ({}, {"command": 5}, {"command": "stop"}, {"command": "reload", "accept_release": "no"}):
            ask(state, request)
            assert enforcer.decide("third.example", FRANCE)


def test_many_ask_at_once(folder, state, small_mmdb):
    """Status and reload from many sides while files change: each answer is whole."""
    with running(folder, state, small_mmdb, follow=True):
        wrong = []

        def work(number):
            for turn in range(5):
                put(folder / f"own{number}.yaml", order_text(id=f"own{number}", names=f"[own{number}-{turn}.example]"))
                if not ask(state, {"command": "reload"}).keys() >= STABLE:
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = ask(state, {"command": "status"})
    assert wrong == []
    assert (found["orders"], found["names_in_force"], found["problems"]) == (5, 7, [])


def test_a_killed_instance_is_not_there_and_the_next_one_is(folder, state, small_mmdb):
    """A stale socket answers nobody: exit 5, then 0 again."""
    code = "import sys, time\nfrom cdnblock import Enforcer\nEnforcer(*sys.argv[1:2], state=sys.argv[2])\nprint('up', flush=True)\ntime.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(state)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"up\n"
        assert run("status", "--state", state).exit_code == 0
        process.send_signal(signal.SIGKILL)
    assert run("status", "--state", state).exit_code == 5
    with running(folder, state, small_mmdb):
        assert run("status", "--state", state).exit_code == 0
