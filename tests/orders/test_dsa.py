"""What the Digital Services Act asks of an order, in the codes of Implementing Regulation (EU) 2024/2835."""

from __future__ import annotations

import pytest

from cdnblock.matching.revision import revision_of
from cdnblock.orders.dsa import CATEGORIES, CATEGORY_OF, MEMBER_STATES, NOT_SPECIFIED, wrong_type

KEYS = {
    "member_state": "FR",
    "illegal_content": "KEYWORD_COPYRIGHT_INFRINGEMENT",
    "received": "2025-04-02T10:20",
    "acknowledged": "2025-04-02T11:00",
}


def test_the_templates_codes_are_all_there():
    """Annex I, sheet 3: 14 categories with 61 sub-categories, and the one for orders without a legal ground."""
    assert len(CATEGORIES) == 15
    assert sum(map(len, CATEGORIES.values())) == 61
    assert CATEGORIES[NOT_SPECIFIED] == ()
    assert CATEGORY_OF["KEYWORD_COPYRIGHT_INFRINGEMENT"] == "STATEMENT_CATEGORY_INTELLECTUAL_PROPERTY_INFRINGEMENTS"
    assert CATEGORY_OF["STATEMENT_CATEGORY_VIOLENCE"] == "STATEMENT_CATEGORY_VIOLENCE"


def test_member_states_are_the_27_and_greece_is_written_el():
    """ISO 3166-1 in the file, Eurostat's code in the report."""
    assert len(MEMBER_STATES) == 27
    assert {iso: code for iso, code in MEMBER_STATES.items() if iso != code} == {"GR": "EL"}


def test_the_keys_are_read(parse, least):
    """All four, as they were written."""
    order, problems = parse(least(**KEYS))
    assert not problems
    assert (order.member_state, order.illegal_content) == ("FR", "KEYWORD_COPYRIGHT_INFRINGEMENT")
    assert f"{order.received:%H:%M} {order.acknowledged:%H:%M}" == "10:20 11:00"


def test_an_order_of_no_member_state_says_so(parse, least):
    """Which is not the same as saying nothing."""
    assert parse(least(member_state="none"))[0].member_state == "none"
    assert parse(least())[0].member_state is None


def test_a_confirmation_without_a_receipt_is_a_warning(parse, least):
    """The order loads, and the report will lack a number."""
    order, (problem,) = parse(least(acknowledged="2025-04-02"))
    assert order is not None
    assert (problem.severity, problem.key) == ("warning", "acknowledged")
    assert "without `received`" in problem.message


def test_a_confirmation_on_the_day_of_receipt_is_no_contradiction(parse, least):
    """A bare date may mean any hour of its day."""
    assert parse(least(received="2025-04-02T10:20", acknowledged="2025-04-02"))[1] == ()


def test_orders_without_these_keys_keep_their_revision(parse, least):
    """A server that is upgraded does not take its orders for changed ones."""
    order, _ = parse(least())
    assert revision_of([order]) == "sha256:e70a1c05d026b67471d3ad83e1b25b417e9eb7794b6158dd37dcd794156bf341"
    assert revision_of([parse(least(received="2025-04-02"))[0]]) != revision_of([order])


@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("copyright", "KEYWORD_COPYRIGHT_INFRINGEMENT"),
        ("keyword-trademark-infringement", "KEYWORD_TRADEMARK_INFRINGEMENT"),
        ("STATEMENT_CATEGORY_VIOLENT", "STATEMENT_CATEGORY_VIOLENCE"),
    ],
)
def test_the_nearest_code_is_named(code, right):
    """For whoever remembers it nearly."""
    assert f"did you mean `{right}`?" in wrong_type(code)
