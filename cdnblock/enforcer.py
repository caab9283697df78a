"""Rules, place and time behind one method: what proxy code imports.

with Enforcer("orders/", trusted_proxies=["10.0.0.0/8"]) as enforcer:
    decision = enforcer.decide("www.motogpstream.me", "90.84.144.1")
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from cdnblock.audit.records import Kind
from cdnblock.audit.settings import Settings
from cdnblock.audit.tally import Tally
from cdnblock.deciding import Decider
from cdnblock.errors import ConfigError, Problem, Severity
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.geo.country import CountryTable
from cdnblock.matching.ruleset import RuleSet
from cdnblock.shown import shown
from cdnblock.sources.chronicle import Chronicle
from cdnblock.sources.control_socket import ControlServer
from cdnblock.sources.end_watch import EndWatch, as_json, in_words
from cdnblock.sources.follower import Follower
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.listeners import Listener, Listeners
from cdnblock.sources.live_orders import SETTLE_SECONDS, FileState, LiveOrders
from cdnblock.sources.protected_list import load_holidays
from cdnblock.sources.release_guard import released
from cdnblock.sources.slow_release import SlowRelease, breathe, collect_new
from cdnblock.sources.state_folder import KeptFile, StateFolder
from cdnblock.sources.status import LastReload, describe
from cdnblock.sources.vitals import Vitals

if TYPE_CHECKING:
    from cdnblock.audit.trail import Trail

_TOLD_WITHIN: Final = 30.0  # seconds that whoever asks for a reload waits for those who are told
_PATIENCE: Final = 10  # looks at files that are just being written, each a settling time after the one before
_SHOWN: Final = 100  # names that an answer on the control socket lists at most
_LOG: Final = logging.getLogger("cdnblock.enforcer")

DRY_RUN: Final = "REPORT ONLY: what would be enforced is told and counted; nothing is refused"
"""What an instance says of itself where everything is only reported."""

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]


class Enforcer(Decider):
    """Loads an orders folder, follows its changes, and decides.

    `orders` is a folder of order files (or one file); `geo` an MMDB file, a table of your own, or None for the dated
    table in the package; `trusted_proxies` the networks whose forwarded headers are believed (`unix` stands for
    proxies that connect over a Unix socket), `client_header` the one header they use. `follow=False` loads once. `state` is a folder of this instance alone: there the last good
    orders survive a restart, and there `cdnblock status` and `cdnblock reload` reach it. `report_only` is a dry run:
    every order is read as one in mode report, so decisions say what would be, and nothing is refused. `audit` is a
    folder of this instance alone for the trail of all that happens, kept by `audit_settings`; what goes wrong there
    later never stops enforcement. `clock` gives seconds since 1970 and is there for staging.
    `serving=False` says that nobody waits for decisions while files are reread, which is quicker without pauses.

    `decide` never blocks, never does I/O and never raises; it may be called from any number of threads. Make it in the
    process that serves: a fork leaves the threads behind that follow the folder.

    Raises:
        OrderError: an order file is invalid; `.problems` lists everything.
        ConfigError: a path, network, geo table or trail is not usable.

    """

    def __init__(  # noqa: PLR0913 (each is the operator's choice)
        self,
        orders: Path | str,
        *,
        geo: Path | str | CountryTable | None = None,
        trusted_proxies: Iterable[str] = (),
        client_header: str | None = None,
        follow: bool = True,
        state: Path | str | None = None,
        report_only: bool = False,
        audit: Path | str | None = None,
        audit_settings: Settings | None = None,
        clock: Callable[[], float] = time.time,
        serving: bool = True,
    ) -> None:
        super().__init__(open_geo_table(geo) if geo is None or isinstance(geo, (str, Path)) else geo, clock)
        self._proxies = TrustedProxies(trusted_proxies, header=client_header)
        self._listeners = Listeners()
        self._rereading = threading.RLock()
        self._slow_release = SlowRelease()
        self._last_reload: LastReload | None = None
        self._ends = EndWatch()
        self._vitals = Vitals()
        self._reports: dict[str, Callable[[], Any]] = {}
        self._started = self._now()
        self.tally = Tally(clock=clock)
        """What hosts enforced, counted; with a trail it is what that records."""
        self._chronicle: Chronicle | None = None
        self._state = None if state is None else StateFolder(state)
        self._closing = ExitStack()
        with ExitStack() as opened:
            if self._state is not None:
                opened.callback(self._state.close)
            started = time.perf_counter()
            self._live = LiveOrders(
                orders,
                state=self._state,
                now=self._started,
                report_only=report_only,
                keep_texts=audit is not None,
                pause=breathe if serving else collect_new,
            )
            self._vitals.note_load(self._live, self._started, time.perf_counter() - started)
            self._rules = self._live.rules
            self._reported: tuple[object, ...] = ()
            if report_only:
                _LOG.warning("cdnblock: %s", DRY_RUN)
            # What is wrong now did not keep us from starting, and a host may take an error in its start as the end.
            self._report(loudest=logging.WARNING)
            if self._state is not None:
                opened.callback(self._listen(self._state).close)
            if audit is not None:
                self._chronicle = self._begin(opened, Path(audit), audit_settings, geo)
            self._tell_endings()
            if follow:
                follower = Follower(_Followed(self), self._live.folder, self._now)
                opened.callback(follower.close)
            self._closing = opened.pop_all()

    @property
    def trail(self) -> Trail | None:
        """What records everything that happens, None where nothing was asked for."""
        return None if self._chronicle is None else self._chronicle.trail

    @property
    def report_only(self) -> bool:
        """Whether all of it is a dry run: nothing is refused, whatever the files say."""
        return self._live.report_only

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files as they are now, warnings included."""
        return self._live.problems

    @property
    def vitals(self) -> Vitals:
        """How the enforcer fares, in plain numbers that cost nothing to read: what metrics are made of."""
        return self._vitals

    @property
    def folder(self) -> Path:
        """The folder of the order files, also where there is a single one."""
        return self._live.folder

    def now(self) -> datetime:
        """Return the instant for which `decide` decides now."""
        return self._now()

    @property
    def geo(self) -> CountryTable:
        """The table that tells the country."""
        return self._table

    def client_address(self, peer: str | None, headers: Headers | None = ()) -> str | None:
        """Return the client's address: the peer, or what trusted proxies say of it. Never raises."""
        return self._proxies.client_address(peer, headers)

    def trusts(self, peer: str | None) -> bool:
        """Tell whether a peer is one of the trusted proxies; one without an address is where `unix` is among them."""
        return self._proxies.trusts(peer)

    def subscribe(self, callback: Listener) -> Callable[[], None]:
        """Call `callback(old, new)` after each change; return the function that ends it.

        Called when the files have changed, and with `old is new` at each instant at which an order starts, ends, or
        opens or closes a window, within 50 ms of it: whatever still runs may have to be cut then. It runs on a thread
        of the enforcer's, or on that of whoever calls `reload`, never on two at once, and should return soon; an event
        loop is told by its `call_soon_threadsafe`.
        """
        return self._listeners.subscribe(callback)

    def reload(self, *, accept_release: bool = False) -> None:
        """Reread the orders folder now; `accept_release` also puts in force what the release guard holds back.

        Waits up to half a second for files that are just being written. What is invalid keeps its last good version
        and is in `problems`. Never raises for what is in the folder.
        """
        self._reread(accept_release=accept_release)
        for _ in range(_PATIENCE):
            if self._live.is_settled():
                return
            time.sleep(SETTLE_SECONDS)
            self._reread(accept_release=accept_release)

    def status(self) -> dict[str, Any]:
        """Return the state of this instance as JSON has it: what is enforced, what is wrong, what is held back."""
        with self._rereading:
            holidays, _ = load_holidays(self._live.folder)
            own: dict[str, Any] = {"pid": os.getpid(), "started": self._started.isoformat()}
            now = self._now()
            own["enforced"] = [
                {"adapter": adapter, "measure": measure, "action": action, "count": count}
                for (adapter, measure, action), count in sorted(self.tally.totals.items())
            ]
            own["expiring"] = [as_json(item, now) for item in self._ends.near(self._rules, now)]
            told = own | describe(self._live, now, self._last_reload, holidays)
        return told | {name: tell() for name, tell in self._reports.items()}

    def report(self, name: str, tell: Callable[[], Any]) -> None:
        """Have `status` say under `name` what `tell()` returns: counters of a host, as JSON has them."""
        self._reports[name] = tell

    def files_in_force(self) -> tuple[RuleSet, tuple[KeptFile, ...]]:
        """Return the rules, and the octets of the files that make them; there are such only with a state folder."""
        with self._rereading:
            return self._rules, self._live.in_force

    def close(self) -> None:
        """Stop following and let go of the state folder; decisions go on with the rules as they are."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reread(self, *, accept_release: bool = False, by_content: bool = False) -> None:
        with self._rereading:
            self._put_in_force(accept_release=accept_release, by_content=by_content)
        # Not under the lock: a listener may ask for the status, and may wait for somebody who reloads.
        self._listeners.tell(lambda: self._rules)
        with self._rereading:
            self._slow_release.free()
            self._tell_endings()

    def _begin(
        self, opened: ExitStack, audit: Path, settings: Settings | None, geo: Path | str | CountryTable | None
    ) -> Chronicle:
        """Begin to record. Raises ConfigError where that cannot be: the operator has asked for it."""
        from cdnblock.audit.trail import Trail  # noqa: PLC0415 (only where somebody wants one)

        settings = settings or Settings()
        trail = Trail(audit, self.tally, rules=lambda: self._rules, settings=settings, clock=self._clock)
        opened.callback(trail.close)
        self.report("audit", trail.status)
        chronicle = Chronicle(trail, audit)
        chronicle.began(self._live, self._started)
        chronicle.note_geo_table(self._table, geo if geo is None or isinstance(geo, (str, Path)) else self._table)
        return chronicle

    def _put_in_force(self, *, accept_release: bool, by_content: bool) -> None:
        started, old = time.perf_counter(), self._rules
        try:
            different = self._live.refresh(self._now(), accept_release=accept_release, by_content=by_content)
        except Exception:  # noqa: BLE001 (logged with its trace; what is enforced stays enforced)
            _LOG.exception("cdnblock: rereading the orders failed; those read before stay enforced")
            self._vitals.note_failure()
            return
        if different and self._chronicle is not None:
            self._chronicle.put_in_force(self._live, old, self._now(), accepted=accept_release)
        self._rules = new = self._live.rules
        self._vitals.note_look(self._live, self._now())
        if different:
            took = time.perf_counter() - started
            self._last_reload = LastReload(at=self._now(), seconds=took, changed=new is not old)
            self._vitals.note_reload(self._live, self._last_reload.at, took, changed=new is not old)
            self._report()
        if new is not old:
            self._slow_release.give(old, new)
            self._listeners.note(old, new)

    def _tell_endings(self) -> None:
        """Say which orders are about to end: once for each of the marks before an end."""
        now = self._now()
        for item in self._ends.untold(self._rules, now):
            _LOG.warning("cdnblock: %s", in_words(item, now))
            if self._chronicle is not None:
                self._chronicle.trail.event(Kind.ORDER_EXPIRING, **as_json(item, now))

    def _report(self, loudest: int = logging.ERROR) -> None:
        """Log what is new among the problems: loudly, and once."""
        kept = [path for path, (state, _) in self._live.files.items() if state is FileState.KEPT]
        found: list[tuple[int, object]] = [
            (logging.ERROR if problem.severity is Severity.ERROR else logging.WARNING, problem)
            for problem in self._live.problems
        ]
        found += [(logging.ERROR, f"{path}: invalid; its last good version stays enforced") for path in kept]
        found += [
            (logging.ERROR, f"{held.path}: would release {held.names} names in force; held back until accepted")
            for held in self._live.held
        ]
        if self._live.state_error:
            found.append((logging.ERROR, f"state folder: {self._live.state_error}"))
        for level, message in found:
            if message not in self._reported:
                _LOG.log(min(level, loudest), "%s", shown(message))
        self._reported = tuple(message for _, message in found)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request on the control socket."""
        if request.get("command") not in ("status", "reload"):
            return {"error": f"unknown command {request.get('command')!r}; there are status and reload"}
        if request["command"] == "reload":
            before = self._rules
            self.reload(accept_release=request.get("accept_release") is True)
            # What another thread has just read may still be on its way, to workers for example.
            self._listeners.until_told(lambda: self._rules, _TOLD_WITHIN)
            gone = sorted(released(before, self._rules, self._now()))
            came = sorted(released(self._rules, before, self._now()))
            changed = {"before": before.revision, "released": len(gone), "added": len(came)}
            return self.status() | changed | {"released_names": gone[:_SHOWN], "added_names": came[:_SHOWN]}
        return self.status()

    def _listen(self, state: StateFolder) -> ControlServer | StateFolder:
        """Answer on the state folder's socket; where there can be none, orders are enforced all the same."""
        try:
            return ControlServer(state.path, self._answer)
        except ConfigError as error:
            _LOG.warning("cdnblock: nobody can ask or tell this instance: %s", error)
            return state  # closing it twice does no harm

    def _now(self) -> datetime:
        """Return what the clock says; beyond all dates, the last one there is."""
        try:
            return datetime.fromtimestamp(self._clock(), UTC)
        except (OverflowError, ValueError, OSError):
            return datetime.max.replace(tzinfo=UTC) if self._clock() > 0 else datetime.min.replace(tzinfo=UTC)


class _Followed:
    """The enforcer as its follower sees it."""

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer

    def reread(self, *, by_content: bool) -> float | None:
        self._enforcer._reread(by_content=by_content)  # noqa: SLF001 (its own other half)
        return self._enforcer._live.settles_in  # noqa: SLF001 (as above)

    def instant_passed(self) -> None:
        if (chronicle := self._enforcer._chronicle) is not None:  # noqa: SLF001 (its own other half)
            chronicle.instant_passed(self._enforcer.now())
        listeners = self._enforcer._listeners  # noqa: SLF001 (as above)
        listeners.note_instant()
        listeners.tell(lambda: self._enforcer.rules)

    def next_change(self, after: datetime) -> datetime | None:
        return self._enforcer.rules.next_change(after)
