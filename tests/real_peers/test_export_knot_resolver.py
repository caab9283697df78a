"""Knot Resolver with what `cdnblock export knot-resolver` writes, under the contract of every resolver."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import at_each_turn, needs, wait_until
from export_resolvers import Resolver, export_for, resolving

from cdnblock.testing import DnsContract, DnsHost

pytestmark = needs("kresd", "knot-resolver")

CONFIGURATION = """
net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})
net.listen('::1', {port}, {{ kind = 'dns' }})
cache.open(10 * MB, 'lmdb://{folder}/cache')
trust_anchors.remove('.')
modules.unload('ta_signal_query')
modules.unload('ta_sentinel')
modules.unload('detect_time_skew')
modules.unload('priming')
policy.add(policy.all(policy.FORWARD({{'127.0.0.1@{upstream}'}})))
{ours}
"""
FILE = "cdnblock-orders.txt"


class Knot(Resolver):
    """A kresd whose file of orders is written anew, and nothing else."""

    target = "knot-resolver"

    def __init__(self, stage, *, ours=True, more="", **settings):
        super().__init__(stage, ours=ours, **settings)
        self.file, self.log = self.folder / "kresd.conf", self.folder / "log"
        load = f"dofile('{self.out}/cdnblock.lua')\n" if ours else ""
        self.file.write_text(
            CONFIGURATION.format(folder=self.folder, port=self.port, upstream=stage.upstream[1], ours=load + more)
        )

    @contextmanager
    def run(self):
        command = ["kresd", "-n", "-c", str(self.file), str(self.folder)]
        with resolving(command, self.port, self.log):
            yield self

    @property
    def digest(self):
        return (self.out / FILE).read_text().partition("\n")[0]

    def reload(self):
        """Export; return when kresd has seen it."""
        with self.changing:
            said = self.log.stat().st_size
            if FILE in export_for(self.stage, self.target, self.out, **self.settings):
                self.wait_for(f"enforces {self.digest}", said)

    def wait_for(self, text, said=0):
        wait_until(lambda: text in self.log.read_text()[said:], self.log.read_text)

    def host(self, plain=None):
        return DnsHost(
            address=("127.0.0.1", self.port),
            address6=("::1", self.port),
            plain=plain and ("127.0.0.1", plain.port),
            reload=self.reload,
        )


class TestKnotResolver(DnsContract):
    """A layer of our own, behind a rule that forwards everything."""

    @contextmanager
    def serve(self, stage):
        mine, plain = Knot(stage), Knot(stage, ours=False)
        with ExitStack() as running:
            for each in (plain, mine):
                running.enter_context(each.run())
            running.enter_context(at_each_turn(stage, mine.reload))
            yield mine.host(plain)
