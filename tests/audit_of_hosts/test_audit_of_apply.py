"""`cdnblock apply` and its trail: what an engine was made to go by, and what it was not."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from told import of_kind, wait_until

from cdnblock.audit.verifying import verify
from cdnblock.cli.root import root
from cdnblock.enforcer import Enforcer
from cdnblock.engines import load
from cdnblock.engines._engine import NotTakenError
from cdnblock.engines._folder import ConfigFolder
from cdnblock.engines.applying import Applier
from cdnblock.engines.service import Service
from cdnblock.exporters import Options
from cdnblock.exporters import load as load_exporter
from cdnblock.testing.stage import open_stage, put_orders


def test_each_run_is_recorded(tmp_path):
    """What was put in place, that nobody was asked about it, and which files; a run that changes nothing, too."""
    with open_stage(tmp_path, ()) as stage:
        put_orders(stage.orders, {"one": {"names": ["one.example"]}})
        audit, out = stage.folder / "audit", stage.folder / "out"
        once = [
            "apply", "traefik", "--orders", stage.orders, "--geo", stage.geo, "--out", out, "--no-probe", "--once",
            "--audit", audit,
        ]  # fmt: skip
        for _ in range(2):
            done = CliRunner().invoke(root, list(map(str, once)))
            assert done.exit_code == 0, done.output
        first, second = of_kind(audit, "applied")
        (loaded, again) = of_kind(audit, "loaded")
        assert first["revision"] == second["revision"] == loaded["revision"] == again["revision"]
        assert (first["engine"], first["result"]) == ("traefik", "in place, nobody asked")
        assert "cdnblock.json" in first["changed"]
        assert second["changed"] == []
        assert [record["kind"] for record in (of_kind(audit, "trail-opened") + of_kind(audit, "trail-closed"))] == [
            "trail-opened", "trail-opened", "trail-closed", "trail-closed",
        ]  # fmt: skip
        assert verify(audit).ok


def test_a_service_records_each_change_and_each_failure_once(tmp_path):
    """What an engine does not take is one failure, however often it is tried; then what it goes by again."""
    with open_stage(tmp_path, ()) as stage:
        put_orders(stage.orders, {"one": {"names": ["one.example"]}})
        audit, out = stage.folder / "audit", stage.folder / "out"
        with Enforcer(stage.orders, geo=stage.geo, audit=audit) as enforcer, ConfigFolder(out) as folder:
            applier = _applier(enforcer, folder)
            service = Service(enforcer=enforcer, applier=applier, said=lambda _: None, now=_now, look=0.05)
            running = threading.Thread(target=service.run)
            running.start()
            wait_until(lambda: enforcer.trail.flush() and len(of_kind(audit, "applied")) == 1)
            applier.engine.why = "it is out of order"
            put_orders(stage.orders, {"two": {"names": ["two.example"]}})
            enforcer.reload()
            wait_until(lambda: applier.engine.refused >= 2 and enforcer.trail.flush())
            assert len(of_kind(audit, "applied")) == 2
            applier.engine.why = ""
            service.wake()
            wait_until(lambda: enforcer.trail.flush() and len(of_kind(audit, "applied")) == 3)
            service.end()
            running.join(10)
        good, failed, better = of_kind(audit, "applied")
        assert (good["result"], failed["result"], better["result"]) == (
            "in place, nobody asked", "failed", "in place, nobody asked",
        )  # fmt: skip
        assert "it is out of order" in failed["why"]
        assert good["revision"] != failed["revision"] == better["revision"]


def _now():
    return datetime.now(UTC)


def _applier(enforcer, folder):
    kind = load("traefik")
    engine = OutOfOrder(kind.make(kind.means(folder.path, [], 1.0)))
    return Applier(
        exporter=load_exporter("traefik"), engine=engine, folder=folder, table=enforcer.geo,
        options=Options(folder=str(folder.path)), prober=None, now=_now,
    )  # fmt: skip


class OutOfOrder:
    """An engine that takes no change while somebody says why."""

    def __init__(self, engine):
        self._engine, self.why, self.refused = engine, "", 0

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def take(self, change):
        if self.why:
            self.refused += 1
            raise NotTakenError(self.why)
        return self._engine.take(change)
