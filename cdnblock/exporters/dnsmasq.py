"""dnsmasq: `address=/name/` answers NXDOMAIN for a name and all below it, `server=/name/#` lets one go again."""

from __future__ import annotations

from typing import Final

from cdnblock.exporters._exporter import NAME_SERVER, Cannot, Exporter, File, Work
from cdnblock.exporters._lists import below_is_too_much
from cdnblock.exporters._planner import orders_told
from cdnblock.orders.model import Measure


def _render(work: Work) -> tuple[File, ...]:
    lines = [f"address=/{name}/\n" if group else f"server=/{name}/#\n" for name, group in work.plan.suffixes.items()]
    return (File("cdnblock-dnsmasq.conf", work.top("#") + "".join(lines)),)


EXPORTER: Final = Exporter(
    name="dnsmasq",
    title="dnsmasq ≥ 2.80",
    carries={
        (Measure.DNS, "refuse"): Cannot(
            "dnsmasq answers a listed name with NXDOMAIN, and gives no extended error", "nxdomain"
        ),
        (Measure.DNS, "nxdomain"): None,
        (Measure.DNS, "nodata"): Cannot("dnsmasq answers a listed name with NXDOMAIN", "nxdomain"),
    },
    elsewhere=NAME_SERVER,
    tells=orders_told,
    render=_render,
    territory=False,
    objections=below_is_too_much,
)
