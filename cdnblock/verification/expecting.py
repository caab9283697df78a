"""What a server promises to do with a decision, and the words for what it does not keep.

The promises are those of `cdnblock.measures`; a server of somebody else's may be able to keep only some (`Promises`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cdnblock.exporters import Exporter
from cdnblock.exporters._exporter import Cannot, Otherwise
from cdnblock.measures.dns_refusal import NEGATIVE_TTL
from cdnblock.orders.model import VARIANTS, Measure
from cdnblock.verification.answers import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """What a server can promise, where it is not all that the library does.

    `variants` maps a variant of measure `dns` to those that may come in its place. `ede`: refusals say Censored.
    `negative_ttl`: seconds that a negative answer may be kept at most, None if it does not matter. `link`: the 451
    says who blocks. `orders`: it has the words of ours, so the ids of the orders. `no_store`: it may not be stored. `caching`: measure `cdn` is carried. `proxy`, `dns`: so are these.
    """

    variants: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {v: (v,) for v in VARIANTS[Measure.DNS]})
    ede: bool = True
    negative_ttl: int | None = NEGATIVE_TTL
    link: bool = True
    orders: bool = False
    no_store: bool = True
    caching: bool = True
    proxy: bool = True
    dns: bool = True

    @classmethod
    def of(cls, exporter: Exporter) -> Promises:
        """Return what the configuration of a target can promise: the variants that it carries, or gives instead."""
        return cls(
            variants={variant: _given(exporter, variant) for variant in VARIANTS[Measure.DNS]},
            caching=Measure.CDN not in exporter.elsewhere,
            proxy=Measure.PROXY not in exporter.elsewhere,
            dns=Measure.DNS not in exporter.elsewhere,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """What was expected of one answer, and what came."""

    expected: str
    came: str


@dataclass(frozen=True, slots=True)
class Unjudged:
    """Why an answer tells nothing about enforcement.

    `suspect` is the difference that it is if it is not the site's own; `alarming` where it may well be one.
    """

    why: str
    suspect: Difference | None = None
    alarming: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was learnt beforehand: what the server gives for a name that no order names and that nobody has.

    `reference` is what an unfiltered resolver says of the same question, None where none was asked. `near` is what is
    decided about the name for any client that asks.
    """

    stranger: Answer | None = None
    reference: Answer | None = None
    near: frozenset[tuple[Measure, str]] = frozenset()


Judgement: TypeAlias = Difference | Unjudged | None
"""None where an answer is what the decision promises."""


def _given(exporter: Exporter, variant: str) -> tuple[str, ...]:
    """Return what comes from a target where a variant of measure `dns` was ordered."""
    match exporter.carries.get((Measure.DNS, variant)):
        case Cannot(instead=str() as instead):
            return (instead,)
        case Otherwise():
            return VARIANTS[Measure.DNS]
        case _:
            return (variant,)
