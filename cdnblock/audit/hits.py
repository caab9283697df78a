"""What was enforced, as plain values, and which orders and names a decision means by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from cdnblock.matching.coverage import Coverage
from cdnblock.matching.decision import Decision, Reason
from cdnblock.matching.names import canonical, canonical_query_name
from cdnblock.matching.ruleset import RuleSet
from cdnblock.measures.dns_message import name_text
from cdnblock.orders.model import Measure

_LONGEST_HOST: Final = 300  # characters; longer spellings are no host


Named: TypeAlias = tuple[Reason, str | None, str | None]
"""Why, by which of the order's names, and by which notice."""


class Hit(NamedTuple):
    """So many enforcements of one order and measure; plain values, which travel between processes as JSON.

    `action` is `refused` (dns), `answer`, `close` or `cut` (proxy), `uncached` (cdn), or `would` where there is only a
    report. `first` and `last` are seconds since 1970: exact for a single one, else as far apart as they may have been,
    since a repeat is only counted, and the clock is asked when it is collected, once a second. `client` is the whole address of the first. `host` is None where many hosts were counted together; `name` is None
    where many names were, and then `names` tells how many at least; `country` is then `*` where several were.
    """

    order: str
    name: str | None
    notice: str | None
    host: str | None
    measure: str
    variant: str | None
    country: str | None
    client: str | None
    adapter: str
    action: str
    revision: str
    first: float
    last: float
    times: int
    names: int | None = None


class What(NamedTuple):
    """What a cell counts; `folded` when it is all names of some orders."""

    decision: Decision
    host: str | None
    client: str | None
    measures: tuple[Measure, ...]
    action: str
    adapter: str
    country: str | None
    example: str
    """One of the hosts."""
    folded: bool = False


def text_of(host: object) -> str:
    """Return the canonical text of a host as an adapter has it; what is none comes out as text all the same."""
    if isinstance(host, bytes):
        on_the_wire = name_text(host) if host.endswith(b"\0") else None
        if on_the_wire is not None:
            return canonical_query_name(on_the_wire) or on_the_wire
        return canonical(host) or host[:_LONGEST_HOST].decode("latin-1")
    if isinstance(host, str):
        return canonical(host) or canonical_query_name(host) or host[:_LONGEST_HOST]
    return ""


def reasons_of(what: What) -> tuple[Reason, ...]:
    """Return the orders that were enforced, or that would have been."""
    return what.decision.would_reasons if what.action == "would" else what.decision.reasons


def _is_of(host: str, name: str) -> bool:
    return host == name or host.endswith("." + name)


def names_key(what: What, rules: RuleSet | None) -> Any:
    """Return what hosts with the same names in the same orders have in common.

    A decision tells its names. Where it is one for all names of which the same is said, and this host is not below the
    names that it tells, the nearest listed name stands for them.
    """
    decision, host = what.decision, what.example
    names = tuple((reason.order.id, reason.name) for reason in reasons_of(what))
    if all(_is_of(host, name) for _, name in names):
        return names, decision.country, decision.revision
    if rules is None or rules.revision != decision.revision:
        return names, decision.country, decision.revision, host
    nearest = rules.index.nearest(host)
    return names, decision.country, decision.revision, nearest, nearest == host


def hits_of(what: What, told: Iterable[Named], when: tuple[float, float, int], names: int | None) -> Iterator[Hit]:
    """Yield what a cell counted, order by order and measure by measure; `when` is first, last, and how many."""
    variants = what.decision.would if what.action == "would" else what.decision.measures
    for reason, name, notice in told:
        for measure in what.measures:
            if measure in reason.order.measures:
                yield Hit(
                    reason.order.id, name, notice, what.host, str(measure), variants.get(measure), what.country,
                    what.client, what.adapter, what.action, what.decision.revision, *when, names,
                )  # fmt: skip


def named(what: What, rules: RuleSet | None, at: float) -> tuple[Named, ...]:
    """Return the orders that were enforced, by which of their names, and by which notice."""
    reasons = reasons_of(what)
    if what.folded:
        return tuple((reason, None, None) for reason in reasons)
    if all(_is_of(what.example, reason.name) for reason in reasons):
        return tuple((reason, reason.name, reason.notice) for reason in reasons)
    own = {reason.order.id: reason for reason in _asked_again(what, rules, at)}
    found = ((reason, own.get(reason.order.id)) for reason in reasons)
    return tuple((reason, again.name if again else None, again.notice if again else None) for reason, again in found)


def _asked_again(what: What, rules: RuleSet | None, at: float) -> tuple[Reason, ...]:
    """Return the reasons of the host itself, none when the rules are others by now."""
    decision = what.decision
    if rules is None or rules.revision != decision.revision:
        return ()
    found = rules.find_query_name(what.example, remember=False)
    if not isinstance(found, Coverage):
        return ()
    again = found.decide(decision.country, decision.told_by, at)
    return reasons_of(what._replace(decision=again))
