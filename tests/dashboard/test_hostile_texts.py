"""Texts that mean harm, wherever the dashboard shows any: in orders, file names, problems, trails and questions."""

from __future__ import annotations

import json
import os
import re
from urllib.parse import quote

import pytest
from order_texts import order_text
from running_dashboards import ask, running

SCRIPT = "<script>window.hurt=1</script>"
IMAGE = "<img src=x onerror=window.hurt=1>"
ATTRIBUTE = "\" onfocus=window.hurt=1 autofocus x='"
TEMPLATE = "{{ 7*7 }}{% raw %}"
HTMX = '<div hx-get="/x" hx-trigger="load">'
MARKUP = (
    SCRIPT,
    IMAGE,
    ATTRIBUTE,
    TEMPLATE,
    HTMX,
    "</title></textarea></svg>",
    "javascript:window.hurt=1",
    "&lt;b&gt;",
)
UNSEEN = ("\x1b[31mred", "\u202egnp.exe", "\u2066isolate", "zero\u200bwidth", "line\u2028break", "nul\x00", "\ud800")
ADDRESSES = (
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "//evil.example",
    " https://a b",
    "https://",
)


def hostile_order(**changes):
    """An order in which every free text means harm."""
    text = " ".join(MARKUP).replace("'", "''")
    free = {key: f"'{key} {text}'" for key in ("title", "case", "addressee", "costs")}
    more = "".join(f"{key}: {value}\n" for key, value in free.items())
    more += (
        f"additions:\n  - {{notice: '{text}', authority: '{text}', notified: 2025-05-02, names: [second.example]}}\n"
    )
    more += f"lifted:\n  - {{names: [blog.motogpstream.me], at: 2025-06-01T12:00, reason: '{text}'}}\n"
    listed = f"[{{name: motogpstream.me, note: '{text}'}}, 'مثال.example']"
    return order_text(names=listed, **changes).replace("Tribunal judiciaire de Paris", f"'{text}'") + more


# What JSON can hold besides texts, and dates at which every time zone overflows.
ODD = (None, True, -1, 1e308, int("9" * 4300), int("9" * 4300), [], ["x"], {}, {"x": {}}, "", "..", "0001-01-01T00:00:00+14:00",
       "9999-12-31T23:59:59-14:00", "2025-05-01", "2025-05-01T10:00:00", "\ud800")  # fmt: skip
RECORD = ("seq", "at", "kind", "order", "name", "host", "hosts", "measure", "variant", "country", "client", "adapter",
          "action", "notice", "count", "of", "since", "chain")  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, small_mmdb):
    """A dashboard of such an order, of files with such names and such mistakes, and of such a trail."""
    folder = tmp_path_factory.mktemp("hostile")
    orders, audit = folder / "orders", folder / "audit"
    orders.mkdir()
    (orders / "order.yaml").write_text(hostile_order())
    with running(orders, small_mmdb, audit=audit) as found:
        broken = f'cdnblock: 1\n"{IMAGE}": \x1b[31m\n'
        for name in (
            "<img src=x onerror=window.hurt=1>.yaml",
            "\u202egnp.yaml",
            "\x1b[31m.yaml",
            os.fsdecode(b"\xff.yaml"),
        ):
            (orders / name).write_text(broken)
        (orders / "key.yaml").write_text(
            order_text(id="key") + f"'{SCRIPT}': 1\n'{ATTRIBUTE.replace(chr(39), '')}': 2\n"
        )
        found.enforcer.reload()
        trail = next(audit.glob("trail-*.jsonl"))
        with trail.open("a") as file:
            for text in (*MARKUP, *UNSEEN):
                fields = dict.fromkeys(
                    ("order", "name", "host", "measure", "country", "client", "adapter", "notice"), text
                )
                file.write(json.dumps({"seq": text, "at": "2025-05-01T10:00:00Z", "kind": "enforced", **fields}) + "\n")
                file.write(json.dumps({"seq": 1, "at": text, "kind": text, text: [text, {text: text}]}) + "\n")
            usual = {"seq": 1, "at": "2025-05-01T10:00:00Z", "kind": "enforced", "order": "motogp", "count": 1}
            for value in ODD:
                for key in RECORD:
                    file.write(json.dumps({**usual, key: value}) + "\n")
            file.write(
                '{"kind": "enforced"}\n{"kind": "enforced", "at": "x", "order": [1], "count": "n", "hosts": 3}\n\n[]\n'
            )
        yield found


def paths():
    """Every page, and every question that takes a text, with each text."""
    yield from ("/", "/orders", "/orders/motogp", "/decisions", "/trail", "/trail?verify=1")
    yield from (
        f"/trail?since={quote(value)}&order=motogp" for value in ODD if isinstance(value, str) and value.isascii()
    )
    yield from (f"/orders?page={page}&names={page}" for page in ("-1", "1e9", "99999999999", "%ff", "%C2%B2"))
    for text in (*MARKUP, *UNSEEN):
        quoted = "".join(f"%{octet:02X}" for octet in text.encode("utf-8", "surrogatepass"))
        yield f"/try?host={quoted}&client={quoted}"
        yield f"/try?host=motogpstream.me&country={quoted}&at={quoted}"
        yield f"/orders?q={quoted}&state={quoted}&sort={quoted}&page={quoted}"
        yield f"/trail?order={quoted}&name={quoted}&kind={quoted}&since={quoted}"
        yield f"/orders/{quoted}"
        yield f"/{quoted}"


def test_no_text_becomes_markup_or_steers_anything(hostile):
    """Each page is made; what is hostile in a text stands there escaped, and nothing that cannot be seen is sent."""
    seen = 0
    for path in paths():
        status, _, text = ask(hostile, path)
        assert status in (200, 400, 404), path
        assert len(re.findall(r"<script", text)) == text.count('<script src="/static/'), path
        assert "<img" not in text, path
        assert re.findall(r'hx-get="(?!/)', text) == [], path
        assert re.findall(r'href="(?![/#]|https://court\.example)', text) == [], path
        assert not any(character in text for character in "\x1b\x00\u202e\u2066\u200b\u2028\ud800"), path
        assert "49{" not in text, path
        seen += text.count("&lt;img src=x onerror=window.hurt=1&gt;")
    assert seen > 20


def test_chromium_runs_none_of_it(hostile, look):
    """In a browser nothing of it runs, nothing else is loaded, and no attribute breaks out."""
    for path in (
        "/",
        "/orders",
        "/orders/motogp",
        "/trail",
        "/decisions",
        "/try?host=%22%3E%3Cimg%20src=x%20onerror=window.hurt=1%3E",
    ):
        page = look(path, at=hostile, viewport={"width": 360, "height": 740})
        page.wait_for_selector("#live")
        assert page.evaluate("window.hurt") is None
        assert page.locator("[onfocus], [onerror], img, main script").count() == 0
        assert page.locator("[hx-get]").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


@pytest.mark.parametrize("address", ADDRESSES)
def test_only_web_addresses_become_links(address):
    """A publication that is no http(s) address is shown as text."""
    from cdnblock.dashboard.rendering import web_address

    assert web_address(address) is None
    assert web_address("https://court.example/x") == "https://court.example/x"
