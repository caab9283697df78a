"""Single decisions, written out: which orders apply, which do not, and why."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from cdnblock.errors import OrderError
from cdnblock.matching.decision import Why
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.model import (
    Addition,
    Anchor,
    Delay,
    DelayUnit,
    Lifting,
    Measure,
    Name,
    NamesFile,
    Order,
    Territory,
    UnknownLocation,
    Window,
)

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2025, 5, 1, 12, tzinfo=PARIS)


def order(**changes) -> Order:
    values = {
        "id": "motogp", "court": "Tribunal judiciaire de Paris", "decided": date(2025, 3, 28),
        "legal_basis": "Code du sport, art. L. 333-10", "claimant": "SECP",
        "territory": Territory(countries=frozenset({"FR", "RE"})), "begins": datetime(2025, 4, 3, 9), "until": date(2025, 11, 16),
        "measures": {Measure.DNS: "refuse", Measure.CDN: "disable", Measure.PROXY: "terminate"},
        "names": (Name(name="motogpstream.me"), Name(name="livetv822.me")),
    }  # fmt: skip
    return Order(**(values | changes))


def verdict(rules, host, country="FR", at=NOON):
    decision = rules.decide(host, country=country, at=at)
    return [item.id for item in decision.reasons] or [item.why for item in decision.not_applied]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("motogpstream.me", ["motogp"]),
        ("www.motogpstream.me", ["motogp"]),
        ("a.b.c.d.e.f.motogpstream.me", ["motogp"]),
        (".".join(["a"] * 110) + ".motogpstream.me", ["motogp"]),
        ("mylivetv822.me", []),
        ("livetv822.me.example", []),
        ("livetv822.me-cdn.example", []),
        ("me", []),
        ("otogpstream.me", []),
    ],
)
def test_names_match_by_whole_labels(host, expected):
    """The name and everything below it; never a longer or shorter word."""
    assert verdict(compile_orders([order()]), host) == expected


def test_a_name_without_subdomains_is_that_host_alone():
    """`subdomains: false`; a parent that is named too still covers what is below."""
    rules = compile_orders([order(names=(Name(name="cdn.livetv822.me", subdomains=False),))])
    assert verdict(rules, "cdn.livetv822.me") == ["motogp"]
    assert verdict(rules, "a.cdn.livetv822.me") == []
    assert verdict(rules, "livetv822.me") == []
    both = compile_orders([order(names=(Name(name="cdn.livetv822.me", subdomains=False), Name(name="livetv822.me")))])
    assert verdict(both, "a.cdn.livetv822.me") == ["motogp"]


@pytest.mark.parametrize(
    ("country", "expected"),
    [
        ("FR", ["motogp"]),
        ("RE", ["motogp"]),
        ("PF", [Why.OUTSIDE_TERRITORY]),
        ("DE", [Why.OUTSIDE_TERRITORY]),
        (None, [Why.UNKNOWN_LOCATION]),
    ],
)
def test_overseas_territories_have_codes_of_their_own(country, expected):
    """Only the codes of the order count; no country is the order's `unknown_location`, here allow."""
    assert verdict(compile_orders([order()]), "motogpstream.me", country) == expected


def test_unknown_location_may_be_enforced_and_the_world_needs_no_country():
    """The two ways in which a client of unknown location is covered."""
    enforce = order(unknown_location=UnknownLocation.ENFORCE)
    assert verdict(compile_orders([enforce]), "motogpstream.me", None) == ["motogp"]
    world = order(territory=Territory(world=True))
    assert verdict(compile_orders([world]), "motogpstream.me", None) == ["motogp"]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2025, 4, 3, 8, 59, 59, 999999, tzinfo=PARIS), [Why.NOT_YET_IN_FORCE]),
        (datetime(2025, 4, 3, 9, tzinfo=PARIS), ["motogp"]),
        (datetime(2025, 11, 16, 23, 59, 59, 999999, tzinfo=PARIS), ["motogp"]),
        (datetime(2025, 11, 17, tzinfo=PARIS), [Why.ENDED]),
        (datetime(2025, 11, 16, 23, tzinfo=UTC), [Why.ENDED]),  # 24:00 in Paris, in winter
    ],
)
def test_a_start_is_inclusive_and_an_end_exclusive(at, expected):
    """A bare date as end is that whole day, up to 24:00 legal time."""
    assert verdict(compile_orders([order()]), "motogpstream.me", at=at) == expected


