"""What loading refuses: each mistake, where it is reported, and what the message says is wrong and would be right."""

from __future__ import annotations

import pytest


def at(problem):
    return problem.line, problem.column, problem.key


def assert_says(problem, *words):
    for word in words:
        assert word in problem.message


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        # Keys.
        ({"servd": "2025-04-02"}, (11, 1, "servd"), ["`servd` is not known", "did you mean `served`?"]),
        ({"Title": "x"}, (11, 1, "Title"), ["did you mean `title`?"]),
        ({"domains": "[x.example]"}, (11, 1, "domains"), ["did you mean `names`?"]),
        ({"expires": "2025-01-01"}, (11, 1, "expires"), ["did you mean `until`?"]),
        ({"subdomains": "true"}, (11, 1, "subdomains"), ["it belongs into `names`"]),
        ({"qqqq": "1"}, (11, 1, "qqqq"), ["is not known", "the keys here are cdnblock, id"]),
        ({"<<": "{a: b}"}, (11, 1, "'<<'"), ["merge keys", "write the keys out"]),
        ({"penalty": "{amount: 1, currency: EUR, court: x}"}, (11, 37, "penalty.court"), ["belongs to the order itself"]),
        ({"windows": "[{from: 2025-05-01, until: 2025-05-02, lable: x}]"}, (11, 49, "windows.0.lable"), ["did you mean `label`?"]),
        ({"windows": "[{from: 2025-05-01}]"}, (11, 11, "windows.0.until"), ["`until` is missing"]),
        ({"title": ""}, (11, 7, "title"), ["has no value", "title: Canal+"]),
        # Types.
        ({"cdnblock": "2"}, (1, 11, "cdnblock"), ["version `2` is not known", "this program reads `cdnblock: 1`"]),
        ({"cdnblock": '"1"'}, (1, 11, "cdnblock"), ["this program reads `cdnblock: 1`"]),
        ({"cdnblock": "true"}, (1, 11, "cdnblock"), ["this program reads `cdnblock: 1`"]),
        ({"title": "2025"}, (11, 8, "title"), ["`2025` is a number, not text", 'in quotes, "2025"']),
        ({"title": "true"}, (11, 8, "title"), ["is true or false, not text", 'in quotes, "true"']),
        ({"title": "[a]"}, (11, 8, "title"), ["there is a list where text should be"]),
        ({"title": '"  "'}, (11, 8, "title"), ["is blank"]),
        ({"title": "x" * 2001}, (11, 8, "title"), ["2,001 characters", "at most 2,000"]),
        ({"names": "site.example"}, (10, 8, "names"), ["is text, not a list"]),
        ({"names": "[]"}, (10, 8, "names"), ["is an empty list", "at least one"]),
        ({"names": "[1.5]"}, (10, 9, "names.0"), ["`1.5` is a number", "motogpstream.me"]),
        ({"names": "[[a.example]]"}, (10, 9, "names.0"), ["there is a list where text should be"]),
        ({"names": "[{note: a}]"}, (10, 9, "names.0.name"), ["`name` is missing"]),
        ({"names": "[{name: a.example, subdomains: no}]"}, (10, 39, "names.0.subdomains"), ["`no` is text, not true or false"]),
        ({"names": "[a.example, ~]"}, (10, 20, "names.1"), ["the entry has no value"]),
        ({"lifted": "{at: 2025-05-01}"}, (11, 9, "lifted"), ["is a mapping of keys, not a list"]),
        ({"windows": "[2025-05-01]"}, (11, 11, "windows.0"), ["is text, not a mapping of keys"]),
        ({"penalty": "5000"}, (11, 10, "penalty"), ["is a number, not a mapping of keys"]),
        ({"penalty": "{amount: much, currency: EUR}"}, (11, 19, "penalty.amount"), ["`much` is text, not a number"]),
        ({"penalty": "{amount: -1, currency: EUR}"}, (11, 19, "penalty.amount"), ["`-1` is out of range"]),
        ({"penalty": "{amount: 1, currency: euro}"}, (11, 32, "penalty.currency"), ["three capital letters"]),
        ({"publication": "www.site.example"}, (11, 14, "publication"), ["is no web address", "https://"]),
        ({"publication": '"https://a b"'}, (11, 14, "publication"), ["is no web address"]),
        ({"publication": '"javascript:alert(1)"'}, (11, 14, "publication"), ["is no web address"]),
        ({"title": '"a\\x07b"'}, (11, 8, "title"), ["invisible character U+0007"]),
        ({"title": '"a\\u202eb"'}, (11, 8, "title"), ["invisible character U+202E"]),
        ({"title": '"a\\u2066b"'}, (11, 8, "title"), ["invisible character U+2066"]),
        # Ids, words of a table.
        ({"id": "TJP 2025"}, (2, 5, "id"), ["`TJP 2025` is no id", "write `tjp-2025`"]),
        ({"id": "-a"}, (2, 5, "id"), ["is no id", "write `a`"]),
        ({"id": "x" * 65}, (2, 5, "id"), ["is no id", "at most 64"]),
        ({"id": '"../etc"'}, (2, 5, "id"), ["is no id"]),
        ({"measures": "{}"}, (9, 11, "measures"), ["no measure is ordered", "dns: refuse or nxdomain or nodata"]),
        ({"measures": "{http: block}"}, (9, 12, "measures.http"), ["`http` is not known", "dns, cdn, proxy"]),
        ({"measures": "{dns: refused}"}, (9, 17, "measures.dns"), ["`refused` is not known", "did you mean `refuse`?"]),
        ({"measures": "{proxy: block}"}, (9, 19, "measures.proxy"), ["`close` or `terminate`"]),
        ({"measures": "{cdn: true}"}, (9, 17, "measures.cdn"), ["`true` is not known", "write `disable`"]),
        ({"unknown_location": "block"}, (11, 19, "unknown_location"), ["`allow` or `enforce`"]),
        ({"mode": "dry-run"}, (11, 7, "mode"), ["`dry-run` is not known", "`enforce` or `report`"]),
        ({"mode": "Report"}, (11, 7, "mode"), ["`Report` is not known", "did you mean `report`?"]),
        ({"mode": "false"}, (11, 7, "mode"), ["`enforce` or `report`"]),
        ({"mode": ""}, (11, 6, "mode"), ["has no value", "`mode: enforce`"]),
        ({"report_only": "true"}, (11, 1, "report_only"), ["did you mean `mode`?"]),
        # Territory.
        ({"territory": "[]"}, (8, 12, "territory"), ["is an empty list"]),
        ({"territory": "france"}, (8, 12, "territory"), ["no preset", "`metropolitan-france` = FR", "`france-2024-10-10` = FR GP", "`france-all`"]),
        ({"territory": "[FR, fr]"}, (8, 17, "territory.1"), ["`fr` is not written as in ISO 3166-1", "write `FR`"]),
        ({"territory": "[UK]"}, (8, 13, "territory.0"), ["`GB`"]),
        ({"territory": "[EU]"}, (8, 13, "territory.0"), ["European Union is no country"]),
        ({"territory": "[XX]"}, (8, 13, "territory.0"), ["`XX` is no country code"]),
        ({"territory": "[FX]"}, (8, 13, "territory.0"), ["metropolitan France is `FR`"]),
        ({"territory": "[FR, world]"}, (8, 17, "territory.1"), ["`territory: world`, alone"]),
        ({"territory": "france-al"}, (8, 12, "territory"), ["did you mean `france-all`?"]),
        ({"territory": "[FRA]"}, (8, 13, "territory.0"), ["neither a country code nor a preset"]),
        ({"territory": "{FR: yes}"}, (8, 12, "territory"), ["there is a mapping of keys where text should be"]),
        ({"timezone": "Paris"}, (11, 11, "timezone"), ["no time zone", "did you mean `Europe/Paris`?"]),
        ({"timezone": "../../etc/passwd"}, (11, 11, "timezone"), ["no time zone", "IANA"]),
        ({"timezone": "localtime"}, (11, 11, "timezone"), ["no time zone"]),
        ({"timezone": "CEST"}, (11, 11, "timezone"), ["no time zone"]),
        # Dates and delays.
        ({"decided": "03/04/2025"}, (4, 10, "decided"), ["two days", "`2025-04-03` or `2025-03-04`"]),
        ({"decided": "28/03/2025"}, (4, 10, "decided"), ["write `2025-03-28`"]),
        ({"decided": "20250328"}, (4, 10, "decided"), ["is a number", "`2025-03-28`"]),
        ({"decided": "2025-3-28"}, (4, 10, "decided"), ["write `2025-03-28`"]),
        ({"decided": "28 mars 2025"}, (4, 10, "decided"), ["is no date as order files write it"]),
        ({"decided": "2025-02-30"}, (4, 10, "decided"), ["does not exist", "ends on 2025-02-28"]),
        ({"decided": "2025-13-01"}, (4, 10, "decided"), ["does not exist", "01 to 12"]),
        ({"decided": "0025-03-28"}, (4, 10, "decided"), ["outside the years 1990 to 2199"]),
        ({"decided": "2025-03-28T09:00"}, (4, 10, "decided"), ["has a time of day", "`2025-03-28`"]),
        ({"until": "2025-11-16T25:00"}, (7, 8, "until"), ["no time of a day"]),
        ({"until": "2025-11-16T09:00:60"}, (7, 8, "until"), ["no time of a day"]),
        ({"until": "2025-11-16T24:01"}, (7, 8, "until"), ["no time of a day"]),
        ({"until": "2025-11-16T09:00:00,5"}, (7, 8, "until"), ["is no date", "`2025-11-16T09:00`"]),
        ({"until": "2025-11-16T09:00+25:00"}, (7, 8, "until"), ["no possible offset"]),
        ({"until": "2025-11-16T09:00 Europe/Paris"}, (7, 8, "until"), ["`2025-11-16T09:00`"]),
        ({"until": "2025-11-16t09:00z"}, (7, 8, "until"), ["is no date as order files write it"]),
        ({"served": "2025-04-02", "comply_within": "3"}, (12, 16, "comply_within"), ["is a number", "`3 days`"]),
        ({"served": "2025-04-02", "comply_within": "2 weeks"}, (12, 16, "comply_within"), ["write `14 days`"]),
        ({"served": "2025-04-02", "comply_within": "1 year"}, (12, 16, "comply_within"), ["write `12 months`"]),
        ({"served": "2025-04-02", "comply_within": "48h"}, (12, 16, "comply_within"), ["write `48 hours`"]),
        ({"served": "2025-04-02", "comply_within": "3 jours"}, (12, 16, "comply_within"), ["write `3 days`"]),
        ({"served": "2025-04-02", "comply_within": "0 days"}, (12, 16, "comply_within"), ["out of range"]),
        ({"served": "2025-04-02", "comply_within": "100001 days"}, (12, 16, "comply_within"), ["1 to 100,000"]),
        ({"served": "2025-04-02", "comply_within": "3  Days"}, (12, 16, "comply_within"), ["write `3 days`"]),
        ({"served": "2025-04-02", "comply_within": "soon"}, (12, 16, "comply_within"), ["no span of time"]),
        # Contradictions.
        ({"until": "2025-03-27"}, (7, 8, "until"), ["end at 2025-03-28 00:00", "not after its start 2025-03-28 00:00"]),
        ({"from": "2025-11-17"}, (7, 8, "until"), ["end at 2025-11-17 00:00", "not after its start"]),
        ({"served": "2025-03-27"}, (11, 9, "served"), ["before the decision of 2025-03-28"]),
        ({"served": "2025-03-27T23:30"}, (11, 9, "served"), ["before the decision of 2025-03-28"]),
        ({"received": "2025-03-27"}, (11, 11, "received"), ["before the decision of 2025-03-28"]),
        ({"received": "2025-04-02T10:00", "acknowledged": "2025-04-02T09:59"}, (12, 15, "acknowledged"), ["before the order was `received`"]),
        ({"received": "2025-04-02T10:00", "acknowledged": "2025-04-01"}, (12, 15, "acknowledged"), ["before the order was `received`"]),
        ({"member_state": "EL"}, (11, 15, "member_state"), ["how Eurostat writes it", "write `GR`"]),
        ({"member_state": "fr"}, (11, 15, "member_state"), ["write `FR`"]),
        ({"member_state": "GB"}, (11, 15, "member_state"), ["no Member State", "`none`"]),
        ({"illegal_content": "copyright"}, (11, 18, "illegal_content"), ["2024/2835", "did you mean `KEYWORD_COPYRIGHT_INFRINGEMENT`?"]),
        ({"illegal_content": "KEYWORD_OTHER"}, (11, 18, "illegal_content"), ["belongs to every category"]),
        ({"illegal_content": "KEYWORD_PIRACY"}, (11, 18, "illegal_content"), ["write one such as"]),
        ({"implemented": "2025-03-27"}, (11, 14, "implemented"), ["before the decision"]),
        ({"for": "12 months", "counted_from": "decided"}, (11, 1, "for"), ["`until` and `for` are both given"]),
        ({"counted_from": "decided"}, (11, 1, "counted_from"), ["counts nothing without `for`"]),
        ({"windows": "[{from: 2025-05-02, until: 2025-05-01}]"}, (11, 37, "windows.0.until"), ["ends before it begins"]),
        ({"windows": "[{from: 2025-05-02T12:00, until: 2025-05-02T12:00}]"}, (11, 43, "windows.0.until"), ["ends before it begins"]),
        ({"windows": "[{from: 2025-03-27, until: 2025-05-01}]"}, (11, 18, "windows.0.from"), ["begins before the order does, at 2025-03-28 00:00"]),
        ({"windows": "[{from: 2025-05-02, until: 2025-11-17}]"}, (11, 37, "windows.0.until"), ["ends after the order does, at 2025-11-17 00:00"]),
        ({"additions": "[{notice: n, notified: 2025-11-17, names: [a.example]}]"}, (11, 35, "additions.0.notified"), ["after the order's end"]),
        ({"additions": "[{notice: n, notified: 2025-05-02, from: 2025-11-17, names: [a.example]}]"}, (11, 53, "additions.0.from"), ["starts after the order's end"]),
        ({"lifted": "[{at: 2025-05-01}]", "additions": "[{notice: n, notified: 2025-05-01, names: [a.example]}]"}, (12, 35, "additions.0.notified"), ["after the whole order was lifted"]),
        ({"additions": "[{notice: n, notified: 2025-05-02}]"}, (11, 13, "additions.0.names"), ["no name is listed", "`names_file`"]),
        ({"additions": "[{notified: 2025-05-02, names: [a.example]}]"}, (11, 13, "additions.0.notice"), ["`notice` is missing"]),
        ({"additions": "[{notice: n, names: [a.example]}]"}, (11, 13, "additions.0.notified"), ["`notified` is missing"]),
        ({"lifted": "[{at: 2025-05-01, names: [sit.example]}]"}, (11, 35, "lifted.0.names.0"), ["lists neither `sit.example`", "did you mean `site.example`?"]),
        ({"lifted": "[{at: 2025-05-01, names: [example]}]"}, (11, 35, "lifted.0.names.0"), ["single label"]),
        ({"lifted": "[{names: [site.example]}]"}, (11, 10, "lifted.0.at"), ["`at` is missing"]),
        ({"names": "[{name: site.example, subdomains: false}]", "lifted": "[{at: 2025-05-01, names: [a.site.example]}]"}, (11, 35, "lifted.0.names.0"), ["neither"]),
    ],
)  # fmt: skip
def test_mistake_is_reported_where_it_is_with_what_would_be_right(problems_of, lines, place, words):
    """One mistake, one problem: its line, column and key, and the words of its message."""
    (problem,) = problems_of(**lines)
    assert at(problem) == place
    assert problem.severity == "error"
    assert_says(problem, *words)


