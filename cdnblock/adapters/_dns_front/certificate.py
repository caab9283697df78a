"""The certificate of DNS over TLS and HTTPS: files that may be replaced while the server runs."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from cdnblock.errors import ConfigError

_Version: TypeAlias = tuple[tuple[int, int, int], ...]

_LOG = logging.getLogger("cdnblock.adapters.dns_server")


class Certificate:
    """A certificate chain and its private key, both PEM; `key` is None when they are in one file.

    The files are looked at when a client connects: when others have taken their place, those count from then on. What
    is not sound, or half replaced, changes nothing and is logged.

    Raises ConfigError when they cannot be read at the start, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path | None = None) -> None:
        self._certificate, self._key = certificate, key
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._version = self._look()
        self._load(())

    def context(self, protocols: Iterable[str]) -> ssl.SSLContext:
        """Return what a server needs to speak TLS, and in it one of these protocols (ALPN, RFC 7301)."""
        wanted = tuple(protocols)
        context = self._contexts[wanted] = self._load(wanted)
        # The one in force is taken for each handshake anew: what was loaded into a context cannot be taken out of it.
        context.sni_callback = lambda connection, _name, _context: self._put_in_force(connection, wanted)
        return context

    def _put_in_force(self, connection: ssl.SSLSocket | ssl.SSLObject, wanted: tuple[str, ...]) -> None:
        version = self._look()
        if version != self._version:
            self._version = version
            try:
                self._contexts = {protocols: self._load(protocols) for protocols in self._contexts}
            except ConfigError as error:
                _LOG.error("cdnblock: the certificate from before stays in use: %s", error)
        connection.context = self._contexts[wanted]

    def _look(self) -> _Version:
        """Return what changes when a file is replaced; what cannot be looked at is a version of its own."""
        try:
            found = [path.stat() for path in (self._certificate, self._key) if path is not None]
        except OSError:
            return ()
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)

    def _load(self, protocols: tuple[str, ...]) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        try:
            # A key that wants a password must not have anybody asked for one.
            context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
        except (OSError, ValueError) as error:  # ssl.SSLError is one of the first
            files = self._certificate if self._key is None else f"{self._certificate} with {self._key}"
            raise ConfigError(f"no usable certificate in {files}: {error}") from error
        return context