@pytest.mark.parametrize(
    ("begins", "until", "at", "enforced"),
    [
        # 2025-03-30: 02:00 becomes 03:00; the last second before the switch and the first after it are neighbours.
        (datetime(2025, 3, 30, 3), date(2025, 4, 1), datetime(2025, 3, 30, 0, 59, 59, tzinfo=UTC), False),
        (datetime(2025, 3, 30, 3), date(2025, 4, 1), datetime(2025, 3, 30, 1, 0, 0, tzinfo=UTC), True),
        # 2025-10-26: 03:00 becomes 02:00; 02:30 comes twice, an aware time says which one.
        (datetime(2025, 10, 1), datetime(2025, 10, 26, 2, 30), datetime(2025, 10, 26, 0, 29, 59, tzinfo=UTC), True),
        (datetime(2025, 10, 1), datetime(2025, 10, 26, 2, 30), datetime(2025, 10, 26, 0, 30, 0, tzinfo=UTC), False),
        (datetime(2025, 10, 1), datetime(2025, 10, 26, 2, 30), datetime(2025, 10, 26, 1, 30, 0, tzinfo=UTC), False),
        (datetime(2025, 10, 1), datetime.fromisoformat("2025-10-26T02:30+01:00"), datetime(2025, 10, 26, 1, 29, 59, tzinfo=UTC), True),
        (datetime(2025, 10, 1), datetime.fromisoformat("2025-10-26T02:30+01:00"), datetime(2025, 10, 26, 1, 30, 0, tzinfo=UTC), False),
        # A day of 25 hours still ends at its own 24:00.
        (datetime(2025, 10, 1), date(2025, 10, 26), datetime(2025, 10, 26, 22, 59, 59, tzinfo=UTC), True),
        (datetime(2025, 10, 1), date(2025, 10, 26), datetime(2025, 10, 26, 23, 0, 0, tzinfo=UTC), False),
    ],
)  # fmt: skip
def test_both_switches_of_daylight_saving_time(begins, until, at, enforced):
    """Instants are compared as instants, never as local text."""
    rules = compile_orders([order(begins=begins, until=until)])
    assert bool(rules.decide("motogpstream.me", country="FR", at=at)) is enforced


def test_several_orders_unite_and_the_stricter_variant_wins():
    """refuse before nxdomain before nodata; close before terminate; every reason is kept."""
    first = order(id="a", measures={Measure.DNS: "nodata", Measure.PROXY: "terminate"})
    second = order(
        id="b", measures={Measure.DNS: "nxdomain", Measure.PROXY: "close"}, names=(Name(name="www.motogpstream.me"),)
    )
    third = order(id="c", measures={Measure.CDN: "disable"}, names=(Name(name="www.motogpstream.me"),))
    decision = compile_orders([third, second, first]).decide("www.motogpstream.me", country="FR", at=NOON)
    assert decision.measures == {Measure.DNS: "nxdomain", Measure.CDN: "disable", Measure.PROXY: "close"}
    assert [(reason.id, reason.name) for reason in decision.reasons] == [
        ("a", "motogpstream.me"), ("b", "www.motogpstream.me"), ("c", "www.motogpstream.me"),
    ]  # fmt: skip
    assert [reason.id for reason in decision.because(Measure.DNS)] == ["b", "a"]


def test_a_name_stays_blocked_until_the_last_order_that_names_it_ends():
    """A lifting in one order does not touch another."""
    first = order(id="a", lifted=(Lifting(names=("motogpstream.me",), at=datetime(2025, 6, 1, 12)),))
    rules = compile_orders([first, order(id="b", until=date(2025, 7, 31))])
    june = datetime(2025, 6, 2, tzinfo=PARIS)
    decision = rules.decide("motogpstream.me", country="FR", at=june)
    assert [reason.id for reason in decision.reasons] == ["b"]
    assert [(item.id, item.why) for item in decision.not_applied] == [("a", Why.LIFTED)]
    assert verdict(rules, "motogpstream.me", at=datetime(2025, 8, 1, tzinfo=PARIS)) == [Why.LIFTED, Why.ENDED]


def test_a_lifting_below_a_named_name_releases_that_part_alone():
    """The rest of the named tree stays blocked."""
    rules = compile_orders([order(lifted=(Lifting(names=("blog.motogpstream.me",), at=datetime(2025, 4, 20)),))])
    assert verdict(rules, "blog.motogpstream.me") == [Why.LIFTED]
    assert verdict(rules, "a.blog.motogpstream.me") == [Why.LIFTED]
    assert verdict(rules, "motogpstream.me") == ["motogp"]
    assert verdict(rules, "www.motogpstream.me") == ["motogp"]


def test_a_lifting_of_the_whole_order():
    """Without names, everything is released, additions too."""
    addition = Addition(notice="n", notified=datetime(2025, 4, 10), names=(Name(name="added.example"),))
    rules = compile_orders([order(additions=(addition,), lifted=(Lifting(at=datetime(2025, 4, 20)),))])
    assert verdict(rules, "motogpstream.me") == [Why.LIFTED]
    assert verdict(rules, "added.example") == [Why.LIFTED]
    assert verdict(rules, "added.example", at=datetime(2025, 4, 19, tzinfo=PARIS)) == ["motogp"]


