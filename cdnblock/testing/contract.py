"""The contract of every HTTP host: subclass it in a test file, say how the host is started, and pytest does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import ClassVar, Final

import pytest

from cdnblock.testing.play import play
from cdnblock.testing.random_requests import RandomRequests
from cdnblock.testing.scenarios import Need, Protocol, Scenario, read_scenarios
from cdnblock.testing.stage import Host, Stage, open_stage

CANNOT: Final = "cannot: "
"""How the reason of a skip begins that a host has declared: the only skips that are no gap in a run of the tests."""

_SCENARIOS: Final = read_scenarios()
_CASES: Final = [(scenario, protocol) for scenario in _SCENARIOS if scenario.steps for protocol in scenario.protocols]
_H2_SHARE: Final = 10  # of so many random requests one is made over HTTP/2 as well: the client's h2 is slow


class AdapterContract(ABC):
    """Every scenario, played on one host over real sockets.

    class TestMyProxy(AdapterContract):
        cannot = {Need.HTTP2: "my proxy speaks HTTP/1.1 only"}

        @contextmanager
        def serve(self, stage):
            with my_proxy(stage.origin, orders=stage.orders, geo=stage.geo) as proxy:
                yield Host(address=("127.0.0.1", proxy.port), reload=proxy.reload)
    """

    cannot: ClassVar[Mapping[Need, str]] = {}
    """What this host cannot do, each with the reason that the skip shows."""

    random_requests: ClassVar[int] = 10_000
    """How many random requests it gets; 2,000 will do for one that takes milliseconds for each."""

    pipelining: ClassVar[int] = 16
    """How many requests are sent at once on one connection; 1 for a server that does not take pipelined ones."""

    @abstractmethod
    def serve(self, stage: Stage) -> AbstractContextManager[Host]:
        """Start the host on this stage, and stop it on leaving. It is started once for all scenarios."""

    @pytest.fixture(scope="class")
    @classmethod
    def on_stage(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Host]]:
        """Put the host on the stage, once for all scenarios."""
        with open_stage(tmp_path_factory.mktemp("contract"), _SCENARIOS) as stage, cls().serve(stage) as host:
            yield stage, host

    @pytest.mark.parametrize(
        ("scenario", "protocol"),
        _CASES,
        ids=[f"{scenario.file}: {scenario.name} [{protocol}]" for scenario, protocol in _CASES],
    )
    def test_scenario(self, request: pytest.FixtureRequest, scenario: Scenario, protocol: Protocol) -> None:
        """What comes over the wire is what the scenario says."""
        self._skip_what_it_cannot(scenario.needs, protocol)
        stage, host = request.getfixturevalue("on_stage")
        wrong = [*play(scenario, protocol, host, stage)]
        if wrong:
            pytest.fail("\n".join([f"{scenario.proves} [{scenario.source}]", *wrong]), pytrace=False)

    @pytest.mark.parametrize("protocol", Protocol)
    def test_random_requests(self, request: pytest.FixtureRequest, protocol: Protocol) -> None:
        """Never a failure or a hang, never a wrong side: judged by a second reading of the orders."""
        self._skip_what_it_cannot((), protocol)
        stage, host = request.getfixturevalue("on_stage")
        count = self.random_requests if protocol is Protocol.HTTP1 else self.random_requests // _H2_SHARE
        wrong = RandomRequests(stage, host, self.cannot).run(protocol, count, at_once=self.pipelining)
        if wrong:
            pytest.fail("\n".join(wrong), pytrace=False)

    def _skip_what_it_cannot(self, needs: tuple[Need, ...], protocol: Protocol) -> None:
        for need in (*needs, *([Need.HTTP2] if protocol is Protocol.HTTP2 else [])):
            if need in self.cannot:
                pytest.skip(f"{CANNOT}{need}: {self.cannot[need]}")
