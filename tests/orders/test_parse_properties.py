"""Whatever a file holds, reading it ends with an order or with problems, never with an exception."""

from __future__ import annotations

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdnblock.orders.calendar import addition_deadline, addition_starts_at, deadline, ends_at, starts_at, windows_of
from cdnblock.orders.parse import parse_order
from cdnblock.orders.protected import Protected

EXAMPLE = b"""\
cdnblock: 1
id: an-order
court: Tribunal judiciaire de Paris
decided: 2025-03-28
legal_basis: Code du sport
claimant: Canal Plus
served: 2025-04-02T10:00
comply_within: 3 working days
implemented: 2025-04-03T09:00+02:00
for: 12 months
counted_from: implemented
timezone: Europe/Paris
territory: [france-2024-10-10, PF]
measures: {dns: refuse, proxy: close}
names: [site.example, {name: caf\xc3\xa9.example, subdomains: false, note: p. 3}]
names_file: annex.txt
windows: [{from: 2025-10-26T02:30, until: 2025-10-27}]
additions:
  - {notice: n, notified: 2025-05-02T14:05, comply_within: 48 hours, names: [more.example]}
lifted: [{names: [site.example], at: 2025-06-01T12:00}]
penalty: {amount: 5000.50, currency: EUR}
"""

WORDS = [
    b"~", b"[]", b"{}", b"&a ", b"*a", b"!!str ", b"<<", b"\n", b"  ", b": ", b"- ", b"'", b'"', b"\\", b"#", b"\x00",
    b"\xff", b"2025-02-30", b"9999-12-31", b"0001-01-01T00:00", b"2199-12-31T24:00", b"99999 months", b"T24:00", b"NO",
    b"world", b"co.uk", b"xn--", b"http://x/", b"1e9", b"true", b"Pacific/Apia", b"\xe2\x80\xae", b"names", b"from",
]  # fmt: skip

BOUNDED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(data, annex=b"listed.example\n"):
    order, problems = parse_order(data, "f.yaml", read_names_file=lambda _name: annex, protected=Protected())
    errors = [problem for problem in problems if problem.severity == "error"]
    assert (order is None) == bool(errors)
    assert list(problems) == sorted(
        problems, key=lambda problem: (problem.file != "f.yaml", problem.file, problem.line)
    )
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    assert all("\n" not in str(problem) and str(problem).isprintable() for problem in problems)
    return order


def use(order):
    """Ask a valid order everything that the calendar can answer."""
    assert starts_at(order) < ends_at(order)
    deadline(order)
    assert all(begins < until for begins, until in windows_of(order))
    for addition in order.additions:
        assert addition_starts_at(order, addition) < ends_at(order)
        addition_deadline(order, addition)


def test_example_is_valid():
    """The file that is mutated below is an order to begin with."""
    use(read(EXAMPLE))


@BOUNDED
@given(st.binary(max_size=400))
def test_any_bytes(data):
    """Arbitrary bytes are no order, and no exception."""
    assert read(data) is None


@BOUNDED
@given(st.text(alphabet=string.printable + "é\u202e\u0085", max_size=300))
def test_any_text(text):
    """Nor is arbitrary text."""
    assert read(text.encode()) is None


@BOUNDED
@given(st.lists(st.tuples(st.integers(0, len(EXAMPLE)), st.integers(0, 12), st.sampled_from(WORDS)), max_size=4))
def test_example_with_pieces_replaced(changes):
    """Whatever becomes of a valid file, it is an order or it has problems."""
    data = EXAMPLE
    for start, length, word in changes:
        data = data[:start] + word + data[start + length :]
    order = read(data)
    if order is not None:
        use(order)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([word.decode("latin-1") for word in WORDS]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["names", "from", "at", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@BOUNDED
@given(st.sampled_from([line.split(b":")[0] for line in EXAMPLE.splitlines() if not line.startswith(b" ")]), VALUES)
def test_example_with_a_value_of_any_kind(key, value):
    """Every key takes every kind of value, to an order or to problems."""
    lines = [
        line
        for line in EXAMPLE.splitlines()
        if not line.startswith((key + b":", b"  -" if key == b"additions" else b"\0"))
    ]
    read(b"\n".join([*lines, key + b": " + repr_yaml(value).encode()]) + b"\n")


def repr_yaml(value):
    """A value as YAML writes it in one line."""
    match value:
        case None:
            return "~"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return "'" + "".join(c for c in value if c.isprintable()).replace("'", "''") + "'"
        case list():
            return "[" + ", ".join(map(repr_yaml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {repr_yaml(below)}" for key, below in value.items()) + "}"


@BOUNDED
@given(st.binary(max_size=200) | st.text(alphabet="abc.é*/: #\n\r", max_size=200).map(str.encode))
def test_any_names_file(annex):
    """A names file may hold anything, too."""
    order = read(EXAMPLE, annex)
    if order is not None:
        assert all(name.name == name.name.lower() for name in order.each_name())


@pytest.mark.parametrize("key", [line.split(b":")[0].decode() for line in EXAMPLE.splitlines() if line[:1].isalpha()])
def test_each_key_left_out(key):
    """Without any one key the rest is still read."""
    read(b"\n".join(line for line in EXAMPLE.splitlines() if not line.startswith(key.encode() + b":")))
