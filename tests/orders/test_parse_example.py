"""The complete example of the order file's page, field by field."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from cdnblock.orders.calendar import deadline, ends_at, starts_at, windows_of
from cdnblock.orders.model import (
    Addition,
    Anchor,
    Delay,
    DelayUnit,
    Lifting,
    Measure,
    Mode,
    Name,
    Penalty,
    Position,
    Territory,
    UnknownLocation,
    Window,
)

EXAMPLE = """\
cdnblock: 1                                # format version; required
id: tjp-2025-03-28-motogp                  # required; [a-z0-9][a-z0-9._-]{0,63}; unique in the folder
title: Canal+ v. Cloudflare (MotoGP 2025)
court: Tribunal judiciaire de Paris        # required
case: RG 25/00000                          # docket number
decided: 2025-03-28                        # required; date of the decision
legal_basis: Code du sport, art. L. 333-10 # required; goes into the 451 notice
claimant: Société d'édition de Canal Plus  # required; goes into the 451 notice
addressee: Cloudflare                      # whom the order binds (the operator of this edge)
served: 2025-04-02                         # signification; the deadline's clock starts here
comply_within: 3 days                      # N minutes|hours|days|working days|months
implemented: 2025-04-03T09:00              # when enforcement really began; some durations count from here
from: 2025-04-03T09:00                     # enforcement starts; default: 00:00 of `served`, else of `decided`
until: 2025-11-16                          # a bare date is that whole day, up to 24:00; or a date-time (exclusive)
# instead of until:
# for: 12 months
# counted_from: implemented                # decided | served | implemented
timezone: Europe/Paris                     # default; times without an offset are legal time there
territory: [FR, GP, RE, YT, MQ, GF, WF, NC, TF]   # required; ISO 3166-1 alpha-2, or a preset name, or `world`
unknown_location: allow                    # allow (default) | enforce: a client whose country cannot be told
measures:                                  # required; at least one; each is a separate duty
  dns: refuse                              # refuse (REFUSED + EDE 16) | nxdomain | nodata
  cdn: disable                             # caching off for these names
  proxy: terminate                         # terminate (HTTP 451) | close (connection closed, no answer)
names:                                     # required unless names_file or additions is there
  - motogpstream.me                        # the name and everything below it
  - name: cdn.livetv822.me                 # long form
    subdomains: false                      # this exact name only
    note: annex p. 3
names_file: annex.txt                      # optional; plain text beside this file, a name a line, # comments
windows:                                   # optional; enforce only inside these (live matches)
  - {from: 2025-04-13T12:30, until: 2025-04-13T18:00, label: Qatar GP}
additions:                                 # dynamic part: names notified while the order runs
  - notice: ARCOM 2025-118                 # required; the notification's own reference
    authority: ARCOM
    notified: 2025-05-02T14:05             # required
    comply_within: 3 days
    from: 2025-05-02T15:00                 # default: `notified`
    names: [motogp-hd.example]             # or names_file
lifted:                                    # names released before the end; the whole order when `names` is left out
  - names: [motogpstream.me]
    at: 2025-06-01T12:00                   # required
    reason: the site now shows lawful content
