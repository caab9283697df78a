"""What must hold for all orders and all requests (hypothesis)."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from cdnblock.matching.difference import differing_names
from cdnblock.matching.names import canonical
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.model import Addition, Lifting, Measure, Mode, Name, Order, Territory, UnknownLocation, Window

sys.path.insert(0, str(Path(__file__).parent))
import naive

# Few labels and few instants on purpose: everything overlaps with everything.
LABELS = st.sampled_from(["a", "b", "xa", "a-b", "xn--bcher-kva"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "example"]))
COUNTRIES = st.sampled_from(["FR", "RE", "PF", "DE"])
HOURS = st.integers(0, 24 * 8)
# Eight days around each switch of 2025 in Europe/Paris.
EPOCHS = st.sampled_from([datetime(2025, 3, 26, tzinfo=UTC), datetime(2025, 10, 22, tzinfo=UTC)])


@st.composite
def orders(draw, number):
    epoch = draw(EPOCHS)

    def instant():
        return epoch + timedelta(hours=draw(HOURS))

    begins = instant()
    until = begins + timedelta(hours=draw(st.integers(1, 24 * 6)))
    names = tuple(
        Name(name=name, subdomains=draw(st.booleans())) for name in draw(st.lists(NAMES, min_size=1, max_size=4))
    )
    additions = tuple(
        Addition(
            notice=f"n{index}",
            notified=min(instant(), until - timedelta(hours=1)),
            begins=draw(st.one_of(st.none(), st.just(instant()))),
            names=(Name(name=name),),
        )
        for index, name in enumerate(draw(st.lists(NAMES, max_size=2)))
    )
    listed = [name.name for name in names] + [name.name for addition in additions for name in addition.names]
    liftable = st.sampled_from([*listed, *(f"a.{name}" for name in listed)])
    lifted = tuple(
        Lifting(at=instant(), names=draw(st.one_of(st.none(), st.lists(liftable, min_size=1, max_size=2).map(tuple))))
        for _ in range(draw(st.integers(0, 2)))
    )
    windows = []
    for _ in range(draw(st.integers(0, 2))):
        opens = instant()
        windows.append(Window(begins=opens, until=opens + timedelta(hours=draw(st.integers(1, 20)))))
    measures = draw(
        st.fixed_dictionaries(
            {},
            optional={
                Measure.DNS: st.sampled_from(["refuse", "nxdomain", "nodata"]),
                Measure.CDN: st.just("disable"),
                Measure.PROXY: st.sampled_from(["terminate", "close"]),
            },
        ).filter(bool)
    )
    world = draw(st.booleans()) and draw(st.booleans())
    return Order(
        id=f"order-{number}", court="a court", decided=date(2025, 1, 2), legal_basis="a law", claimant="a claimant",
        territory=Territory(world=True) if world else Territory(countries=draw(st.frozensets(COUNTRIES, min_size=1))),
        measures=measures, names=names, additions=additions, lifted=lifted, windows=tuple(windows), begins=begins, until=until,
        unknown_location=draw(st.sampled_from(UnknownLocation)),
        mode=draw(st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.REPORT])),
        timezone=draw(st.sampled_from(["Europe/Paris", "Pacific/Tahiti", "Indian/Reunion", "UTC"])),
    )  # fmt: skip


@st.composite
def folders(draw):
    return [draw(orders(number)) for number in range(draw(st.integers(1, 4)))]


@st.composite
def hosts(draw, names=NAMES):
    name = draw(names)
    return draw(
        st.sampled_from([name, f"a.{name}", f"www.{name}", f"x{name}", f"a.a.{name}", name.removesuffix(".example")])
    )


INSTANTS = st.builds(
    lambda epoch, seconds: epoch + timedelta(seconds=seconds), EPOCHS, st.integers(-3600, 24 * 9 * 3600)
)
PLACES = st.one_of(st.none(), COUNTRIES)


def boundary_instants(folder):
    """Every instant of the folder at which anything starts or ends, and the second before it."""
    found = []
    for order in folder:
        moments = [order.begins, order.until, *(lifting.at for lifting in order.lifted)]
        moments += [moment for window in order.windows for moment in (window.begins, window.until)]
        moments += [moment for added in order.additions for moment in (added.notified, added.begins) if moment]
        found += [shifted for moment in moments for shifted in (moment, moment - timedelta(seconds=1))]
    return found


@settings(max_examples=examples(400), deadline=None)
@given(data=st.data(), folder=folders(), country=PLACES)
def test_the_rules_equal_a_naive_loop_over_the_orders(data, folder, country):
    """Measures, applying orders and the reasons why others do not apply are those of the naive reading."""
    rules = compile_orders(folder)
    listed = sorted({listing[0] for order in folder for listing in naive.listings(order)})
    for _ in range(8):
        host = data.draw(hosts(st.one_of(NAMES, st.sampled_from(listed))))
        at = data.draw(st.one_of(INSTANTS, st.sampled_from(boundary_instants(folder))))
        measures, applying, sparing = naive.decide(folder, host, country, at)
        would, would_apply, would_spare = naive.would(folder, host, country, at)
        decision = rules.decide(host, country=country, at=at)
        assert {measure.value: variant for measure, variant in decision.measures.items()} == measures
        assert [reason.id for reason in decision.reasons] == applying
        assert {measure.value: variant for measure, variant in decision.would.items()} == would
        assert [reason.id for reason in decision.would_reasons] == would_apply
        assert {item.id: item.why.value for item in decision.not_applied} == sparing | would_spare


@settings(max_examples=examples(200), deadline=None)
@given(folder=folders(), host=hosts(), country=PLACES, at=INSTANTS)
def test_a_decision_tells_when_it_changes_next(folder, host, country, at):
    """Until `changes_at` the same orders apply by the same names; at it they do not; None means never again."""
    rules = compile_orders(folder)

    def applying(instant):
        decision = rules.decide(host, country=country, at=instant)
        return [(r.id, r.name, r.notice) for r in (*decision.reasons, *decision.would_reasons)]

    changes_at = rules.decide(host, country=country, at=at).changes_at
    later = sorted(instant for instant in boundary_instants(folder) if instant > at)
    if changes_at is None:
        assert all(applying(instant) == applying(at) for instant in later)
    else:
        assert changes_at > at
        assert applying(changes_at) != applying(at)
        assert all(applying(instant) == applying(at) for instant in later if instant < changes_at)


@settings(max_examples=examples(200), deadline=None)
@given(data=st.data(), folder=folders(), host=hosts(), country=PLACES, at=INSTANTS)
def test_spelling_never_changes_a_decision(data, folder, host, country, at):
    """Case, a trailing dot, a port, full-width letters, ideographic dots and escapes are all the same host."""
    rules = compile_orders(folder)
    plain = rules.decide(host, country=country, at=at)
    spelling = data.draw(
        st.sampled_from(
            [
                host.upper(), host.title(), f"{host}.", f"{host}:443", f"{host}.:8080", f"{host}:",
                host.replace(".", "\u3002"), host.replace(".", "\uff0e"), host.replace(".", "\uff61"),
                host.replace("a", "\uff41"), host.replace("a", "%61"), host.replace("a", "\U0001d41a"),
                host.replace("xn--bcher-kva", "bücher"), host.replace("xn--bcher-kva", "BÜCHER"),
                host.replace("xn--bcher-kva", "bu\u0308cher"), host.replace("b", "b\u00ad"),
            ]
        )
    )  # fmt: skip
    assert rules.decide(spelling, country=country, at=at) == plain
    assert rules.decide(spelling.encode(), country=country, at=at) == plain


@settings(max_examples=examples(200), deadline=None)
@given(folder=folders(), extra=orders(99), host=hosts(), country=PLACES, at=INSTANTS)
def test_adding_an_order_never_unblocks(folder, extra, host, country, at):
    """With one more order, every measure that applied still applies, at least as strictly."""
    before = compile_orders(folder).decide(host, country=country, at=at).measures
    after = compile_orders([*folder, extra]).decide(host, country=country, at=at).measures
    for measure, variant in before.items():
        ranking = naive.STRICTEST_FIRST[measure.value]
        assert ranking.index(after[measure]) <= ranking.index(variant)


@settings(max_examples=examples(200), deadline=None)
@given(folder=folders(), host=hosts(), country=PLACES, at=INSTANTS)
def test_what_is_only_reported_changes_nothing_that_is_enforced(folder, host, country, at):
    """Without the orders in mode report, everything that asks what is enforced gets the same answer."""
    rules = compile_orders(folder)
    alone = compile_orders([order for order in folder if order.mode is Mode.ENFORCE])
    assert rules.decide(host, country=country, at=at).measures == alone.decide(host, country=country, at=at).measures
    assert [*map(rules.covered_names, Measure, [at] * 3)] == [*map(alone.covered_names, Measure, [at] * 3)]
    assert set(rules.names_in_force(at)) == set(alone.names_in_force(at))
    assert rules.count_in_force(at) == alone.count_in_force(at)
    assert rules.is_in_force(host, at) == alone.is_in_force(host, at)
    assert rules.next_turn(at) == alone.next_change(at)
    assert set(rules.released_by(alone, at)) == set(alone.released_by(rules, at)) == set()
    for exact in (True, False):
        if host in dict(rules.index.items()) and host in dict(alone.index.items()):
            assert [r.id for r in rules.holding(host, at, exact=exact)] == [
                r.id for r in alone.holding(host, at, exact=exact)
            ]
    for measure in Measure:
        assert list(differing_names(alone, at, rules, at, measure)) == []


@settings(max_examples=examples(200), deadline=None)
@given(order=orders(1), host=hosts(), country=PLACES, at=INSTANTS)
def test_outside_its_dates_or_territory_an_order_does_nothing(order, host, country, at):
    """Before its start, from its end on, and for a country that it does not name."""
    rules = compile_orders([order])
    end = naive.utc(order.until, order.timezone)
    assert not rules.decide(host, country=country, at=order.begins - timedelta(microseconds=1))
    assert not rules.decide(host, country=country, at=end)
    if not order.territory.world:
        assert not rules.decide(host, country="JP", at=at)


@settings(max_examples=examples(300), deadline=None)
@given(
    folder=folders(),
    host=st.one_of(st.text(), st.binary(), hosts().map(lambda h: h + "\0"), st.text(min_size=300)),
    at=st.datetimes(),
)
def test_no_input_raises(folder, host, at):
    """Any text, any bytes, any instant, any country: an answer, never an exception."""
    rules = compile_orders(folder)
    for country in (None, "FR", "", "\ud800", "france"):
        rules.decide(host, country=country, at=at).explain()


@settings(max_examples=examples(300), deadline=None)
@given(host=st.one_of(st.text(), NAMES, st.from_regex(r"[a-zA-Z0-9._:%\[\]@-]{1,80}", fullmatch=True)))
def test_a_canonical_form_is_its_own_canonical_form(host):
    """Canonicalising twice is canonicalising once (IPv6 text, which loses its brackets, aside)."""
    once = canonical(host)
    if once is not None and ":" not in once:
        assert canonical(once) == once
        assert canonical(once.upper()) == once
