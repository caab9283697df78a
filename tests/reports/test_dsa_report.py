"""Orders of Member States' authorities: Regulation (EU) 2022/2065, art. 15(1)(a), in the Commission's template."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from instances import ORDER, paris, running
from order_texts import order_text

from cdnblock.reports.dsa import dsa_report
from cdnblock.reports.dsa_texts import COLUMNS, as_csv, as_document, as_json
from cdnblock.reports.markdown import as_markdown
from cdnblock.reports.trails import facts_of_trails
from cdnblock.sources.order_folder import load_orders

COPYRIGHT = "KEYWORD_COPYRIGHT_INFRINGEMENT"
PROPERTY = "STATEMENT_CATEGORY_INTELLECTUAL_PROPERTY_INFRINGEMENTS"
FRENCH = {"member_state": "FR", "illegal_content": COPYRIGHT}
TIMES = {"received": "2025-04-04T10:00", "acknowledged": "2025-04-04T11:30", "implemented": "2025-04-05T10:00"}


def put(folder, order_id, **keys):
    """Write an order; `names` is how many."""
    count = int(keys.pop("names", "1"))
    names = f"[{', '.join(f'n{number}.{order_id}.example' for number in range(count))}]"
    extra = "".join(f"{key}: {value}\n" for key, value in keys.items())
    (folder / f"{order_id}.yaml").write_text(order_text(id=order_id, names=names) + extra)


def report(folder, *trails, since=date(2025, 1, 1), until=date(2025, 12, 31), service="Edge"):
    orders = [load_orders(folder).orders[order_id] for order_id in sorted(load_orders(folder).orders)]
    return dsa_report(
        orders,
        facts_of_trails(trails, orders),
        since=since,
        until=until,
        at=datetime(2026, 1, 10, tzinfo=UTC),
        software="1.2.3",
        service=service,
    )


def told(found, category="TOTAL", scope="TOTAL"):
    (row,) = (row for row in found.rows if (row.category, row.scope) == (category, scope))
    return row.orders, row.items, row.hours_to_inform, row.hours_to_give_effect


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def test_the_columns_are_those_of_the_template():
    """Annex I of Implementing Regulation (EU) 2024/2835, part 3, as the Commission publishes it in CSV."""
    assert COLUMNS == (
        "Applicability",
        "Service",
        "Reporting period",
        "Category of illegal content",
        'Description of the sub-category "Other"',
        "Scope",
        "Number of orders to act against illegal content received",
        "Number of specific items of information included in the total number of orders to act against illegal content",
        "Median time to inform the authority of the receipt of the order to act against illegal content",
        "Median time to give effect to the order to act against illegal content",
        "Number of orders to provide information",
        "Median time to inform the authority of the receipt of the order to provide information",
        "Median time to give effect to the order to provide information",
        "Contextual information on number of orders to act against illegal content received",
        "Contextual information on number of specific items of information included in the total number of orders to act against illegal content",
        "Contextual information on Median time to inform the authority of the receipt of the order to act against illegal content",
        "Contextual information on Median time to give effect to the order to act against illegal content",
        "Contextual information on Number of orders to provide information",
        "Contextual information on Median time to inform the authority of the receipt of the order to provide information",
        "Contextual information on Median time to give effect to the order to provide information",
    )


def test_counts_items_and_medians(folder):
    """Three orders, two Member States: medians in hours, each order once, its names as items."""
    put(folder, "a", names="10", **FRENCH, **TIMES)
    put(
        folder,
        "b",
        names="1",
        **FRENCH | TIMES | {"acknowledged": "2025-04-04T10:30", "implemented": "2025-04-04T16:00"},
    )
    put(folder, "c", names="2", **FRENCH | TIMES | {"member_state": "GR", "acknowledged": "2025-04-06T10:00"})
    found = report(folder)
    assert told(found) == (3, 13, 1.5, 24.0)
    assert told(found, COPYRIGHT, "FR") == told(found, PROPERTY, "FR") == (2, 11, 1.0, 15.0)
    assert told(found, "TOTAL", "EL") == (1, 2, 48.0, 24.0)
    assert found.left_out == ()


def test_each_row_of_the_template_is_there_zero_or_not(folder):
    """For all, and for each Member State that sent an order, in the template's order."""
    put(folder, "a", **FRENCH, **TIMES)
    found = report(folder)
    assert [row.scope for row in found.rows] == ["TOTAL"] * 77 + ["FR"] * 77
    assert [row.category for row in found.rows[:3]] == [
        "TOTAL",
        "STATEMENT_CATEGORY_ANIMAL_WELFARE",
        "KEYWORD_ANIMAL_HARM",
    ]
    assert found.rows[76].category == "STATEMENT_CATEGORY_NOT_SPECIFIED_ORDER"
    assert told(found, "STATEMENT_CATEGORY_VIOLENCE") == (0, 0, None, None)


def test_what_is_not_known_is_counted_and_named(folder):
    """Without a Member State in no number; without a type in the total alone; without times in no median."""
    put(folder, "foreign", **FRENCH | TIMES | {"member_state": "none"})
    put(folder, "nobody", illegal_content=COPYRIGHT, **TIMES)
    put(folder, "undated", **FRENCH)
    put(folder, "untyped", member_state="FR", **TIMES)
    put(folder, "vague", member_state="FR", illegal_content=PROPERTY, received="2025-04-04", acknowledged="2025-04-05")
    found = report(folder)
    assert found.left_out == (
        ("foreign", "of no authority of a Member State"),
        ("nobody", "`member_state` is not stated"),
        ("undated", "neither `received` nor `served` tells when it came"),
    )
    assert told(found) == (2, 2, 1.5, 24.0)
    assert told(found, PROPERTY) == (1, 1, None, None)
    assert told(found, "KEYWORD_OTHER") == (1, 1, None, None)
    lacks = {order.order: order.lacks for order in found.orders}
    assert lacks["untyped"] == ("its type of illegal content: in TOTAL alone",)
    assert lacks["vague"] == (
        "the time of day of its receipt: no median",
        "when its receipt was confirmed, with the time: not in the median to inform",
        "the moment at which it took effect: not in the median to give effect",
        "its sub-category",
    )


