"""Unbound 1.17 and later; all that unbound.conf needs is one line outside any clause.

    include: "/etc/unbound/cdnblock/cdnblock.conf"

Clients of a place get a view, and in it each name is a local zone: these answer by the query name alone, before the
cache, in any variant, and cost queries for others nothing. What a zone cannot say, a name without what is below it,
stands in a policy zone (RPZ) behind a tag, for which `module-config` has to begin with `respip`; on request all that is
nxdomain or nodata does. Such a zone also refuses what is an alias of its names (Unbound 1.17: when it is not in the
cache), and its answers have no SOA. Of a local zone's name, and of one that is let go right below it, DS is looked up in
the zone above; policy zones let both be what they are.

A view is bound to an element of access control. Unbound lets ask whoever has one, and of several it takes the most
specific alone. So the operator says which networks he has there, and the views are for what of the territory is in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple, TypeAlias

from cdnblock.errors import ConfigError
from cdnblock.exporters._exporter import NAME_SERVER, Exporter, File, Missing, Options, Setting, Work, every
from cdnblock.exporters._lists import by_orders
from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Outcome, Plan
from cdnblock.exporters._planner import orders_told
from cdnblock.exporters._rpz import (
    NEGATIVE,
    Part,
    extra_text,
    is_name_in_zone,
    no_names_in_zones,
    parts,
    soa_data,
    zone_text,
)
from cdnblock.exporters._territory import Network
from cdnblock.measures.dns_refusal import NEGATIVE_TTL
from cdnblock.orders.model import Measure

ZONE_TYPE: Final[Mapping[str, str]] = {
    # variant: type of the local zone
    "refuse": "always_refuse",
    "nxdomain": "always_nxdomain",
    "nodata": "always_nodata",
}
FREE: Final = "noview"
"""Type of the zone of a name that is let go: what Unbound has outside the view holds of it."""
ANYBODY: Final = "any"

_BY_ZONES: Final = ""  # the sort of trees that are local zones of a view
_BY_POLICY: Final = "rpz"  # and of those that are policy zones
_DIGITS: Final = 8  # of a view's id
_SOA: Final = f"{NEGATIVE_TTL} IN SOA {soa_data()}"
_EVERYBODY: Final = ("0.0.0.0/0", "::/0")
_Net: TypeAlias = IPv4Network | IPv6Network


class _View(NamedTuple):
    """Clients for whom the same parts hold. The id stays as long as their places do."""

    id: str
    places: tuple[str, ...]
    zones: tuple[Part, ...]
    tags: tuple[str, ...]


def _render(work: Work) -> tuple[File, ...]:
    if work.options.trusted_proxies:
        raise ConfigError(
            "unbound: Unbound believes the PROXY protocol alone, on its proxy-protocol-port; leave --trusted-proxies out"
        )
    clients = _clients(work.options)
    found = _parts(work.plan, work.options)
    policies = {part.id: text for part in found if (text := _policy(part))}
    views = _views(work.plan, found, policies)
    top = work.top("#")
    files = [
        File("cdnblock.conf", top + "\n".join(_configuration(work.options, views, policies)) + "\n"),
        File("cdnblock-clients.conf", top + "".join(_elements(work.networks, clients, views))),
        *(File(f"cdnblock-{view.id}.conf", top + "".join(_zones(view))) for view in views),
        *(File(f"cdnblock-{part}.rpz", work.top(";") + text) for part, text in policies.items()),
    ]
    if work.options.settings["ede"] == "yes":
        script = resources.files("cdnblock.exporters").joinpath("_unbound_ede.script").read_text(encoding="utf-8")
        files.append(File("cdnblock-ede.py", script.replace("@NAMES@", work.options.path("cdnblock-ede.names"))))
        files.append(File("cdnblock-ede.names", top + "".join(_errors(work.plan, work.options))))
    return tuple(files)


def quoted(text: str) -> str:
    """Return text as one string of Unbound's configuration; none of ours holds a quote or the end of a line."""
    return f'"{text}"'