@pytest.mark.parametrize(
    "key", ["cdnblock", "id", "court", "decided", "legal_basis", "claimant", "territory", "measures"]
)
def test_missing_key_is_named_with_an_example(problems_of, key):
    """A required key that is not there is reported at the top of the file."""
    (problem,) = problems_of(without={key})
    assert at(problem) == (1, 1, key)
    assert_says(problem, f"`{key}` is missing; write for example `{key}: ")


def test_no_end_no_enforcement(problems_of):
    """Without `until` or `for` an order is refused."""
    (problem,) = problems_of(without={"until"})
    assert at(problem) == (1, 1, "until")
    assert_says(problem, "no end, no enforcement", "`until: ", "`for: ")


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        ({"for": "12 months"}, (10, 1, "for"), ["nothing to count from", "counted_from"]),
        ({"for": "12 months", "counted_from": "served"}, (11, 15, "counted_from"), ["`served` is not in this file"]),
        (
            {"for": "12 months", "counted_from": "implemented"},
            (11, 15, "counted_from"),
            ["`implemented` is not in this"],
        ),
        (
            {"for": "12 months", "counted_from": "begin"},
            (11, 15, "counted_from"),
            ["`decided` or `served` or `implemented`"],
        ),
        ({"for": "100000 months", "counted_from": "decided"}, (10, 6, "for"), ["end in 2200 or later"]),
        ({"for": "1 days", "counted_from": "decided", "from": "2025-03-30"}, (10, 6, "for"), ["not after its start"]),
    ],
)
def test_duration_needs_its_anchor(problems_of, lines, place, words):
    """`for` counts from an event that must be in the file."""
    (problem,) = problems_of(without={"until"}, **lines)
    assert at(problem) == place
    assert_says(problem, *words)


