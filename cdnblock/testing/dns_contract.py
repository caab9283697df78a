"""The contract of every resolver: subclass it in a test file, say how the resolver is started, pytest does the rest.

Needs pytest and dnspython (`pip install pytest dnspython`).
"""

from __future__ import annotations

import random
import string
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

import pytest

from cdnblock.sandbox import naive_reading
from cdnblock.testing import dns_upstream
from cdnblock.testing.contract import CANNOT
from cdnblock.testing.dns_judging import differences, wrong_with
from cdnblock.testing.dns_scenarios import (
    ANSWERED,
    DNS_VARIANTS,
    DnsNeed,
    DnsScenario,
    DnsStep,
    read_dns_scenarios,
)
from cdnblock.testing.dns_stage import CLIENTS, COUNTRY_OF, DnsHost, DnsStage
from cdnblock.testing.dns_wire import Query, ask
from cdnblock.testing.places import country_table
from cdnblock.testing.scenarios import Action
from cdnblock.testing.stage import put_orders

__all__ = ["DnsContract", "open_dns_stage"]

SEED: Final = 20_250_328
_SCENARIOS: Final = read_dns_scenarios()
_CASES: Final = [scenario for scenario in _SCENARIOS if scenario.whole.steps]
_SHOWN: Final = 20  # complaints
_KINDS: Final = ("A", "A", "A", "AAAA", "HTTPS", "TXT", "MX")
_INNOCENT: Final = ("other.example", "gone.other.example", "example.org", "random.example", "empty.example")

_SPECIAL: Final = (
    # what is answered otherwise than most: by an alias, by the engine itself (RFC 6761, RFC 6303), or by nobody below
    "x.alias.example.org", "notrandom-france.example", "localhost", "x.invalid", "1.0.0.127.in-addr.arpa", "example", ".",
)  # fmt: skip