def _configuration(options: Options, views: Iterable[_View], policies: Iterable[str]) -> Iterator[str]:
    yield "server:"
    if tags := " ".join(policies):
        yield f"  define-tag: {quoted(tags)}"
    yield f"  include: {quoted(options.path('cdnblock-clients.conf'))}"
    for view in views:
        yield f"view:\n  name: {quoted(f'cdnblock-{view.id}')}\n  view-first: yes"
        yield f"  include: {quoted(options.path(f'cdnblock-{view.id}.conf'))}"
    for number, part in enumerate(policies):
        # A zone that is there already keeps the number of its tag when Unbound is reloaded: so it is called by that.
        yield f"rpz:\n  name: {quoted(f'p{number}.')}\n  tags: {quoted(part)}"
        yield f"  zonefile: {quoted(options.path(f'cdnblock-{part}.rpz'))}"
    if options.settings["ede"] == "yes":
        yield f"python:\n  python-script: {quoted(options.path('cdnblock-ede.py'))}"


def _parts(plan: Plan, options: Options) -> tuple[Part, ...]:
    return parts(plan, _mechanism) if options.settings["negatives"] == "rpz" else parts(plan)


def _mechanism(outcomes: Iterable[Outcome]) -> str:
    variants = {outcome.measures[Measure.DNS] for outcome in outcomes}
    return _BY_ZONES if "refuse" in variants else _BY_POLICY


def _policy(part: Part) -> str:
    """Return the text of a part's policy zone, empty where it needs none."""
    if part.sort == _BY_POLICY:
        return zone_text(part)
    alone = {name: outcome for name, outcome in part.exact.items() if part.below(name) is None}
    of_these = replace(part, exact=alone, suffixes={})
    return zone_text(of_these, {"refuse": NEGATIVE["nxdomain"], **NEGATIVE}) if alone else ""


def _views(plan: Plan, found: Iterable[Part], policies: Collection[str]) -> list[_View]:
    held = {part.id: part for part in found}
    places: dict[tuple[str, ...], list[str]] = {}
    for place in (*plan.countries, OTHER, UNKNOWN):
        if holding := tuple(part.id for part in held.values() if part.holds_in(place)):
            places.setdefault(holding, []).append(place)
    return [
        _View(
            id=f"v{hashlib.sha256(' '.join(those).encode()).hexdigest()[:_DIGITS]}",
            places=tuple(those),
            zones=tuple(held[part] for part in holding if held[part].sort == _BY_ZONES),
            tags=tuple(part for part in holding if part in policies),
        )
        for holding, those in places.items()
    ]


def _zones(view: _View) -> Iterator[str]:
    for part in view.zones:
        for name, outcome in part.suffixes.items():
            variant = None if outcome is None else outcome.measures[Measure.DNS]
            yield f"local-zone: {quoted(f'{name}.')} {FREE if variant is None else ZONE_TYPE[variant]}\n"
            if variant in NEGATIVE:
                yield f"local-data: {quoted(f'{name}. {_SOA}')}\n"


def _elements(networks: Iterable[Network], clients: Sequence[_Net], views: Iterable[_View]) -> Iterator[str]:
    """Yield the elements of access control, each with its view and the tags of its policy zones."""
    view_of = {place: view for view in views for place in view.places}
    for cidr, place in _places(networks, clients).items():
        if (view := view_of.get(place)) is not None:
            yield f"access-control-view: {cidr} {quoted(f'cdnblock-{view.id}')}\n"
            if view.tags:
                yield f"access-control-tag: {cidr} {quoted(' '.join(view.tags))}\n"


def _places(networks: Iterable[Network], clients: Sequence[_Net]) -> dict[str, str]:
    """Return the place of each element; the most specific one that an address is in tells the truth about it."""
    if not clients:
        return dict.fromkeys(_EVERYBODY, OTHER) | {network.cidr: network.place for network in networks}
    found = {str(client): OTHER for client in clients}
    spans = [(str(client), *_span(client)) for client in clients]
    for network in networks:
        version, first, last = _span(ip_network(network.cidr))
        for client, its_version, its_first, its_last in spans:
            if version != its_version or last < its_first or its_last < first:
                continue
            inside = first <= its_first and its_last <= last
            found[client if inside else network.cidr] = network.place
    return found


