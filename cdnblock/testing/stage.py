"""What a host under the contract is given, what it gives back, and the site that a proxy has behind it."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError
from cdnblock.sources import control_socket
from cdnblock.testing.places import country_table
from cdnblock.testing.scenarios import Scenario, order_file
from cdnblock.testing.site import aiohttp_site

OPERATOR_URL: Final = "https://edge.example/blocked"
REWRITES: Final[Mapping[str, str]] = {
    # host that a client asks for: host that the site is to be asked for in its place, where the host can rewrite
    "front.rewritten.example": "inner.rewritten.example",
    "alias.rewritten.example": "covered-inside.example",
}
_TIMEOUT: Final = 30.0  # seconds for the start of the site, and for a reload


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a host is started with.

    `orders` is the folder to enforce, `geo` an MMDB, `trusted_proxies` whose X-Forwarded-For counts; `origin` is what
    a proxy forwards to (`http://127.0.0.1:PORT`); `operator_url` goes into the notice. `certificate` is a PEM file
    with certificate and key for TLS. `state` is the folder for the instance's state, `folder` one for anything else.
    `rewrites` are the hosts that a host which can do that replaces on the way to the site (`Need.REWRITE`).
    """

    orders: Path
    geo: Path
    trusted_proxies: tuple[str, ...]
    origin: str
    operator_url: str
    certificate: Path
    state: Path
    folder: Path
    rewrites: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host that runs. `address` speaks HTTP/1.1 in clear; `tls` HTTP/2 (and 1.1) over TLS, None if it has none.

    `reload` makes the orders folder as it is now take effect, and returns when it has; it may take ten seconds.
    `counted` tells how often the host has done what (`answer`, `close`, `cut`, `uncached`) by its own count, None
    where nobody can tell: then nobody sees whether each enforcement is counted, once.
    """

    address: tuple[str, int]
    tls: tuple[str, int] | None = None
    reload: Callable[[], object]
    counted: Callable[[], Mapping[str, int]] | None = None


def counted_by(enforcer: Enforcer) -> Mapping[str, int]:
    """Return what was done how often, as the enforcer's tally has it."""
    return _by_action((action, count) for (_, _, action), count in enforcer.tally.totals.items())


def counted_by_state(stage: Stage) -> Mapping[str, int]:
    """Return the same of a host that was started with `stage.state`, by its control socket."""
    told = control_socket.ask(stage.state, {"command": "status"}, _TIMEOUT)
    return _by_action((row["action"], row["count"]) for row in told["enforced"])


def _by_action(rows: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for action, count in rows:
        found[str(action)] += count
    return found


def reload_by_state(stage: Stage) -> None:
    """Reload a host that was started with `stage.state`, by its control socket: what `cdnblock reload` does.

    Raises ConfigError when nobody answers there, AssertionError when something is wrong with the orders.
    """
    told = control_socket.ask(stage.state, {"command": "reload"}, _TIMEOUT)
    wrong = [told[key] for key in ("error", "problems", "held") if told.get(key)]
    if wrong:
        raise AssertionError(f"the reload did not go well: {wrong}")


@contextmanager
def open_stage(folder: Path, scenarios: Iterable[Scenario]) -> Iterator[Stage]:
    """Write every scenario's orders, the country table and a certificate, and start the site."""
    orders, state, scratch = folder / "orders", folder / "state", folder / "scratch"
    for path in (orders, scratch):
        path.mkdir()
    state.mkdir(mode=0o700)
    for scenario in scenarios:
        put_orders(orders, scenario.orders)
    (folder / "places.mmdb").write_bytes(country_table())
    _write_certificate(folder / "contract.pem")
    with _served_apart() as port:
        yield Stage(
            orders=orders,
            geo=folder / "places.mmdb",
            trusted_proxies=("127.0.0.1/32",),
            origin=f"http://127.0.0.1:{port}",
            operator_url=OPERATOR_URL,
            certificate=folder / "contract.pem",
            state=state,
            folder=scratch,
            rewrites=REWRITES,
        )


def put_orders(folder: Path, orders: Mapping[str, Mapping[str, Any]], run: str = "") -> None:
    """Write order files, each whole or not at all."""
    for order_id, keys in orders.items():
        beside = folder / f".{order_id}.new"
        beside.write_text(order_file(order_id, keys, run), encoding="utf-8")
        beside.replace(folder / f"{order_id}.yaml")


def _write_certificate(path: Path) -> None:
    """Make a certificate that nobody trusts, and its key, in one PEM file, by the `openssl` program."""
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
        "-subj", "/CN=contract.example", "-addext", "subjectAltName=DNS:contract.example,DNS:*.example,IP:127.0.0.1",
        "-keyout", "-", "-out", "-",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=True)  # noqa: S603 (fixed words)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"the contract needs the program openssl, for a certificate: {error}") from error
    # Key and certificate come in any order; servers want the certificate first.
    key, mark, certificate = done.stdout.partition(b"-----END PRIVATE KEY-----\n")
    path.touch(mode=0o600)
    path.write_bytes(certificate + key + mark)


@contextmanager
def _served_apart() -> Iterator[int]:
    """Serve the site on an event loop and a thread of its own; yield its port."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(aiohttp_site(), access_log=None, shutdown_timeout=0.1)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        return int(runner.addresses[0][1])

    thread = threading.Thread(target=loop.run_forever, name="contract-site", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(_TIMEOUT)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(_TIMEOUT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_TIMEOUT)
        loop.close()
