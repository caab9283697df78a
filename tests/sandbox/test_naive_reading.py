"""The naive second reading against expectations that were written by hand, from the files, with a calendar."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from cdnblock.errors import ConfigError
from cdnblock.sandbox import naive_reading

EXAMPLES = naive_reading.read(Path(__file__).parents[2] / "examples" / "orders")
ALL_THREE = {"dns": "refuse", "cdn": "disable", "proxy": "terminate"}
DNS_AND_PROXY = {"dns": "refuse", "proxy": "terminate"}
ONLY_DNS = {"dns": "refuse"}
UNCACHED = {"cdn": "disable"}
CLOSED = {"dns": "nxdomain", "proxy": "close"}


@pytest.mark.parametrize(
    ("host", "country", "at", "expected"),
    [
        # MotoGP: from 28 March 2025, 00:00 in Paris (23:00 UTC the day before), to 16 November 2025, 24:00 (23:00 UTC).
        ("motogpstream.me", "FR", "2025-03-27T22:59:59Z", {}),
        ("motogpstream.me", "FR", "2025-03-27T23:00:00Z", ALL_THREE),
        ("motogpstream.me", "FR", "2025-11-16T22:59:59Z", ALL_THREE),
        ("motogpstream.me", "FR", "2025-11-16T23:00:00Z", {}),
        ("WWW.MotoGPstream.me.", "FR", "2025-06-01T10:00Z", ALL_THREE),
        ("motogpstream.me:8080", "RE", "2025-06-01T10:00Z", ALL_THREE),
        ("motogpstream.me", "PF", "2025-06-01T10:00Z", {}),
        ("motogpstream.me", "DE", "2025-06-01T10:00Z", {}),
        ("motogpstream.me", None, "2025-06-01T10:00Z", {}),
        ("mymotogpstream.me", "FR", "2025-06-01T10:00Z", {}),
        ("motogpstream.me.example", "FR", "2025-06-01T10:00Z", {}),
        ("me", "FR", "2025-06-01T10:00Z", {}),
        # Allostreaming: twelve months from implementation on 16 December 2013, 10:00, so to 16 December 2014, 24:00.
        ("dpstream.tv", "FR", "2013-12-16T08:59:59Z", {}),
        ("dpstream.tv", "FR", "2013-12-16T09:00:00Z", ONLY_DNS),
        ("dpstream.tv", "PF", "2014-12-16T22:59:59Z", ONLY_DNS),
        ("dpstream.tv", "FR", "2014-12-16T23:00:00Z", {}),
        # Formula 1: the mainland only; the parent of a single host stays reachable, its own parent does not.
        ("cdn.livetv822.me", "FR", "2025-08-01T12:00Z", DNS_AND_PROXY),
        ("img.livetv822.me", "FR", "2025-08-01T12:00Z", DNS_AND_PROXY),
        ("mylivetv822.me", "FR", "2025-08-01T12:00Z", {}),
        ("livetv822.me", "RE", "2025-08-01T12:00Z", {}),
        # Its additions start at their `from`, 15:00 in Paris, or when they were notified, and end with the order.
        ("cdn.grandprix-mirror.example", "FR", "2025-09-05T12:59:59Z", {}),
        ("cdn.grandprix-mirror.example", "FR", "2025-09-05T13:00:00Z", DNS_AND_PROXY),
        ("www.cdn.grandprix-mirror.example", "FR", "2025-09-05T13:00:00Z", {}),
        ("grandprix-mirror.example", "FR", "2025-09-05T13:00:00Z", {}),
        ("grandprix-replay.example", "FR", "2025-10-03T07:29:59Z", {}),
        ("grandprix-replay.example", "FR", "2025-10-03T07:30:00Z", DNS_AND_PROXY),
        ("grandprix-replay.example", "FR", "2025-12-07T22:59:59Z", DNS_AND_PROXY),
        ("grandprix-replay.example", "FR", "2025-12-07T23:00:00Z", {}),
        # Its lifting: 20 October 2025, 12:00 in Paris, for this name alone.
        ("grandprix-live.example", "FR", "2025-10-20T09:59:59Z", DNS_AND_PROXY),
        ("grandprix-live.example", "FR", "2025-10-20T10:00:00Z", {}),
        ("cdn.grandprix-mirror.example", "FR", "2025-10-20T10:00:00Z", DNS_AND_PROXY),
        # Köln: the cache alone, in Germany alone.
        ("ddl-music.to", "DE", "2024-06-01T00:00Z", UNCACHED),
        ("ddl-music.to", "FR", "2024-06-01T00:00Z", {}),
        ("ddl-music.to", "DE", "2024-11-03T23:00:00Z", {}),
        # Windows, one of them in the night in which the clocks go forward; unknown places are covered.
        ("live-football.example", "DE", "2025-02-09T12:59:59Z", {}),
        ("live-football.example", "DE", "2025-02-09T13:00:00Z", CLOSED),
        ("live-football.example", None, "2025-02-09T16:29:59Z", CLOSED),
        ("live-football.example", "FR", "2025-02-09T16:30:00Z", {}),
        ("live-football.example", "FR", "2025-03-30T00:00:00Z", CLOSED),
        ("live-football.example", "FR", "2025-03-30T01:59:59Z", CLOSED),
        ("live-football.example", "FR", "2025-03-30T02:00:00Z", {}),
        ("live-football.example", "RE", "2025-02-09T13:00:00Z", {}),
    ],
)
def test_the_examples_read_by_hand(host: str, country: str | None, at: str, expected: dict[str, str]) -> None:
    """What each example order says of a host, a country and an instant."""
    assert naive_reading.measures(EXAMPLES, host, country, datetime.fromisoformat(at)) == expected


ORDER = """
id: order
decided: 2025-01-10
territory: [FR]
measures: {proxy: terminate}
names: [blocked.example]
until: 2025-12-31
"""
BLOCKED_AGAIN = """
lifted: [{names: [blocked.example], at: 2025-06-01}]
additions: [{notice: again, notified: 2025-07-01T00:00, names: [blocked.example]}]
"""


@pytest.mark.parametrize(
    ("changes", "host", "country", "at", "expected"),
    [
        ("served: 2025-01-20T18:00", "blocked.example", "FR", "2025-01-19T22:59:59Z", False),
        ("served: 2025-01-20T18:00", "blocked.example", "FR", "2025-01-19T23:00:00Z", True),
        ("timezone: Europe/London", "blocked.example", "FR", "2025-12-31T23:59:59Z", True),
        ("until: 2025-06-01T12:00+02:00", "blocked.example", "FR", "2025-06-01T09:59:59Z", True),
        ("until: 2025-06-01T12:00+02:00", "blocked.example", "FR", "2025-06-01T10:00:00Z", False),
        ("territory: world", "blocked.example", None, "2025-06-01T10:00Z", True),
        ("territory: [DE, france-all]", "blocked.example", "MF", "2025-06-01T10:00Z", True),
        ("names_file: annex.txt", "annexed.example", "FR", "2025-06-01T10:00Z", True),
        ("names_file: annex.txt", "a.annexed.example", "FR", "2025-06-01T10:00Z", True),
        ("names_file: annex.txt", "comment.example", "FR", "2025-06-01T10:00Z", False),
        ("names: [bücher.example]", "xn--bcher-kva.example", "FR", "2025-06-01T10:00Z", True),
        ("lifted: [{at: 2025-06-01T12:00}]", "blocked.example", "FR", "2025-06-01T09:59:59Z", True),
        ("lifted: [{at: 2025-06-01T12:00}]", "blocked.example", "FR", "2025-06-01T10:00:00Z", False),
        (
            "lifted: [{names: [a.blocked.example], at: 2025-06-01}]",
            "b.a.blocked.example",
            "FR",
            "2025-07-01T00:00Z",
            False,
        ),
        ("lifted: [{names: [a.blocked.example], at: 2025-06-01}]", "blocked.example", "FR", "2025-07-01T00:00Z", True),
        (
            BLOCKED_AGAIN,
            "blocked.example",
            "FR",
            "2025-07-02T00:00Z",
            True,
        ),
    ],
)
def test_single_rules(tmp_path: Path, changes: str, host: str, country: str | None, at: str, expected: bool) -> None:
    """One rule at a time, on a small order."""
    keys = {line.partition(":")[0] for line in changes.splitlines()}
    kept = [line for line in ORDER.splitlines() if line.partition(":")[0] not in keys]
    (tmp_path / "annex.txt").write_text("# comment.example\n\nannexed.example  # page 3\n", encoding="utf-8")
    (tmp_path / "order.yaml").write_text("\n".join([*kept, changes]), encoding="utf-8")
    found = naive_reading.measures(naive_reading.read(tmp_path), host, country, datetime.fromisoformat(at))
    assert found == ({"proxy": "terminate"} if expected else {})


@pytest.mark.parametrize(
    ("duration", "implemented", "end"),
    [
        ("12 months", "2013-12-16T10:00", "2014-12-16T23:00:00+00:00"),
        ("1 month", "2025-01-31", "2025-02-28T23:00:00+00:00"),
        ("6 months", "2025-08-31", "2026-02-28T23:00:00+00:00"),
        ("3 days", "2025-10-24", "2025-10-27T23:00:00+00:00"),
        ("1 day", "2025-03-29", "2025-03-30T22:00:00+00:00"),
        ("48 hours", "2025-10-25T12:00", "2025-10-27T10:00:00+00:00"),
        ("30 minutes", "2025-05-02T14:05", "2025-05-02T12:35:00+00:00"),
    ],
)
def test_durations(duration: str, implemented: str, end: str) -> None:
    """Days and months end at 24:00 of their last day in Paris, hours and minutes run on."""
    paper = {"id": "x", "for": duration, "counted_from": "implemented", "implemented": implemented}
    assert naive_reading.end(paper) == datetime.fromisoformat(end)


def test_what_it_cannot_count_it_says() -> None:
    """Working days need a calendar of holidays, which would no longer be naive."""
    with pytest.raises(ConfigError, match="working days"):
        naive_reading.end({"id": "x", "for": "5 working days", "counted_from": "served", "served": "2025-01-01"})


def test_the_stricter_variant_wins() -> None:
    """Two orders on one name: the union of their measures, refuse before nxdomain, close before terminate."""
    base = {"decided": "2025-01-01", "until": "2025-12-31", "territory": "world", "names": ["a.example"]}
    papers = [
        {**base, "id": "one", "measures": {"dns": "nodata", "proxy": "close"}},
        {**base, "id": "two", "measures": {"dns": "nxdomain", "cdn": "disable", "proxy": "terminate"}},
    ]
    at = datetime.fromisoformat("2025-06-01T00:00Z")
    assert naive_reading.measures(papers, "a.example", None, at) == {
        "dns": "nxdomain",
        "cdn": "disable",
        "proxy": "close",
    }