def test_no_names_at_all(problems_of):
    """An order without names, names file and additions names nothing."""
    (problem,) = problems_of(without={"names"})
    assert at(problem) == (1, 1, "names")
    assert_says(problem, "no name is listed", "`names_file`", "`additions`")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("http://x.example/y", ["a URL of the host `x.example`", "an order on a URL is not an order on its host"]),
        ("https://x.example", ["a URL of the host `x.example`"]),
        ("x.example/path", ["a URL of the host `x.example`"]),
        ("//X.example:8080/?q#f", ["a URL of the host `x.example`"]),
        ("ftp://user:secret@x.example/", ["a URL of the host `x.example`"]),
        ("http://192.0.2.1/x", ["a URL of the IP address 192.0.2.1"]),
        ("*.x.example", ["a wildcard", "write `x.example`, which already covers everything below it"]),
        ("*x.example", ["a wildcard", "`x.example`"]),
        ("live*.x.example", ["a wildcard"]),
        ("192.0.2.1", ["an IP address, which many sites may share"]),
        ("0x7f.1", ["an IP address (127.0.0.1)"]),
        ("127.1", ["an IP address (127.0.0.1)"]),
        ("2130706433.", ["an IP address (127.0.0.1)"]),
        ("2001:db8::1", ["an IP address"]),
        ("[2001:db8::1]", ["an IP address (2001:db8::1)"]),
        ("192.0.2.0/24", ["an address range (192.0.2.0/24)"]),
        ("2001:db8::/32", ["an address range"]),
        ("site.123", ["ends in a number"]),
        ("localhost", ["a single label"]),
        ("com.", ["a single label"]),
        ("a..example", ["an empty label", "`a.example`"]),
        (".a.example", ["an empty label", "`a.example`, which covers everything below it"]),
        ("a.example..", ["an empty label"]),
        ("..", ["an empty label"]),
        (".".join(["x" * 61] * 4) + ".abcdef", ["more than 253 octets"]),
        ("x" * 64 + ".example", ["more than 63 octets"]),
        ("é" * 60 + ".example", ["more than 63 octets"]),
        ("x" * 5000, ["5,000 characters"]),
        ("a.example b.example", ["2 names or words in one line", "each name on its own"]),
        ("a.example\\nb.example", ["2 names or words in one line"]),
        ("a.example,b.example", ["2 names in one line"]),
        ("a.example;b.example;c.example", ["3 names in one line"]),
        (" a.example", ["spaces around the name", "`a.example`"]),
        ("a.example:443", ["has a port", "`a.example`"]),
        ("me@a.example", ["a user before the host", "`a.example`"]),
        ("%61.example", ["percent-encoded", "`a.example`"]),
        ("a[.]example", ["dots in brackets", "`a.example`"]),
        ("xn--a.example", ["no valid internationalised name"]),
        ("xn--.example", ["no valid internationalised name"]),
        ("xn--mnchen-3ya.xn--a.example", ["no valid internationalised name"]),
        ("a$b.example", ["no host name"]),
        ("a'b.example", ["no host name"]),
        ("<a>.example", ["no host name"]),
        ("", ["the name is empty"]),
        ("co.uk", ["a public suffix", "overbroad"]),
        ("github.io", ["a public suffix"]),
        ("FR.", ["a single label"]),
        ("anything.ck", ["a public suffix"]),
        ("xn--55qx5d.cn", ["a public suffix"]),
        ("T.Me", ["`t.me` is on the protected list (protected.txt:9)", 'give `overbroad: "reason"`']),
        (
            "google.com",
            ["`google.com` stands above `drive.google.com`, which is on the protected list (protected.txt:7)"],
        ),
    ],
)
@pytest.mark.parametrize(
    ("template", "place"),
    [
        ('[ok.example, "{}"]', (10, 21, "names.1")),
        ('[ok.example, {{name: "{}", note: n}}]', (10, 28, "names.1.name")),
    ],
)
def test_refused_names(problems_of, template, place, name, words):
    """What is no host name, or more than an order can mean, in the short and in the long form."""
    (problem,) = problems_of(names=template.format(name))
    # That a name is too broad concerns the whole entry: it may stand there with a reason.
    entry = (10, 21, "names.1")
    assert at(problem) == (entry if "overbroad" in problem.message else place)
    assert_says(problem, *words)
    assert "\n" not in str(problem)


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        ({"names": "[{name: t.me, overbroad: ordered expressly}]"}, (10, 9, "names.0"), ["on the protected list", "let through: ordered expressly"]),
        ({"names": "[{name: co.uk, overbroad: a test}]"}, (10, 9, "names.0"), ["public suffix", "let through: a test"]),
        ({"names": "[a.example, b.example, A.EXAMPLE]"}, (10, 31, "names"), ["`a.example` is listed already, line 10"]),
        ({"additions": "[{notice: n, notified: 2025-05-01, names: [site.example]}]"}, (11, 55, "additions.0.names"), ["listed already, line 10"]),
        ({"lifted": "[{at: 2025-12-01}]"}, (11, 15, "lifted.0.at"), ["after the order's end"]),
        ({"from": "2025-03-01"}, (11, 7, "from"), ["before the decision"]),
        ({"comply_within": "3 days"}, (11, 1, "comply_within"), ["no deadline without the date of service"]),
        ({"from": "2025-03-30T02:30"}, (11, 7, "from"), ["does not exist in Europe/Paris", "2025-03-30T03:30+02:00"]),
        ({"from": "2025-10-26T02:30"}, (11, 7, "from"), ["comes twice", "the first one, 2025-10-26T02:30+02:00"]),
        ({"timezone": "Europe/London", "from": "2025-03-30T01:30"}, (12, 7, "from"), ["does not exist in Europe/London"]),
        ({"windows": "[{from: 2025-10-25T20:00, until: 2025-10-26T02:15}]"}, (11, 43, "windows.0.until"), ["comes twice"]),
    ],
)  # fmt: skip
def test_warnings_let_the_order_through(parse, least, lines, place, words):
    """What is odd but has a meaning is reported and loads."""
    order, (problem,) = parse(least(**lines))
    assert order is not None
    assert at(problem) == place
    assert problem.severity == "warning"
    assert_says(problem, *words)


