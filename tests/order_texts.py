"""Order files as tests write them: one complete small order, changed by keyword."""

from __future__ import annotations

ORDER = """\
cdnblock: 1
id: {id}
court: Tribunal judiciaire de Paris
decided: 2025-03-28
legal_basis: Code du sport, art. L. 333-10
claimant: SECP
from: {begins}
until: {until}
territory: {territory}
measures: {measures}
names: {names}
"""


def order_text(**changes: str) -> str:
    """Return a valid order file that is in force from 2025 to 2195, in France, with all three measures."""
    values = {
        "id": "motogp",
        "begins": "2025-04-03T09:00",
        "until": "2195-01-01",
        "territory": "[FR]",
        "measures": "{dns: refuse, cdn: disable, proxy: terminate}",
        "names": "[motogpstream.me]",
    }
    return ORDER.format(**(values | changes))
