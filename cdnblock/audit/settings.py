"""What an operator may choose of a trail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from cdnblock.errors import ConfigError

_LEAST_SEGMENT: Final = 4096  # octets; smaller ones are for tests of nothing
_LEAST: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(days=365_000)  # a thousand years are for ever
_SPAN: Final = re.compile(r"([0-9]{1,9}) ?(s|min|h|d|w)", re.ASCII)
_UNITS: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class ClientForm(StrEnum):
    """What a record holds of a client's address."""

    NETWORK = "network"
    """The /24 (IPv4) or /48 (IPv6) that it is in."""
    PSEUDONYM = "pseudonym"
    """A keyed hash, the same for one client until the key is changed."""
    NONE = "none"


class Fsync(StrEnum):
    """When what was written is made to outlast a loss of power. A killed process loses nothing of it in any case.

    What tells of the life of orders, and of the trail, is always made to at once.
    """

    RECORD = "record"
    """After each record, or each few that came at the same time."""
    SECOND = "second"
    """Once a second, where something was written."""
    NEVER = "never"
    """When the system pleases."""


def read_span(text: str) -> timedelta:
    """Return the span of time that a text names: a number and one of s, min, h, d, w.

    Raises:
        ConfigError: it is none.

    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{text!r} is no span of time; write a number and its unit: s, min, h, d or w, such as 365d")
    return min(timedelta(seconds=int(found[1])), _LONGEST // _UNITS[found[2]]) * _UNITS[found[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a trail is kept.

    A segment ends at `segment_size` octets, and at midnight UTC; it is deleted when its last record is older than
    `retention`. A key of pseudonyms is used for `key_every`, and deleted `key_kept` after that.

    Raises:
        ConfigError: a time or a size makes no sense.

    """

    clients: ClientForm = ClientForm.NETWORK
    retention: timedelta = timedelta(days=365)
    fsync: Fsync = Fsync.SECOND
    segment_size: int = 64 * 1024 * 1024
    key_every: timedelta = timedelta(days=30)
    key_kept: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        for what, span in (("retention", self.retention), ("key_every", self.key_every)):
            if span < _LEAST:
                raise ConfigError(f"{what} of a trail: {span} is too short; give a second at least")
        if self.key_kept < timedelta():
            raise ConfigError(f"key_kept of a trail: {self.key_kept} is before the key was changed; give 0 or more")
        if self.segment_size < _LEAST_SEGMENT:
            raise ConfigError(
                f"segment_size of a trail: {self.segment_size} octets is too small; give {_LEAST_SEGMENT}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderText:
    """An order file as it is in force: its octets, and those of the names files beside it by name."""

    order: str
    file: str
    text: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)
    mode: str = "enforce"
