"""An export that goes on from an earlier one: not a byte is another one, and what has not changed is not made again."""

from __future__ import annotations

import random
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.exporters import Options, export, load
from cdnblock.exporters._roll import roll_of
from cdnblock.matching.difference import differing_names
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.model import Addition, Lifting, Measure, Name, NamesFile
from cdnblock.orders.name_list import name_list

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "matching")]
from test_plan import AT, an_order
from test_properties import INSTANTS, NAMES, boundary_instants, folders
from test_targets import TABLE

ANSWERS = {Measure.PROXY: "terminate", Measure.CDN: "disable", Measure.DNS: "refuse"}
QUICK = ("haproxy", "nginx", "hosts", "dnsdist")


def exported(target, rules, *, at=AT, since=None, served=None):
    exporter = load(target)
    options = Options(folder="/etc/x", clients_in=None if exporter.territory else "FR")
    return export(exporter, rules, TABLE, at, options, since=since, served=served, partial=True)


def an_annex(listed, **changes):
    listed = name_list(listed)
    return an_order("one", names_file=NamesFile(file="annex.txt", names=listed, lines=range(1, len(listed) + 1)),
                    measures=ANSWERS, **changes)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(data=st.data(), before=folders(), after=folders(), target=st.sampled_from(QUICK))
def test_the_same_bytes_whatever_was_exported_before(data, before, after, target):
    """Other orders, another instant, other hosts served: nothing of the earlier export is left in the later one."""
    kept = data.draw(st.lists(st.sampled_from(before), unique_by=id))
    orders = {order.id: order for order in (*after, *kept)}.values()
    instants = st.one_of(INSTANTS, st.sampled_from([*boundary_instants(before), *boundary_instants(after)]))
    earlier = exported(target, compile_orders(before), at=data.draw(instants))
    at, served = data.draw(instants), data.draw(st.one_of(st.none(), st.lists(NAMES, max_size=3)))
    rules = compile_orders(orders)
    alone, later = (
        exported(target, rules, at=at, served=served),
        exported(target, rules, at=at, served=served, since=earlier),
    )
    assert later.files == alone.files
    assert (later.plan, later.missing) == (alone.plan, alone.missing)


@pytest.mark.parametrize("shared", [False, True], ids=["each made anew", "each made of the one before"])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_bytes_after_many_changes_of_a_long_list(seed, shared):
    """Names come, go, are lifted, and come to stand above and below others, a few at a time and many."""
    chance = random.Random(seed)
    names = dict.fromkeys(f"{'w.' if number % 3 else ''}n{number}.example" for number in range(3_000))
    done, listed, rules, rules_alone = None, name_list(()), compile_orders([]), compile_orders([])
    for step in range(8):
        for name in chance.sample([*names], chance.choice([0, 1, 30, 400])):
            del names[name]
        near = chance.sample([*names], 40)
        names |= dict.fromkeys([*(f"{chance.choice('ab')}.{name}" for name in near[:15]), f"new{step}.example"])
        names |= dict.fromkeys(name.partition(".")[2] for name in near[15:30] if name.count(".") > 1)
        changes = {
            "names": (Name(name=near[31]), Name(name=f"x.{near[32]}", subdomains=False)),
            "lifted": (Lifting(at=datetime(2025, 4, 1, tzinfo=UTC), names=(near[33], f"a.{near[34]}")),),
            "additions": (Addition(notice=f"n{step % 3}", notified=date(2025, 4, 2), names=(Name(name=near[35]),)),),
        }
        changes = changes if step % 2 else {}
        listed = (shared and listed.amended(0, len(listed), [*names])) or name_list(names)
        before, before_alone = rules, rules_alone
        rules, rules_alone = (compile_orders([an_annex(given, **changes)]) for given in (listed, tuple(names)))
        assert {*before.released_by(rules, AT)} == {*before_alone.released_by(rules_alone, AT)}
        differing, differing_alone = (
            {*differing_names(old, AT, new, AT, Measure.PROXY)}
            for old, new in ((before, rules), (before_alone, rules_alone))
        )
        assert differing == differing_alone
        for target in ("nginx", "hosts"):
            done = exported(target, rules, since=done)
            assert done.files == exported(target, rules_alone).files


def test_one_name_more_makes_one_block_anew():
    """All others are the same objects as before, with the texts that they have been already."""
    names = [f"n{number}.example" for number in range(10_000)]
    before = exported("haproxy", compile_orders([an_annex(names)]))
    after = exported("haproxy", compile_orders([an_annex([*names, "m.n5000.example"])]), since=before)
    kept = {*map(id, before.roll.blocks)} & {*map(id, after.roll.blocks)}
    assert len(before.roll.blocks) == len(after.roll.blocks) == len(kept) + 1 > 10


def test_names_are_in_order_however_blocks_are_cut():
    """A block that becomes too long is cut, one that becomes empty goes, and a roll of no names is one, too."""
    names = [f"n{number:05}.example" for number in range(2_000)]
    more = [f"n00000-{number:03}.example" for number in range(1_200)]
    roll = roll_of(compile_orders([an_annex(names)]))
    for end in (150, 300, 450, 600, 750, 900, 1_050, 1_200):
        roll = roll_of(compile_orders([an_annex([*names, *more[:end]])]), roll)
        assert [name for block in roll.blocks for name in block.names] == sorted([*names, *more[:end]])
    assert max(len(block.names) for block in roll.blocks) <= 800
    for start in range(150, 2_000, 150):
        roll = roll_of(compile_orders([an_annex([*names[start:], *more])]), roll)
        assert [name for block in roll.blocks for name in block.names] == sorted([*names[start:], *more])
    assert roll_of(compile_orders([an_annex(names)]), roll_of(compile_orders([]), roll)).blocks
    assert all(block.names for block in roll.blocks)


def test_the_same_rules_have_the_same_roll():
    """An instant at which an order starts or ends costs no comparison of names."""
    rules = compile_orders([an_annex(["a.example"])])
    roll = roll_of(rules)
    assert roll_of(rules, roll) is roll
