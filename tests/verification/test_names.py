"""Which names are asked for."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from conftest import ORDERS

from cdnblock.sources.order_folder import load_orders
from cdnblock.testing.stage import put_orders
from cdnblock.verification.names import POPULAR, subjects
from cdnblock.verification.probes import Kind

AT = datetime(2025, 7, 1, 12, tzinfo=UTC)


def asked(folder, orders, **settings):
    put_orders(folder, orders)
    rules = load_orders(folder)
    settings = {"sample": 2, "protected": ["google.com", "fr"], "dice": random.Random(1)} | settings
    return {subject.name: subject for subject in subjects(rules, AT, **settings)}


def test_every_listed_name_is_asked_for_and_what_is_near_some(tmp_path):
    """All that orders list, sub-domains, parents, neighbours, look-alikes, and popular names: each once."""
    found = asked(tmp_path, ORDERS)
    kinds = {name: subject.kind for name, subject in found.items()}
    assert {
        "cdn.refused.example": Kind.NAMED,
        "www.cdn.refused.example": Kind.BELOW,
        "a.b.c.cdn.refused.example": Kind.BELOW,
        "cdnblock-neighbour.refused.example": Kind.NEIGHBOUR,
        "mycdn.refused.example": Kind.LOOK_ALIKE,
        "dn.refused.example": Kind.LOOK_ALIKE,
        "cdn.refused.example.cdnblock-verify.example": Kind.LOOK_ALIKE,
        "lifted.example": Kind.PAST,
        "held.example": Kind.NAMED,
        "google.com": Kind.POPULAR,
    }.items() <= kinds.items()
    assert sum(kind is Kind.POPULAR for kind in kinds.values()) == 3
    assert {name for name, kind in kinds.items() if kind is Kind.POPULAR} <= {*POPULAR, "google.com"}
    assert found["lifted.example"].more


def test_no_public_suffix_is_asked_for(tmp_path):
    """What stands above a registered name is nobody's."""
    found = asked(tmp_path, {"one": {"names": ["piracy.co.uk"]}})
    assert "co.uk" not in found
    assert "cdnblock-neighbour.co.uk" in found


def test_the_sample_is_bounded_and_the_rest_is_asked_for_plainly(tmp_path):
    """Of many names a few in every form as every client, all others once; or as many as were wanted."""
    names = [f"n{number}.example" for number in range(500)]
    found = asked(tmp_path, {"many": {"names": names}}, sample=3)
    assert set(names) <= found.keys()
    assert sum(subject.as_every_client and subject.kind is Kind.NAMED for subject in found.values()) == 3
    few = asked(tmp_path, {"many": {"names": names}}, sample=3, most=10)
    assert sum(subject.kind is Kind.NAMED for subject in few.values()) == 13


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_dice_draw_the_same_names(tmp_path, seed):
    """A difference can be looked for again."""
    names = [f"n{number}.example" for number in range(500)]
    first, second = ([*asked(tmp_path, {"many": {"names": names}}, dice=random.Random(seed), most=0)] for _ in range(2))
    assert first == second
