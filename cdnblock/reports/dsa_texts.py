"""The report of art. 15(1)(a) as CSV in the Commission's template, as JSON, and as a document for people."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

from cdnblock.reports.document import Bullets, Document, Section, Sentence, Table, Tone
from cdnblock.reports.dsa import TOTAL, DsaReport, Row
from cdnblock.reports.escaping import csv_cell

SOURCES: Final = (
    "Regulation (EU) 2022/2065 (Digital Services Act), art. 15(1)(a), and art. 9",
    "Commission Implementing Regulation (EU) 2024/2835, Annex I, 1.2 (sheet 3_member_states_orders); Annex II, 4 and 1.2",
)

_TO_ACT: Final = "to act against illegal content"
_TO_TELL: Final = "to provide information"
_ITEMS: Final = f"specific items of information included in the total number of orders {_TO_ACT}"
_INFORM: Final = "Median time to inform the authority of the receipt of the order"
_EFFECT: Final = "Median time to give effect to the order"

# Annex I as the Commission publishes it in CSV, part 3, word by word.
COLUMNS: Final = (
    "Applicability",
    "Service",
    "Reporting period",
    "Category of illegal content",
    'Description of the sub-category "Other"',
    "Scope",
    f"Number of orders {_TO_ACT} received",
    f"Number of {_ITEMS}",
    f"{_INFORM} {_TO_ACT}",
    f"{_EFFECT} {_TO_ACT}",
    f"Number of orders {_TO_TELL}",
    f"{_INFORM} {_TO_TELL}",
    f"{_EFFECT} {_TO_TELL}",
    f"Contextual information on number of orders {_TO_ACT} received",
    f"Contextual information on number of {_ITEMS}",
    f"Contextual information on {_INFORM} {_TO_ACT}",
    f"Contextual information on {_EFFECT} {_TO_ACT}",
    f"Contextual information on Number of orders {_TO_TELL}",
    f"Contextual information on {_INFORM} {_TO_TELL}",
    f"Contextual information on {_EFFECT} {_TO_TELL}",
)


def as_csv(report: DsaReport) -> str:
    """Return the filled-in template (RFC 4180); what cdnblock does not know, orders to provide information, is blank."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    period = f"{report.since.isoformat()}/{report.until.isoformat()}"
    for row in report.rows:
        is_whole = row.category == row.scope == TOTAL
        context = _context(report) if is_whole else ("", "", "", "")
        cells = (
            "All", csv_cell(report.service), period, row.category, row.description, row.scope, row.orders, row.items,
            _number(row.hours_to_inform), _number(row.hours_to_give_effect), "", "", "", *map(csv_cell, context),
            "not known to cdnblock: fill it in" if is_whole else "", "", "",
        )  # fmt: skip
        writer.writerow(cells)
    return out.getvalue()


def as_json(report: DsaReport) -> dict[str, Any]:
    """Return the report as JSON has it; rows without any order are left out, the template has them."""
    return {
        "report": "cdnblock dsa-15, version 1",
        "sources": list(SOURCES),
        "from": report.since.isoformat(),
        "to": report.until.isoformat(),
        "made_at": report.made_at.isoformat(),
        "software": report.software,
        "service": report.service,
        "rows": [_row(row) for row in report.rows if row.orders or row.category == TOTAL],
        "orders": [
            {
                "order": order.order,
                "scope": order.scope,
                "category": order.category,
                "keyword": order.keyword,
                "received": order.received.isoformat(),
                "items": order.items,
                "seconds_to_inform": None if order.to_inform is None else order.to_inform.total_seconds(),
                "seconds_to_give_effect": None
                if order.to_give_effect is None
                else order.to_give_effect.total_seconds(),
                "effect_from": order.effect_from.value if order.effect_from else None,
                "lacks": list(order.lacks),
            }
            for order in report.orders
        ],
        "left_out": [{"order": order, "why": why} for order, why in report.left_out],
        "notices": report.notices,
    }


