"""What the tests of order files share: one whole example, and a way to read text as a file."""

from __future__ import annotations

import pytest

from cdnblock.orders.parse import parse_order
from cdnblock.orders.protected import Protected

FILE = "orders/an-order.yaml"

# The smallest order there is; tests add lines to it, or replace one of its own.
LEAST = {
    "cdnblock": "1",
    "id": "an-order",
    "court": "Tribunal judiciaire de Paris",
    "decided": "2025-03-28",
    "legal_basis": "Code du sport, art. L. 333-10",
    "claimant": "Canal Plus",
    "until": "2025-11-16",
    "territory": "[FR]",
    "measures": "{dns: refuse}",
    "names": "[site.example]",
}

PROTECTED = Protected({"drive.google.com": "protected.txt:7", "t.me": "protected.txt:9"})


def order_text(without=(), **lines):
    """The smallest order as YAML, a line a key, with keys replaced, added or (`without`) taken away.

    `from_` and `for_` stand for the keys `from` and `for`.
    """
    keys = {**LEAST, **{key.rstrip("_"): value for key, value in lines.items()}}
    return "".join(f"{key}: {value}\n" for key, value in keys.items() if key not in without)


@pytest.fixture
def parse():
    """Read text as an order file; `beside` are the files that stand beside it."""

    def read(text, beside=None, protected=PROTECTED):
        def read_beside(name):
            try:
                return (beside or {})[name]
            except KeyError:
                raise FileNotFoundError(2, "No such file or directory", name) from None

        data = text if isinstance(text, bytes) else text.encode()
        return parse_order(data, FILE, read_names_file=read_beside, protected=protected)

    return read


@pytest.fixture
def least():
    """The smallest order as YAML text."""
    return order_text


@pytest.fixture
def problems_of(parse, least):
    """The problems of the smallest order with some keys changed."""

    def read(beside=None, without=(), **lines):
        order, problems = parse(least(without, **lines), beside)
        errors = [problem for problem in problems if problem.severity == "error"]
        assert (order is None) == bool(errors)
        return problems

    return read
