"""Follow a folder of order files: what proxy code does for each request, and what happens when a file is edited.

Run it: python examples/02_enforcer.py
"""

import shutil
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from cdnblock import Decision, Enforcer, Problem, Severity

ORDER = Path(__file__).parent / "orders" / "tjp-2025-03-28-motogp.yaml"
HOST, FRENCH, GERMAN = "motogp-mirror.example", "90.84.144.1", "80.187.0.1"
THEN = datetime(2025, 5, 1, 12, tzinfo=UTC)  # the order has ended since, so this example stays in its season


def say(decision: Decision) -> str:
    """Return the measures in one line."""
    return ", ".join(f"{measure} {variant}" for measure, variant in decision.measures.items()) or "let through"


def errors_of(enforcer: Enforcer) -> list[Problem]:
    """Return what is wrong with the files as they are now; warnings are there too, and are left out."""
    return [problem for problem in enforcer.problems if problem.severity is Severity.ERROR]


with tempfile.TemporaryDirectory() as folder:
    order = Path(shutil.copy(ORDER, folder))
    with Enforcer(folder, trusted_proxies=["10.0.0.0/8"], clock=THEN.timestamp) as enforcer:
        # Who asks? The peer, unless it is a proxy that we trust: then whom it speaks for.
        client = enforcer.client_address("10.1.2.3", {"X-Forwarded-For": FRENCH})
        print("client:", client)
        print("before:", say(enforcer.decide(HOST, client)))

        # A court clerk adds a name. The follower notices, and tells whoever has subscribed.
        changed = threading.Event()
        enforcer.subscribe(lambda _old, _new: changed.set())
        order.write_text(order.read_text().replace("names:\n", f"names:\n  - {HOST}\n"))
        changed.wait(timeout=10)
        print("after, in France:", say(enforcer.decide(HOST, client)))
        print("after, in Germany:", say(enforcer.decide(HOST, GERMAN)))

        # An editor's accident: the file is invalid, its last good version stays in force, and the problem is told.
        order.write_text(order.read_text().replace("until: 2025-11-16", "until: 2024-11-16"))
        deadline = time.monotonic() + 10
        while not (errors := errors_of(enforcer)) and time.monotonic() < deadline:
            time.sleep(0.05)
        print("with a broken file:", say(enforcer.decide(HOST, client)))
        for problem in errors:
            print(f"{Path(problem.file).name}, line {problem.line}, {problem.key}: {problem.message}")
