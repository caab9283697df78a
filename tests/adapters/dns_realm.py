"""A network of its own: a front on port 53 and 443, a resolver behind it, and clients in France, Germany and Réunion.

Run as a program it makes that network, where nobody else's addresses, ports and /etc/resolv.conf are in the way. Who
asks the front at an address of `FRONT` does so from a country, for routes of that network say so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import dns_peers
from dns_orders import write_order

from cdnblock.audit.reading import records

FRONT = {
    # Where a client finds the front, and from which address he then asks.
    "France": ("10.53.0.1", "203.0.113.7"),
    "Germany": ("10.53.0.2", "198.51.100.7"),
    "Réunion": ("10.53.0.3", "192.0.2.7"),
    "France, IPv6": ("fd00:53::1", "2001:db8::7"),
}
OTHER = "10.53.0.9"
"""A resolver that knows no orders."""
MANY = [f"192.0.2.{number}" for number in range(100, 160)]
"""More addresses than fit into 512 octets."""
UPSTREAM = f"""\
  interface: {OTHER}@53
  access-control: 0.0.0.0/0 allow
  local-zone: "." static
  local-data: "www.open.example. 300 A 192.0.2.81"
  local-data: "www.open.example. 300 AAAA 2001:db8:1::81"
  local-data: "www.refused.example. 300 A 192.0.2.82"
  local-data: "www.french.example. 300 A 192.0.2.66"
  local-data: "www.french.example. 300 AAAA 2001:db8:1::66"
  local-data: "www.gone.example. 300 A 192.0.2.83"
  local-data: "www.empty.example. 300 A 192.0.2.84"
  local-data: "page.open.example. 300 A 127.0.0.1"
  local-data: "page.french.example. 300 A 127.0.0.1"
  local-data: "page.refused.example. 300 A 127.0.0.1"
  local-data: "page.gone.example. 300 A 127.0.0.1"
  local-data: "page.empty.example. 300 A 127.0.0.1"
""" + "".join(f'  local-data: "many.open.example. 300 A {address}"\n' for address in MANY)
_AS_ROOT = () if os.geteuid() == 0 else ("--map-root-user",)
_RESOLVER_FILES = """
mount --bind "$1" /etc/resolv.conf || exit 90
[ ! -e /etc/nsswitch.conf ] || mount --bind "$2" /etc/nsswitch.conf || exit 90
shift 2
exec "$@"
"""


def cannot() -> str:
    """Return why no such network can be here, empty when it can."""
    if absent := dns_peers.missing("unbound", "ip", "unshare", "nsenter", "mount"):
        return absent
    tried = subprocess.run(["unshare", *_AS_ROOT, "--net", "--mount", "true"], capture_output=True, check=False)
    return "cannot: no process may have a network of its own here" if tried.returncode else ""


@dataclass(frozen=True)
class Realm:
    """The network, by the process that holds it, and the folder of its files."""

    holder: subprocess.Popen
    folder: Path

    def command(self, *command: str) -> list[str]:
        """Return what runs a command in it."""
        user = ("--user", "--preserve-credentials") if _AS_ROOT else ()
        return ["nsenter", "--target", str(self.holder.pid), *user, "--net", *command]

    def resolving_by(self, resolv_conf: str, *command: str) -> list[str]:
        """Return what runs a command in it whose C library asks whom this /etc/resolv.conf says, and no file."""
        settings, sources = self.folder / "resolv.conf", self.folder / "nsswitch.conf"
        settings.write_text(resolv_conf)
        sources.write_text("hosts: dns\n")
        return self.command(
            "unshare", "--mount", "sh", "-c", _RESOLVER_FILES, "sh", str(settings), str(sources), *command
        )

    def enforced(self, order: str) -> list[dict[str, Any]]:
        """Return what the trail has of an order's enforcement, as soon as it has something."""
        end = time.monotonic() + dns_peers.PATIENCE
        while True:
            found = list(records(self.folder / "audit", order=order, kinds=["enforced"]))
            if found or time.monotonic() > end:
                return found
            time.sleep(0.1)


@contextlib.contextmanager
def realm(folder: Path, geo: Path) -> Iterator[Realm]:
    """Make one."""
    command = ["unshare", *_AS_ROOT, "--net", sys.executable, __file__, str(folder), str(geo)]
    with (folder / "realm.out").open("wb") as log:
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    with holder:  # which ends when it reads the end of its input
        try:
            said = holder.stdout.readline()
            assert said == b"ready\n", (folder / "realm.out").read_text()
            yield Realm(holder, folder)
        finally:
            holder.stdin.close()
    assert holder.returncode == 0, (folder / "realm.out").read_text()


def _settle() -> None:
    """Give this process's network its addresses, and the routes by which clients ask from theirs."""
    _ip("link", "set", "lo", "up")
    _ip("address", "add", f"{OTHER}/32", "dev", "lo")
    for front, client in FRONT.values():
        size, at_once = (128, ("nodad",)) if ":" in front else (32, ())
        for address in (client, front):
            _ip("address", "add", f"{address}/{size}", "dev", "lo", *at_once)
        route = ("local", f"{front}/{size}", "dev", "lo", "table", "local")
        end = time.monotonic() + dns_peers.PATIENCE
        while _ip("route", "delete", *route, tried=time.monotonic() < end):  # the kernel makes IPv6's a moment later
            time.sleep(0.01)
        _ip("route", "add", *route, "src", client)


def _ip(*command: str, tried: bool = False) -> int:
    """Run `ip`; return its exit code, which is no other than 0 where this was not to be merely tried."""
    done = subprocess.run([dns_peers.program("ip"), *command], capture_output=True, text=True, check=False)
    assert tried or done.returncode == 0, f"ip {' '.join(command)}: {done.stderr}"
    return done.returncode


def _hold(folder: Path, geo: Path) -> None:
    """Make the network that this process is in; return when standard input ends."""
    _settle()
    orders = folder / "orders"
    orders.mkdir()
    write_order(orders, "refused.example")
    write_order(orders, "gone.example", "nxdomain")
    write_order(orders, "empty.example", "nodata")
    write_order(orders, "french.example", territory="[FR]")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    dns_peers.write_certificate(certificate, key)
    options = [
        "--geo",
        str(geo),
        "--certificate",
        str(certificate),
        "--key",
        str(key),
        "--audit",
        str(folder / "audit"),
    ]
    for front, _ in FRONT.values():
        host = f"[{front}]" if ":" in front else front
        options += ["--listen", f"{host}:53", "--listen-https", f"{host}:443"]
    with (
        dns_peers.unbound(folder / "unbound", server=UPSTREAM) as upstream,
        dns_peers.front(folder / "front", orders, [upstream.port], *options) as front,
    ):
        print("ready", flush=True)
        sys.stdin.read()
        assert front.process.poll() is None, front.said
        assert "Traceback" not in front.said, front.said


if __name__ == "__main__":
    _hold(Path(sys.argv[1]), Path(sys.argv[2]))
