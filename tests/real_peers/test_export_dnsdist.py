"""dnsdist with what `cdnblock export dnsdist` writes, under the contract of every resolver."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dns_engines import answers, export_dns_for, said, said_for, started_dns_example
from export_engines import at_each_turn, free_ports, needs, running, wait_until

from cdnblock.testing.dns_contract import DnsContract, open_dns_stage
from cdnblock.testing.dns_stage import DnsHost
from cdnblock.testing.stage import put_orders

pytestmark = needs("dnsdist", "dnsdist")

CONFIGURATION = """
{hooks}
setLocal("127.0.0.1:{port}")
addLocal("[::1]:{port}")
setACL({{"127.0.0.0/8", "::1"}})
setSecurityPollSuffix("")
controlSocket("127.0.0.1:{console}")
setKey("miQjUydO5fwUmSDS0hT+8pHsPOwM+UOoQbhcVKrZ2zI=")
newServer({{address="{upstream[0]}:{upstream[1]}", healthCheckMode="up"}})
getPool(""):setCache(newPacketCache(10000))
{more}
"""
PROGRAM = "cdnblock-dnsdist.lua"
REFUSED, ANSWERED = ("REFUSED", [(16, "order one")]), ("NOERROR", [])
ONE = {"names": ["one.example"], "measures": {"dns": "refuse"}}


class Dnsdist:
    """A dnsdist with a packet cache; its console runs the program once more."""

    def __init__(self, stage, name="dnsdist", *, hooks=None, more=""):
        self.stage, self.folder = stage, stage.folder / name
        self.folder.mkdir()
        self.out = stage.folder / "cdnblock"
        self.port, console = free_ports(2)
        self.configuration = self.folder / "dnsdist.conf"
        self.configuration.write_text(
            CONFIGURATION.format(
                port=self.port,
                console=console,
                upstream=stage.upstream,
                hooks=f'dofile("{self.out / PROGRAM}")' if hooks is None else hooks,
                more=more,
            )
        )

    @contextmanager
    def run(self):
        log = self.folder / "log"
        with running(["dnsdist", "-C", str(self.configuration), "--supervised"], self.port, log) as process:
            answers(process, self.port, log)
            yield self

    def reload(self):
        """Export; what changed is in force once the program ran."""
        if export_dns_for(self.stage, "dnsdist", self.out):
            assert self.tell(f'dofile("{self.out / PROGRAM}")') == ""

    def tell(self, command):
        done = subprocess.run(
            ["dnsdist", "-C", str(self.configuration), "-c", "-e", command],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout


class TestDnsdist(DnsContract):
    """With the cache that it has for each pool."""

    @contextmanager
    def serve(self, stage):
        with ExitStack() as leaving:
            dnsdist, plain = Dnsdist(stage), Dnsdist(stage, "plain", hooks="")
            export_dns_for(stage, "dnsdist", dnsdist.out)
            leaving.enter_context(dnsdist.run())
            leaving.enter_context(plain.run())
            leaving.enter_context(at_each_turn(stage, dnsdist.reload))
            yield DnsHost(
                address=("127.0.0.1", dnsdist.port),
                address6=("::1", dnsdist.port),
                plain=("127.0.0.1", plain.port),
                reload=dnsdist.reload,
            )
