"""Files made to hurt: each is refused, or read, in time that grows with its size only.

The bounds are loose, for slow and busy machines; what they catch is seconds becoming minutes, and crashes.
"""

from __future__ import annotations

import time

import pytest

HEAD = (
    "cdnblock: 1\nid: a\ncourt: c\ndecided: 2025-01-01\nlegal_basis: l\nclaimant: c\nuntil: 2025-12-01\nterritory: FR\n"
)
HEAD += "measures: {dns: refuse}\n"
SECONDS = 8


def timed(parse, text, beside=None):
    started = time.perf_counter()
    order, problems = parse(text, beside)
    assert time.perf_counter() - started < SECONDS
    return order, problems


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 200_000, id="open lists"),
        pytest.param("a: " + "[" * 200_000 + "]" * 200_000, id="nested lists"),
        pytest.param("{" * 200_000, id="open mappings"),
        pytest.param("- " * 200_000, id="block lists"),
        pytest.param("? " * 200_000, id="complex keys"),
        pytest.param("a: " * 200_000, id="keys in a line"),
        pytest.param("\n".join(" " * depth + "a:" for depth in range(3_000)), id="ever deeper indentation"),
        pytest.param("a: [" + "x," * 500_000 + "]", id="a long list in a line"),
        pytest.param("a: [" + "x,\n" * 500_000 + "]", id="a long list in lines"),
        pytest.param("{" + "? a," * 300_000, id="a key again and again"),
        pytest.param("".join(f"k{number}: 1\n" for number in range(100_000)), id="unknown keys"),
        pytest.param("a: " + "x" * 10_000_000, id="a long plain scalar"),
        pytest.param('a: "' + "\\x41" * 2_500_000 + '"', id="a long escaped scalar"),
        pytest.param("a: |\n" + (" " + "x" * 100 + "\n") * 300_000, id="a long block scalar"),
        pytest.param("x" * 5_000_000 + ": 1", id="a long key"),
        pytest.param("a: !" + "x" * 2_000_000 + " 1", id="a long tag"),
        pytest.param("#\n" * 10_000_000, id="comments"),
        pytest.param("\n" * 20_000_000, id="empty lines"),
        pytest.param("\x07" * 5_000_000, id="control characters"),
        pytest.param("---\n" * 500_000, id="documents"),
        pytest.param("a: *" + "x" * 2_000_000, id="a long alias"),
        pytest.param("\n".join(["k0: &a0 x", *(f"k{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]), id="a bomb"),
        pytest.param(
            "k0: &a0 {x: y}\n" + "\n".join(f"k{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}}}" for n in range(1, 60)), id="a bomb of keys"
        ),
        pytest.param("a: &a [" + "x, " * 9_000 + "]\nb: [" + "*a, " * 50_000 + "]", id="a wide bomb"),
        pytest.param(HEAD + "names: [" + "1, " * 100_000 + "]", id="names that are numbers"),
        pytest.param(HEAD + "names:\n" + "  - {}\n" * 100_000, id="names without a name"),
        pytest.param(HEAD + "names:\n" + "  - co.uk\n" * 100_000, id="public suffixes"),
        pytest.param(HEAD + "names:\n" + "  - http://x.example/\n" * 100_000, id="URLs"),
        pytest.param(HEAD + "names:\n" + "  - xn--a.example\n" * 100_000, id="names that are no names"),
        pytest.param(HEAD + "names:\n" + "  -\n" * 100_000, id="empty entries"),
        pytest.param(HEAD + "names: ['" + "a." * 4_000_000 + "']", id="a name of many labels"),
        pytest.param(HEAD + "names: ['" + "é" * 3_999 + ".example']", id="a long U-label"),
        pytest.param(HEAD + "windows:\n" + "  - {from: 2024-03-31T02:30, until: x}\n" * 30_000, id="windows"),
        pytest.param(
            HEAD + "names: [" + "".join(f"a{n}.example, " for n in range(50_000)) + "]\nlifted: [{at: 2025-02-02, names: ["
            + "".join(f"b{n}.example, " for n in range(50_000)) + "]}]", id="liftings of other names"
        ),
        pytest.param(HEAD + "territory: [" + "france, " * 100_000 + "]", id="places that are no places"),
        pytest.param(HEAD + f"comply_within: {'9' * 1_000_000} days", id="a long delay"),
        pytest.param(HEAD + "for: 999999999999999999 months\ncounted_from: decided", id="a far end"),
        pytest.param(HEAD + f"penalty: {{amount: {'9' * 1_000_000}, currency: EUR}}", id="a large penalty"),
    ],
)  # fmt: skip
def test_hostile_file_is_refused_in_time(parse, text):
    """Nothing crashes, nothing takes its time, and the report stays short enough to read."""
    order, problems = timed(parse, text)
    assert order is None
    assert 1 <= len(problems) <= 1_001
    assert all(len(problem.message) < 1_000 and "\n" not in str(problem) for problem in problems)


def test_file_over_64_mib_is_refused(parse):
    """Larger files are not looked into."""
    (problem,) = timed(parse, b" " * (64 * 1024 * 1024 + 1))[1]
    assert "64 MiB" in problem.message


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a" * 10_000_000, id="one long line"),
        pytest.param(b"a." * 5_000_000, id="one line of labels"),
        pytest.param(b" " * 10_000_000 + b"x", id="one line of spaces"),
        pytest.param(b"x #" * 3_000_000, id="one line of comments"),
        pytest.param(b"http://x.example/\n" * 200_000, id="URLs"),
        pytest.param(b"co.uk\n" * 200_000, id="public suffixes"),
        pytest.param(b"\n" * 10_000_000, id="empty lines"),
        pytest.param(b"x" * (64 * 1024 * 1024 + 1), id="too large"),
        pytest.param(b"\xff" * 1_000_000, id="no text"),
    ],
)
def test_hostile_names_file_is_refused_in_time(parse, content):
    """The same holds for a names file."""
    order, problems = timed(parse, HEAD + "names_file: a.txt\n", {"a.txt": content})
    assert order is None
    assert 1 <= len(problems) <= 1_001


def test_large_lists_are_read_in_time(parse):
    """10,000 names in YAML, and 100,000 in a names file, are one order."""
    names = "names:\n" + "".join(f"  - site{number}.example\n" for number in range(10_000))
    annex = "".join(f"site{number}.live.example\n" for number in range(100_000)).encode()
    order, problems = timed(parse, HEAD + names + "names_file: a.txt\n", {"a.txt": annex})
    assert problems == ()
    assert order.size() == 110_000
    assert order.names[9_999].position.line == 10_010
    assert order.names_file.lines[99_999] == 100_000