publication: https://lumendatabase.org/notices/00000000
penalty: {amount: 5000, currency: EUR, per: day and name}
costs: addressee                           # free text
contact: legal@edge.example                # goes into the 451 notice
"""

ANNEX = b"# annex\n\nlivetv821.me\nTarjetaRojaEnVivo.lat.  # as printed\n"
FILE = "orders/an-order.yaml"

EXPECTED = {
    "id": "tjp-2025-03-28-motogp",
    "title": "Canal+ v. Cloudflare (MotoGP 2025)",
    "court": "Tribunal judiciaire de Paris",
    "case": "RG 25/00000",
    "decided": date(2025, 3, 28),
    "legal_basis": "Code du sport, art. L. 333-10",
    "claimant": "Société d'édition de Canal Plus",
    "addressee": "Cloudflare",
    "served": date(2025, 4, 2),
    "comply_within": Delay(3, DelayUnit.DAYS),
    "implemented": datetime.fromisoformat("2025-04-03T09:00"),
    "begins": datetime.fromisoformat("2025-04-03T09:00"),
    "until": date(2025, 11, 16),
    "duration": None,
    "counted_from": None,
    "timezone": "Europe/Paris",
    "territory": Territory(countries=frozenset({"FR", "GP", "RE", "YT", "MQ", "GF", "WF", "NC", "TF"})),
    "unknown_location": UnknownLocation.ALLOW,
    "mode": Mode.ENFORCE,
    "measures": {Measure.DNS: "refuse", Measure.CDN: "disable", Measure.PROXY: "terminate"},
    "names": (
        Name(name="motogpstream.me", position=Position(FILE, 26, 5)),
        Name(name="cdn.livetv822.me", subdomains=False, note="annex p. 3", position=Position(FILE, 27, 5)),
    ),
    "windows": (
        Window(
            begins=datetime.fromisoformat("2025-04-13T12:30"),
            until=datetime.fromisoformat("2025-04-13T18:00"),
            label="Qatar GP",
        ),
    ),
    "additions": (
        Addition(
            notice="ARCOM 2025-118",
            authority="ARCOM",
            notified=datetime.fromisoformat("2025-05-02T14:05"),
            comply_within=Delay(3, DelayUnit.DAYS),
            begins=datetime.fromisoformat("2025-05-02T15:00"),
            names=(Name(name="motogp-hd.example", position=Position(FILE, 39, 13)),),
            position=Position(FILE, 34, 5),
        ),
    ),
    "lifted": (
        Lifting(
            names=("motogpstream.me",),
            at=datetime.fromisoformat("2025-06-01T12:00"),
            reason="the site now shows lawful content",
            position=Position(FILE, 41, 5),
        ),
    ),
    "publication": "https://lumendatabase.org/notices/00000000",
    "penalty": Penalty(amount=Decimal(5000), currency="EUR", per="day and name"),
    "costs": "addressee",
    "contact": "legal@edge.example",
    "position": Position(FILE, 2, 5),
}


@pytest.fixture
def example(parse):
    order, problems = parse(EXAMPLE, {"annex.txt": ANNEX})
    assert problems == ()
    return order


@pytest.mark.parametrize("field", EXPECTED)
def test_every_field_of_the_example_arrives(example, field):
    """What the page writes is what the order holds."""
    assert getattr(example, field) == EXPECTED[field]


def test_names_of_the_file_beside_arrive_canonical_with_their_lines(example):
    """Upper case and a last dot are fine in a names file, and each name keeps its line."""
    assert [(name.name, str(name.position)) for name in example.each_name()][2:] == [
        ("livetv821.me", "orders/annex.txt:3"),
        ("tarjetarojaenvivo.lat", "orders/annex.txt:4"),
    ]


def test_example_holds_when_it_says(example):
    """Its start, end, deadline and window, in UTC."""
    assert starts_at(example) == datetime(2025, 4, 3, 7, 0, tzinfo=UTC)
    assert ends_at(example) == datetime(2025, 11, 16, 23, 0, tzinfo=UTC)
    assert deadline(example) == datetime(2025, 4, 7, 22, 0, tzinfo=UTC)
    assert windows_of(example) == (
        (datetime(2025, 4, 13, 10, 30, tzinfo=UTC), datetime(2025, 4, 13, 16, 0, tzinfo=UTC)),
    )


@pytest.mark.parametrize("encode", [
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.replace("\n", "\r").encode(),
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: ("---\n" + text + "...\n").encode(),
    lambda text: ("%YAML 1.2\n---\n" + text).encode(),
])  # fmt: skip
def test_bytes_that_mean_the_same_read_the_same(parse, encode):
    """CRLF, CR, a byte order mark and YAML's own frame lines change nothing."""
    order, problems = parse(encode(EXAMPLE), {"annex.txt": ANNEX})
    assert problems == ()
    assert order.title == EXPECTED["title"]
    assert order.claimant == EXPECTED["claimant"]


def test_duration_in_place_of_end(parse):
    """`for` with its anchor: twelve months from implementation."""
    text = EXAMPLE.replace("until: 2025-11-16 ", "for: 12 months\ncounted_from: implemented\n# ")
    order, problems = parse(text, {"annex.txt": ANNEX})
    assert problems == ()
    assert (order.until, order.duration, order.counted_from) == (
        None,
        Delay(12, DelayUnit.MONTHS),
        Anchor.IMPLEMENTED,
    )
    assert ends_at(order) == datetime(2026, 4, 3, 22, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2025-04-03", date(2025, 4, 3)),
        ("2025-04-03T09:00", datetime.fromisoformat("2025-04-03T09:00")),
        ("2025-04-03 09:00", datetime.fromisoformat("2025-04-03T09:00")),
        ("2025-04-03T09:00:30", datetime.fromisoformat("2025-04-03T09:00:30")),
        ("2025-04-03T09:00Z", datetime(2025, 4, 3, 9, 0, tzinfo=UTC)),
        ("2025-04-03T09:00+02:00", datetime(2025, 4, 3, 9, 0, tzinfo=timezone(timedelta(hours=2)))),
        ("2025-04-03T09:00:00-10:30", datetime(2025, 4, 3, 9, 0, tzinfo=timezone(-timedelta(hours=10, minutes=30)))),
        ("2025-04-03T24:00", datetime.fromisoformat("2025-04-04T00:00")),
        ("2025-04-03T09:00:00.25+02:00", datetime.fromisoformat("2025-04-03T09:00:00.250+02:00")),
        ("2025-12-31T24:00:00", datetime.fromisoformat("2026-01-01T00:00")),
        ('"2025-04-03"', date(2025, 4, 3)),
    ],
)
def test_dates_and_times_arrive_as_written(parse, least, written, moment):
    """A bare date, legal time, or an instant with its offset; 24:00 is the next day's 00:00."""
    order, problems = parse(least(served=written, until="2026-11-16"))
    assert problems == ()
    assert order.served == moment
    assert type(order.served) is type(moment)
    assert getattr(order.served, "tzinfo", None) == getattr(moment, "tzinfo", None)


