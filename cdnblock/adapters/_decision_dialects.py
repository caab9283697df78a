"""How each proxy tells the request that it asks about, and in which statuses it understands the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from cdnblock.enforcer import Enforcer
from cdnblock.http_gate import Name, names_of

CLIENT: Final = "X-Forwarded-For"
"""Request field, of every caller: the client, and each proxy between, the caller's own peer last."""

_REMEMBERED: Final = 16_384  # clients
_LONGEST: Final = 256  # characters of what is remembered; longer lines are hostile


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One kind of caller: where it says what, a field's name or None for what the question itself is.

    `passes`, `uncached` and `answers` are the statuses of the verdicts; `answers` None is the answer's own status, with
    its body; `passes` None is a caller that has nothing left to pass. `whole` is one that asks with the client's own
    path, so that it needs a listener of its own. `again` is a second question about what was counted at the first.
    """

    host: str | None = "X-Forwarded-Host"
    method: str | None = "X-Forwarded-Method"
    target: str | None = "X-Forwarded-Uri"
    passes: int | None = 200
    uncached: int | None = 200
    answers: int | None = None
    whole: bool = False
    again: bool = False


DIALECTS: Final[Mapping[str, Dialect]] = {
    # first segment of the path that the proxy asks for, or `NAME@` before an address that is listened on
    # nginx `auth_request`: 2xx, 401 and 403 alone, no body; the configuration leads each of them to a location.
    "nginx": Dialect(uncached=401, answers=403),
    # nginx once more, for the body of what was refused. Should the verdict be another one by now: 503, ask again.
    "nginx-answer": Dialect(passes=None, uncached=None, again=True),
    # Traefik `forwardAuth`, Caddy `forward_auth`: 2xx passes, anything else goes to the client as it is.
    "traefik": Dialect(),
    "caddy": Dialect(),
    # Varnish: a fetch before the fetch, and `restart` with what it told.
    "varnish": Dialect(),
    # Envoy `ext_authz`: the request itself, its target behind `path_prefix`.
    "envoy": Dialect(host=None, method=None, target=None),
    # HAProxy: the request itself, and a status on which it tries the next server (`retry-on 425`).
    "haproxy": Dialect(host=None, method=None, target=None, passes=425, uncached=425, whole=True),
}


def read(request: web.BaseRequest, dialect: Dialect | None) -> tuple[Dialect, tuple[Name, ...]] | str:
    """Return how and about which names is asked (() deserves a 400), or what the caller should have said and did not.

    `dialect` is that of the listener, None where the path tells it. Nothing is guessed: a host, method, target or
    client that is not told is a mistake in the proxy's configuration.
    """
    headers, raw = request.headers, request.raw_path
    if dialect is None:
        dialect = DIALECTS.get(raw[1:]) or DIALECTS.get(raw[1:].partition("/")[0].partition("?")[0])
        if dialect is None or dialect.whole:
            return "a path that tells who asks"
    try:
        hosts = headers.getall("Host", ()) if dialect.host is None else headers.getall(dialect.host)
        method = request.method if dialect.method is None else headers[dialect.method]
        target = raw if dialect.target is None else headers[dialect.target]
        headers[CLIENT]
    except KeyError as missing:
        return f"the field {missing.args[0]}"
    if len(hosts) == 1 and target[:1] == "/" and "," not in hosts[0] and method != "CONNECT":  # nearly all
        return dialect, (hosts[0],)
    # Some proxies make one line of two (RFC 9110 §5.3). A URL's host may have a comma, a name that is looked up none.
    hosts = [host for line in hosts for host in line.split(",")]
    old = dialect.host is None and request.version < (1, 1)
    return dialect, names_of(host_fields=hosts, target=target, method=method, http_1_0=old) or ()


class Clients:
    """Whose requests they are. What callers say of one client comes again and again, and is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | None, str], str | None] = {}

    def told(self, enforcer: Enforcer, peer: str | None, lines: Sequence[str]) -> str | None:
        """Return the client's address by what the caller `peer` says, None where it cannot be told."""
        key = (peer, lines[0])
        if len(lines) == 1 and key in self._known:
            return self._known[key]
        client = enforcer.client_address(peer, [(CLIENT, line) for line in lines])
        if len(lines) == 1 and len(lines[0]) <= _LONGEST:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = client
        return client