def _span(network: _Net) -> tuple[int, int, int]:
    return network.version, int(network.network_address), int(network.broadcast_address)


def _clients(options: Options) -> tuple[_Net, ...]:
    """Return the networks that the operator lets ask, none for anybody. Raises ConfigError where he does not say."""
    text = options.settings["clients"]
    if text == ANYBODY:
        return ()
    try:
        found = tuple(ip_network(item) for item in text.replace(",", " ").split())
    except ValueError as error:
        raise ConfigError(f"unbound: clients: {error}") from error
    if not found:
        raise ConfigError(
            "unbound: clients is not set: give the networks that your access-control lines allow, as in"
            " `--set clients=10.0.0.0/8,2001:db8::/32`, or `any` for a resolver that is open to everybody"
        )
    return found


def _errors(plan: Plan, options: Options) -> Iterator[str]:
    """Yield the texts of extended errors, and each name with its text."""
    yield from (f"@{group.id} {_text(group, options)}\n" for group in plan.groups)
    for mark, table in (("=", plan.exact), ("", plan.suffixes)):
        yield from (f"{mark}{name} @{group.id}\n" if group else f"{mark}{name}\n" for name, group in table.items())


def _text(group: Group, options: Options) -> str:
    """Return what is true in each place where the names are refused: the module does not ask where a client is."""
    outcomes = [*group.outcomes.values()]
    everywhere = set.intersection(*({reason.id for reason in outcome.reasons} for outcome in outcomes))
    common = tuple(reason for reason in outcomes[0].reasons if reason.id in everywhere)
    return extra_text(replace(outcomes[0], reasons=common), options) if common else ""


def _objections(plan: Plan, options: Options) -> Iterator[Missing]:
    """Yield what neither a local zone nor a policy zone can say."""
    if options.settings["negatives"] == "rpz":
        yield from no_names_in_zones(plan, options)
    wrong: dict[str, set[str]] = {}
    for part in _parts(plan, options) if plan.exact else ():
        for name, outcome in part.exact.items() if part.sort == _BY_ZONES else ():
            if why := _why_not_alone(name, outcome, part.below(name)):
                wrong.setdefault(why, set()).add(name)
    for why, names in wrong.items():
        yield from by_orders(plan, sorted(names), why)


def _why_not_alone(name: str, outcome: Outcome | None, below: Outcome | None) -> str:
    """Return why a name cannot be otherwise than what is below it, empty where it can."""
    variant, variant_below = (None if each is None else each.measures[Measure.DNS] for each in (outcome, below))
    if variant == variant_below:
        return ""
    if below is not None:
        return f"is to be otherwise than what is below it, which Unbound cannot say: it is {variant_below} as well"
    if not is_name_in_zone(name):
        return "is meant without its sub-domains, which takes a policy zone, and is no name for one: left out"
    if variant == "refuse":
        return "is refused without its sub-domains, which Unbound cannot say: written as nxdomain"
    return ""


EXPORTER: Final = Exporter(
    name="unbound",
    title="Unbound ≥ 1.17",
    carries=every(Measure.DNS),
    elsewhere=NAME_SERVER,
    tells=orders_told,
    render=_render,
    objections=_objections,
    settings={
        "clients": Setting(
            "",
            "the networks that your access-control lines allow, or `any`; has to be set",
            pattern=r"any|[0-9A-Fa-f.:/, ]+",
            right="10.0.0.0/8,2001:db8::/32",
        ),
        "ede": Setting("no", "also write the module that says Censored, for `module-config: python …`", ("no", "yes")),
        "negatives": Setting("zones", "what nxdomain and nodata are written as; `rpz` wants respip", ("zones", "rpz")),
    },
)
