"""No text of an order, of a trail or of an exported file breaks a report, in any form in which it is read."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hostile_reports import AT, TEXTS, hostile_order, report

from cdnblock.reports.dsa import dsa_report
from cdnblock.reports.dsa_texts import as_csv, as_document
from cdnblock.reports.dsa_texts import as_json as dsa_json
from cdnblock.reports.escaping import csv_cell, markdown, plain
from cdnblock.reports.expiring import expiring_report
from cdnblock.reports.html import as_html
from cdnblock.reports.markdown import as_markdown
from cdnblock.reports.order_document import order_document
from cdnblock.reports.order_json import as_json
from cdnblock.sources.order_folder import load_orders


class Page(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.links, self.text = set(), set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.text.append(data)


ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "p", "bdi", "section", "dl", "dt", "dd",
    "ul", "li", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "svg", "desc",
    "line", "rect", "text", "footer", "a",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "http-equiv", "class", "id", "aria-labelledby", "aria-label", "role", "tabindex",
    "scope", "viewbox", "x", "x1", "x2", "y", "y1", "y2", "width", "height", "text-anchor", "href", "rel",
}  # fmt: skip
each_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


def assert_printable(text, *, newlines=True):
    """Nothing in a text steers a terminal or reorders a line."""
    rest = text.replace("\n", "") if newlines else text
    assert rest.isprintable(), [hex(ord(c)) for c in rest if not c.isprintable()][:5]


@each_text
def test_markdown(tmp_path, text):
    """As many lines as ever, no markup, no link, no HTML, nothing invisible."""
    found = as_markdown(order_document(report(tmp_path, text)))
    harmless = as_markdown(order_document(report(tmp_path, "x")))
    assert_printable(found)
    assert found.count("\n") == harmless.count("\n")
    assert [line.count("|") - line.count("\\|") for line in found.splitlines()] == [
        line.count("|") for line in harmless.splitlines()
    ]
    assert not re.search(r"<[a-z/!]|://|(?<!\\)\]\(|(?<!\\)\*\*bold|(?<![\w.;#&])www\.", found.replace("**", "", 4))


@each_text
def test_html(tmp_path, text):
    """No element or attribute but the page's own, no link but to the web; the text is there for people to see."""
    html = as_html(order_document(report(tmp_path, text)))
    page = Page(html)
    assert_printable(html)
    assert page.tags <= ELEMENTS
    assert page.attributes <= ATTRIBUTES
    assert [link for link in page.links if not link.startswith("https://")] == []
    assert plain(text) in " ".join(page.text)


@each_text
def test_json(tmp_path, text):
    """ASCII alone; what comes out is what went in."""
    found = json.dumps(as_json(report(tmp_path, text)), indent=1)
    assert found.isascii()
    assert_printable(found)
    assert json.loads(found)["order"]["title"] == text


@each_text
def test_dsa_report(tmp_path, text):
    """The template's cells: 20 in each row, and none that a spreadsheet would run."""
    order = hostile_order(tmp_path, text)
    found = dsa_report(
        [order], [], since=date(2025, 1, 1), until=date(2025, 12, 31), at=AT, software=text, service=text
    )
    table = as_csv(found)
    assert_printable(table.replace("\r\n", ""))
    rows = list(csv.reader(io.StringIO(table)))
    assert {len(row) for row in rows} == {20}
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "|", "%"))]
    assert Page(as_html(as_document(found))).tags <= ELEMENTS
    assert_printable(as_markdown(as_document(found)))
    assert json.dumps(dsa_json(found)).isascii()


@each_text
def test_expiring(tmp_path, text):
    """One line for each order on a terminal, whatever its title."""
    order = hostile_order(tmp_path, text)
    rules = load_orders(tmp_path / "orders")
    found = expiring_report(rules, datetime(2025, 11, 10, tzinfo=UTC), AT - AT.replace(month=1))
    found = replace(found, expiring=tuple(replace(item, title=order.title) for item in found.expiring))
    (line,) = found.lines()
    assert_printable(line, newlines=False)


def test_what_cannot_be_seen_is_shown():
    """Evidence shows that a right-to-left override stands in a title, and does not hide it."""
    assert plain("a\u202eb\x1b\ud800") == "a\\u202eb\\x1b\\ud800"
    assert markdown("a\u202eb") == "a\\\\u202eb"
    assert plain(" a \t b\r\nc ") == "a b c"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("# no heading", "\\# no heading"),
        ("1. no list", "1\\. no list"),
        ("1.5", "1.5"),
        ("- no list", "\\- no list"),
        ("KEYWORD_COPYRIGHT", "KEYWORD_COPYRIGHT"),
        ("_no emphasis_", "\\_no emphasis\\_"),
        ("https://a.example", "https&#58;//a.example"),
        ("www.a.example", "www&#46;a.example"),
        ("a@b.example", "a&#64;b.example"),
        ("<b>&", "&lt;b&gt;&amp;"),
    ],
)
def test_markdown_escapes(text, escaped):
    """What Markdown would take for more than a text."""
    assert markdown(text) == escaped


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "＝1", "|a", "%0"])
def test_no_cell_is_a_formula(text):
    """The OWASP list, and full-width forms."""
    assert not csv_cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "＝", "|", "%"))
