"""Orders, trails and reports with a hostile text wherever there is one."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from instances import ORDER

from cdnblock.orders.calendar import french_public_holidays
from cdnblock.orders.model import Addition, Lifting, Name, Penalty, Position
from cdnblock.reports.order import TrailReport
from cdnblock.reports.order_making import order_report
from cdnblock.reports.trail_facts import facts_of
from cdnblock.sources.order_folder import load_orders

AT = datetime(2025, 6, 1, 12, tzinfo=UTC)
TEXTS = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "quotes": "\"'` onmouseover=alert(1) `'\"",
    "javascript": "javascript:alert(document.domain)",
    "data": "data:text/html;base64,PHNjcmlwdD4=",
    "ansi": "\x1b[31mred\x1b]0;title\x07\x9b1m",
    "newline": "one\r\ntwo\n# heading\n| a | b |\n<hr>",
    "separators": "one\u2028two\u2029three\x85four",
    "override": "\u202egpj.exe\u2066\u200b\ufeff",
    "surrogate": "\udfff\ud800",
    "markdown": "**bold** _it_ ~~no~~ [text](https://evil.example) ![i](https://evil.example) `code` www.evil.example x@evil.example",
    "table": "a | b || \\| c",
    "formula": "=cmd|' /C calc'!A0",
    "plus": "+1+1",
    "at": "@SUM(1)",
    "minus": "-2+3",
    "jinja": "{{ 7*7 }}{% raw %}{# #}",
    "entity": "&lt;script&gt; &amp; &#x3c;",
    "closing": "</style></title></bdi></main><script>alert(1)</script>",
    "long": "x" * 50_000,
}


def hostile_order(tmp_path, text):
    folder = tmp_path / "orders"
    folder.mkdir(exist_ok=True)
    (folder / "motogp.yaml").write_text(ORDER)
    order = load_orders(folder).orders["motogp"]
    return replace(
        order,
        title=text, court=text, case=text, legal_basis=text, claimant=text, addressee=text, costs=text, contact=text,
        publication=text,
        member_state="FR",
        illegal_content=None,
        received=datetime(2025, 4, 2, 10),
        penalty=Penalty(amount=Decimal(1), currency=text, per=text),
        names=(Name(name="live.example", note=text), Name(name="co.example", overbroad=text)),
        additions=(Addition(notice=text, authority=text, notified=date(2025, 5, 2), names=(Name(name="late.example"),)),),
        lifted=(Lifting(at=date(2025, 5, 20), names=("live.example",), reason=text),),
        position=Position(text, 1),
    )  # fmt: skip


def hostile_trail(text):
    """Records as a hostile hand would write them, with the text wherever there is one."""
    at = "2025-04-03T08:00:00.000000Z"
    return [
        {"seq": 1, "at": at, "kind": "trail-opened", "software": text, "python": text, "clock": {"synchronised": text}},
        {"seq": 2, "at": at, "kind": "loaded", "before": None, "files": [{"order": "motogp", "file": text, "digest": text}, text]},
        {"seq": 3, "at": at, "kind": "order-started", "order": "motogp", "instant": text, "names": [text, 7]},
        {"seq": 4, "at": at, "kind": "enforced", "order": "motogp", "country": text, "measure": text, "notice": text, "count": text},
        {"seq": 5, "at": at, "kind": "gap", "from": text, "to": text, "lost": {text: 3}, "why": text},
        {"seq": 6, "at": at, "kind": "clock-step", "seconds": text},
        {"seq": 7, "at": text, "kind": text, "order": "motogp"},
        {"at": None, "kind": ["enforced"], "order": {"motogp": text}},
        {"seq": 8, "at": at, "kind": "order-lifted", "order": "motogp", "names": {"a": text}, "reason": text},
    ]  # fmt: skip


def report(tmp_path, text):
    order = hostile_order(tmp_path, text)
    facts = facts_of(hostile_trail(text), tmp_path / "audit", {"motogp": order.timezone})["motogp"]
    trail = TrailReport(facts=facts, whole=False, records=9, findings=(text,), notes=(text,), head=text)
    return order_report(order, [trail], at=AT, software=text, holidays=french_public_holidays)
