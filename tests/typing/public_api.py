"""Public use of the library as others write it. Never run: mypy --strict checks it (tests/test_typing_public.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import cdnblock
from cdnblock import Decision, Enforcer, Measure, Order, RuleSet
from cdnblock.measures import cache_disable, dns_refusal, proxy_termination
from cdnblock.testing import AdapterContract, Host, Need, Stage, reload_by_state


def load_and_decide() -> bool:
    """From a folder to a decision, and every part of it."""
    rules: RuleSet = cdnblock.load_orders("orders/")
    more: RuleSet = cdnblock.load_orders(Path("orders/a.yaml"), Path("orders/b.yaml"))
    decision: Decision = rules.decide("www.motogpstream.me", country="FR", at=datetime.now(UTC))
    rules.decide(b"www.motogpstream.me", at=datetime.now(UTC))
    measures: Mapping[Measure, str] = decision.measures
    variant: str | None = measures.get(Measure.DNS)
    for reason in decision.reasons:
        told: tuple[str, str, str | None, datetime] = reason.id, reason.name, reason.notice, reason.until
        print(told, reason.order.court, reason.position)
    for spared in decision.not_applied:
        why: cdnblock.Why = spared.why
        print(spared.id, spared.name, why.value)
    sentence: str = decision.explain()
    changes: datetime | None = decision.changes_at
    print(variant, sentence, changes, decision.country, decision.told_by, decision.revision, decision.malformed)
    orders: Mapping[str, Order] = rules.orders
    revision: str = more.revision
    following: datetime | None = rules.next_change(datetime.now(UTC))
    covered: frozenset[tuple[str, bool]] = rules.covered_names(Measure.CDN, datetime.now(UTC))
    print(orders, revision, following, covered)
    return bool(decision)


class OwnTable:
    """A country table of one's own: anything that locates and says what it is."""

    description = "the operator's own table"

    def locate(self, address: str) -> str | None:
        """Return where our own network says that an address is."""
        return "FR" if address.startswith("203.0.113.") else None


def enforce(peer: str | None, headers: Mapping[str, str]) -> Decision:
    """Follow a folder; every parameter."""
    with Enforcer(
        Path("orders"),
        geo=OwnTable(),
        trusted_proxies=["10.0.0.0/8"],
        client_header="CF-Connecting-IP",
        follow=True,
        state="/var/lib/cdnblock",
        clock=lambda: 0.0,
    ) as enforcer:
        client: str | None = enforcer.client_address(peer, headers)
        enforcer.client_address(peer, [("x-forwarded-for", "203.0.113.7"), (b"Forwarded", b"for=203.0.113.7")])
        unsubscribe: Callable[[], None] = enforcer.subscribe(tell)
        unsubscribe()
        problems: tuple[cdnblock.Problem, ...] = enforcer.problems
        enforcer.reload(accept_release=False)
        print(problems, enforcer.rules.revision, enforcer.status(), enforcer.geo.description)
        enforcer.decide_query_name("www.motogpstream.me.", client)
        return enforcer.decide(b"www.motogpstream.me", client)


def tell(old: RuleSet, new: RuleSet) -> None:
    """A subscriber."""
    print(old.revision, new.revision)


def without_a_file() -> RuleSet:
    """An order built in Python; every kind of part that it may have."""
    order = Order(
        id="example",
        court="Example Court",
        decided=date(2025, 1, 10),
        legal_basis="Example Act, section 1",
        claimant="Example League",
        territory=cdnblock.Territory(countries=frozenset({"FR", "RE"})),
        measures={Measure.DNS: "refuse", Measure.CDN: "disable", Measure.PROXY: "terminate"},
        names=(cdnblock.Name(name="live.example"), cdnblock.Name(name="cdn.mirror.example", subdomains=False)),
        served=date(2025, 1, 13),
        comply_within=cdnblock.Delay(3, cdnblock.DelayUnit.DAYS),
        implemented=datetime(2025, 1, 14, 9, tzinfo=UTC),
        duration=cdnblock.Delay(12, cdnblock.DelayUnit.MONTHS),
        counted_from=cdnblock.Anchor.IMPLEMENTED,
        unknown_location=cdnblock.UnknownLocation.ENFORCE,
        mode=cdnblock.Mode.REPORT,
        windows=(cdnblock.Window(begins=date(2025, 2, 9), until=date(2025, 2, 10), label="matchday 1"),),
        additions=(
            cdnblock.Addition(
                notice="example 1",
                notified=datetime(2025, 2, 1, 12, tzinfo=UTC),
                names=(cdnblock.Name(name="b.example"),),
            ),
        ),
        lifted=(cdnblock.Lifting(at=datetime(2025, 3, 1, 12, tzinfo=UTC), names=("live.example",), reason="lawful"),),
        penalty=cdnblock.Penalty(amount=Decimal(5000), currency="EUR", per="day and name"),
    )
    return cdnblock.compile_orders([order])


def answer(decision: Decision, query: bytes) -> bytes | None:
    """The three measures, as values."""
    page: proxy_termination.Answer = proxy_termination.notice(
        decision, accept="text/html", accept_language="fr", method="GET", operator_url="https://edge.example/blocked"
    )
    status: int = page.status
    headers: tuple[tuple[str, str], ...] = page.headers
    body: bytes = page.body
    sent: list[tuple[str, str]] = cache_disable.response_headers([("Cache-Control", "max-age=60")])
    print(status, headers, body, sent, proxy_termination.closes(decision))
    return dns_refusal.answer(query, decision, contact="legal@edge.example", max_size=1232)


class TestAnybodysProxy(AdapterContract):
    """A host is proved by saying how it is started."""

    cannot = {Need.HTTP2: "it speaks HTTP/1.1 only"}
    random_requests = 100

    @contextmanager
    def serve(self, stage: Stage) -> Iterator[Host]:
        """Run it."""
        print(stage.origin, stage.orders, stage.geo, stage.trusted_proxies, stage.certificate, stage.rewrites)
        yield Host(address=("127.0.0.1", 80), tls=("127.0.0.1", 443), reload=lambda: reload_by_state(stage))


def mistakes_of_others() -> tuple[cdnblock.Problem, ...]:
    """Errors are split by who must act."""
    try:
        cdnblock.load_orders("orders/")
    except cdnblock.OrderError as error:
        for problem in error.problems:
            place: tuple[str, int, int, str, str] = (
                problem.file, problem.line, problem.column, problem.key, problem.message
            )  # fmt: skip
            severity: cdnblock.Severity = problem.severity
            print(place, severity)
        return error.problems
    except (cdnblock.ConfigError, cdnblock.UnsupportedError) as error:
        base: cdnblock.CdnblockError = error
        print(base)
    return ()


def wrong_uses(rules: RuleSet, decision: Decision) -> None:
    """What a type checker must refuse; an ignore that is not needed is itself an error."""
    rules.decide("a.example", country="FR")  # type: ignore[call-arg]  # the rules have no clock
    rules.decide(None, at=datetime.now(UTC))  # type: ignore[arg-type]  # a host is text or bytes
    decision.measures[Measure.DNS] = "nodata"  # type: ignore[index]  # decisions are values
    decision.country = "FR"  # type: ignore[misc]  # decisions are values
    Order(id="x")  # type: ignore[call-arg]  # an order has a court
