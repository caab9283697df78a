"""Reading a trail: whole records only, chosen, and no more of the disk than need be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from trails import AT, segments, write_trail

from cdnblock.audit.reading import latest, records


@pytest.fixture
def trail(folder):
    write_trail(folder, 40)
    return folder


def numbers(found):
    return [record["names"] for record in found]


def test_all_records_come_in_their_order(trail):
    """Through all segments, those of the trail itself included."""
    assert [record["seq"] for record in records(trail)] == list(range(1, len(list(records(trail))) + 1))
    assert numbers(records(trail, order="motogp")) == list(range(1, 40, 2))


@pytest.mark.parametrize("count", [1, 5, 19, 20, 1000])
def test_the_last_records_are_those_at_the_end(trail, count):
    """As many as there are, the oldest first."""
    assert numbers(latest(trail, count, order="motogp")) == list(range(1, 40, 2))[-count:]


def test_the_last_records_need_only_the_last_segments(trail):
    """Nothing is read of those before: they may be what they like."""
    for path in segments(trail)[:-2]:
        path.unlink()
        path.mkdir()
    assert numbers(latest(trail, 2, order="motogp")) == [37, 39]
    with pytest.raises(OSError, match="regular file"):
        latest(trail, 100)


def test_rubbish_is_passed_over(trail):
    """Half lines, other JSON, other octets: nothing of it is a record, and nothing raises."""
    rubbish = [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"at"',
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b"x" * 2_000_000,
        b'{"at":7}',
        b'{"seq":',
    ]
    before = list(records(trail))
    path = segments(trail)[1]
    path.write_bytes(b"\n".join([*rubbish, path.read_bytes(), b'{"seq":99,"at"']))
    assert list(records(trail)) == before


def test_times_choose_from_one_instant_until_before_another(trail):
    """In any time zone."""
    since, until = (datetime.fromtimestamp(AT + seconds, UTC) for seconds in (10, 14))
    found = numbers(record for record in records(trail, since=since, until=until) if "names" in record)
    assert found == [10, 11, 12, 13]
