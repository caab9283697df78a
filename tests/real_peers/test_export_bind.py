"""BIND with the configuration that `cdnblock export bind` writes, under the contract of every resolver."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dns.rcode
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import at_each_turn, free_ports, needs, wait_until
from export_resolvers import Resolver, export_for, resolving, stage_with, started_example

from cdnblock.errors import UnsupportedError
from cdnblock.testing import DnsContract, DnsHost, DnsNeed
from cdnblock.testing.dns_stage import CLIENTS
from cdnblock.testing.dns_wire import Query, ask, records_of
from cdnblock.testing.stage import put_orders

pytestmark = needs("named", "bind9")

CONFIGURATION = """
key control {{ algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"; }};
controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} keys {{ control; }}; }};
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile "{folder}/session.key";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 port {port} {{ ::1; }};
    allow-query {{ any; }};
    allow-recursion {{ any; }};
    dnssec-validation no;
    forward only;
    forwarders {{ 127.0.0.1 port {upstream}; }};
}};
{include}
"""
KEY = 'key control { algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"; };\n'
DONE = re.compile(r"rpz: cdnb: reload done: success")
NXDOMAIN = {"dns": "nxdomain"}


class Bind(Resolver):
    """A named that rndc reloads."""

    target = "bind"

    def __init__(self, stage, *, ours=True, **settings):
        super().__init__(stage, ours=ours, **settings)
        (self.control,) = free_ports(1)
        self.file, self.log = self.folder / "named.conf", self.folder / "log"
        (self.folder / "control.key").write_text(KEY)
        include = f'include "{self.out}/cdnblock.conf";' if ours else ""
        self.file.write_text(
            CONFIGURATION.format(
                folder=self.folder, port=self.port, control=self.control, upstream=stage.upstream[1], include=include
            )
        )

    def check(self):
        done = subprocess.run(
            ["named-checkconf", "-z", str(self.file)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def run(self):
        self.check()
        with resolving(["named", "-g", "-n", "1", "-c", str(self.file)], self.port, self.log):
            if self.ours:
                self.wait_for(len([*self.out.glob("*.rpz")]))
            yield

    def reload(self):
        """Export, check, reload, and return when each policy that changed is in force."""
        with self.changing:
            changed = export_for(self.stage, "bind", self.out, **self.settings)
            if not changed:
                return
            self.check()
            said = self.log.stat().st_size
            self.rndc("reload")
            self.wait_for(sum(name.endswith(".rpz") for name in changed), said)

    def rndc(self, *command):
        done = subprocess.run(
            ["rndc", "-s", "127.0.0.1", "-p", str(self.control), "-k", str(self.folder / "control.key"), *command],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def wait_for(self, policies, said=0):
        """Wait until so many policies have been taken since the log was so long: BIND answers before that."""
        wait_until(lambda: len(DONE.findall(self.log.read_text()[said:])) >= policies, self.log.read_text)

    def host(self, plain=None):
        return DnsHost(
            address=("127.0.0.1", self.port),
            address6=("::1", self.port),
            plain=plain and ("127.0.0.1", plain.port),
            reload=self.reload,
        )


class TestBind(DnsContract):
    """Views by territory, each with a response policy."""

    variants = ("nxdomain", "nodata")
    cannot = {
        DnsNeed.ALIAS: "BIND's policies refuse what is an alias of their names",
        DnsNeed.EDE: "BIND has extended errors for policies since 9.20",
        DnsNeed.SOA: "BIND puts the policy zone's SOA into the additional section",
    }

    @contextmanager
    def serve(self, stage):
        mine, plain = Bind(stage), Bind(stage, ours=False)
        with ExitStack() as running:
            for each in (plain, mine):
                running.enter_context(each.run())
            running.enter_context(at_each_turn(stage, mine.reload))
            yield mine.host(plain)
