"""The plain text files of an orders folder: protected names, holidays, and the public suffixes behind them."""

from __future__ import annotations

from datetime import date

import pytest
from publicsuffixlist import PublicSuffixList

from cdnblock.orders.calendar import french_public_holidays
from cdnblock.orders.holidays import parse_holidays
from cdnblock.orders.protected import Protected, parse_protected
from cdnblock.orders.territories import COUNTRIES, PRESETS

LISTED = Protected({"drive.google.com": "protected.txt:1", "t.me": "protected.txt:2", "arpa": "protected.txt:3"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("drive.google.com", "is on the protected list (protected.txt:1)"),
        ("google.com", "stands above `drive.google.com`"),
        ("t.me", "is on the protected list (protected.txt:2)"),
        ("co.uk", "is a public suffix"),
        ("blogspot.com", "is a public suffix"),
        ("a.b.drive.google.com", None),
        ("docs.google.com", None),
        ("mydrive.google.com", None),
        ("xt.me", None),
        ("site.co.uk", None),
        ("www.ck", None),
    ],
)
def test_what_is_too_broad(name, words):
    """A public suffix, a protected name and what stands above one; never what stands below or beside."""
    said = LISTED.too_broad(name)
    assert said is None if words is None else words in said
    assert LISTED.maybe_too_broad([name, "site.example"]) - {"www.ck"} == ({name} if words else set())


def test_bulk_check_overlooks_no_public_suffix():
    """Every rule of the public suffix list, and a name below each, is judged in bulk as it is one by one."""
    one_by_one = PublicSuffixList()
    rules = [rule.lstrip("!*.") for rule in one_by_one._publicsuffix]
    names = [name for rule in rules for name in (rule, f"any.{rule}")]
    public = {name for name in names if one_by_one.is_public(name)}
    assert len(public) > 5_000
    assert public <= Protected().maybe_too_broad(names)


def test_protected_list_reads_what_people_write():
    """Comments, upper case, a top-level domain; a line that is no name is reported and the rest still protects."""
    text = b"# ours\nEdge.Example. # operator\n\nhttp://x.example/\nm\xc3\xbcnchen.example\narpa\n"
    protected, (problem,) = parse_protected(text, "orders/protected.txt", "protected.txt")
    assert protected.names == {
        "edge.example": "protected.txt:2",
        "xn--mnchen-3ya.example": "protected.txt:5",
        "arpa": "protected.txt:6",
    }
    assert str(problem).startswith("orders/protected.txt:4:1: file: `http://x.example/` is a URL")


def test_protected_lists_add_up():
    """The operator's own list comes on top of the shipped one."""
    both = Protected({"a.example": "one:1"}) | Protected({"b.example": "two:1"})
    assert both.too_broad("a.example") is not None
    assert both.too_broad("b.example") is not None


def test_holidays_add_and_remove_days():
    """A date adds, `-date` removes, later lines win; other years keep the French ones."""
    holidays, problems = parse_holidays(b"# Alsace\n2025-12-26\n-2025-11-11 # works\n2025-04-18\n-2025-04-18\n", "h")
    assert problems == ()
    assert holidays(2025) == (french_public_holidays(2025) | {date(2025, 12, 26)}) - {date(2025, 11, 11)}
    assert holidays(2026) == french_public_holidays(2026)


@pytest.mark.parametrize(
    ("line", "words"),
    [(b"26/12/2025", "`2025-12-26`"), (b"-2025-02-30", "does not exist"), (b"Christmas", "is no date")],
)
def test_wrong_holidays_are_reported(line, words):
    """What is no date is a problem at its line, and the other lines hold."""
    holidays, (problem,) = parse_holidays(b"2025-12-24\n" + line + b"\n", "holidays.txt")
    assert (problem.line, problem.column) == (2, 1)
    assert words in problem.message
    assert date(2025, 12, 24) in holidays(2025)


@pytest.mark.parametrize("parse", [parse_holidays, parse_protected])
def test_bytes_that_are_no_text(parse):
    """Neither list is half-read."""
    _, (problem,) = parse(b"2025-12-24\n\xff\n", "f")
    assert (problem.line, problem.column) == (2, 1)


def test_countries_are_those_of_iso_3166_1():
    """249 codes, the thirteen French ones among them; presets hold nothing else."""
    assert len(COUNTRIES) == 249
    assert {"FR", "GP", "RE", "YT", "MQ", "GF", "WF", "NC", "TF", "PF", "PM", "BL", "MF"} == set(PRESETS["france-all"])
    assert COUNTRIES.issuperset(code for codes in PRESETS.values() for code in codes)
    assert COUNTRIES.isdisjoint({"UK", "EU", "XK", "FX", "CP", "AN", "SU", "ZZ"})
