"""The options of the dashboard, and how a command that runs an enforcer shows it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cdnblock.adapters._decision_listening import Listen
    from cdnblock.enforcer import Enforcer

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings:
    """Where the dashboard listens (None: nowhere), who may look, under which further names, and at whose trail."""

    where: Listen | None
    token: str | None = None
    names: Sequence[str] = ()
    trail: Path | None = None


def dashboard_options(command: _Command) -> _Command:
    """Give a command the options of the dashboard; it is called with `dashboard`, its settings."""

    @click.option(
        "--dashboard", metavar="HOST:PORT", envvar="CDNBLOCK_DASHBOARD",
        help="Show a read-only page of this instance there, such as 127.0.0.1:9460, or at unix:/path.",
    )  # fmt: skip
    @click.option(
        "--dashboard-token-file", type=click.Path(path_type=Path, dir_okay=False), envvar="CDNBLOCK_DASHBOARD_TOKEN_FILE",
        help="File with the token that whoever looks must give; without one the dashboard is for this machine alone.",
    )  # fmt: skip
    @click.option(
        "--dashboard-name", multiple=True, metavar="NAME",
        help="Host name under which a proxy in front offers the dashboard; others get no answer. Can be repeated.",
    )  # fmt: skip
    @click.option(
        "--dashboard-audit", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="Trail of another instance to show.  [default: that of --audit]",
    )  # fmt: skip
    @functools.wraps(command)
    def with_dashboard(
        *arguments: Any,
        dashboard: str | None,
        dashboard_token_file: Path | None,
        dashboard_name: Sequence[str],
        dashboard_audit: Path | None,
        **more: Any,
    ) -> Any:
        where, token = _checked(dashboard, dashboard_token_file)
        settings = DashboardSettings(where=where, token=token, names=dashboard_name, trail=dashboard_audit)
        return command(*arguments, dashboard=settings, **more)

    return with_dashboard  # type: ignore[return-value]  # click calls it by its options


@asynccontextmanager
async def showing(
    settings: DashboardSettings, enforcer: Enforcer, orders: Path, *, audit: Path | None
) -> AsyncIterator[None]:
    """Show an enforcer until leaving, where the settings say where, and say where that is.

    Raises:
        ConfigError: nobody can listen there.

    """
    if settings.where is None:
        yield
        return
    from cdnblock.dashboard.door import Door
    from cdnblock.dashboard.server import Dashboard
    from cdnblock.dashboard.view import View

    where = settings.where
    view = View(enforcer, orders, trail=settings.trail or audit)
    async with Dashboard(view, Door(settings.token, settings.names)).serve(where) as port:
        host = f"[{where.host}]" if ":" in where.host else where.host
        shown = f"unix:{where.path}" if where.path else f"http://{host}:{port}/"
        click.echo(f"cdnblock: dashboard on {shown}", err=True)
        yield


def _checked(address: str | None, token_file: Path | None) -> tuple[Listen | None, str | None]:
    """Return where to listen, and the token; before anything is loaded.

    Raises:
        ConfigError: that is no address, the token cannot be read, or others could look without one.

    """
    if address is None:
        return None, None
    from cdnblock.adapters._decision_listening import parse_listen
    from cdnblock.dashboard.door import keep_strangers_out, read_token

    where, token = parse_listen(address), None if token_file is None else read_token(token_file)
    if where.path is None:
        keep_strangers_out(where.host, token)
    return where, token
