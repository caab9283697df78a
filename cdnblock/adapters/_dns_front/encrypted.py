"""The encrypted doors of the front: DNS over TLS and over HTTPS, before the same judge and the same upstreams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cdnblock.adapters._dns_front.certificate import Certificate
from cdnblock.adapters._dns_front.over_tls import PROTOCOLS, DnsOverTls, Encrypted
from cdnblock.adapters._dns_front.peers import Address
from cdnblock.adapters._dns_front.streams import Asks, Judges, StreamLimits
from cdnblock.errors import ConfigError
from cdnblock.geo.client_address import TrustedProxies


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedSettings:
    """Where TLS, HTTPS and plain HTTP are listened for; `http` is for proxies that do TLS themselves.

    `trusted_proxies` are the networks whose forwarded addresses HTTP believes. `key` is None when it is in the
    certificate's file.
    """

    tls: tuple[Address, ...] = ()
    https: tuple[Address, ...] = ()
    http: tuple[Address, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()


@asynccontextmanager
async def serve_encrypted(
    settings: EncryptedSettings, judge: Judges, upstreams: Asks, limits: StreamLimits, *, reuse_port: bool
) -> AsyncIterator[Callable[[], dict[str, object]]]:
    """Serve until the context ends; yield a function that returns the counters as JSON has them.

    Raises:
        ConfigError: an address cannot be listened on, a network is none, or the certificate is not usable.

    """
    encrypted = Encrypted(judge, upstreams)
    over_tls = DnsOverTls(encrypted, limits)
    counters: list[Callable[[], dict[str, object]]] = [over_tls.metrics] if settings.tls else []
    async with AsyncExitStack() as doors:
        if settings.tls or settings.https:
            certificate = _certificate(settings)
            for address in settings.tls:
                context = certificate.context(PROTOCOLS)
                await doors.enter_async_context(over_tls.serve(address, context, reuse_port=reuse_port))
        if settings.https or settings.http:
            from cdnblock.adapters._dns_front import over_https as https  # noqa: PLC0415 (aiohttp takes its time)

            over_https = https.DnsOverHttps(
                encrypted.resolve, TrustedProxies(settings.trusted_proxies).client_address, limits
            )
            counters.append(over_https.metrics)
            for address in settings.https:
                context = certificate.context(https.PROTOCOLS)
                await doors.enter_async_context(over_https.serve(address, context, reuse_port=reuse_port))
            for address in settings.http:
                await doors.enter_async_context(over_https.serve(address, reuse_port=reuse_port))
        yield lambda: {name: count for counter in counters for name, count in counter().items()}


def _certificate(settings: EncryptedSettings) -> Certificate:
    if settings.certificate is None:
        raise ConfigError("DNS over TLS and HTTPS need a certificate; or listen for plain HTTP behind a proxy")
    return Certificate(settings.certificate, settings.key)