def test_an_order_counts_in_the_period_in_which_it_came(folder):
    """Both days are included, in legal time; without `received` it is service that counts."""
    put(folder, "first", **FRENCH, received="2025-07-01T00:00")
    put(folder, "last", **FRENCH, received="2025-12-31T23:59")
    put(folder, "before", **FRENCH, received="2025-06-30T23:59")
    put(folder, "after", **FRENCH, received="2026-01-01T00:00")
    put(folder, "served", **FRENCH, served="2025-08-01")
    found = report(folder, since=date(2025, 7, 1))
    assert [order.order for order in found.orders] == ["first", "last", "served"]


def test_the_trail_tells_when_it_took_effect(tmp_path, small_mmdb):
    """The file says nothing of it; the trail has it in force 23 hours and 10 minutes after it came."""
    with running(tmp_path, small_mmdb, "2025-04-03T09:30") as instance:
        instance.write(ORDER + "received: 2025-04-02T10:20\nmember_state: FR\n")
    found = report(tmp_path / "orders", tmp_path / "audit")
    assert told(found) == (1, 2, None, 23.17)
    assert found.orders[0].effect_from == "trail"
    assert found.orders[0].to_give_effect == paris("2025-04-03T09:30") - paris("2025-04-02T10:20")


def test_a_trail_that_cannot_tell_the_moment_is_not_asked(tmp_path, small_mmdb):
    """In force when the trail began: since when, nobody knows."""
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "motogp.yaml").write_text(ORDER + "received: 2025-04-02T10:20\nmember_state: FR\n")
    with running(tmp_path, small_mmdb, "2025-04-09T12:00"):
        pass
    found = report(tmp_path / "orders", tmp_path / "audit")
    assert told(found) == (1, 2, None, None)


def test_an_instance_that_came_later_is_not_waited_for(tmp_path, small_mmdb):
    """A month later an instance starts, and its file comes a moment after: the order had taken effect."""
    with running(tmp_path, small_mmdb, "2025-04-03T09:30", audit="one") as instance:
        instance.write(ORDER + "member_state: FR\nreceived: 2025-04-02T09:30\n")
        (instance.folder / "motogp.yaml").rename(tmp_path / "kept")
    with running(tmp_path, small_mmdb, "2025-05-03T09:30", audit="two") as instance:
        instance.write((tmp_path / "kept").read_text())
    assert told(report(tmp_path / "orders", tmp_path / "one", tmp_path / "two"))[3] == 24


def test_notices_are_counted_apart(folder):
    """They are no orders of their own; their names count from the period on in which they came."""
    notices = "[{notice: one, notified: 2025-05-01, names: [x.example, y.example]}, {notice: two, notified: 2026-05-01, names: [z.example]}]"
    put(folder, "a", **FRENCH, **TIMES, additions=notices)
    found = report(folder)
    assert (told(found)[:2], found.notices) == ((1, 3), 1)


def test_csv_is_the_template_filled_in(folder):
    """RFC 4180: 20 columns, CRLF, numbers as numbers; what cdnblock does not know is blank, and said to be so."""
    put(folder, "a", names="3", **FRENCH, **TIMES)
    put(folder, "nobody", **TIMES)
    text = as_csv(report(folder))
    assert text.count("\r\n") == text.count("\n")
    rows = list(csv.reader(io.StringIO(text)))
    assert {len(row) for row in rows} == {20}
    assert rows[1][:13] == [
        "All", "Edge", "2025-01-01/2025-12-31", "TOTAL", "", "TOTAL", "1", "3", "1.5", "24", "", "", "",
    ]  # fmt: skip
    assert rows[1][13] == "Not counted: nobody: `member_state` is not stated."
    assert "not known to cdnblock" in rows[1][17]
    empty = rows[2]
    assert (empty[3], empty[6:10]) == ("STATEMENT_CATEGORY_ANIMAL_WELFARE", ["0", "0", "", ""])


def test_json_and_markdown_tell_the_same(folder):
    """Machine-readable, with its sources; and for people."""
    put(folder, "a", names="3", **FRENCH, **TIMES)
    put(folder, "nobody", **TIMES)
    found = json.loads(json.dumps(as_json(report(folder))))
    assert any("2024/2835" in source for source in found["sources"])
    assert [row["category"] for row in found["rows"] if row["scope"] == "FR"] == ["TOTAL", PROPERTY, COPYRIGHT]
    assert found["left_out"] == [{"order": "nobody", "why": "`member_state` is not stated"}]
    text = as_markdown(as_document(report(folder)))
    assert "| FR | KEYWORD_COPYRIGHT_INFRINGEMENT | 1 | 3 | 1.5 | 24 |" in text
    assert "- nobody: \\`member_state\\` is not stated." in text


def test_a_year_without_orders_is_a_report_too(folder):
    """Zero in every row of the whole, and no Member State."""
    put(folder, "a", **FRENCH, **TIMES)
    found = report(folder, since=date(2024, 1, 1), until=date(2024, 12, 31))
    assert {row.scope for row in found.rows} == {"TOTAL"}
    assert told(found) == (0, 0, None, None)
    assert "orders to act against illegal content: 0" in as_markdown(as_document(found))