def test_an_addition_holds_from_its_own_start_to_the_orders_end():
    """Default start: when it was notified. The notice is part of the reason."""
    later = Addition(notice="2025-118", notified=datetime(2025, 5, 2, 14, 5), names=(Name(name="hd.example"),))
    rules = compile_orders([order(additions=(later,))])
    assert verdict(rules, "hd.example") == [Why.NOT_YET_IN_FORCE]
    decision = rules.decide("www.hd.example", country="FR", at=datetime(2025, 5, 2, 14, 5, tzinfo=PARIS))
    assert [(reason.name, reason.notice) for reason in decision.reasons] == [("hd.example", "2025-118")]
    assert decision.reasons[0].until == datetime(2025, 11, 17, tzinfo=PARIS)


def test_a_name_notified_again_after_its_lifting_is_blocked_again():
    """A lifting releases what was notified before it."""
    again = Addition(notice="again", notified=datetime(2025, 6, 1), names=(Name(name="motogpstream.me"),))
    lifting = Lifting(names=("motogpstream.me",), at=datetime(2025, 4, 20))
    rules = compile_orders([order(additions=(again,), lifted=(lifting,))])
    assert verdict(rules, "motogpstream.me") == [Why.LIFTED]
    assert verdict(rules, "motogpstream.me", at=datetime(2025, 6, 2, tzinfo=PARIS)) == ["motogp"]


def test_windows_enforce_only_inside_themselves():
    """From inclusive, until exclusive, and the decision knows when the next one opens."""
    window = Window(begins=datetime(2025, 5, 1, 12, 30), until=datetime(2025, 5, 1, 18))
    rules = compile_orders([order(windows=(window,))])
    before = rules.decide("motogpstream.me", country="FR", at=NOON)
    assert [item.why for item in before.not_applied] == [Why.OUTSIDE_WINDOW]
    assert before.changes_at == datetime(2025, 5, 1, 12, 30, tzinfo=PARIS)
    inside = rules.decide("motogpstream.me", country="FR", at=datetime(2025, 5, 1, 12, 30, tzinfo=PARIS))
    assert inside.measures[Measure.PROXY] == "terminate"
    assert inside.changes_at == datetime(2025, 5, 1, 18, tzinfo=PARIS)
    assert inside.reasons[0].until == datetime(2025, 11, 17, tzinfo=PARIS)
    assert verdict(rules, "motogpstream.me", at=datetime(2025, 5, 1, 18, tzinfo=PARIS)) == [Why.OUTSIDE_WINDOW]


def test_a_duration_counts_from_its_anchor():
    """Twelve months from implementation end at 24:00 of the same day number, a year later."""
    rules = compile_orders(
        [
            order(
                until=None,
                duration=Delay(12, DelayUnit.MONTHS),
                counted_from=Anchor.IMPLEMENTED,
                implemented=datetime(2025, 4, 3, 9),
            )
        ]
    )
    decision = rules.decide("motogpstream.me", country="FR", at=NOON)
    assert decision.changes_at == datetime(2026, 4, 4, tzinfo=PARIS)


def test_a_decision_explains_itself():
    """One sentence with measure, place, order, name and end; also for what is let through."""
    rules = compile_orders([order()])
    blocked = rules.decide("www.motogpstream.me", country="FR", at=NOON, told_by="iptoasn of 2026-06-17").explain()
    assert blocked == (
        "Enforced (dns: refuse, cdn: disable, proxy: terminate) for a client in FR (iptoasn of 2026-06-17): "
        "order motogp of Tribunal judiciaire de Paris names motogpstream.me, until 2025-11-17T00:00:00+01:00."
    )
    spared = rules.decide("www.motogpstream.me", country="DE", at=NOON).explain()
    assert spared == (
        "Let through for a client in DE: order motogp of Tribunal judiciaire de Paris names motogpstream.me, "
        "but the client is outside its territory."
    )
    assert rules.decide("example.com", at=NOON).explain() == "Let through: no order names this host."
    assert rules.decide("a b", at=NOON).malformed


def test_the_revision_is_a_digest_of_what_the_orders_say():
    """The same orders in any sequence have one revision; a changed instant is another revision."""
    first, second = order(id="a"), order(id="b")
    assert compile_orders([first, second]).revision == compile_orders([second, first]).revision
    assert compile_orders([first]).revision != compile_orders([first, second]).revision
    assert compile_orders([order(until=date(2025, 11, 17))]).revision != compile_orders([order()]).revision
    assert compile_orders([]).revision.startswith("sha256:")


