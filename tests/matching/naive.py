"""A second reading of what orders mean: slow, without cleverness, and sharing no code with the rules it judges.

It knows names by comparing lists of labels, and time by comparing aware datetimes in UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

STRICTEST_FIRST = {"dns": ["refuse", "nxdomain", "nodata"], "cdn": ["disable"], "proxy": ["close", "terminate"]}


def utc(moment, zone, *, end_of_day=False):
    if not isinstance(moment, datetime):
        assert isinstance(moment, date)
        moment = datetime(moment.year, moment.month, moment.day) + timedelta(days=1 if end_of_day else 0)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.astimezone(UTC)


def at_or_below(host, name):
    labels, wanted = host.split("."), name.split(".")
    return len(labels) >= len(wanted) and labels[len(labels) - len(wanted) :] == wanted


def listings(order):
    """Every (name, subdomains, notice, start, notified) of an order."""
    start = utc(order.begins or order.served or order.decided, order.timezone)
    for name in order.each_name():
        yield name.name, name.subdomains, None, start, None
    for addition in order.additions:
        notified = utc(addition.notified, order.timezone)
        added = utc(addition.begins or addition.notified, order.timezone)
        for name in addition.each_name():
            yield name.name, name.subdomains, addition.notice, max(start, added), notified


def state(order, listing, host, at):
    name, _, _, start, notified = listing
    if at < start:
        return "not-yet-in-force"
    if at >= utc(order.until, order.timezone, end_of_day=True):
        return "ended"
    for lifting in order.lifted:
        lifted = utc(lifting.at, order.timezone)
        if at < lifted:
            continue
        if lifting.names is None:
            return "lifted"
        for released in lifting.names:
            stands_between = at_or_below(host, released) and at_or_below(released, name)
            if stands_between and (notified is None or notified <= lifted):
                return "lifted"
    if order.windows:
        zone = order.timezone
        open_now = [utc(w.begins, zone) <= at < utc(w.until, zone, end_of_day=True) for w in order.windows]
        if not any(open_now):
            return "outside-window"
    return "in force"


def decide(orders, host, country, at):
    """Return (measures, ids of the orders that apply, {id: why} of those that name the host and do not apply).

    Only of orders that are carried out; `would` says the same of those that are only reported.
    """
    return of_all([order for order in orders if order.mode.value == "enforce"], host, country, at)


def would(orders, host, country, at):
    """Return what `decide` returns, of the orders that are only reported."""
    return of_all([order for order in orders if order.mode.value == "report"], host, country, at)


def of_all(orders, host, country, at):
    applying, sparing = [], {}
    for order in orders:
        covering = [
            listing
            for listing in listings(order)
            if host == listing[0] or (listing[1] and at_or_below(host, listing[0]))
        ]
        if not covering:
            continue
        if not any(state(order, listing, host, at) == "in force" for listing in covering):
            # Which reason is given follows from which listing is asked: the most specific one, the order's own first.
            foremost = max(covering, key=lambda listing: len(listing[0].split(".")))
            sparing[order.id] = state(order, foremost, host, at)
        elif order.territory.world or country in order.territory.countries:
            applying.append(order)
        elif country is not None:
            sparing[order.id] = "outside-territory"
        elif order.unknown_location.value == "enforce":
            applying.append(order)
        else:
            sparing[order.id] = "unknown-location"
    measures = {}
    for measure, variants in STRICTEST_FIRST.items():
        wanted = [order.measures[measure] for order in applying if measure in order.measures]
        if wanted:
            measures[measure] = next(variant for variant in variants if variant in wanted)
    return measures, [order.id for order in applying], sparing
