"""What `cdnblock apply` promises of every engine, tried with the engine itself and the service as its own process.

An engine is put under it by a class that says how the engine is configured, started and reached.
"""

from __future__ import annotations

import os
import resource
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from apply_service import FRANCE, GERMANY, SOON, Asking, World, eventually
from export_engines import asked, stage_with

from cdnblock.sources import control_socket
from cdnblock.sources.staging_clock import run_from

NAMES = [f"first{number}.example" for number in range(9)]  # so many that one more or less is a small change


class ApplyContract:
    """A class that sets an engine up: `target`, and `set_up(stage)`, a context manager that yields a Running."""

    target: str
    measures: dict[str, str]
    ignoring: tuple[str, ...]  # arguments with which the engine is not reached when it is to take something

    @pytest.fixture
    def world(self, tmp_path):
        """A stage with some orders, an engine that goes by them, and a function that makes the service."""
        with stage_with(tmp_path) as stage, self.set_up(stage) as engine:
            world = World(self.target, stage, engine, self.measures)
            world.order(base={"names": NAMES})
            code, said = world.service().once()
            assert code == 5, said  # it does not run yet: what its checker accepted is in place for its start
            engine.start()
            yield world

    def test_changes_arrive_and_instants_too(self, world, tmp_path):
        """A name that is ordered is refused where the order holds, and no longer when it is lifted; a window opens."""
        clock = tmp_path / "clock"
        run_from(clock, datetime(2025, 5, 1, 12, tzinfo=UTC).timestamp())
        windows = [{"from": "2025-05-02T12:00", "until": "2025-05-02T14:00"}]
        world.order(live={"names": ["live.example"], "windows": windows})
        with world.service("--clock", str(clock)).run():
            assert world.refuses(NAMES[0]) == (True, False)
            assert world.refuses("new.example") == (False, False)
            world.order(new={"names": ["new.example"]})
            world.until_refused("new.example")
            world.order(new={"names": ["other.example"]})
            world.until_refused("new.example", refused=False)
            world.until_refused("other.example")
            assert world.refuses("live.example") == (False, False)
            run_from(clock, datetime(2025, 5, 2, 11, tzinfo=UTC).timestamp())
            world.until_refused("live.example")
            run_from(clock, datetime(2025, 5, 2, 12, 0, 1, tzinfo=UTC).timestamp())
            world.until_refused("live.example", refused=False)
            world.until_refused(NAMES[0])

    def test_what_the_checker_refuses_is_never_put_in_place(self, world):
        """With a checker that fails nothing is swapped, it is loud, and the engine goes on as it was."""
        before = world.texts()
        world.order(new={"names": ["new.example"]})
        code, said = world.service("--engine", "check=false").once()
        assert code == 1
        assert "does not accept" in said
        assert world.texts() == before
        assert (world.refuses(NAMES[0]), world.refuses("new.example")) == ((True, False), (False, False))

    def test_what_the_engine_does_not_take_is_rolled_back(self, world):
        """An engine that ignores the reload answers otherwise than decided: what was right before is back, loudly."""
        deaf = [word.format(folder=world.stage.folder) for word in self.ignoring]
        out = Path(deaf[1]) if deaf[0] == "--out" else world.engine.out
        code, said = world.service(*(deaf if deaf[0] == "--out" else ())).once()
        assert code == 0, said
        before = world.texts(out)
        world.order(new={"names": ["new.very.deep.example"]})
        code, said = world.service(*deaf, "--patience", "1").once()
        assert code == 1, said
        assert "what was right before is in place again" in said
        assert world.texts(out) == before
        code, said = world.service().once()
        assert code == 0, said
        assert world.refuses("new.very.deep.example") == (True, False)

    def test_an_engine_that_is_down_finds_the_orders_when_it_starts(self, world):
        """The checked files are put in place for it, and it is probed once it answers."""
        with world.service().run() as service:
            world.engine.stop()
            world.order(new={"names": ["new.example"]})
            service.until("is not in step")
            world.engine.start()
            world.until_refused("new.example")
            service.until("is in step again")
            assert world.refuses(NAMES[0]) == (True, False)


class CacheContract:
    """What else an engine promises that stores answers."""

    def test_what_is_stored_goes_when_measure_cdn_starts_and_ends(self, world):
        """Others get a fresh copy then, and keep it; covered clients get the site's own answer each time."""
        port = int(world.engine.url.rpartition(":")[2])

        def number(client):
            return asked(port, "cdn.example", client, path="/cached")[1]["x-answer"]

        with world.service().run() as service:
            first = number(GERMANY)
            assert [number(FRANCE), number(GERMANY)] == [first, first]
            world.order(cdn={"names": ["cdn.example"], "measures": {"cdn": "disable"}})
            service.until("in step with", times=2)
            second = number(GERMANY)
            assert len({first, second, number(FRANCE), number(FRANCE)}) == 4
            assert number(GERMANY) == second
            world.order(cdn={"names": ["other.example"], "measures": {"cdn": "disable"}})
            service.until("in step with", times=3)
            third = number(GERMANY)
            assert third not in (first, second)
            assert number(FRANCE) == third


