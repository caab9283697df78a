"""An aiohttp application behind the middleware, under the contract of every host."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

from cdnblock.adapters.aiohttp_middleware import CdnblockMiddleware
from cdnblock.enforcer import Enforcer
from cdnblock.http_gate import HttpGate
from cdnblock.testing import AdapterContract, Host, Need, aiohttp_site, counted_by

sys.path.insert(0, str(Path(__file__).parent))

from http_servers import serving_aiohttp


class TestAiohttp(AdapterContract):
    """The pages of the site, in an application of its own."""

    cannot = {
        Need.HTTP2: "aiohttp's server speaks HTTP/1.1 only",
        Need.CACHE: "an application has no cache",
    }

    @contextmanager
    def serve(self, stage):
        """Run it on an event loop of its own."""
        with Enforcer(stage.orders, geo=stage.geo, trusted_proxies=stage.trusted_proxies) as enforcer:
            app = aiohttp_site(rewrites=stage.rewrites)
            CdnblockMiddleware(HttpGate(enforcer, operator_url=stage.operator_url)).install(app)
            with serving_aiohttp(app) as address:
                yield Host(address=address, reload=enforcer.reload, counted=lambda: counted_by(enforcer))
