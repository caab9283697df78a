"""Texts that want to be more than text, wherever somebody from outside chooses one; and what must not come of them."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser

from order_texts import order_text

NEWLINE = "one\nFAKE: all is well\r\nSet-Cookie: fake=1"
PAYLOADS = {
    "html": "</title></h2><script>alert(1)</script><img src=x onerror=alert(1)><svg/onload=alert(1)>",
    "attribute": '" onmouseover="alert(1)" x=\'',
    "url": "javascript:alert(document.domain)",
    "ansi": "\x1b[31mred\x1b[8mhidden\x1b]0;title\x07\x1b[2J",
    "c1": "\x9b31mred\x85\x90",
    "newline": NEWLINE,
    "separator": "one\u2028FAKE: two\u2029FAKE: three\x0bFAKE\x0cFAKE",
    "direction": "\u202egnp.exe\u2066x\u2069\u200f\u200e\u061c",
    "unseen": "a\u200bb\u2060c\ufeffd\U000e0041\u00ade",
    "template": "{{ 7*7 }}{% raw %}${7*7}#{7*7}%(x)s{0}%s",
    "shell": "$(id)`id`;id|id&&id",
    "comment": "*/ } ; #} --> ]] ]=] ]==] {{! <!-- // # -- \" ' \\",
    "backslash": "ends in a backslash \\",
    "nothing": "\x00nul\x7fdel",
}
ALLOWED = {
    # What an order file may hold: it is text that people read, and nothing in it is hidden.
    name: text
    for name, text in PAYLOADS.items()
    if name in ("html", "attribute", "url", "newline", "template", "shell", "comment", "backslash", "unseen_marks")
} | {"marks": "\u200bzero\u200f\u200ewidth\u061c"}
_LEADS = frozenset({"href", "src", "action", "formaction", "xlink:href", "data", "poster", "hx-get", "hx-post"})
_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f\ud800-\udfff]"
)


def in_yaml(text):
    """Return a text as YAML's double quotes have it, all of it escaped."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in text) + '"'


def write_allowed(folder):
    """Fill a folder with valid orders, every text of which is hostile; each is in force everywhere, and listed twice."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, text) in enumerate(sorted(ALLOWED.items())):
        quoted = in_yaml(text)
        keys = "".join(f"{key}: {quoted}\n" for key in ("title", "case", "contact", "addressee", "authority", "note"))
        order = order_text(
            id=f"hostile-{name}",
            territory="world",
            names=f"[{{name: h{number}.example, note: {quoted}}}, xn--80ak6aa92e.example]",
        )
        order = order.replace("court: Tribunal judiciaire de Paris", f"court: {quoted}")
        order = order.replace("claimant: SECP", f"claimant: {quoted}")
        order = order.replace("legal_basis: Code du sport, art. L. 333-10", f"legal_basis: {quoted}")
        addition = f"additions:\n- {{notice: {quoted}, authority: {quoted}, notified: 2025-05-01, names: [add{number}.example]}}\n"
        lifted = f"lifted:\n- {{at: 2025-06-01, names: [add{number}.example], reason: {quoted}}}\n"
        (folder / f"{name}.yaml").write_text(order + _accepted(keys) + addition + lifted, encoding="utf-8")
    return folder


def _accepted(keys):
    """Return those keys that orders have; which these are is asked of the schema."""
    from cdnblock.orders.schema import OrderKeys

    known = {field.alias or name for name, field in OrderKeys.model_fields.items()}
    return "".join(line for line in keys.splitlines(keepends=True) if line.partition(":")[0] in known)


def write_broken(folder):
    """Fill a folder with files that have every hostile text in every place: names of files, keys, ids, names, dates."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in PAYLOADS.items():
        file_name = text.replace("/", "∕").replace("\x00", "")[:80]
        for content in (
            f"cdnblock: 1\nid: [\n# {text}",
            order_text(id=in_yaml(text), names=f"[{in_yaml(text)}]", territory=f"[{in_yaml(text)}]")
            + f"{in_yaml(text)}: {in_yaml(text)}\nserved: {in_yaml(text)}\npublication: {in_yaml(text)}\ntimezone: {in_yaml(text)}\n",
        ):
            path = folder / f"{file_name}{len(content)}.yaml"
            path.write_bytes(content.encode("utf-8", "surrogatepass"))
        (folder / f"named-{name}.yaml").write_text(
            order_text(id=f"named-{name}").replace("names: [motogpstream.me]", f"names_file: {in_yaml(file_name)}")
        )
    every = "".join(f"{text}\n" for text in PAYLOADS.values()).encode()
    (folder / "listed.yaml").write_text(
        order_text(id="listed").replace("names: [motogpstream.me]", "names_file: n.txt")
    )
    (folder / "n.txt").write_bytes(every)
    (folder / "protected.txt").write_bytes(every)
    (folder / "holidays.txt").write_bytes(every)
    (folder / os.fsdecode(b"\xff\x1b[31m.yaml")).write_text("cdnblock: [")
    return folder


def check_lines(text, where=""):
    """Fail where a text that a terminal or a log is given steers it, reorders it, or has a line that is not ours."""
    found = _STEERS.search(text)
    assert found is None, f"{where}: {text[max(0, found.start() - 200) : found.end() + 40]!r}"
    assert not re.search(r"^(?:FAKE|Set-Cookie)", text, re.MULTILINE), f"{where}: {text!r}"


class _Page(HTMLParser):
    """Everything in a page that could do something."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            runs = name in _LEADS and re.match(r"\s*(?:javascript|data|vbscript):", value or "", re.IGNORECASE)
            if name.startswith("on") or runs:
                self.found.append((tag, name, value))
        if tag in ("img", "svg", "iframe", "object", "embed") or (tag == "script" and not dict(attrs).get("src")):
            self.found.append((tag, attrs))


def check_page(text, where="", *, svg=False):
    """Fail where a page has markup of an order's in it, or a character that reorders what is read."""
    page = _Page()
    page.feed(text)
    found = [item for item in page.found if not (svg and item[0] == "svg")]
    assert not found, f"{where}: {found}"
    unseen = _STEERS.search(text.replace("\r\n", "\n"))
    assert unseen is None, f"{where}: {text[max(0, unseen.start() - 80) : unseen.end() + 40]!r}"
