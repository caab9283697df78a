"""What an order says of a name: that it lists it, or that it releases it. All names with the same life share a claim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from math import inf
from typing import TypeAlias

from cdnblock.matching.timeline import Span
from cdnblock.orders import calendar
from cdnblock.orders.model import Addition, Order
from cdnblock.orders.name_list import name_list


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """One order's claim on a name, shared by all its names with the same life."""

    order: Order
    addition: Addition | None
    subdomains: bool
    span: Span
    notified: float  # -inf for the order's own names
    lifted: float  # the whole order's lifting, inf if there is none

    @property
    def order_id(self) -> str:
        """Whose claim it is."""
        return self.order.id


@dataclass(frozen=True, slots=True, eq=False)
class Release:
    """A lifting that names a name: from `at`, the order leaves this name and what is below it alone."""

    order_id: str
    at: float


Claim: TypeAlias = Listing | Release


def claims_of(order: Order) -> Iterator[tuple[Claim, Iterable[str]]]:
    """Yield every claim of an order, each with the names on which it stands."""
    begins, ends = calendar.starts_at(order).timestamp(), calendar.ends_at(order).timestamp()
    windows = tuple((opens.timestamp(), closes.timestamp()) for opens, closes in calendar.windows_of(order))
    lifted = min((_at(order, lifting.at) for lifting in order.lifted if lifting.names is None), default=inf)
    yield from _listed(order, None, Span(begins, ends, windows), lifted, -inf)
    for addition in order.additions:
        added = max(begins, calendar.addition_starts_at(order, addition).timestamp())
        yield from _listed(order, addition, Span(added, ends, windows), lifted, _at(order, addition.notified))
    for lifting in order.lifted:
        yield Release(order.id, _at(order, lifting.at)), lifting.names or ()


def lifted_at(listing: Listing, releases: Iterable[Release]) -> float:
    """Return when a listing is lifted for a host, given the releases that stand between the host and the listing.

    A lifting releases what was notified before it; a name that is notified again afterwards is blocked again.
    """
    own = (item.at for item in releases if item.order_id == listing.order.id and item.at >= listing.notified)
    return min(chain(own, (listing.lifted,)))


def in_force(claims: Iterable[Claim], at: float) -> bool:
    """Tell whether any of the claims on one name holds it in force at `at`; between its windows an order is in force.

    What is only reported is not in force.
    """
    found = tuple(claims)
    releases = [item for item in found if isinstance(item, Release)]
    return any(
        item.span.begins <= at < min(item.span.ends, lifted_at(item, releases))
        for item in found
        if isinstance(item, Listing) and item.order.is_enforced
    )


def _listed(
    order: Order, addition: Addition | None, span: Span, lifted: float, notified: float
) -> Iterator[tuple[Claim, Iterable[str]]]:
    part = order if addition is None else addition
    whole = Listing(order, addition, subdomains=True, span=span, notified=notified, lifted=lifted)
    exact = Listing(order, addition, subdomains=False, span=span, notified=notified, lifted=lifted)
    yield whole, (name.name for name in part.names if name.subdomains)
    yield exact, (name.name for name in part.names if not name.subdomains)
    if part.names_file is not None:
        yield whole, name_list(part.names_file.names)


def _at(order: Order, moment: date | datetime) -> float:
    return calendar.instant(moment, order.timezone).timestamp()
