"""Varnish with the configuration that `cdnblock export varnish` writes, under the contract of every host."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import (
    at_each_turn,
    export_for,
    free_ports,
    names_without_cache,
    needs,
    running,
)

from cdnblock.exporters.varnish import bans
from cdnblock.measures.cache_disable import to_purge
from cdnblock.testing import AdapterContract, Host, Need

pytestmark = needs("varnishd", "varnish")

CONFIGURATION = """
vcl 4.1;
{include}
backend site {{ .host = "127.0.0.1"; .port = "{port}"; .between_bytes_timeout = 60s; }}
sub vcl_recv {{
  {rewrites}
  if (req.url ~ "^/socket" && req.http.Upgrade) {{ return (pipe); }}
}}
"""
PARAMETERS = {
    "vcc_allow_inline_c": "on",
    "http_range_support": "off",  # the site does no ranges, and Varnish would make them of its answers
}


class Varnish:
    """A Varnish that is changed by loading another VCL and using it, and purged by bans."""

    def __init__(self, stage, *, exported=True, **parameters):
        self.stage = stage
        self.out = stage.folder / "cdnblock"
        self.file = stage.folder / "edge.vcl"
        self.work = stage.folder / ("varnish" if exported else "plain")
        (self.port,) = free_ports(1)
        self.parameters = PARAMETERS | parameters
        self.changing, self.numbers = threading.Lock(), itertools.count(1)
        self.uncached = names_without_cache(stage)
        if exported:
            export_for(stage, "varnish", self.out)
        else:
            self.file = stage.folder / "plain.vcl"
        self.file.write_text(
            CONFIGURATION.format(
                include=f'include "{self.out}/cdnblock.vcl";' if exported else "",
                port=stage.origin.rpartition(":")[2],
                rewrites=" ".join(
                    f'if (req.http.Host == "{old}") {{ set req.http.Host = "{new}"; }}'
                    for old, new in stage.rewrites.items()
                ),
            )
        )

    @contextmanager
    def run(self):
        command = [
            "varnishd", "-F", "-n", str(self.work), "-a", f"127.0.0.1:{self.port}", "-f", str(self.file),
            "-s", "malloc,64m", "-j", "none", *(f"-p{name}={value}" for name, value in self.parameters.items()),
        ]  # fmt: skip
        log = self.stage.folder / f"{self.work.name}.log"
        with running(command, self.port, log) as self.process, at_each_turn(self.stage, self.reload):
            yield

    def reload(self):
        """Take the orders as they are now: whoever asks from here on is decided by them."""
        with self.changing:
            export_for(self.stage, "varnish", self.out)
            self.load()
            before, self.uncached = self.uncached, names_without_cache(self.stage)
            for ban in bans(to_purge(before, self.uncached)):
                self.say("ban", ban)

    def load(self):
        name = f"orders-{next(self.numbers)}"
        used = self.say("vcl.list").split("active")[1].split("\n")[0].split()[-1]
        self.say("vcl.load", name, str(self.file))
        self.say("vcl.use", name)
        self.say("vcl.discard", used)

    def say(self, *words):
        done = subprocess.run(
            ["varnishadm", "-n", str(self.work), *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (words[:2], done.stdout, done.stderr)
        return done.stdout


class TestVarnish(AdapterContract):
    """One Varnish with its cache; it speaks HTTP/1.1 in clear."""

    random_requests = 2_000

    cannot = {
        Need.HTTP2: "Varnish has no TLS",
        Need.TRAILERS: "Varnish 7.1 answers 503 to an origin that sends them",
        Need.FORWARDED: "the exported rules go by X-Forwarded-For, as Varnish itself does",
        Need.CUT: "Varnish decides a request when it begins, and nothing of its own ends what runs",
    }

    @contextmanager
    def serve(self, stage):
        varnish = Varnish(stage)
        with varnish.run():
            yield Host(address=("127.0.0.1", varnish.port), reload=varnish.reload)
