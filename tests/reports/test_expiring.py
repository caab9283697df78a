"""What is about to end, and what exported configuration still carries of what is over."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from order_texts import order_text

from cdnblock.cli.export import put
from cdnblock.errors import ConfigError
from cdnblock.exporters import EXPORTERS, Options, export, load
from cdnblock.geo.interval_table import Interval, Origin, build_table
from cdnblock.reports.expiring import expiring_report, left_in_words
from cdnblock.reports.native import Why, read_native, read_natives
from cdnblock.sources.order_folder import load_orders

AT = datetime(2025, 5, 1, 12, tzinfo=UTC)
LATER = datetime(2025, 12, 1, 12, tzinfo=UTC)
TABLE = build_table(Origin(source="test table", built=date(2026, 1, 1)), [(4, Interval(0xCB007100, 0xCB007200, "FR"))])
MEASURES = "{dns: nxdomain, cdn: disable, proxy: terminate}"
# What a target wants to be told, and whether its files show names as text.
NEEDS = {
    "haproxy": {"settings": {"defaults": "base"}},
    "bind": {"settings": {"view": "/etc/bind/every-view.conf"}},
    "unbound": {"settings": {"clients": "any"}},
    "domains": {"clients_in": "FR"},
    "hosts": {"clients_in": "FR"},
    "dnsmasq": {"clients_in": "FR"},
    "adblock": {"clients_in": "FR"},
}
HIDES_NAMES = {"dnsdist"}  # a table of hashed keys


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    write(folder, "short", until="2025-11-16", names="[short.example, both.example, freed.example]")
    write(folder, "long", until="2035-11-16", names="[long.example, both.example]")
    return folder


def write(folder, order_id, more="", **keys):
    text = order_text(id=order_id, measures=MEASURES, **{"begins": "2025-04-03T09:00"} | keys)
    (folder / f"{order_id}.yaml").write_text(text + more)


def exported(target, orders, out, at=AT):
    needs = NEEDS.get(target, {})
    done = export(
        load(target), load_orders(orders), TABLE, at, Options(folder=str(out), **needs), partial=True
    )  # fmt: skip
    put(out, done.files)
    return out


def report(orders, *paths, at=LATER, within=timedelta(days=30)):
    return expiring_report(load_orders(orders), at, within, read_natives(paths))


def left_over(found):
    return [(item.order, item.why, item.names) for item in found.leftovers if item.why is not Why.OUTDATED]


@pytest.mark.parametrize("target", sorted(EXPORTERS))
def test_every_target_tells_what_it_still_carries(target, orders, tmp_path):
    """The files of each exporter: the ended order is named, with those of its names that nothing else holds."""
    out = exported(target, orders, tmp_path / "out")
    assert left_over(report(orders, out, at=AT)) == []
    found = report(orders, out)
    assert {(item.order, item.why) for item in found.leftovers} == {("short", Why.ENDED), (None, Why.OUTDATED)}
    names = {name for item in found.leftovers for name in item.names}
    assert names == (set() if target in HIDES_NAMES else {"short.example", "freed.example"})
    assert {file.target for file in found.files} == {target}
    assert all(file.revision == load_orders(orders).revision for file in found.files)


def test_after_another_export_nothing_is_left(orders, tmp_path):
    """The remedy that the report names."""
    out = exported("unbound", orders, tmp_path / "out")
    assert report(orders, out).leftovers
    assert report(orders, exported("unbound", orders, out, LATER)).leftovers == ()


def test_a_lifted_order_and_lifted_names(orders, tmp_path):
    """Of the whole order, or of one name: what is still in the file, and why it should not be."""
    out = exported("domains", orders, tmp_path / "out")
    write(orders, "short", "lifted: [{names: [freed.example], at: 2025-05-10}]\n", until="2025-11-16",
          names="[short.example, both.example, freed.example]")  # fmt: skip
    at = datetime(2025, 5, 11, tzinfo=UTC)
    assert left_over(report(orders, out, at=at)) == [("short", Why.NAMES_LIFTED, ("freed.example",))]
    write(orders, "short", "lifted: [{at: 2025-05-10}]\n", until="2025-11-16", names="[short.example, both.example]")
    assert left_over(report(orders, out, at=at)) == [("short", Why.LIFTED, ("short.example",))]


def test_a_lifted_name_below_one_that_is_in_force_is_right_where_it_is(orders, tmp_path):
    """Servers are told expressly what is let through."""
    write(orders, "long", "lifted: [{names: [free.long.example], at: 2025-05-10}]\n", until="2035-11-16",
          names="[long.example, free.long.example]")  # fmt: skip
    at = datetime(2025, 5, 11, tzinfo=UTC)
    out = exported("adblock", orders, tmp_path / "out", at)
    assert "free.long.example" in (out / "cdnblock-adblock.txt").read_text()
    assert left_over(report(orders, out, at=at)) == []


def test_an_order_that_left_the_folder(orders, tmp_path):
    """It is named, whether its end has come or not."""
    out = exported("hosts", orders, tmp_path / "out")
    (orders / "short.yaml").unlink()
    assert left_over(report(orders, out, at=AT)) == [("short", Why.GONE, ())]
    assert left_over(report(orders, out, at=LATER)) == [("short", Why.ENDED, ())]


def test_an_order_that_is_only_reported_now(orders, tmp_path):
    """Its names are released, and the server refuses them all the same; what another order holds is right."""
    out = exported("domains", orders, tmp_path / "out")
    write(orders, "short", "mode: report\n", until="2025-11-16", names="[short.example, both.example]")
    found = report(orders, out, at=AT)
    assert left_over(found) == [("short", Why.REPORTED, ("short.example",))]
    assert "order short, only reported now; still in it: short.example" in "\n".join(found.lines())
    again = exported("domains", orders, tmp_path / "again")
    assert left_over(report(orders, again, at=AT)) == []


def test_a_file_that_cdnblock_did_not_write(tmp_path, orders):
    """Named by itself it is a mistake; in a folder it is passed over."""
    other = tmp_path / "etc" / "nginx.conf"
    other.parent.mkdir()
    other.write_text("# order short: x; until 2020-01-01T00:00:00+00:00\n")
    assert read_native(other) is None
    assert report(orders, other.parent).files == ()
    with pytest.raises(ConfigError, match="has no header of `cdnblock export`"):
        report(orders, other)


@pytest.mark.parametrize(
    "line",
    [
        "# order ../../etc: x; until 2020-01-01T00:00:00+00:00",
        "# order short: x; until 2020-99-01T00:00:00+00:00",
        "# order short: x; until 2020-01-01T00:00:00",
        "# order short: x; until \x1b[31m2020-01-01",
        "# order <script>: x; until 2020-01-01T00:00:00+00:00",
    ],
)
def test_a_header_that_makes_no_sense_tells_nothing(line, tmp_path, orders):
    """Whoever edits such a file by hand cannot put words into the report's mouth."""
    path = tmp_path / "odd.conf"
    path.write_text(f"# Written by `cdnblock export nginx`: do not edit, export again.\n{line}\n")
    assert report(orders, path).leftovers == ()