def as_document(report: DsaReport) -> Document:
    """Return the report for people."""
    period = f"{report.since.isoformat()} to {report.until.isoformat()}"
    total = next(row for row in report.rows if row.category == row.scope == TOTAL)
    lead = f"{period}; orders to act against illegal content: {total.orders}; names in them: {total.items}."
    lacking = tuple(f"{order.order} lacks {lack}." for order in report.orders for lack in order.lacks)
    outside = tuple(f"{order}: {why}." for order, why in report.left_out)
    shown = tuple(_shown(row) for row in report.rows if row.orders)
    header = ("scope", "category", "orders", "names", "hours to inform", "hours to give effect")
    orders = tuple(
        (
            order.order, order.scope, order.keyword or order.category or "not stated", order.received.isoformat(),
            order.items, _hours(order.to_inform), _hours(order.to_give_effect),
            order.effect_from.value if order.effect_from else "–",
        )
        for order in report.orders
    )  # fmt: skip
    each = ("order", "Member State", "type", "received", "names", "to inform", "to give effect", "who says so")
    sections = [
        Section("By Member State and type", (Table("Medians in hours, from receipt", header, shown),)),
        Section("The orders", (Table("Each order", each, orders),)),
        Section("What is lacking", (Bullets(lacking, Tone.WARNING),)) if lacking else None,
        Section("In no number", (Bullets(outside, Tone.WARNING),)) if outside else None,
        Section("How it was counted", (Bullets(_METHOD), Sentence(f"Notices of authorities in the period, under these and other orders: {report.notices}."))),
        Section("Sources", (Bullets(SOURCES),)),
    ]  # fmt: skip
    return Document(
        title="Orders of Member States' authorities",
        lead=(Sentence(lead), *((Sentence(f"Service: {report.service}."),) if report.service else ())),
        sections=tuple(section for section in sections if section is not None),
        made=f"Made by cdnblock {report.software} at {report.made_at.isoformat(timespec='seconds')}.",
    )


_METHOD: Final = (
    "An order counts in the period in which it came: `received`, else `served`, in its own legal time.",
    "Its items are the names that it and the notices under it listed by the end of the period.",
    "It took effect when the trails have it in force, where they tell the moment; else when its file says `implemented`.",
    "A median needs the time of day of both events; an order that lacks one is in no median.",
    "What took effect before the order came took no time.",
    "Orders to provide information (art. 10) are not known to cdnblock.",
)  # fmt: skip


def _context(report: DsaReport) -> tuple[str, str, str, str]:
    """Return what the numbers of the first row leave out, for the template's columns of context."""
    outside = "; ".join(f"{order}: {why}" for order, why in report.left_out)
    untyped = ", ".join(order.order for order in report.orders if order.category is None)
    number = [f"Not counted: {outside}." if outside else "", f"In no category: {untyped}." if untyped else ""]
    informed = ", ".join(order.order for order in report.orders if order.to_inform is None)
    effected = ", ".join(order.order for order in report.orders if order.to_give_effect is None)
    return (
        " ".join(filter(None, number)),
        "Names of the orders and of the notices under them.",
        f"Without: {informed}, of which the times are not known." if informed else "",
        f"Without: {effected}, of which the times are not known." if effected else "",
    )


def _row(row: Row) -> dict[str, Any]:
    return {
        "category": row.category,
        "description": row.description,
        "scope": row.scope,
        "orders": row.orders,
        "items": row.items,
        "median_hours_to_inform": row.hours_to_inform,
        "median_hours_to_give_effect": row.hours_to_give_effect,
    }


def _shown(row: Row) -> tuple[str | int, ...]:
    category = f"{row.category} ({row.description})" if row.description else row.category
    inform, effect = (_number(hours) or "–" for hours in (row.hours_to_inform, row.hours_to_give_effect))
    return row.scope, category, row.orders, row.items, inform, effect


def _number(hours: float | None) -> str:
    return "" if hours is None else f"{hours:.2f}".rstrip("0").rstrip(".")


def _hours(span: Any) -> str:
    return "–" if span is None else f"{span.total_seconds() / 3600:.2f} h"
