"""The addon's options as mitmproxy knows them, and the options of mitmproxy's own that it cannot work with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Optional

from mitmproxy import exceptions, options

from cdnblock.audit.settings import ClientForm, Fsync, read_span
from cdnblock.audit.settings import Settings as TrailSettings
from cdnblock.errors import ConfigError
from cdnblock.measures.notice.contents import check_operator
from cdnblock.shown import shown_lines

_TEXT: Final = Optional[str]  # noqa: UP045 (mitmproxy goes by the type's spelling)

OPTIONS: Final[tuple[tuple[str, Any, Any, str], ...]] = (
    # name after `cdnblock_`, type, default, help. mitmproxy reads no other types than these from --set.
    ("orders", _TEXT, None, "Folder of court order files (*.yaml) to enforce, or one such file. Required."),
    ("geo", _TEXT, None, "Country table (MMDB). Default: the dated table in the package."),
    ("trusted_proxies", Sequence[str], [], "Networks whose forwarded client addresses are believed: X-Forwarded-For or Forwarded in HTTP, EDNS Client Subnet in DNS. Repeat the option for each."),
    ("client_header", _TEXT, None, "The one header in which trusted proxies give the client's address, instead of X-Forwarded-For or Forwarded."),
    ("state", _TEXT, None, "Folder of this instance alone: there the last good orders survive a restart, and there `cdnblock status` and `cdnblock reload` reach it."),
    ("report_only", bool, False, "A dry run of everything: what would be enforced is told and counted; nothing is refused."),
    ("operator_url", _TEXT, None, "http(s) page of whoever runs this proxy; goes into the 451 notice as blocked-by (RFC 7725)."),
    ("contact", _TEXT, None, "Whom to contact, for orders that name nobody; goes into the 451 notice and the DNS refusal."),
    ("on_error", str, "closed", "What happens to a request about which no decision can be made: closed (503, SERVFAIL) or open (let through)."),
    ("stream", bool, True, "Pass event streams, other endless bodies and those over 1 MiB on as they arrive instead of collecting them first; other addons do not see such bodies."),
    ("audit", _TEXT, None, "Folder of this instance alone, for the trail of all that is enforced and of all that happens to orders."),
    ("audit_clients", str, "network", "What the trail holds of a client's address: network (/24, /48), pseudonym or none."),
    ("audit_retention", str, "365d", "How long the trail keeps records, such as 180d or 52w."),
    ("audit_fsync", str, "second", "When records are made to outlast a loss of power: record, second or never."),
    ("metrics", _TEXT, None, "Address and port for Prometheus' GET /metrics, such as 127.0.0.1:9153. Read once, at the start."),
    ("clock", _TEXT, None, "Staging only: the file that says what time it is (cdnblock.sources.staging_clock)."),
)  # fmt: skip

UNSAFE: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    # mitmproxy's option, when it is unsafe, and why. Each of them lets requests pass by the addon.
    ("stream_large_bodies", bool, "a request over that size reaches the origin before it can be refused; responses are streamed by cdnblock_stream"),
    ("validate_inbound_headers", lambda on: not on, "it lets requests be smuggled inside others"),
    ("ignore_hosts", bool, "no addon sees what such connections carry"),
    ("allow_hosts", bool, "no addon sees what all other connections carry"),
    ("tcp_hosts", bool, "the requests inside such connections are not seen"),
    ("udp_hosts", bool, "the requests inside such connections are not seen"),
)  # fmt: skip

_ON_ERROR: Final = ("closed", "open")
_NOT_HTTP: Final = tuple(f"reverse:{scheme}:" for scheme in ("dns", "dtls", "quic", "tcp", "tls", "udp"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values of `OPTIONS`, read once per change: mitmproxy copies an option's value at each reading."""

    orders: str | None = None
    geo: str | None = None
    trusted_proxies: Sequence[str] = ()
    client_header: str | None = None
    state: str | None = None
    report_only: bool = False
    audit: str | None = None
    audit_clients: str = "network"
    audit_retention: str = "365d"
    audit_fsync: str = "second"
    operator_url: str | None = None
    contact: str | None = None
    on_error: str = "closed"
    stream: bool = True
    metrics: str | None = None
    clock: str | None = None

    @property
    def of_enforcer(self) -> tuple[object, ...]:
        """What an `Enforcer` is made of: a change here means another one."""
        return (
            self.orders, self.geo, self.trusted_proxies, self.client_header, self.state, self.report_only, self.clock,
            self.audit, self.audit_clients, self.audit_retention, self.audit_fsync,
        )  # fmt: skip


def trail_settings(settings: Settings) -> TrailSettings:
    """Return how the trail is to be kept. Raises ConfigError for what makes no sense."""
    for value, known in ((settings.audit_clients, ClientForm), (settings.audit_fsync, Fsync)):
        if value not in {member.value for member in known}:
            raise ConfigError(f"{value!r} is not known; there are {', '.join(member.value for member in known)}")
    return TrailSettings(
        clients=ClientForm(settings.audit_clients),
        retention=read_span(settings.audit_retention),
        fsync=Fsync(settings.audit_fsync),
    )


def refuse_unsafe(of: options.Options) -> None:
    """Raise OptionsError for options of mitmproxy's own that would let requests pass by the addon."""
    for name, is_unsafe, why in UNSAFE:
        if name in of and is_unsafe(getattr(of, name)):
            raise options_error(f"cdnblock refuses {name}={getattr(of, name)!r}: {why}")
    if "keep_host_header" in of and not of.keep_host_header and any(map(_is_http_reverse, of.mode)):
        raise options_error("cdnblock refuses keep_host_header=False in reverse mode: the host asked for is lost")


def read_settings(of: options.Options) -> Settings | None:
    """Return our options' values, None while mitmproxy is still being told which there are.

    Raises OptionsError for a value that is not one of those that there are; mitmproxy lets it through.
    """
    if not all(f"cdnblock_{name}" in of for name, *_ in OPTIONS):
        return None
    settings = Settings(**{field.name: getattr(of, f"cdnblock_{field.name}") for field in fields(Settings)})
    if settings.on_error not in _ON_ERROR:
        raise options_error(f"cdnblock_on_error={settings.on_error!r} is not known; it is {' or '.join(_ON_ERROR)}")
    try:
        check_operator(settings.operator_url, settings.contact)
    except ConfigError as error:
        raise options_error(str(error)) from error
    return settings


def unknown_options(of: options.Options) -> list[str]:
    """Return what was set under our prefix and is no option; mitmproxy waits for ever that one will come."""
    return sorted(name for name in of.deferred if name.startswith("cdnblock"))


def options_error(message: str) -> exceptions.OptionsError:
    """Return the error that mitmproxy shows and stops at."""
    return exceptions.OptionsError(shown_lines(message))  # type: ignore[no-untyped-call]


def _is_http_reverse(mode: str) -> bool:
    return mode.startswith("reverse:") and not mode.startswith(_NOT_HTTP)
