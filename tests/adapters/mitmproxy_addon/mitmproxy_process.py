"""The proxy under test as a process of its own, the orders it follows, and the country table that it asks."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import mmdb_writer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from netaddr import IPSet

ROOT = Path(__file__).resolve().parents[3]


def write_order(folder: Path, name: str, hosts: Iterable[str], measures: Mapping[str, str], **keys: str) -> None:
    """Write one order file, whole or not at all; keys that are given replace those below."""
    text = {
        "cdnblock": "1",
        "id": name,
        "court": "Tribunal judiciaire de Paris",
        "decided": "2024-01-01",
        "legal_basis": "Code du sport, art. L. 333-10",
        "claimant": "A claimant",
        "from": "2024-01-02T00:00",
        "until": "2090-01-01T00:00",
        "territory": "[FR]",
        "measures": f"{{{', '.join(f'{measure}: {variant}' for measure, variant in measures.items())}}}",
        "names": f"[{', '.join(hosts)}]",
    } | keys
    beside = folder / f".{name}.new"
    beside.write_text("".join(f"{key}: {value}\n" for key, value in text.items()), encoding="utf-8")
    beside.replace(folder / f"{name}.yaml")


def soon(seconds: float) -> str:
    """The first whole second that is at least so far ahead, as an order file writes it."""
    return datetime.fromtimestamp(math.ceil(time.time() + seconds), UTC).isoformat()


def write_countries(path: Path) -> None:
    """Write an MMDB in which each of the three networks for documentation (RFC 5737) is a country."""
    writer = mmdb_writer.MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Test-Country")
    for network, country in {"203.0.113.0/24": "FR", "198.51.100.0/24": "DE", "192.0.2.0/24": "RE"}.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": country}})
    writer.to_db_file(str(path))


def write_certificate(path: Path) -> None:
    """Write a certificate for 127.0.0.1 that nobody trusts, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=30))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    key_pem = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(certificate.public_bytes(pem) + key_pem)  # in this order for aioquic


@dataclass
class Proxy:
    """A running `cdnblock mitmproxy`."""

    process: subprocess.Popen
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


def launch(folder: Path, *arguments: str, **environment: str) -> Proxy:
    """Start `cdnblock mitmproxy` with these arguments; what it says goes into a file of the folder."""
    log = folder / "said.txt"
    command = [sys.executable, "-m", "cdnblock", "mitmproxy", "--set", f"confdir={folder / 'confdir'}", *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CDNBLOCK_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        )
    return Proxy(process, log)


def wait_for(proxy: Proxy, *ports: int, seconds: float = 40) -> None:
    """Return when the proxy listens on all TCP ports; raise with what it said if it never does."""
    until = time.monotonic() + seconds
    for port in ports:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if proxy.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"does not listen on {port}: {proxy.said}")
            time.sleep(0.05)


def wait_for_dns(proxy: Proxy, *ports: int, seconds: float = 40) -> None:
    """Return when the proxy listens on all UDP ports: mitmproxy opens a port's UDP socket after its TCP one."""
    until = time.monotonic() + seconds
    for port in ports:
        while True:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.05)
                sock.connect(("127.0.0.1", port))
                try:
                    sock.send(b"\0")  # no DNS message: there is no answer, but where nobody listens a refusal
                    sock.recv(512)
                except TimeoutError:
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            if proxy.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"does not listen on {port} by UDP: {proxy.said}")


def until(condition, seconds: float = 5) -> bool:
    """Wait for a condition; tell whether it came true in time."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return bool(met)
