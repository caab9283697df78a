"""Court-ordered blocking at the edge, exactly: these names, in this territory, from this instant to that one.

    rules = cdnblock.load_orders("orders/")                     # a folder of order files -> RuleSet
    rules.decide("www.motogpstream.me", country="FR", at=now)   # -> Decision: which measures, and why

    with cdnblock.Enforcer("orders/") as enforcer:              # loads, then follows changes
        enforcer.decide("www.motogpstream.me", "90.84.144.1")

The public names are those of `__all__`, and the functions of `cdnblock.measures`. This library decides and builds
answers; it opens no listening socket, resolves no name, and knows no opinion on whether an order is right.
"""

from cdnblock.enforcer import Enforcer
from cdnblock.errors import CdnblockError, ConfigError, OrderError, Problem, Severity, UnsupportedError
from cdnblock.matching.decision import Decision, NotApplied, Reason, Why
from cdnblock.matching.ruleset import RuleSet, compile_orders
from cdnblock.measures import cache_disable, dns_refusal, proxy_termination
from cdnblock.orders.model import (
    Addition,
    Anchor,
    Delay,
    DelayUnit,
    Lifting,
    Measure,
    Mode,
    Name,
    NamesFile,
    Order,
    Penalty,
    Position,
    Territory,
    UnknownLocation,
    Window,
)
from cdnblock.sources.order_folder import load_orders

__all__ = [
    "Addition",
    "Anchor",
    "CdnblockError",
    "ConfigError",
    "Decision",
    "Delay",
    "DelayUnit",
    "Enforcer",
    "Lifting",
    "Measure",
    "Mode",
    "Name",
    "NamesFile",
    "NotApplied",
    "Order",
    "OrderError",
    "Penalty",
    "Position",
    "Problem",
    "Reason",
    "RuleSet",
    "Severity",
    "Territory",
    "UnknownLocation",
    "UnsupportedError",
    "Why",
    "Window",
    "cache_disable",
    "compile_orders",
    "dns_refusal",
    "load_orders",
    "proxy_termination",
]