def test_orders_by_their_ends(orders):
    """Within the span alone, the nearest first, each with the mark that it has reached."""
    write(orders, "pending", begins="2025-11-30T00:00", until="2025-12-01")
    write(orders, "lifted", "lifted: [{at: 2025-11-20T12:00}]\n", until="2035-01-01")
    at = datetime(2025, 11, 15, 12, tzinfo=UTC)
    found = [(item.order, item.state.value, item.mark.days) for item in report(orders, at=at).expiring]
    assert found == [("short", "in force", 7), ("lifted", "in force", 7), ("pending", "pending", 30)]
    assert [item.order for item in report(orders, at=at, within=timedelta(days=2)).expiring] == ["short"]
    assert report(orders, at=at, within=timedelta(hours=1)).expiring == ()


def test_the_text_for_people_and_the_json(orders, tmp_path):
    """Both say it all."""
    out = exported("hosts", orders, tmp_path / "out")
    found = report(orders, out, at=datetime(2025, 11, 16, 12, tzinfo=UTC))
    assert next(found.lines()).startswith("short  ends 2025-11-17 00:00+01:00, in 11 h 0 min  1-day mark  3 names")
    assert "None of them carries an order that is over." in list(found.lines())
    ended = report(orders, out)
    assert list(ended.lines())[-2:] == [
        f"{out}/cdnblock.hosts (hosts): order short, ended since 2025-11-16 23:00+00:00; still in it: short.example, freed.example",
        f"{out}/cdnblock.hosts (hosts): was right until 2025-11-16 23:00+00:00: export it again",
    ]
    told = json.loads(json.dumps(ended.as_json()))
    assert told["leftovers"][0]["names"] == ["short.example", "freed.example"]
    assert told["files"][0]["orders"] == {"long": "2035-11-16T23:00:00+00:00", "short": "2025-11-16T23:00:00+00:00"}


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(days=1, hours=2), "1 day 2 h"),
        (timedelta(days=6, hours=23, minutes=59), "6 days 23 h"),
        (timedelta(hours=5, minutes=12), "5 h 12 min"),
        (timedelta(minutes=7, seconds=3), "7 min"),
        (timedelta(seconds=40), "40 s"),
    ],
)
def test_spans_in_words(left, words):
    """In the two largest units."""
    assert left_in_words(left) == words
