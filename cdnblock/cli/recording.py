"""The options of everything that enforces: where its trail is kept, and how."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cdnblock.audit.settings import ClientForm, Fsync, Settings, read_span

_Command = TypeVar("_Command", bound=Callable[..., Any])


def recording_options(command: _Command) -> _Command:
    """Give a command the options of a trail; it is called with `audit`, its folder or None, and `audit_settings`."""

    @click.option(
        "--audit", type=click.Path(path_type=Path, file_okay=False), envvar="CDNBLOCK_AUDIT", metavar="DIR",
        help="Folder of this instance alone, for the trail of all that is enforced and of all that happens to orders.",
    )  # fmt: skip
    @click.option(
        "--audit-clients", type=click.Choice([form.value for form in ClientForm]), default=ClientForm.NETWORK.value,
        envvar="CDNBLOCK_AUDIT_CLIENTS", show_default=True,
        help="What the trail holds of a client's address: its /24 or /48, a keyed hash, or nothing.",
    )  # fmt: skip
    @click.option(
        "--audit-retention", metavar="SPAN", default="365d", envvar="CDNBLOCK_AUDIT_RETENTION", show_default=True,
        help="How long records are kept, such as 180d or 52w.",
    )  # fmt: skip
    @click.option(
        "--audit-fsync", type=click.Choice([when.value for when in Fsync]), default=Fsync.SECOND.value,
        envvar="CDNBLOCK_AUDIT_FSYNC", show_default=True,
        help="When records are made to outlast a loss of power. What happens to orders always is at once.",
    )  # fmt: skip
    @functools.wraps(command)
    def with_recording(*arguments: Any, audit_clients: str, audit_retention: str, audit_fsync: str, **more: Any) -> Any:
        settings = Settings(
            clients=ClientForm(audit_clients), retention=read_span(audit_retention), fsync=Fsync(audit_fsync)
        )
        return command(*arguments, audit_settings=settings, **more)

    return with_recording  # type: ignore[return-value]  # click calls it by its options
