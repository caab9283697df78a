"""The chain: what it is made of, octet by octet, and how a line is read back."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from cdnblock.audit.chain import START, anchor, link, read_anchor, read_line, seal
from cdnblock.audit.records import MAX_LINE, Kind, body_of

BODY = b'{"seq":1,"at":"2026-11-22T03:50:00.000000Z","kind":"gap"'


def test_the_chain_is_the_digest_of_the_chain_before_and_of_the_body():
    """chain_1 = SHA-256(32 octets 0 || SHA-256(body)), in hexadecimal at the end of the line."""
    line, chain = seal(START, BODY)
    assert chain == sha256(bytes(32) + sha256(BODY).digest()).digest()
    assert line == BODY + b',"chain":"' + chain.hex().encode() + b'"}\n'
    assert json.loads(line)["chain"] == chain.hex()


def test_a_left_out_record_leaves_the_chain_whole():
    """With the digest of a body alone the chain after it is the same."""
    _, chain = seal(START, BODY)
    assert link(START, sha256(BODY).digest()) == chain


def test_a_line_is_read_back():
    """A sealed line gives its number, its body and its chain."""
    line, chain = seal(START, BODY)
    assert read_line(line[:-1]) == (1, BODY, chain)


LINE = seal(START, BODY)[0][:-1]


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{}", b"\0" * 200, LINE[:-1], LINE[1:], LINE + b" ", LINE.replace(b"chain", b"chian"),
        LINE[:-10] + b"ABCDEFAB" + LINE[-2:], LINE[:-10] + b"zzzzzzzz" + LINE[-2:], LINE.replace(b":1,", b":01,", 1),
        LINE.replace(b":1,", b":-1,", 1), LINE.replace(b":1,", b":" + b"9" * 30 + b",", 1), LINE.replace(b"seq", b"sep"),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_has_not_the_form_of_a_record_is_none(line):
    """Cut, shifted, upper-case, overlong and other lines are no records."""
    assert read_line(line) is None


@pytest.mark.parametrize(
    "text", ["", "1", "1:", ":ab", "x:" + "a" * 64, "1:" + "g" * 64, "1:" + "a" * 62, "-1:" + "a" * 64]
)
def test_an_anchor_that_is_none_is_refused(text):
    """A head is told as SEQ:CHAIN and as nothing else."""
    with pytest.raises(ValueError, match="no head"):
        read_anchor(text)


def test_an_anchor_is_read_back():
    """What is told can be expected."""
    assert read_anchor(anchor(7, b"\xab" * 32)) == (7, b"\xab" * 32)


HOSTILE = {
    "escape": "\x1b[31m", "newline": "a\nb\r\n", "override": "\u202eevil", "quote": '","chain":"' + "0" * 64 + '"}',
    "surrogate": "\udc80", "html": "<script>alert(1)</script>", "nul": "\0", "emoji": "😀",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_escaped_and_comes_back(text):
    """A record is one line of printable ASCII, whatever it says, and says it."""
    body = body_of(1, 0.0, Kind.ENFORCED, {"host": text, "hosts": {text: 1}})
    line, _ = seal(START, body)
    assert line[:-1].isascii()
    assert line[:-1].decode().isprintable()
    assert json.loads(line)["host"] == text
    assert json.loads(line)["hosts"] == {text: 1}
    assert read_line(line[:-1]) is not None


def endless():
    """Return a list that holds itself."""
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value",
    ["x" * 10_000_000, ["y" * 4000] * 5000, {str(n): "z" * 4000 for n in range(5000)}, endless(), 10**5000, float("nan"),
     float("inf"), b"\xff\0", object(), {1: {2: {3: {4: {5: {6: {7: 8}}}}}}}],
    ids=["text", "list", "mapping", "endless", "number", "nan", "infinity", "octets", "object", "deep"],
)  # fmt: skip
def test_no_value_makes_a_record_that_cannot_be_read(value):
    """Whatever somebody records is cut to a line that readers take, and says that it was cut."""
    body = body_of(3, 1e300, "odd", {"value": value, "chain": "mine", "seq": 9, "order": "kept"})
    assert len(body) < MAX_LINE
    record = json.loads(body + b"}")
    assert record["seq"] == 3
    assert "chain" not in record
    assert record["at"] == "9999-12-31T23:59:59.999999Z"
