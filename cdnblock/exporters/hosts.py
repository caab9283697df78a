"""A hosts file: each name alone, at an address that leads nowhere. Sub-domains are beyond it, and so is a refusal."""

from __future__ import annotations

from typing import Final

from cdnblock.exporters._exporter import NAME_SERVER, Exporter, File, Otherwise, Work, every
from cdnblock.exporters._lists import alone_is_too_little
from cdnblock.exporters._planner import orders_told
from cdnblock.orders.model import Measure


def _render(work: Work) -> tuple[File, ...]:
    found = {**work.plan.suffixes, **work.plan.exact}  # of a name itself, the table of hosts has the last word
    meant = sorted(name for name, group in found.items() if group)
    return (File("cdnblock.hosts", work.top("#") + "".join([f"0.0.0.0 {name}\n:: {name}\n" for name in meant])),)


EXPORTER: Final = Exporter(
    name="hosts",
    title="hosts(5), no sub-domains",
    carries=every(Measure.DNS, Otherwise("as 0.0.0.0")),
    elsewhere=NAME_SERVER,
    tells=orders_told,
    render=_render,
    territory=False,
    objections=alone_is_too_little,
)
