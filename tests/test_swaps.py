"""Rules are swapped while others decide: every answer is of one revision, whole."""

from __future__ import annotations

import os
import sys
import threading
from datetime import UTC, datetime

from order_texts import order_text
from small_table import FRANCE

from cdnblock import Enforcer, Measure
from cdnblock.matching.revision import revision_of
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.parse import parse_order
from cdnblock.orders.protected import Protected

SWAPS, BY_FILE = 1_000, 100
ANSWERS = ["{proxy: terminate}", "{dns: nodata, proxy: close}", "{dns: refuse, cdn: disable}"]
EXPECTED = [
    {Measure.PROXY: "terminate"},
    {Measure.DNS: "nodata", Measure.PROXY: "close"},
    {Measure.DNS: "refuse", Measure.CDN: "disable"},
]
PARENT, CHILD, ODD = "motogpstream.me", "www.motogpstream.me", "odd.example"


def version_texts(version):
    """Two orders that say the version in all they say: names, measures, court."""
    common = {"measures": ANSWERS[version % 3]}
    first = order_text(names=f"[{PARENT}, {ODD if version % 2 else 'even.example'}]", **common)
    second = order_text(id="second", names=f"[{CHILD}]", **common)
    return {
        f"{name}.yaml": text.replace("Tribunal judiciaire de Paris", f"Court {version}")
        for name, text in (("motogp", first), ("second", second))
    }


def nothing_beside(name):
    raise FileNotFoundError(name)


def parsed(texts):
    return [
        parse_order(text.encode(), name, read_names_file=nothing_beside, protected=Protected({}))[0]
        for name, text in texts.items()
    ]


def inconsistency(version, host, decision):
    """Return what of a decision is not of that version, None when all is."""
    orders = {PARENT: ["motogp"], CHILD: ["motogp", "second"], ODD: ["motogp"] if version % 2 else []}[host]
    expected = (orders, {f"Court {version}"} if orders else set(), EXPECTED[version % 3] if orders else {})
    found = (
        sorted(reason.id for reason in decision.reasons),
        {reason.order.court for reason in decision.reasons},
        dict(decision.measures),
    )
    return None if found == expected else (host, found, expected)


def test_four_threads_never_see_half_of_a_change(tmp_path, small_mmdb):
    """A thousand swaps, by files and by hand: all of an answer is of one revision, and nobody goes back to an older one."""
    versions = [version_texts(version) for version in range(SWAPS + 1)]
    orders = [parsed(texts) for texts in versions]
    version_of = {revision_of(listed): version for version, listed in enumerate(orders)}
    stop, wrong, ended, seen = threading.Event(), [], [], [set() for _ in range(4)]

    def put(version):
        for name, text in versions[version].items():
            (tmp_path / name).write_text(text)
            os.utime(tmp_path / name, (1_700_000_000 + version,) * 2)  # long settled

    def ask(mine):
        newest = 0
        while not stop.is_set():
            for host in (PARENT, CHILD, ODD):
                decision = enforcer.decide(host, FRANCE)
                version = version_of[decision.revision]
                if inconsistency(version, host, decision) or version < newest:
                    wrong.append((version, newest, inconsistency(version, host, decision)))
                newest = max(newest, version)
            rules = enforcer.rules
            answers = [(host, rules.decide(host, country="FR", at=datetime.now(UTC))) for host in (PARENT, CHILD, ODD)]
            version = version_of[rules.revision]
            if any(
                answer.revision != rules.revision or inconsistency(version, host, answer) for host, answer in answers
            ):
                wrong.append((version, answers))
            mine.add(version)
        ended.append(1)

    put(0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)  # so that threads take turns in the middle of everything
    try:
        with Enforcer(tmp_path, geo=small_mmdb, follow=False) as enforcer:
            threads = [threading.Thread(target=ask, args=(mine,)) for mine in seen]
            for thread in threads:
                thread.start()
            for version in range(1, SWAPS + 1):
                if version <= BY_FILE:
                    put(version)
                    enforcer.reload()
                else:
                    enforcer._rules = compile_orders(orders[version])
                assert version_of[enforcer.rules.revision] == version
            stop.set()
            for thread in threads:
                thread.join()
    finally:
        stop.set()
        sys.setswitchinterval(interval)
    assert wrong == []
    assert len(ended) == 4
    assert all(len(mine) > 10 for mine in seen), [len(mine) for mine in seen]
