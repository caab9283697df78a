"""Order files for the tests of the DNS front."""

from __future__ import annotations

from pathlib import Path

ORDER = """\
cdnblock: 1
id: {id}
court: Tribunal judiciaire de Paris
decided: 2024-01-01
legal_basis: Code du sport, art. L. 333-10
claimant: A claimant
from: 2024-01-02T00:00
until: 2090-01-01T00:00
territory: {territory}
measures: {{dns: {variant}}}
names: [{name}]
"""


def write_order(folder: Path, name: str, variant: str = "refuse", territory: str = "world") -> None:
    """Write an order whole or not at all; its id is the name's first label."""
    text = ORDER.format(id=name.partition(".")[0], territory=territory, variant=variant, name=name)
    beside = folder / f".{name}.new"
    beside.write_text(text)
    beside.replace(folder / f"{name}.yaml")
