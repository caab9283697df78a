"""Scenarios for resolvers: those of `scenarios/dns`, and those about names, territory and time, read for DNS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import yaml

from cdnblock.errors import ConfigError
from cdnblock.orders.model import VARIANTS, Measure
from cdnblock.testing import scenarios
from cdnblock.testing.dns_stage import COUNTRY_OF
from cdnblock.testing.dns_wire import Query
from cdnblock.testing.places import PLACES
from cdnblock.testing.scenarios import Action, Outcome, Scenario, Step

DNS_VARIANTS: Final = VARIANTS[Measure.DNS]


class DnsNeed(StrEnum):
    """What a resolver may be unable to do. It says so in `DnsContract.cannot`, with the reason that the skip shows."""

    ALIAS = "alias"  # decide by the query name alone, not by what it is an alias of
    DS = "ds"  # refuse DS of a listed name
    EDE = "ede"  # say Censored (RFC 8914)
    EXACT = "exact"  # cover a name without what is below it
    EXTRA_TEXT = "extra-text"  # name the order in the extended error
    LIVE = "live"  # take orders that change while it runs
    NO_RECURSION = "no-recursion"  # refuse a query without RD
    SOA = "soa"  # put an SOA into a negative answer (RFC 2308 §3)


COVERED: Final = "covered"
"""Refused, in the variant that the scenario is played in."""
ANSWERED: Final = "answered"
"""As upstream answers."""
_EXPECTED: Final = (COVERED, ANSWERED, *DNS_VARIANTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsStep:
    """One thing that happens, and what must come of it. `expect` is a variant, or None for upstream's answer."""

    action: Action
    says: str = ""
    query: Query = field(default_factory=lambda: Query(name="other.example"))
    place: str = "nowhere"
    seconds: float = 0.0  # to wait; for ASK, within which it must come true
    orders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expect: str | None = None
    text: str | None = None  # the extended error's, exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsScenario:
    """Something that must hold on every resolver. `variants` are those that its orders name; others take any."""

    whole: Scenario
    needs: tuple[DnsNeed, ...]
    variants: tuple[str, ...]
    own: bool

    def __str__(self) -> str:
        """Return what tests call it."""
        return f"{self.whole.file}: {self.whole.name}"

    def orders(self, variant: str) -> Mapping[str, Mapping[str, Any]]:
        """Return its orders; those that ask for no measure ask for `dns` in this variant."""
        return orders_in(self.whole.orders, variant)

    def steps(self, variant: str) -> Iterator[DnsStep]:
        """Yield the steps, with names of their own for each variant."""
        if not self.own:
            for step in self.whole.play_for(variant):
                yield _read_again(step, variant, str(self))
            return
        for raw in self.whole.steps:
            yield from _steps(scenarios.filled(raw, variant), variant, str(self))


def orders_in(orders: Mapping[str, Mapping[str, Any]], variant: str) -> dict[str, dict[str, Any]]:
    """Return orders that ask for measure `dns` in a variant where they ask for none."""
    return {order_id: {"measures": {"dns": variant}} | dict(keys) for order_id, keys in orders.items()}


def read_dns_scenarios(folder: Path | None = None) -> tuple[DnsScenario, ...]:
    """Return every scenario for resolvers, in the order of files.

    Raises ConfigError for a key, word or value that there is not.
    """
    folder = folder or scenarios.scenarios_folder()
    found = [
        DnsScenario(whole=whole, needs=_needs(whole.needs, whole.orders), variants=(), own=False)
        for whole in scenarios.read_scenarios(folder)
        if whole.file in _READ_AGAIN
    ]
    for path in sorted((folder / "dns").glob("*.yaml")):
        several = yaml.safe_load_all(path.read_text(encoding="utf-8"))
        found += [_scenario(f"dns-{path.stem}", raw) for raw in several]
    for scenario in found:
        for variant in DNS_VARIANTS:
            [*scenario.steps(variant)]
    return tuple(found)


_READ_AGAIN: Final = ("names", "territory", "time")  # files whose scenarios mean the same over DNS
_SCENARIO_KEYS: Final = {"scenario", "proves", "source", "needs", "variants", "orders", "steps"}
_STEP_KEYS: Final = {
    "ask", "type", "from", "tcp", "edns", "do", "rd", "cd", "within", "says", "expect", "text", "order", "wait",
}  # fmt: skip


def _scenario(file: str, raw: Any) -> DnsScenario:
    _known(raw, _SCENARIO_KEYS, file)
    try:
        whole = Scenario(
            file=file,
            name=raw["scenario"],
            proves=raw["proves"],
            source=raw["source"],
            needs=(),
            protocols=(),
            orders=raw["orders"],
            steps=tuple(raw["steps"]),
        )
        variants = tuple(raw.get("variants", ()))
        return DnsScenario(whole=whole, needs=_needs(raw.get("needs", ()), whole.orders), variants=variants, own=True)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from error


def _needs(named: Any, orders: Mapping[str, Mapping[str, Any]]) -> tuple[DnsNeed, ...]:
    alone = any(
        isinstance(name, dict) and name.get("subdomains") is False
        for keys in orders.values()
        for name in keys.get("names", ())
    )
    return tuple(sorted({*map(DnsNeed, named), *([DnsNeed.EXACT] if alone else [])}))


def _read_again(step: Step, variant: str, where: str) -> DnsStep:
    """Return a step of a scenario for HTTP as one for DNS: the same question by the same client."""
    if step.action is not Action.ASK:
        if step.action not in (Action.ORDER, Action.WAIT):
            raise ConfigError(f"{where}: a resolver knows no step {step.action!r}")
        orders = orders_in(step.orders, variant)
        return DnsStep(action=step.action, says=step.says, orders=orders, seconds=step.seconds)
    place = _PLACE_OF[step.forwarded_for[0]] if step.forwarded_for else "nowhere"
    return DnsStep(
        action=step.action,
        says=step.says,
        query=Query(name=step.request.hosts[0]),
        place=place,
        seconds=step.seconds,
        expect={Outcome.REFUSED: variant, Outcome.SERVED: None}[step.expect.outcome],
    )


_PLACE_OF: Final = {address: place for place, address in PLACES.items()}


def _steps(raw: Any, variant: str, where: str) -> Iterator[DnsStep]:
    _known(raw, _STEP_KEYS, where)
    says = raw.get("says", "")
    if "order" in raw:
        yield DnsStep(action=Action.ORDER, says=says, orders=orders_in(raw["order"], variant))
        return
    if "wait" in raw:
        yield DnsStep(action=Action.WAIT, says=says, seconds=float(raw["wait"]))
        return
    place, expect = raw["from"], raw["expect"]
    if place not in COUNTRY_OF or expect not in _EXPECTED:
        raise ConfigError(f"{where}: no place or outcome: {place}, {expect}")
    step = DnsStep(
        action=Action.ASK,
        says=says,
        place=place,
        seconds=float(raw.get("within", 0)),
        expect=variant if expect == COVERED else None if expect == ANSWERED else expect,
        text=raw.get("text"),
    )
    for name in _several(raw["ask"]):
        for kind in _several(raw.get("type", "A")):
            query = Query(
                name=name,
                kind=kind,
                tcp=raw.get("tcp", False),
                edns=raw.get("edns", True),
                dnssec_ok=raw.get("do", False),
                recursion=raw.get("rd", True),
                checking_disabled=raw.get("cd", False),
            )
            yield replace(step, query=query)


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _known(raw: Mapping[str, Any], keys: set[str], where: str) -> None:
    if unknown := set(raw) - keys:
        raise ConfigError(f"{where}: unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(keys))}")
