"""Real DNS programs on loopback, each a process of its own: unbound, nsd, dnsdist, and the front under test."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from free_ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30  # seconds until a program answers
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # where daemons are, and PATH often is not
_VERSION_BIND = b"\0\x01\0\0\0\x01\0\0\0\0\0\0\x07version\x04bind\0\0\x10\0\x03"  # CH TXT: everybody answers something

UNBOUND = """\
server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  verbosity: 0
  interface: 127.0.0.1@{port}
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  num-threads: 1
  module-config: "iterator"
  so-rcvbuf: 1m
{server}
{rest}
"""
NSD = """\
server:
  ip-address: 127.0.0.1@{port}
  username: ""
  database: ""
  zonesdir: "{folder}"
  pidfile: "{folder}/nsd.pid"
  xfrdfile: "{folder}/xfrd.state"
  xfrdir: "{folder}"
  zonelistfile: "{folder}/zone.list"
  logfile: "{folder}/nsd.log"
  server-count: 1
  rrl-ratelimit: 0
  tcp-count: 100
remote-control:
  control-enable: no
{zones}
"""
DNSDIST = """\
setLocal("127.0.0.1:{port}")
setACL({{"127.0.0.0/8"}})
setSecurityPollSuffix("")
newServer({{address="127.0.0.1:{front}", useProxyProtocol=true, healthCheckMode="up"}})
{rest}
"""


def program(name: str) -> str | None:
    """Return where a program is, None when this machine lacks it."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def missing(*names: str) -> str:
    """Return why a test that needs these programs cannot run here, empty when it can."""
    absent = [name for name in names if program(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


@dataclass
class Daemon:
    """A running program that answers DNS on a port of 127.0.0.1."""

    process: subprocess.Popen
    port: int
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """End it as an operator would; return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def unbound(folder: Path, *, server: str = "", rest: str = "", core: int | None = None) -> Daemon:
    """Start unbound; `server` are further lines of its `server:` clause, `rest` its other clauses."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    config = folder / "unbound.conf"
    config.write_text(UNBOUND.format(folder=folder, port=port, server=server, rest=rest))
    return start([program("unbound"), "-d", "-p", "-c", str(config)], port, folder / "unbound.out", core=core)


def nsd(folder: Path, zones: dict[str, str], *, core: int | None = None) -> Daemon:
    """Start nsd with these zones: origin and the text of its zone file."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    clauses = []
    for number, (origin, text) in enumerate(zones.items()):
        (folder / f"{number}.zone").write_text(text)
        clauses.append(f'zone:\n  name: "{origin}"\n  zonefile: "{folder}/{number}.zone"')
    config = folder / "nsd.conf"
    config.write_text(NSD.format(folder=folder, port=port, zones="\n".join(clauses)))
    return start([program("nsd"), "-d", "-c", str(config)], port, folder / "nsd.out", core=core)


def dnsdist(folder: Path, front: int, *, rest: str = "") -> Daemon:
    """Start dnsdist before a front: it tells the client's address by the PROXY protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    config = folder / "dnsdist.conf"
    config.write_text(DNSDIST.format(port=port, front=front, rest=rest))
    command = [program("dnsdist"), "--supervised", "--disable-syslog", "-C", str(config)]
    return start(command, port, folder / "dnsdist.out")


def front(
    folder: Path,
    orders: Path,
    upstreams: Iterable[int],
    *options: str,
    core: int | None = None,
    python: Sequence[str] = (sys.executable,),
    path: Iterable[Path] = (),
) -> Daemon:
    """Start `cdnblock dns`; what stands in `path` is imported before anything that is installed.

    In options `{port}` is the port that it listens on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = [*python, "-m", "cdnblock", "dns", "--listen", f"127.0.0.1:{port}", "--orders", str(orders)]
    options = tuple(option.replace("{port}", str(port)) for option in options)
    for upstream in upstreams:
        command += ["--upstream", f"127.0.0.1:{upstream}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CDNBLOCK_")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [*path, ROOT]))
    return start([*command, *options], port, folder / "front.out", core=core, environment=environment)


def write_certificate(certificate: Path, key: Path, *, name: str = "localhost") -> None:
    """Write a certificate for loopback that nobody trusts, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=30))
    addresses = [x509.IPAddress(ip_address(address)) for address in ("127.0.0.1", "::1")]
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name), *addresses]), critical=False)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    certificate.write_bytes(builder.sign(private, hashes.SHA256()).public_bytes(pem))
    key.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


def start(
    command: list[str | None],
    port: int,
    log: Path,
    *,
    core: int | None = None,
    environment: dict | None = None,
    patience: float = PATIENCE,
    question: bytes = _VERSION_BIND,
) -> Daemon:
    """Start a program and return when it answers on its port; raise with what it said if it never does."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent, env=environment
        )
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    daemon = Daemon(process, port, log)
    try:
        wait_until_it_answers(daemon, patience, question)
    except BaseException:
        daemon.stop()
        raise
    return daemon


def wait_until_it_answers(daemon: Daemon, seconds: float = PATIENCE, question: bytes = _VERSION_BIND) -> None:
    """Return when the daemon answers a query by UDP, whatever it says."""
    end = time.monotonic() + seconds
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.settimeout(0.2)
            sock.connect(("127.0.0.1", daemon.port))
            sock.send(question)
            sock.recv(4096)
            return
        if daemon.process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"no answer from {daemon.process.args}: {daemon.said}")
        time.sleep(0.02)