class DnsContract(ABC):
    """Every scenario, played on one resolver over real sockets, once for each variant that it carries.

    class TestMyResolver(DnsContract):
        variants = ("nxdomain",)
        cannot = {DnsNeed.EDE: "my resolver has no extended errors"}

        @contextmanager
        def serve(self, stage):
            with my_resolver(forward_to=stage.upstream, orders=stage.orders, geo=stage.geo) as resolver:
                yield DnsHost(address=("127.0.0.1", resolver.port), reload=resolver.reload)
    """

    variants: ClassVar[tuple[str, ...]] = DNS_VARIANTS
    """The variants of measure `dns` that it carries as they were ordered."""

    cannot: ClassVar[Mapping[DnsNeed | tuple[DnsNeed, str], str]] = {}
    """What this resolver cannot do, or not in one variant, each with the reason that the skip shows."""

    random_queries: ClassVar[int] = 1_000

    @abstractmethod
    def serve(self, stage: DnsStage) -> AbstractContextManager[DnsHost]:
        """Start the resolver on this stage, and stop it on leaving. It is started once for each variant."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Have everything played in each variant."""
        if "on_stage" in metafunc.fixturenames:
            metafunc.parametrize("on_stage", self.variants, indirect=True, scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def on_stage(
        cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[tuple[str, DnsStage, DnsHost]]:
        """Put the resolver on the stage, once for all scenarios of a variant."""
        variant = request.param
        orders = {
            order_id: keys
            for scenario in _SCENARIOS
            if not cls._why_not(scenario, variant)
            for order_id, keys in scenario.orders(variant).items()
        }
        with open_dns_stage(tmp_path_factory.mktemp("dns"), orders) as stage, cls().serve(stage) as host:
            yield variant, stage, host

    @pytest.mark.parametrize("scenario", _CASES, ids=[*map(str, _CASES)])
    def test_scenario(self, on_stage: tuple[str, DnsStage, DnsHost], scenario: DnsScenario) -> None:
        """What comes over the wire is what the scenario says."""
        variant, stage, host = on_stage
        if why := self._why_not(scenario, variant):
            pytest.skip(f"{CANNOT}{why}")
        wrong = [*_play(scenario, variant, host, stage, self._lacks(variant))]
        if wrong:
            pytest.fail("\n".join([f"{scenario.whole.proves} [{scenario.whole.source}]", *wrong]), pytrace=False)

    def test_random_queries(self, on_stage: tuple[str, DnsStage, DnsHost]) -> None:
        """Never a wrong side: judged by a second reading of the orders."""
        variant, stage, host = on_stage
        papers = [paper for path in sorted(stage.orders.glob("random-*.yaml")) for paper in naive_reading.read(path)]
        dice = random.Random(SEED)  # noqa: S311 (to be repeated, not guessed)
        wrong: list[str] = []
        for query, place in _random_queries(dice, papers, self.random_queries):
            wanted = naive_reading.measures(papers, query.name, COUNTRY_OF[place], datetime.now(UTC)).get("dns")
            found = _asked(host, query, place, wanted, self._lacks(variant), None)
            wrong += [f"seed {SEED}: {query} from {place}, {wanted or ANSWERED} due: {said}" for said in found]
            if len(wrong) > _SHOWN:
                break
        if wrong:
            pytest.fail("\n".join(wrong), pytrace=False)

    def test_others_are_answered_as_by_the_plain_engine(self, on_stage: tuple[str, DnsStage, DnsHost]) -> None:
        """Whoever asks for what no order covers gets what the same engine answers without our configuration."""
        _, _, host = on_stage
        if host.plain is None:
            pytest.skip(f"{CANNOT}plain: nothing to compare with")
        wrong = [
            f"{query}: {said}"
            for query in _uncovered_queries()
            for said in differences(ask(host.address, query), ask(host.plain, query))
        ]
        if wrong:
            pytest.fail("\n".join(wrong[:_SHOWN]), pytrace=False)

    @classmethod
    def _lacks(cls, variant: str) -> set[DnsNeed]:
        return {need for need in DnsNeed if need in cls.cannot or (need, variant) in cls.cannot}

    @classmethod
    def _why_not(cls, scenario: DnsScenario, variant: str) -> str:
        """Return why a scenario is not for this resolver in a variant, empty where it is."""
        for need in scenario.needs:
            if need in cls._lacks(variant):
                return f"{need}: {cls.cannot.get(need) or cls.cannot[need, variant]}"
        for other in scenario.variants:
            if other not in cls.variants:
                return f"{other}: not carried as it was ordered"
        return ""


@contextmanager
def open_dns_stage(folder: Path, orders: Mapping[str, Mapping[str, object]]) -> Iterator[DnsStage]:
    """Write orders and the country table, and start upstream."""
    for path in (folder / "orders", folder / "scratch"):
        path.mkdir()
    put_orders(folder / "orders", orders)
    (folder / "places.mmdb").write_bytes(country_table())
    with dns_upstream.serving() as upstream:
        yield DnsStage(
            orders=folder / "orders", geo=folder / "places.mmdb", upstream=upstream, folder=folder / "scratch"
        )


def _play(scenario: DnsScenario, variant: str, host: DnsHost, stage: DnsStage, cannot: set[DnsNeed]) -> Iterator[str]:
    for number, step in enumerate(scenario.steps(variant), 1):
        match step.action:
            case Action.ORDER:
                put_orders(stage.orders, step.orders, variant)
                host.reload()
            case Action.WAIT:
                time.sleep(step.seconds)
            case _:
                wrong = _within(host, step, cannot)
                about = f"{step.says}: " if step.says else ""
                yield from (f"step {number} ({about}{step.query} in {step.place}): {said}" for said in wrong)


def _within(host: DnsHost, step: DnsStep, cannot: set[DnsNeed]) -> list[str]:
    """Ask; where the step leaves time for it, again until nothing is wrong."""
    deadline = time.monotonic() + step.seconds
    while wrong := [*_asked(host, step.query, step.place, step.expect, cannot, step.text)]:
        if time.monotonic() > deadline:
            return wrong
        time.sleep(0.1)
    return []


def _asked(
    host: DnsHost, query: Query, place: str, expect: str | None, cannot: set[DnsNeed], text: str | None
) -> Iterator[str]:
    """Ask and yield what is wrong; nothing where nobody can ask from there."""
    source = CLIENTS.get(place)
    address = host.address6 if source and ":" in source else host.address
    if source is None or address is None:
        return
    query = replace(query, source=source)
    try:
        yield from wrong_with(expect, query, ask(address, query), cannot, text)
    except (AssertionError, OSError) as error:
        yield f"{type(error).__name__}: {error}"


def _uncovered_queries() -> Iterator[Query]:
    for source in (CLIENTS["france"], CLIENTS["germany"]):
        for name in (*_INNOCENT, *_SPECIAL):
            for kind in ("A", "AAAA", "TXT", "MX", "HTTPS", "SVCB", "CAA", "SRV", "NS", "PTR"):
                if (name, kind) != (
                    ".",
                    "NS",
                ):  # told by upstream, or by an engine's own hints: it depends on the moment
                    yield Query(name=name, kind=kind, source=source)
        for name in ("other.example", "gone.other.example", "empty.example"):
            plainly = Query(name=name, source=source)
            yield replace(plainly, tcp=True)
            yield replace(plainly, edns=False)
            yield replace(plainly, dnssec_ok=True)
            yield replace(plainly, checking_disabled=True)
            yield replace(plainly, recursion=False)


def _random_queries(dice: random.Random, papers: list[naive_reading.Paper], count: int) -> Iterator[tuple[Query, str]]:
    names = [_ascii(item.name) for paper in papers for item in naive_reading.listed(paper)]
    names += [_ascii(name) for paper in papers for lifting in paper.get("lifted", []) for name in lifting["names"]]
    for _ in range(count):
        text = "".join(dice.choice((letter.upper(), letter)) for letter in _random_name(dice, names))
        query = Query(
            name=text if dice.random() < 0.5 else text.lower(),  # noqa: PLR2004
            kind=dice.choice(_KINDS),
            tcp=dice.random() < 0.05,  # noqa: PLR2004
            edns=dice.random() > 0.2,  # noqa: PLR2004
            dnssec_ok=dice.random() < 0.2,  # noqa: PLR2004
        )
        yield query, dice.choice([*CLIENTS])


def _random_name(dice: random.Random, names: list[str]) -> str:
    label = "".join(dice.choices(string.ascii_lowercase + string.digits, k=dice.randint(1, 12)))
    name = dice.choice(names)
    match dice.randint(0, 9):
        case 0 | 1 | 2:
            return f"{label}.{name}"
        case 3:
            return f"x.{label}.{name}"
        case 4:
            return f"{label}{name}"
        case 5:
            return f"{name}.{label}.example"
        case 6:
            return name.partition(".")[2] if name.count(".") > 1 else name
        case 7:
            return dice.choice(_INNOCENT)
        case _:
            return name


def _ascii(name: str) -> str:
    return name if name.isascii() else name.encode("idna").decode()
