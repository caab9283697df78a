"""mitmproxy with the addon, as `cdnblock mitmproxy` starts it, under the contract of every host."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdnblock.testing import AdapterContract, Host, Need, counted_by_state, reload_by_state

pytest.importorskip("mitmproxy", reason="the adapter's host, an extra of this package, is not installed")

sys.path.insert(0, str(Path(__file__).parent / "mitmproxy_addon"))

from free_ports import free_ports
from mitmproxy_process import launch, wait_for

REWRITING = """
REWRITES = {rewrites!r}

def request(flow):
    if flow.request.host_header in REWRITES:
        flow.request.host_header = REWRITES[flow.request.host_header]
"""


class TestMitmproxy(AdapterContract):
    """A reverse proxy in a process of its own; one port takes HTTP/1.1 in clear and both versions over TLS."""

    cannot = {
        Need.CACHE: "mitmproxy has no cache",
        Need.CONNECT: "mitmproxy as a reverse proxy answers CONNECT with 400 before any addon; as a forward proxy it is tested beside",
        Need.TRAILERS: "mitmproxy does not implement them",
    }

    random_requests = 2_000  # at some milliseconds each

    @contextmanager
    def serve(self, stage):
        """Start it with an addon of somebody else's that rewrites hosts."""
        (port,) = free_ports(1)
        rewriting = stage.folder / "rewriting.py"
        rewriting.write_text(REWRITING.format(rewrites=dict(stage.rewrites)), encoding="utf-8")
        proxy = launch(
            stage.folder, "-q", "--orders", str(stage.orders), "--geo", str(stage.geo), "--state", str(stage.state),
            "--trusted-proxies", ",".join(stage.trusted_proxies), "-s", str(rewriting),
            "--set", f"cdnblock_operator_url={stage.operator_url}",
            "--mode", f"reverse:{stage.origin}@127.0.0.1:{port}",
        )  # fmt: skip
        try:
            wait_for(proxy, port)
            address = ("127.0.0.1", port)
            yield Host(
                address=address,
                tls=address,
                reload=lambda: reload_by_state(stage),
                counted=lambda: counted_by_state(stage),
            )
            # Looked at before it is stopped: at its end mitmproxy itself complains of connections that are still open.
            assert not any(word in proxy.said for word in ("Traceback", "crashed", "Addon error")), proxy.said
        finally:
            proxy.stop()
