"""The certificate of DNS over TLS and HTTPS: two files that may be replaced while the server runs."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from cdnblock.errors import ConfigError


class Certificate:
    """A certificate chain and its private key, both PEM; `key` is None when they are in one file.

    Raises ConfigError when they cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path | None = None) -> None:
        self._certificate, self._key = certificate, key
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self.context(())

    def context(self, protocols: Iterable[str]) -> ssl.SSLContext:
        """Return what a server needs to speak TLS, and in it one of these protocols (ALPN, RFC 7301)."""
        wanted = tuple(protocols)
        context = self._contexts[wanted] = self._load(wanted)
        # The one in force is taken for each handshake anew: what was loaded into a context cannot be taken out of it.
        context.sni_callback = lambda connection, _name, _context: self._put_in_force(connection, wanted)
        return context

    def reload(self) -> None:
        """Read the files again; what is not sound leaves everything as it is.

        Raises ConfigError, as the class does.
        """
        self._contexts = {wanted: self._load(wanted) for wanted in self._contexts}

    def _put_in_force(self, connection: ssl.SSLSocket | ssl.SSLObject, wanted: tuple[str, ...]) -> None:
        connection.context = self._contexts[wanted]

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