def test_written_offset_is_certain(parse, least):
    """With its offset, a time of the doubled hour deserves no warning."""
    assert parse(least(from_="2025-10-26T02:30+01:00"))[1] == ()


def test_empty_reason_is_no_reason(problems_of):
    """`overbroad` wants a written reason."""
    (problem,) = problems_of(names='[{name: t.me, overbroad: " "}]')
    assert at(problem) == (10, 33, "names.0.overbroad")


def test_all_problems_at_once(parse):
    """Mistakes of every kind in one file are reported together, in the order of their lines."""
    text = """\
cdnblock: 1
id: An Order
court: Tribunal judiciaire de Paris
court: Cour d'appel
decided: 28/03/2025
legal_basis: !!str x
claimant:
untill: 2025-11-16
territory: [FR, UK]
measures: {dns: block}
names:
  - good.example
  - http://bad.example/
  - co.uk
  - 12
  - good.example
names_file: annex.txt
windows: [{from: tomorrow, until: 2025-05-01}]
"""
    order, problems = parse(text, {"annex.txt": b"fine.example\n*.bad.example\n"})
    assert order is None
    assert [f"{problem.file}:{problem.line} {problem.key}" for problem in problems] == [
        "orders/an-order.yaml:1 until",
        "orders/an-order.yaml:2 id",
        "orders/an-order.yaml:4 court",
        "orders/an-order.yaml:5 decided",
        "orders/an-order.yaml:6 legal_basis",
        "orders/an-order.yaml:7 claimant",
        "orders/an-order.yaml:8 untill",
        "orders/an-order.yaml:9 territory.1",
        "orders/an-order.yaml:10 measures.dns",
        "orders/an-order.yaml:13 names.1",
        "orders/an-order.yaml:14 names.2",
        "orders/an-order.yaml:15 names.3",
        "orders/an-order.yaml:16 names",
        "orders/an-order.yaml:18 windows.0.from",
        "orders/annex.txt:2 names_file",
    ]


