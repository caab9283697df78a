"""YAML read by events: plain values with their places, and what of YAML an order file may not use."""

from __future__ import annotations

from decimal import Decimal

import pytest
import yaml

from cdnblock.orders import document as module
from cdnblock.orders.document import dotted, read_document


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def read(request, monkeypatch):
    """Read a text with the C parser and with the pure one, which installations without libyaml use."""
    monkeypatch.setattr(module, "_Loader", getattr(yaml, request.param))
    return lambda text: read_document(text if isinstance(text, bytes) else text.encode(), "f")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("NO", "NO"),
        ("no", "no"),
        ("off", "off"),
        ("20:45", "20:45"),
        ("12:30:45", "12:30:45"),
        ("017", "017"),
        ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("2025-04-03", "2025-04-03"),
        ("2025-04-03 09:00:00", "2025-04-03 09:00:00"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("=", "="),
        ("1234567890123456789", Decimal(1234567890123456789)),
        ("0", 0),
        ("-5", -5),
        ("+7", 7),
        ("1.50", Decimal("1.50")),
        ("1e3", Decimal(1000)),
        (".5", Decimal("0.5")),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("~", None),
        ("null", None),
        ("", None),
        ('""', ""),
        ('"1"', "1"),
        ("'true'", "true"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("&a x", "x"),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(read, written, value):
    """The core schema, narrowed: what looks like a date or an odd number stays text."""
    if value == Decimal(1234567890123456789):
        value = "1234567890123456789"
    document, problems = read(f"k: {written}")
    assert problems == ()
    assert document.value == {"k": value}
    assert type(document.value["k"]) is type(value)


def test_every_value_and_key_has_its_place(read):
    """Line and column of keys and values, from 1; what has no place of its own takes the nearest above."""
    document, _ = read("a: 1\nb:\n  - x\n  - {c: 'é', d: y}\n")
    assert document.place(("a",)) == (1, 4)
    assert document.place(("a",), of_key=True) == (1, 1)
    assert document.place(("b", 0)) == (3, 5)
    assert document.place(("b", 1, "d")) == (4, 17)
    assert document.place(("b", 1, "d"), of_key=True) == (4, 14)
    assert document.place(("b", 1, "missing")) == (4, 5)
    assert document.place(("missing",)) == (1, 1)


def test_value_behind_an_alias_is_placed_at_the_alias(read):
    """Whoever corrects it looks where the alias is."""
    document, problems = read("a: &x [p, q]\nb: *x\n")
    assert problems == ()
    assert document.value["b"] == ["p", "q"]
    assert document.place(("b", 1)) == (2, 1)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", (1, 1, ""), "the file is empty"),
        ("# only a comment\n", (1, 1, ""), "the file is empty"),
        ("---\n", (2, 1, ""), "the file is empty"),
        ("- a\n", (1, 1, ""), "holds a list"),
        ("hello", (1, 1, ""), "holds one single value"),
        ("a: 1\n---\nb: 1\n", (2, 1, ""), "a second YAML document"),
        ("a: *x\n", (1, 4, "a"), "repeats nothing"),
        ("a: &x [*x]\n", (1, 8, "a.0"), "stands inside of what it repeats"),
        ("a: &x y\n*x : b\n", (2, 1, ""), "an alias stands where a key should"),
        ("? [a]\n: b\n", (1, 3, ""), "a key is a list or a mapping"),
        ("a: {[b]: c}\n", (1, 5, "a"), "a key is a list or a mapping"),
        ("a: " + "[" * 40, (1, 35, "a" + ".0" * 31), "nested more than 32 deep"),
        ("a:\n\t- b\n", (2, 1, ""), "indent with spaces"),
        ("title: A: b\n", (1, 9, ""), "put a text that holds `: ` in quotes"),
        ("a: @b\n", (1, 4, ""), "in quotes"),
        ("a: [b\nc: d\n", (2, 2, ""), "close the list with `]`"),
        (b"a: caf\xe9\n", (1, 7, ""), "byte 0xE9 is not UTF-8"),
        ("ligne: é\n".encode() + b"b: \xff", (2, 4, ""), "byte 0xFF is not UTF-8"),
        ("a: b\n".encode("utf-16"), (1, 1, ""), "byte 0xFF is not UTF-8"),
        (b"a: \x1b[31m\n", (1, 4, ""), "invisible character U+001B"),
        ("a: b\u2028c: d\n", (1, 5, ""), "invisible character U+2028"),
        ("a: b\u0085c: d\n", (1, 5, ""), "invisible character U+0085"),
    ],
)
def test_what_is_no_order_at_all(read, text, place, words):
    """Nothing of such a file is read on; the place is that of the mistake."""
    document, problems = read(text)
    assert document is None
    assert (problems[0].line, problems[0].column, problems[0].key) == place
    assert words in problems[0].message


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", (3, 1, "a"), "the key is here twice, first on line 1"),
        ("m: {a: 1, a: 2}\n", (1, 11, "m.a"), "the key is here twice"),
        ("a: !!python/object/apply:os.system [id]\n", (1, 4, "a"), "a YAML tag"),
        ("a: !foo {b: 1}\n", (1, 4, "a"), "a YAML tag `!foo`"),
        ("a: !!str 1\n", (1, 4, "a"), "a YAML tag"),
        ("a: ! x\n", (1, 4, "a"), "a YAML tag"),
        ("%TAG ! tag:x.example,2000:\n---\na: 1\n", (1, 1, ""), "a %TAG or %YAML line"),
        ("%YAML 1.1\n---\na: 1\n", (1, 1, ""), "a %TAG or %YAML line"),
        ('a: "\\x07"\n', (1, 4, "a"), "invisible character U+0007"),
        ('"\\u2067": a\n', (1, 1, ""), "invisible character U+2067"),
    ],
)
def test_what_is_refused_and_read_on(read, text, place, words):
    """Such a mistake hides no other: the document is there."""
    document, (problem,) = read(text)
    assert document is not None
    assert (problem.line, problem.column, problem.key) == place
    assert words in problem.message


def test_second_value_of_a_key_leaves_the_first_in_its_place(read):
    """The first value stays, and so do the places of what is in it."""
    document, _ = read("a: [x]\nb: 1\na: [y, z]\n")
    assert document.value == {"a": ["x"], "b": 1}
    assert document.place(("a", 0)) == (1, 5)


def test_odd_keys_are_quoted_in_paths():
    """A key may hold anything; a path in a message is one readable line."""
    assert dotted(("names", 2, "note")) == "names.2.note"
    assert dotted(("a b", "x\ny", "z" * 100)) == "'a b'.'x y'.'" + "z" * 59 + "…'"


@pytest.mark.parametrize(
    ("data", "place", "hidden"),
    [
        (b"a: b\nc: \x00d\n", (2, 4), "U+0000"),
        ("a: b\nc: d # \u202e\n".encode(), (2, 8), "U+202E"),
        ("a: b\nc: \ufeffd\n".encode(), (2, 4), "U+FEFF"),
    ],
)
def test_a_hidden_character_is_left_out_and_told(data, place, hidden):
    """The document is read on without it, so that all its other problems are found too."""
    document, problems = read_document(data, "f")
    assert document is not None
    assert document.value == {"a": "b", "c": "d"}
    assert [((problem.line, problem.column), hidden in problem.message) for problem in problems] == [(place, True)]