@pytest.mark.parametrize(
    ("written", "delay"),
    [
        ("30 minutes", Delay(30, DelayUnit.MINUTES)),
        ("1 hour", Delay(1, DelayUnit.HOURS)),
        ("48 hours", Delay(48, DelayUnit.HOURS)),
        ("3 days", Delay(3, DelayUnit.DAYS)),
        ("5 working days", Delay(5, DelayUnit.WORKING_DAYS)),
        ("1 working day", Delay(1, DelayUnit.WORKING_DAYS)),
        ("18 months", Delay(18, DelayUnit.MONTHS)),
    ],
)
def test_delays_arrive_as_written(parse, least, written, delay):
    """An amount and one of five units."""
    order, problems = parse(least(served="2025-04-02", comply_within=written))
    assert problems == ()
    assert order.comply_within == delay


@pytest.mark.parametrize(
    ("written", "countries"),
    [
        ("FR", "FR"),
        ("[FR, PF]", "FR PF"),
        ("metropolitan-france", "FR"),
        ("france-2024-10-10", "FR GF GP MQ NC RE TF WF YT"),
        ("france-all", "BL FR GF GP MF MQ NC PF PM RE TF WF YT"),
        ("[france-2024-10-10, PF, BE]", "BE FR GF GP MQ NC PF RE TF WF YT"),
        ("[NO]", "NO"),
        ("world", "world"),
    ],
)
def test_territories_arrive_expanded(parse, least, written, countries):
    """Presets become explicit codes; Norway is a country, not a `false`."""
    order, problems = parse(least(territory=written))
    assert problems == ()
    assert str(order.territory) == countries


def test_scalars_follow_yaml_1_2(parse, least):
    """What YAML 1.1 would turn into numbers and truths stays the text that was written."""
    order, problems = parse(least(title="20:45", case="017", addressee="yes", costs="1_000", contact="2025-01-01"))
    assert problems == ()
    assert (order.title, order.case, order.addressee, order.costs, order.contact) == (
        "20:45",
        "017",
        "yes",
        "1_000",
        "2025-01-01",
    )


@pytest.mark.parametrize(
    ("written", "mode"), [("report", Mode.REPORT), ("enforce", Mode.ENFORCE), ('"report"', Mode.REPORT)]
)
def test_an_order_may_be_reported_only(parse, least, written, mode):
    """`mode: report` is a dry run; whoever says nothing of it means to enforce."""
    order, problems = parse(least(mode=written))
    assert problems == ()
    assert order.mode is mode
    assert parse(least())[0].mode is Mode.ENFORCE


def test_aliases_repeat_what_they_name(parse, least):
    """A small anchor may be used again inside of one file."""
    names = "&listed [a.example, b.example]"
    lifted = "[{at: 2025-05-01, names: *listed}]"
    order, problems = parse(least(names=names, lifted=lifted))
    assert problems == ()
    assert order.lifted[0].names == ("a.example", "b.example")


def test_additions_alone_are_enough(parse, least):
    """An order may begin with no name of its own."""
    additions = "[{notice: n, notified: 2025-05-01, names: [a.example]}]"
    order, problems = parse(least(without={"names"}, additions=additions))
    assert problems == ()
    assert (order.names, order.size()) == ((), 1)


def test_lifting_below_a_listed_name_is_a_carve_out(parse, least):
    """A name below a listed one can be released alone."""
    order, problems = parse(least(lifted="[{at: 2025-05-01, names: [shop.site.example]}]"))
    assert problems == ()
    assert order.lifted[0].names == ("shop.site.example",)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("Site.Example", "site.example"),
        ("site.example.", "site.example"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example"),
        ("site。example", "site.example"),
        ("_live.site.example", "_live.site.example"),
        ("-a.site.example", "-a.site.example"),
        ('"1.site.example"', "1.site.example"),
        ("x" * 63 + ".example", "x" * 63 + ".example"),
        (".".join(["x" * 61] * 4) + ".abcde", ".".join(["x" * 61] * 4) + ".abcde"),
        ("www.ck", "www.ck"),
        ("files.drive.google.com", "files.drive.google.com"),
    ],
)
def test_names_come_out_canonical(parse, least, written, canonical):
    """Case, one last dot, U-labels and their A-labels are one name; below a protected name is fine."""
    order, problems = parse(least(names=f"[{written}]"))
    assert problems == ()
    assert [name.name for name in order.names] == [canonical]
