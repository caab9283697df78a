"""The command `cdnblock`: which commands there are, where defaults come from, how errors end."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from cdnblock.errors import ConfigError, OrderError, UnsupportedError
from cdnblock.shown import shown, shown_lines

COMMANDS: Final[Mapping[str, str]] = {
    # Shown by `cdnblock --help`. Each module of cdnblock.cli is imported only when its command runs.
    "check": "Validate order files; every problem with file, line and column.",
    "decide": "One decision, or a batch, as JSON.",
    "explain": "The same for people: every order that names the host, and why it applies or not.",
    "orders": "State, deadline and next change of each order.",
    "report": "What was ordered and what was done, for courts and regulators; what is about to end.",
    "diff": "What a change of the orders would block, release or prolong, before it goes live.",
    "status": "What a running instance enforces, and what is wrong.",
    "reload": "Have a running instance reread its orders now.",
    "audit": "Verify, show and export the trail of what was enforced.",
    "export": "Orders as configuration of other servers: seven HTTP engines, five resolvers, plain lists.",
    "apply": "Keep such a server in step with the orders while it runs.",
    "verify": "Ask a running edge or resolver, and compare what it does with the decision.",
    "schema": "JSON Schema of the order file, for editors.",
    "sandbox": "A staging edge on loopback: origin, cache, mitmproxy, resolver, probes.",
    "mitmproxy": "mitmproxy with the addon in its right place.",
    "dns": "A DNS front: refuses what the orders say, forwards the rest.",
    "rpz-primary": "A hidden primary: the orders as policy zones, which resolvers transfer.",
    "serve": "The decision service, which nginx, Caddy, Traefik, Envoy, HAProxy and Varnish ask; and the dashboard.",
    "geo": "Where an address is, according to which table of which date.",
}
EXIT_INVALID: Final = 1
EXIT_UNREACHABLE: Final = 5
_SHARED_OPTIONS: Final = (
    "orders",
    "geo",
    "trusted_proxies",
    "state",
)  # keys that cdnblock.toml may set for every command


def installed_version() -> str:
    """Return this package's version, `unknown` when it runs from a folder that nobody installed."""
    try:
        return version("cdnblock")
    except PackageNotFoundError:
        return "unknown"


class _Commands(click.Group):
    """Commands loaded when they are called; errors of ours end with their message and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"cdnblock.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", error.ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (the same)
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            raise _tamed(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OrderError as error:
            _fail("\n".join(map(shown, error.problems)))
        except (ConfigError, UnsupportedError) as error:
            _fail(f"cdnblock: {shown_lines(error)}")
        except BrokenPipeError:
            raise  # the reader has seen enough; click ends quietly
        except OSError as error:
            click.echo(f"cdnblock: {shown(error)}", err=True)
            sys.exit(EXIT_UNREACHABLE)
        except click.ClickException as error:
            raise _tamed(error) from None


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file.  [default: cdnblock.toml, if there is one]"
)
@click.version_option(installed_version(), message="%(version)s")
@click.pass_context
def root(ctx: click.Context, config: Path | None) -> None:
    """Enforce court orders at the edge, exactly: these names, in this territory, from this instant to that one.

    Every option can also be set in cdnblock.toml or by a variable: --orders by CDNBLOCK_ORDERS, --geo by CDNBLOCK_GEO.

    Example: cdnblock check orders/
    """
    ctx.color = None if "NO_COLOR" not in os.environ else False
    ctx.default_map = _settings(config)


def _settings(config: Path | None) -> dict[str, Any]:
    """Read cdnblock.toml: top-level keys are defaults of every command, tables those of one."""
    path = config or Path("cdnblock.toml")
    if config is None and not path.exists():
        return {}
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
        if "\\u0000" in json.dumps(read, default=str):
            raise ValueError("U+0000 stands in it, which no path and no option can hold; remove it")  # noqa: TRY301 (as what tomllib says)
    except (OSError, ValueError) as error:
        raise _Unusable(f"{path}: {error}") from error
    shared = {key: value for key, value in read.items() if not isinstance(value, dict)}
    for key in (*(shared.keys() - set(_SHARED_OPTIONS)), *(read.keys() - shared.keys() - COMMANDS.keys())):
        near = difflib.get_close_matches(key, [*_SHARED_OPTIONS, *COMMANDS], 1)
        right = (
            f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_SHARED_OPTIONS)}, and a table per command"
        )
        raise _Unusable(f"{path}: unknown key {key!r}; {right}")
    tables = {key: value for key, value in read.items() if isinstance(value, dict)}
    return {command: shared | tables.get(command, {}) for command in COMMANDS}


class _Unusable(click.ClickException):
    """The settings file is wrong."""

    exit_code = EXIT_INVALID


def _tamed(error: click.ClickException) -> click.ClickException:
    """Return an error of click's, which quotes what was typed and what stands in a variable, steering no terminal."""
    vars(error)["message"] = shown_lines(error.message)  # which its types call final
    return error


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(EXIT_INVALID)
