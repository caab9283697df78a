"""An ASGI application behind the middleware, under the contract of every host, with real servers."""

from __future__ import annotations

import asyncio
import ssl
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from cdnblock.testing import AdapterContract, Host, Need, counted_by_state, reload_by_state

sys.path.insert(0, str(Path(__file__).parent))

from http_servers import asgi_server, on_a_loop_of_its_own

APPLICATION = {
    Need.CACHE: "an application has no cache",
}


@contextmanager
def serving(server, stage, **options):
    """Start a server as a process with the site behind the middleware; yield its address."""
    pytest.importorskip(server.partition("-")[0], reason="the adapter's host, of the extra `test`, is not installed")
    environment = {
        "ASGI_ORDERS": str(stage.orders), "ASGI_GEO": str(stage.geo), "ASGI_STATE": str(stage.state),
        "ASGI_OPERATOR": stage.operator_url, "ASGI_NOTES": str(stage.folder / "notes"),
    }  # fmt: skip
    with asgi_server(server, "asgi_apps:site_app", folder=stage.folder, environment=environment, **options) as served:
        yield served


class TestUvicornH11(AdapterContract):
    """Uvicorn with h11, which leaves an absolute form as it is."""

    random_requests = 2_000  # the 10,000 go to the faster parser
    cannot = {**APPLICATION, Need.HTTP2: "uvicorn speaks HTTP/1.1 only"}

    @contextmanager
    def serve(self, stage):
        """Run it as a process."""
        with serving("uvicorn-h11", stage) as (address, _):
            yield Host(address=address, reload=lambda: reload_by_state(stage), counted=lambda: counted_by_state(stage))


class TestUvicornHttptools(AdapterContract):
    """Uvicorn with httptools."""

    cannot = {
        **APPLICATION,
        Need.HTTP2: "uvicorn speaks HTTP/1.1 only",
        Need.ABSOLUTE_FORM: "uvicorn with httptools drops the authority of a target: Host decides, and Host is what is served",
        Need.CONNECT: "uvicorn with httptools refuses CONNECT by itself",
    }

    @contextmanager
    def serve(self, stage):
        """Run it as a process."""
        with serving("uvicorn-httptools", stage) as (address, _):
            yield Host(address=address, reload=lambda: reload_by_state(stage), counted=lambda: counted_by_state(stage))


class TestGranian(AdapterContract):
    """Granian, which speaks TLS or clear text on its one port: it speaks TLS here, and a pump makes that clear."""

    cannot = {
        **APPLICATION,
        Need.ABSOLUTE_FORM: "granian drops the authority of a target: Host decides, and Host is what is served",
        Need.CONNECT: "granian drops the target of CONNECT: the request is answered with 400",
        Need.CLOSE: "granian has no means to end a connection without an answer: the notice is sent",
    }

    @contextmanager
    def serve(self, stage):
        """Run it as a process."""
        tls = ("--ssl-certificate", stage.certificate, "--ssl-keyfile", stage.certificate)
        with (
            serving("granian", stage, arguments=tls) as (address, _),
            on_a_loop_of_its_own(pumping(address)) as port,
        ):
            yield Host(
                address=("127.0.0.1", port),
                tls=address,
                reload=lambda: reload_by_state(stage),
                counted=lambda: counted_by_state(stage),
            )


@asynccontextmanager
async def pumping(address):
    """Take connections in clear text, and pass each on over TLS from the same source; yield the port."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])

    async def pump(reader, writer):
        try:
            while octets := await reader.read(65_536):
                writer.write(octets)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort() if writer.get_extra_info("sslcontext") else writer.close()

    running = set()  # a loop holds no task that waits for a connection whose two ends have stopped reading

    async def connected(reader, writer):
        running.add(asyncio.current_task())
        try:
            source = writer.get_extra_info("peername")[0]
            there, here = await asyncio.open_connection(*address, ssl=context, local_addr=(source, 0))
            await asyncio.gather(pump(reader, here), pump(there, writer))
        finally:
            running.discard(asyncio.current_task())

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