def test_problem_reads_as_editors_jump(problems_of):
    """FILE:LINE:COLUMN: KEY: what is wrong; what would be right."""
    (problem,) = problems_of(servd="x")
    assert str(problem) == "orders/an-order.yaml:11:1: servd: the key `servd` is not known; did you mean `served`?"


def test_columns_count_characters(problems_of):
    """A character is one column, however many octets it has."""
    (problem,) = problems_of(names='["é😀.example", co.uk]')
    assert at(problem) == (10, 23, "names.1")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.txt", ["cannot be read (No such file or directory)", "beside this one"]),
        ("../annex.txt", ["not the name of a file beside this one"]),
        ("/etc/passwd", ["not the name of a file beside this one"]),
        ("lists/annex.txt", ["not the name of a file beside this one"]),
        (".hidden", ["not the name of a file beside this one"]),
        ("..", ["not the name of a file beside this one"]),
        ("a\\\\b", ["not the name of a file beside this one"]),
    ],
)
def test_names_file_stands_beside_the_order(problems_of, name, words):
    """Nothing outside of the orders folder is ever asked for."""
    (problem,) = problems_of(names_file=f'"{name}"')
    assert at(problem) == (11, 13, "names_file")
    assert_says(problem, *words)


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        (b"ok.example\n  http://x.example/y # seen\n", (2, 3), ["a URL of the host `x.example`"]),
        (b"ok.example\r\n\r\n*.x.example\r\n", (3, 1), ["a wildcard"]),
        (b"\xef\xbb\xbfa.example b.example\n", (1, 1), ["2 names or words in one line"]),
        (b"# c\nco.uk\n", (2, 1), ["a public suffix", "list it under `names:` with `overbroad"]),
        (b"google.com\n", (1, 1), ["stands above `drive.google.com`"]),
        (b"T.ME\n", (1, 1), ["on the protected list"]),
        (b"a.example#b\n", (1, 1), ["a URL of the host `a.example`"]),
        (b"ok.example\n\xe9t\xe9.example\n", (2, 1), ["byte 0xE9 is not UTF-8"]),
        (b"ok.example\nb\x00d.example\n", (2, 2), ["invisible character U+0000"]),
        (b"# nothing\n\n", (1, 1), ["lists no name"]),
        (b"", (1, 1), ["lists no name"]),
    ],
)
def test_names_file_problems_carry_its_own_place(problems_of, content, place, words):
    """Problems of a names file are in that file, on its line; there is no long form to let a name through."""
    (problem,) = problems_of({"annex.txt": content}, without={"names"}, names_file="annex.txt")
    assert (problem.file, problem.key) == ("orders/annex.txt", "names_file")
    assert (problem.line, problem.column) == place
    assert_says(problem, *words)


def test_names_twice_across_list_and_file(problems_of):
    """The same name in the list and in the file is a warning in the file."""
    (problem,) = problems_of({"annex.txt": b"other.example\nsite.example\n"}, names_file="annex.txt")
    assert (problem.file, problem.line, problem.severity) == ("orders/annex.txt", 2, "warning")
    assert_says(problem, "listed already, orders/an-order.yaml:10")


def test_a_hidden_character_hides_no_other_problem(problems_of):
    """All problems of a file at once, whatever else is in it."""
    found = problems_of(names='["a\u202eb.example", co.uk]', territory="[UK]")
    assert {problem.line for problem in found} >= {8, 10}
    assert any("U+202E" in problem.message for problem in found)
    assert any("public suffix" in problem.message for problem in found)
    assert any("GB" in problem.message for problem in found)


@pytest.mark.parametrize("name", ["li\u200bve.example.org", "\uff4cive.example.org", "l\u00adive.example.org"])
def test_a_name_that_does_not_come_back_from_its_ascii_form(problems_of, name):
    """A letter that only looks alike, or a character that nobody sees, is not what the court wrote."""
    (problem,) = problems_of(names=f'["{name}"]')
    assert "write `live.example.org` if the order means that" in problem.message
