"""A list of names, one a line, each of which means itself and everything below it."""

from __future__ import annotations

from typing import Final

from cdnblock.exporters._exporter import NAME_SERVER, Exporter, File, Otherwise, Work, every
from cdnblock.exporters._lists import exceptions_are_unknown, without_exceptions
from cdnblock.exporters._planner import orders_told
from cdnblock.orders.model import Measure


def _render(work: Work) -> tuple[File, ...]:
    names = without_exceptions(work.plan)
    return (File("cdnblock-domains.txt", work.top("#") + "".join(f"{name}\n" for name in names)),)


EXPORTER: Final = Exporter(
    name="domains",
    title="a name a line, each with all below it",
    carries=every(Measure.DNS, Otherwise("as the reader does")),
    elsewhere=NAME_SERVER,
    tells=orders_told,
    render=_render,
    territory=False,
    objections=exceptions_are_unknown,
)
