"""What an exporter is, what it is given, and what it gives back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeAlias

from cdnblock.exporters._plan import Plan
from cdnblock.exporters._planner import Tells
from cdnblock.exporters._territory import Network
from cdnblock.measures.notice.contents import check_operator
from cdnblock.orders.model import VARIANTS, Measure


@dataclass(frozen=True, slots=True)
class File:
    """One file of a target's configuration: its name in the folder, and its text, or its data where it is no text.

    A name with `/` is in a folder below.
    """

    name: str
    text: str = ""
    data: bytes | None = None

    @property
    def octets(self) -> bytes:
        """Return what is in the file."""
        return self.text.encode() if self.data is None else self.data


@dataclass(frozen=True, slots=True)
class Cannot:
    """Why a target cannot carry a variant of a measure, and which one `--partial` writes instead, None for nothing."""

    why: str
    instead: str | None = None


@dataclass(frozen=True, slots=True)
class Otherwise:
    """How a target refuses that knows no variants: in a way of its own, which is no omission."""

    how: str


Carriage: TypeAlias = Cannot | Otherwise | None
"""None where a variant is carried as it was ordered."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A target's own setting: its default, what it does, and its values if there are only these.

    Otherwise a value matches `pattern` from end to end, so that it can be nothing else in the target's language; `right`
    is such a value.
    """

    default: str
    does: str
    values: tuple[str, ...] = ()
    pattern: str = ""
    right: str = ""

    def wants(self, value: str) -> str | None:
        """Return what would be right in the place of a value, None if it is."""
        if self.values:
            return None if value in self.values else " or ".join(self.values)
        return None if value == self.default or re.fullmatch(self.pattern, value) else f"`{self.right}`"


@dataclass(frozen=True, slots=True)
class Missing:
    """What a target cannot say of an order, and why."""

    order: str
    why: str

    def __str__(self) -> str:
        """Return for example `order tjp-2025: dnsmasq gives no REFUSED`."""
        return f"order {self.order}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the operator says of the server.

    `folder` is where the server will find the files. `clients_in` is the country of all its clients, for targets that
    ask nobody where he is. `settings` has a value for each of the target's settings.
    """

    folder: str
    operator_url: str | None = None
    contact: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    clients_in: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    rendered: datetime | None = None

    def __post_init__(self) -> None:
        check_operator(self.operator_url, self.contact)

    def with_settings(self, settings: Mapping[str, str]) -> Options:
        """Return the same with these settings."""
        return replace(self, settings=settings)

    def path(self, name: str) -> str:
        """Return where the server will find one of the files."""
        return f"{self.folder.rstrip('/')}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All that a target's text is made of. `header` are lines of text for comments at the top of each file."""

    plan: Plan
    options: Options
    networks: tuple[Network, ...]
    header: tuple[str, ...]

    def top(self, mark: str) -> str:
        """Return the header as comments, each line behind `mark`."""
        return "".join(f"{mark} {line}".rstrip() + "\n" for line in self.header)


Render: TypeAlias = Callable[[Work], tuple[File, ...]]
Objections: TypeAlias = Callable[[Plan, Options], Iterable[Missing]]


def no_objections(_plan: Plan, _options: Options) -> Iterable[Missing]:
    """Object to nothing: the language can say all that a plan holds."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """One target: a server's language, and what it can say.

    `carries` has every variant of the measures that are a server's like this; the other measures are `elsewhere`, and
    no omission: a proxy answers no DNS queries. `territory` tells whether it asks where each client is. `render` may
    rely on `objections` having been heard.
    """

    name: str
    title: str
    carries: Mapping[tuple[Measure, str], Carriage]
    elsewhere: Mapping[Measure, str]
    tells: Tells
    render: Render
    territory: bool = True
    objections: Objections = no_objections
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def says(self, measure: Measure, variant: str) -> str:
        """Return in a word or three whether the target carries a variant."""
        if measure in self.elsewhere:
            return "–"
        match self.carries[measure, variant]:
            case Cannot(instead=None):
                return "no"
            case Cannot(instead=instead):
                return f"as {instead}"
            case Otherwise(how=how):
                return how
            case _:
                return "yes"


PROXY_SERVER: Final[Mapping[Measure, str]] = {Measure.DNS: "is a name server's: a proxy answers no DNS queries"}
NAME_SERVER: Final[Mapping[Measure, str]] = {
    Measure.CDN: "is a cache's: a name server stores no content",
    Measure.PROXY: "is a proxy's: a name server sees no requests",
}


def every(measure: Measure, carriage: Carriage = None) -> dict[tuple[Measure, str], Carriage]:
    """Return the same for every variant of a measure."""
    return dict.fromkeys(((measure, variant) for variant in VARIANTS[measure]), carriage)