class ServiceContract(ApplyContract):
    """What depends on the service more than on the engine: once is enough, or twice."""

    lost_by_a_change = 0  # requests on each kept connection

    def test_broken_and_vanished_orders_release_nothing(self, world, tmp_path):
        """A half-written file keeps its last good version; an emptied folder is held until somebody means it."""
        state = tmp_path / "own"
        with world.service("--state", str(state)).run() as service:
            before = world.texts()
            (world.stage.orders / "base.yaml").write_text("cdnblock: 1\nnames: [")
            service.until("last good version stays enforced")
            (world.stage.orders / "base.yaml").unlink()
            service.until("held back until accepted")
            assert world.refuses(NAMES[0]) == (True, False)
            assert world.texts() == before
            told = control_socket.ask(state, {"command": "reload", "accept_release": True}, 60)
            assert told["held"] == []
            world.until_refused(NAMES[0], refused=False)
            assert control_socket.ask(state, {"command": "status"}, 60)["apply"]["failing"] is None

    def test_many_names_that_the_engine_does_not_take_are_rolled_back(self, world):
        """Also by a run that knows nothing of what there was, and more lines than are worth comparing."""
        before = world.texts()
        world.order(new={"names": [f"new{number}.many.example" for number in range(3_000)]})
        code, said = world.service(*self.ignoring, "--patience", "1").once()
        assert code == 1, said
        assert "what was right before is in place again" in said
        assert world.texts() == before

    def test_a_full_disk_stops_nothing_and_is_made_up_for(self, world, tmp_path):
        """Where nothing can be written the engine goes on as it was; with room again the change arrives."""
        state = tmp_path / "own"
        with world.service("--state", str(state)).run() as service:
            before = world.texts()
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
            world.order(new={"names": ["new.example"]})
            service.until("is not in step")
            assert "large" in control_socket.ask(state, {"command": "status"}, 60)["apply"]["failing"]
            assert world.texts() == before
            assert world.refuses(NAMES[0]) == (True, False)
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            world.until_refused("new.example")
            service.until("is in step again")

    def test_a_folder_that_cannot_be_written_to(self, world):
        """It is said, and nothing else happens; with the right to write again the change arrives."""
        dropped = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
        with world.service(wrap=dropped).run() as service:
            before = world.texts()
            world.engine.out.chmod(0o555)
            world.order(new={"names": ["new.example"]})
            service.until("Permission denied")
            assert world.texts() == before
            world.engine.out.chmod(0o755)
            world.until_refused("new.example")

    def test_the_service_ends_at_once_and_starts_again_without_a_reload(self, world, tmp_path):
        """SIGTERM: exit 0, the engine goes on. systemd hears of it, and files that strangers touch are put right."""
        address = str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(address)
            told.settimeout(SOON)
            service = world.service("--look-every", "0.3", env={"NOTIFY_SOCKET": address})
            with service.run():
                assert told.recv(4096).startswith(b"READY=1")
                before = world.texts()
                name = max(before, key=lambda name: len(before[name]))
                (world.engine.out / name).write_bytes(b"")
                eventually(lambda: world.texts() == before, lambda: service.said)
                service.process.terminate()
                assert service.process.wait(20) == 0
            assert world.refuses(NAMES[0]) == (True, False)
        code, said = world.service().once()
        assert (code, "nothing to change" in said) == (0, True), said

    def test_a_service_that_is_killed_leaves_what_the_engine_can_read(self, world):
        """At whatever moment: the engine starts with what is there, and the next service is in step."""
        for number in range(4):
            service = world.service()
            with service.run():
                world.order(new={"names": [f"new{number}.example"]})
                time.sleep(0.1 + number * 0.13)
                service.process.kill()
            assert world.refuses(NAMES[0]) == (True, False)
        world.engine.stop()
        world.engine.start()
        assert world.refuses(NAMES[0]) == (True, False)
        with world.service().run():
            world.until_refused(f"new{number}.example")
        assert not [path for path in world.engine.out.glob(".*.*") if path.is_file()]

    def test_an_instant_finds_its_configuration_ready(self, world, tmp_path):
        """What a window needs is rendered and checked before it opens, and put in place when it does."""
        clock = tmp_path / "clock"
        windows = [{"from": "2025-05-02T12:00", "until": "2025-05-02T14:00"}]
        world.order(live={"names": ["live.example"], "windows": windows})
        run_from(clock, datetime(2025, 5, 2, 9, 59, 50, tzinfo=UTC).timestamp())
        with world.service("--clock", str(clock)).run() as service:
            assert world.refuses("live.example") == (False, False)
            world.until_refused("live.example")
            service.until("in step with", times=2)
        before, opened = [line for line in service.said.splitlines() if "in step with" in line]
        assert "until 2025-05-02T10:00:00" in before
        assert "until 2025-05-02T12:00:00" in opened
        assert "check" not in opened

    def test_requests_meanwhile(self, world):
        """While names come and go, kept connections go on; an engine that closes them does so once for each change."""
        changes, connections = 4, [Asking(world.engine.url) for _ in range(4)]
        with world.service().run():
            for connection in connections:
                connection.start()
            for number in range(changes):
                world.order(new={"names": [f"new{number}.example"]})
                world.until_refused(f"new{number}.example")
            for connection in connections:
                connection.end()
        assert min(connection.served for connection in connections) > 20
        assert sum(connection.lost for connection in connections) <= self.lost_by_a_change * changes * len(connections)