def test_covered_names_change_at_every_start_and_end():
    """What a cache owes a purge is the difference of two answers, liftings included."""
    lifted = (Lifting(names=("blog.motogpstream.me",), at=datetime(2025, 4, 20)),)
    rules = compile_orders([order(names=(Name(name="motogpstream.me"),), lifted=lifted)])

    def covered(at):
        return rules.covered_names(Measure.CDN, at.replace(tzinfo=PARIS))

    assert covered(datetime(2025, 4, 3, 8, 59)) == frozenset()
    assert covered(datetime(2025, 4, 3, 9)) == {("motogpstream.me", True), ("blog.motogpstream.me", True)}
    assert covered(datetime(2025, 4, 20)) == {("motogpstream.me", True)}
    assert covered(datetime(2025, 11, 17)) == frozenset()


def test_next_change_is_the_first_later_instant():
    """An instant itself is not later than itself; after the last one there is none."""
    rules = compile_orders([order()])
    start, end = datetime(2025, 4, 3, 9, tzinfo=PARIS), datetime(2025, 11, 17, tzinfo=PARIS)
    assert rules.next_change(start - timedelta(seconds=1)) == start
    assert rules.next_change(start) == end
    assert rules.next_change(end) is None


def test_names_files_are_names():
    """A names file covers like listed names, and its lines are remembered for explanations."""
    names_file = NamesFile(file="annex.txt", names=("a.example", "b.example"), lines=(2, 5))
    rules = compile_orders([order(names=(), names_file=names_file)])
    decision = rules.decide("www.b.example", country="FR", at=NOON)
    assert str(decision.reasons[0].position) == "annex.txt:5"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"until": None}, "no end, no enforcement"),
        ({"names": ()}, "lists no name"),
        ({"measures": {}}, "no measure"),
        ({"measures": {Measure.PROXY: "refuse"}}, "does not exist"),
        ({"names": (Name(name="MotoGPStream.me"),)}, "is not in canonical form; 'motogpstream.me' is"),
        ({"names": (Name(name="a b"),)}, "holds 2 names or words"),
        ({"names": (Name(name="co.uk"),)}, "is a public suffix"),
        ({"names": (Name(name="com"),)}, "com"),
        ({"names": (Name(name="*.foo.com"),)}, "is a wildcard"),
        ({"names": [Name(name="a.example")]}, "is no tuple of Name"),
        ({"names": ("a.example",)}, "is no tuple of Name"),
        ({"territory": Territory()}, "is empty; give ISO 3166-1"),
        ({"territory": Territory(countries=frozenset({"fr"}))}, "'fr' is no ISO 3166-1"),
        ({"territory": ["FR"]}, "give a Territory"),
        ({"until": date(2025, 1, 1)}, "ends before it starts"),
        ({"duration": Delay(1, DelayUnit.MONTHS), "counted_from": Anchor.DECIDED}, "are both given"),
        ({"until": None, "duration": Delay(1, DelayUnit.MONTHS), "counted_from": Anchor.IMPLEMENTED}, "implemented"),
        ({"id": "A B"}, "is no id"),
        ({"claimant": ""}, "goes into the notice"),
        ({"lifted": (Lifting(names=("A.example",), at=datetime(2025, 5, 1)),)}, "is not in canonical form"),
        ({"timezone": "Europe/Atlantis"}, "no IANA time zone"),
    ],
)
def test_an_order_built_in_python_is_checked(changes, words):
    """What the types cannot say is refused when the orders are compiled."""
    with pytest.raises(OrderError, match=words):
        compile_orders([order(**changes)])


def test_two_orders_with_one_id_are_refused():
    """Ids are unique in a rule set."""
    with pytest.raises(OrderError, match="another order has the id motogp"):
        compile_orders([order(), order()])


@pytest.mark.parametrize("country", [None, "", "XX", "ZZ", "T1", "EU", "\ud800", 5])
def test_what_is_no_country_cannot_be_told(country):
    """Placeholders of geo tables and proxies are an unknown location, which this order covers."""
    enforce = order(unknown_location=UnknownLocation.ENFORCE)
    assert verdict(compile_orders([enforce]), "motogpstream.me", country) == ["motogp"]


def test_what_does_not_apply_says_when_it_will_or_did():
    """Start, end, lifting and next window are in the words."""
    windows = (Window(begins=datetime(2025, 5, 1, 13), until=datetime(2025, 5, 1, 18)),)
    rules = compile_orders([order(windows=windows)])

    def words(at):
        return rules.decide("motogpstream.me", country="FR", at=at.replace(tzinfo=PARIS)).not_applied[0].in_words()

    assert words(datetime(2025, 4, 1)) == "it is not yet in force, from 2025-05-01T13:00:00+02:00"
    assert words(datetime(2025, 5, 1)).endswith("and none is open now, from 2025-05-01T13:00:00+02:00")
    assert words(datetime(2025, 5, 2)).endswith("and none is open now")
    assert words(datetime(2025, 12, 1)) == "it has ended, at 2025-11-17T00:00:00+01:00"
