"""Build an order without a file, for whoever keeps orders in a database, and compile it.

Run it: python examples/03_order_in_python.py
"""

from dataclasses import replace
from datetime import UTC, date, datetime

from cdnblock import Delay, DelayUnit, Measure, Name, Order, OrderError, Territory, compile_orders

order = Order(
    id="example-2025-01-10",
    court="Example Court",
    decided=date(2025, 1, 10),
    legal_basis="Example Act, section 1",
    claimant="Example League",
    territory=Territory(countries=frozenset({"FR", "RE"})),
    measures={Measure.DNS: "refuse", Measure.PROXY: "terminate"},
    names=(Name(name="live-football.example"), Name(name="cdn.mirror.example", subdomains=False)),
    served=datetime(2025, 1, 13, 15, tzinfo=UTC),
    comply_within=Delay(3, DelayUnit.DAYS),
    until=date(2025, 6, 30),
)
rules = compile_orders([order])

print("revision:", rules.revision[:13], "…")
print("changes next:", rules.next_change(datetime(2025, 1, 12, tzinfo=UTC)))
for host in ("www.live-football.example", "cdn.mirror.example", "www.cdn.mirror.example"):
    decision = rules.decide(host, country="RE", at=datetime(2025, 3, 1, tzinfo=UTC))
    print(f"{host}:", {measure.value: how for measure, how in decision.measures.items()} or "let through")

# The same rules hold as for files: no end, no enforcement.
try:
    compile_orders([replace(order, until=None)])
except OrderError as error:
    print("refused:", error.problems[0].message)
