"""Adblock syntax, as browsers and filtering resolvers read it: `||name^` and, for what is let go, `@@||name^`."""

from __future__ import annotations

from typing import Final

from cdnblock.exporters._exporter import NAME_SERVER, Exporter, File, Otherwise, Work, every
from cdnblock.exporters._lists import below_is_too_much
from cdnblock.exporters._planner import orders_told
from cdnblock.orders.model import Measure


def _render(work: Work) -> tuple[File, ...]:
    lines = [f"||{name}^\n" if group else f"@@||{name}^\n" for name, group in work.plan.suffixes.items()]
    return (File("cdnblock-adblock.txt", work.top("!") + "".join(lines)),)


EXPORTER: Final = Exporter(
    name="adblock",
    title="Adblock syntax",
    carries=every(Measure.DNS, Otherwise("as the reader does")),
    elsewhere=NAME_SERVER,
    tells=orders_told,
    render=_render,
    territory=False,
    objections=below_is_too_much,
)
