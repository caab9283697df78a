"""BIND 9.18 and later: a view for each set of places in which the same holds, each with a response policy of its own.

    options { … };
    include "/etc/bind/cdnblock/cdnblock.conf";        # and no view or zone beside it

Once there is a view, every zone has to be in one: what all views have in common (zones, forwarders) is in a file of
yours (`--set view=FILE`) that each view includes. They share one cache; a policy's answers are not in it.

The query name decides whatever the type, DNSSEC and RD (`break-dnssec`, `recursive-only no`), and nobody is asked first
(`qname-wait-recurse no`). BIND also applies a policy to the target of an alias: its answer is then the alias alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from cdnblock.errors import ConfigError
from cdnblock.exporters._exporter import NAME_SERVER, Cannot, Exporter, File, Setting, Work
from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Outcome, Plan
from cdnblock.exporters._planner import orders_told
from cdnblock.exporters._rpz import Part, no_names_in_zones, parts, zone_text
from cdnblock.orders.model import Measure

_ZONE: Final = "cdnb"  # what a view's policy is called; names leave room for five characters
_POLICY: Final = "qname-wait-recurse no break-dnssec yes recursive-only no"


def _render(work: Work) -> tuple[File, ...]:
    """Return zones, and a configuration that stays as it is when orders come and go in places that are known to it."""
    if work.options.trusted_proxies:
        raise ConfigError(
            "bind: BIND believes nobody who says for whom he asks; without --trusted-proxies a client is whoever asks"
        )
    views = _views(work.plan)
    zones = (File(_file(view), work.top(";") + zone_text(view)) for view in views)
    return (
        File("cdnblock.conf", _lines(_configuration(work, views))),
        File("cdnblock-territory.conf", _lines(_territory(work))),
        *zones,
    )


def quoted(text: str) -> str:
    """Return text as a string of BIND's configuration."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lines(lines: Iterator[str]) -> str:
    return f"// Written by `cdnblock export bind`: do not edit. For which orders, the policy zones tell.\n{chr(10).join(lines)}\n"


def _views(plan: Plan) -> tuple[Part, ...]:
    """Return what holds in each view, that of all other clients last."""
    everywhere = parts(_by_variant(plan))
    alike: dict[tuple[str, ...], list[str]] = {}
    for place in _places(plan):
        alike.setdefault(tuple(part.id for part in everywhere if part.holds_in(place)), []).append(place)
    views = [_view(places, [part for part in everywhere if part.id in ids]) for ids, places in alike.items()]
    return tuple(sorted(views, key=lambda view: (view.holds_in(OTHER), view.id)))


def _by_variant(plan: Plan) -> Plan:
    """Return the plan without what refusals of BIND do not tell: by which orders."""
    alike: dict[str, Outcome] = {}
    groups = {
        group.id: Group(
            id=group.id,
            outcomes={
                place: alike.setdefault(outcome.measures[Measure.DNS], outcome)
                for place, outcome in group.outcomes.items()
            },
        )
        for group in plan.groups
    }
    exact, suffixes = (
        {name: group and groups[group.id] for name, group in table.items()} for table in (plan.exact, plan.suffixes)
    )
    return replace(plan, exact=exact, suffixes=suffixes)


def _places(plan: Plan) -> tuple[str, ...]:
    return (*plan.countries, UNKNOWN, OTHER) if plan.tells_unknown else (*plan.countries, OTHER)


def _view(places: list[str], held: list[Part]) -> Part:
    """Return parts as one, which they can be: no name of one stands above or below one of another."""
    return Part(
        id="others" if OTHER in places else places[0],
        sort="",
        places=tuple(places),
        exact={name: outcome for part in held for name, outcome in part.exact.items()},
        suffixes={name: outcome for part in held for name, outcome in part.suffixes.items()},
    )


def _configuration(work: Work, views: tuple[Part, ...]) -> Iterator[str]:
    path, settings = work.options.path, work.options.settings
    details = f"log {settings['log']}" + (" ede censored" if settings["ede"] == "yes" else "")
    yield f"include {quoted(path('cdnblock-territory.conf'))};"
    for view in views:
        clients = ["any"] if view.holds_in(OTHER) else [quoted(_named(place)) for place in view.places]
        yield f"view {quoted(_named(view.id))} {{"
        yield f"    match-clients {{ {' '.join(f'{client};' for client in clients)} }};"
        yield '    attach-cache "cdnblock";'
        if settings["view"]:
            yield f"    include {quoted(settings['view'])};"
        yield f'    zone "{_ZONE}" {{'
        yield f"        type primary; file {quoted(path(_file(view)))};"
        yield "        allow-query { none; }; allow-transfer { none; }; notify no;"
        yield "    };"
        yield f'    response-policy {{ zone "{_ZONE}" policy given min-update-interval 0 {details}; }} {_POLICY};'
        yield "};"


def _territory(work: Work) -> Iterator[str]:
    listed: dict[str, list[str]] = {place: [] for place in _places(work.plan) if place != OTHER}
    for network in work.networks:
        listed[network.place].append(network.cidr)
    for place, cidrs in listed.items():
        yield f"acl {quoted(_named(place))} {{"
        yield from (f"    {cidr};" for cidr in cidrs or ["none"])
        yield "};"


def _named(place: str) -> str:
    return f"cdnblock-{place}"


def _file(view: Part) -> str:
    return f"{_named(view.id)}.rpz"


EXPORTER: Final = Exporter(
    name="bind",
    title="BIND ≥ 9.18",
    carries={
        (Measure.DNS, "refuse"): Cannot("BIND's policy zones have no REFUSED", "nxdomain"),
        (Measure.DNS, "nxdomain"): None,
        (Measure.DNS, "nodata"): None,
    },
    elsewhere=NAME_SERVER,
    tells=orders_told,  # not in the text, but what cannot be said is told by order
    render=_render,
    objections=no_names_in_zones,
    settings={
        "view": Setting(
            "",
            "file of yours that each view includes: the zones and forwarders that all of them have",
            pattern=r"[A-Za-z0-9._/+@-]+",
            right="/etc/bind/view.conf",
        ),
        "ede": Setting(
            "no", "whether refusals carry the extended error Censored; BIND has it since 9.20", ("yes", "no")
        ),
        "log": Setting("no", "whether BIND logs each refusal, with the client's address", ("yes", "no")),
    },
)
