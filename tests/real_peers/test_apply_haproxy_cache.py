"""`cdnblock apply` with a HAProxy that stores answers: its cache is emptied by a new process, where the operator wants that."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from apply_contract import ApplyContract, CacheContract
from engine_texts import HAPROXY_API, HAPROXY_BASE
from export_engines import needs
from free_ports import free_ports
from test_apply import of_http

CACHE = """
cache edge
  total-max-size 8
  max-age 600
"""
FRONTEND = """
frontend edge from cdnblock
  bind 127.0.0.1:{port}
  http-request cache-use edge if !{{ var(txn.cdnblock_action) -m str uncached }}
  http-response cache-store edge if !{{ var(txn.cdnblock_action) -m str uncached }}
  default_backend site
backend site from base
  server site {origin}
"""


@needs("haproxy", "haproxy")
class TestHAProxyThatStores(CacheContract):
    """With `--engine purge=reload`."""

    target = "haproxy"
    measures = {"proxy": "terminate"}
    world = ApplyContract.world

    @contextmanager
    def set_up(self, stage):
        folder, out = stage.folder, stage.folder / "cdnblock"
        (port,) = free_ports(1)
        files = [folder / "base.cfg", out / "cdnblock.cfg", folder / "edge.cfg"]
        files[0].write_text((HAPROXY_API + HAPROXY_BASE + CACHE).format(folder=folder))
        files[2].write_text(FRONTEND.format(port=port, origin=stage.origin.removeprefix("http://")))
        pid = str(folder / "haproxy.pid")
        said = [*(f"config={file}" for file in files), f"pid={pid}", "purge=reload"]
        arguments = [*(word for text in said for word in ("--engine", text)), "--set", "defaults=base"]
        command = ["haproxy", "-W", "-db", "-p", pid, *(word for file in files for word in ("-f", str(file)))]
        with of_http(out, arguments, port, command, folder / "haproxy.log") as engine:
            yield engine
