"""Load a folder of order files and decide for a host, a client's country and an instant.

Run it: python examples/01_decide.py
"""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import cdnblock

ORDERS = Path(__file__).parent / "orders"
DURING_THE_SEASON = datetime(2025, 5, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
AFTER_THE_SEASON = datetime(2025, 11, 17, tzinfo=ZoneInfo("Europe/Paris"))  # `until` is the 16th up to 24:00

rules = cdnblock.load_orders(ORDERS)

for host, country, at in [
    ("www.motogpstream.me", "FR", DURING_THE_SEASON),
    ("www.motogpstream.me", "DE", DURING_THE_SEASON),
    ("www.motogpstream.me", "FR", AFTER_THE_SEASON),
    ("mymotogpstream.me", "FR", DURING_THE_SEASON),  # ends like the name, and is another one
    ("ddl-music.to", "DE", datetime(2024, 5, 1, tzinfo=ZoneInfo("Europe/Berlin"))),  # this court ordered one measure
]:
    decision = rules.decide(host, country=country, at=at)
    measures = ", ".join(f"{measure} {variant}" for measure, variant in decision.measures.items())
    print(f"{host} from {country} on {at:%Y-%m-%d}: {measures or 'let through'}")
    print(f"    {decision.explain()}")
