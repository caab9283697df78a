"""Orders whose names stand above, below and beside each other as densely as they can, for resolvers to get right."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import dns.rcode
from export_engines import rules_of

from cdnblock.orders.model import Measure
from cdnblock.testing.dns_stage import CLIENTS, COUNTRY_OF
from cdnblock.testing.dns_wire import Query, ask

LABELS = "abc"
DEEPEST = 4
ORDERS = 5
TERRITORIES = ("world", ["FR"], ["FR", "RE"], ["GP"], ["DE", "GP"])
PLACES = ("france", "reunion", "guadeloupe", "germany", "nowhere")


def a_name(dice, above="example", deepest=DEEPEST):
    return ".".join([*(dice.choice(LABELS) for _ in range(dice.randint(1, deepest))), above])


def dense_orders(seed, variants):
    """Return as many orders for each seed, with names alone and with all below them, some of them lifted."""
    dice = random.Random(seed)
    return {f"order-{number}": _order(dice, variants) for number in range(ORDERS)}


def _order(dice, variants):
    alone = {a_name(dice): dice.random() < 0.4 for _ in range(dice.randint(1, 5))}
    order = {
        "names": [{"name": name, "subdomains": False} if alone[name] else name for name in alone],
        "measures": {"dns": dice.choice(variants)},
        "territory": dice.choice(TERRITORIES),
        "unknown_location": dice.choice(("allow", "allow", "enforce")),
    }
    if dice.random() < 0.5:
        name = dice.choice([*alone])
        freed = name if alone[name] else dice.choice((name, a_name(dice, name, 2)))
        order["lifted"] = [{"names": [freed], "at": "2025-05-01T12:00"}]
    return order


def wrong_answers(resolver, seed, names=60):
    """Yield what a resolver says of names among those of its orders and the library does not."""
    dice, rules = random.Random(seed), rules_of(resolver.stage)
    for name in sorted({a_name(dice, deepest=DEEPEST + 1) for _ in range(names)}):
        for place in PLACES:
            decision = rules.decide(name, country=COUNTRY_OF[place], at=datetime.now(UTC))
            wanted = decision.measures.get(Measure.DNS, "answered")
            found = _variant(ask(("127.0.0.1", resolver.port), Query(name=name, source=CLIENTS[place])))
            if found != wanted:
                yield f"{name} from {place}: {found}, not {wanted}"


def _variant(answer):
    match answer.rcode():
        case dns.rcode.REFUSED:
            return "refuse"
        case dns.rcode.NXDOMAIN:
            return "nxdomain"
        case _:
            return "answered" if answer.answer else "nodata"
