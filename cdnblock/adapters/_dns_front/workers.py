"""Several processes that serve one front: a supervisor reads the orders, and its workers enforce them as one.

How they agree on one revision: only the supervisor has an `Enforcer`, so only it follows the folder, keeps the last
good files and holds releases back. When its rules change, it sends every worker the files that make them. Each compiles
them beside its event loop and replies with the revision that came of it. Only when all have replied with the right one
does the supervisor send all of them the word to switch: between the first and the last worker lie microseconds, and a
reload is over when every worker has switched. A worker that cannot follow, or dies, is replaced by a new one, which
gets the newest files before it opens its sockets; clients of the others notice nothing.

At the instants at which orders start and end nobody has to be told: each decision looks at the clock.
"""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from cdnblock.adapters._dns_front.datagrams import bind_datagrams
from cdnblock.adapters._dns_front.front import FrontSettings
from cdnblock.adapters._dns_front.hits import Heard
from cdnblock.adapters._dns_front.peers import Address
from cdnblock.adapters._dns_front.streams import open_listener
from cdnblock.adapters._dns_front.worker import FOR_SUPERVISOR, Count, Failed, Load, Switch, work
from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError
from cdnblock.matching.ruleset import RuleSet

if TYPE_CHECKING:
    from cdnblock.audit.trail import Trail

_START: Final = 120.0  # seconds for a worker to import, compile and listen, or to compile anew
_REPLY: Final = 10.0  # seconds for all else: a busy machine is not a hanging worker
_STOP: Final = 5.0
_LOOK: Final = 0.5  # seconds between two looks at whether to end
_BEAT: Final = 2.0  # seconds between two questions to each worker whether its event loop still goes round
_SOON: Final = 1.0  # seconds that somebody who asks for the counters waits for those who change the workers
_PAUSE: Final = 1.0  # seconds before a worker is replaced that died young

_LOG: Final = logging.getLogger("cdnblock.adapters.dns_server")


class Workers:
    """Some workers and their supervisor, which is whoever makes this. `enforcer` must have a state folder.

    A worker that does not reply within `patience` seconds, compiling apart, is taken for one that hangs.
    """

    def __init__(self, enforcer: Enforcer, settings: FrontSettings, number: int, *, patience: float = _REPLY) -> None:
        self._enforcer = enforcer
        self._settings = settings
        self._number = number
        self._patience = patience
        self._changing = threading.Lock()
        self._newest: Load | None = None
        self._workers: list[_Worker] = []
        self._unsubscribe: Callable[[], None] | None = None
        self._told: list[dict[str, object]] = []
        self.restarts = 0
        self.addresses: tuple[Address, ...] = ()

    def __enter__(self) -> Self:
        """Start all workers.

        Raises:
            ConfigError: one cannot start, and none is left then; or an address is somebody else's already.

        """
        _require_free(self._settings)
        self._unsubscribe = self._enforcer.subscribe(self._follow)
        rules, files = self._enforcer.files_in_force()
        try:
            with self._changing:
                if self._newest is None:
                    self._newest = Load(revision=rules.revision, files=files, report_only=self._enforcer.report_only)
                self._workers.append(self._start())  # alone: it may be the one who finds out which ports are free
                self._workers += [self._spawn() for _ in range(1, self._number)]
                for worker in self._workers[1:]:
                    self._see_it_serve(worker)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        with self._changing:
            for worker in self._workers:
                worker.end()
            for worker in self._workers:
                worker.see_it_end()
            self._workers = []

    def watch(self, ended: threading.Event) -> None:
        """Replace workers that die or hang, until `ended` is set."""
        asked = time.monotonic()
        while not ended.is_set():
            if time.monotonic() - asked >= _BEAT:
                self.metrics()
                asked = time.monotonic()
            with self._changing:
                alive = {worker.process.sentinel: worker for worker in self._workers}
            dead = [alive[sentinel] for sentinel in wait(list(alive), timeout=_LOOK) if isinstance(sentinel, int)]
            for worker in dead:
                if not ended.is_set():
                    self._replace(worker)
                    ended.wait(_PAUSE if time.monotonic() - worker.started < _PAUSE else 0)

    def metrics(self) -> dict[str, object]:
        """Return the counters of each worker; one that does not reply has none, and is replaced.

        While all of them change their orders, nobody waits for that: then it is what they said last.
        """
        if self._changing.acquire(timeout=_SOON):
            try:
                told = [worker.ask(Count(), self._patience) for worker in self._workers]
            finally:
                self._changing.release()
            self._told = [counted for counted in told if isinstance(counted, dict)]
        return {"restarts": self.restarts, "workers": self._told}

    def _follow(self, old: RuleSet, new: RuleSet) -> None:
        """Have every worker enforce what the enforcer does (called on the thread that reread the orders)."""
        if old is new:
            return
        rules, files = self._enforcer.files_in_force()
        with self._changing:
            self._newest = newest = Load(revision=rules.revision, files=files, report_only=self._enforcer.report_only)
            ready = [worker for worker in self._workers if worker.send(newest)]
            ready = [worker for worker in ready if worker.reply(_START) == newest.revision]
            ready = [worker for worker in ready if worker.send(Switch())]
            ready = [worker for worker in ready if worker.reply(self._patience) == newest.revision]
            for worker in self._workers:
                if worker not in ready:
                    _LOG.error("cdnblock: worker %s does not follow the orders; it is replaced", worker.process.pid)
                    worker.process.kill()

    def _replace(self, dead: _Worker) -> None:
        with self._changing:  # who counts may be asking it, and two who close one line close somebody else's
            dead.hang_up()
        dead.see_it_end()
        self.restarts += 1
        code = dead.process.exitcode
        _LOG.error("cdnblock: worker %s died with exit code %s; another one takes its place", dead.process.pid, code)
        with self._changing:
            self._workers.remove(dead)
            try:
                self._workers.append(self._start())
            except (ConfigError, OSError) as error:
                _LOG.error("cdnblock: a worker cannot be replaced, and is tried again: %s", error)
                self._workers.append(dead)  # its sentinel stays ready: so the next look finds it again

    def _start(self) -> _Worker:
        """Return a new worker that serves."""
        worker = self._spawn()
        self._see_it_serve(worker)
        return worker

    def _spawn(self) -> _Worker:
        """Return a new worker that is about to serve, with the newest orders."""
        settings = dataclasses.replace(self._settings, listen=self.addresses or self._settings.listen)
        worker = _Worker(settings, self._enforcer.trail)
        worker.send(self._newest)
        return worker

    def _see_it_serve(self, worker: _Worker) -> None:
        """Wait until a worker serves. Raises ConfigError when it does not; it has ended then."""
        reply = worker.reply(_START)
        if not isinstance(reply, tuple):
            worker.end()
            worker.see_it_end()
            raise ConfigError(reply.why if isinstance(reply, Failed) else "a worker did not start")
        self.addresses = reply


def _require_free(settings: FrontSettings) -> None:
    """Raise ConfigError when somebody listens already: workers share their addresses, and would with strangers, too.

    Two fronts on one port would get half of the queries each, and enforce what each of them knows.
    """
    encrypted = settings.encrypted
    for host, port in (*settings.listen, *encrypted.tls, *encrypted.https, *encrypted.http):
        try:
            open_listener(host, port, reuse_port=False).close()
            if (host, port) in settings.listen:
                bind_datagrams((host, port), reuse_port=False).close()
        except OSError as error:
            raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        if port == 0 and (host, port) not in settings.listen:
            raise ConfigError("workers share their addresses: give TLS and HTTPS a port")


@contextmanager
def _signals_held() -> Iterator[None]:
    """Start processes in which the supervisor's signals wait until they know that these are not for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_SUPERVISOR)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """A worker's process, and the line to it. One message at a time, each with its reply, and one thread at a time."""

    def __init__(self, settings: FrontSettings, trail: Trail | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._line: Connection
        self._line, other_end = context.Pipe()
        hits, told = (None, None) if trail is None else context.Pipe(duplex=False)
        self.started = time.monotonic()
        arguments = (other_end, settings, told)
        self.process = context.Process(target=work, args=arguments, name="cdnblock-dns", daemon=True)
        with _signals_held():
            self.process.start()
        other_end.close()
        self._heard: Heard | None = None
        if trail is not None and hits is not None and told is not None:
            told.close()
            self._heard = Heard(hits, trail, lambda: self.process.pid)

    def send(self, message: object) -> bool:
        """Send a message; False when nobody is there to take it."""
        try:
            self._line.send(message)
        except (OSError, ValueError):
            return False
        return True

    def reply(self, within: float) -> Any:
        """Return the reply, None when there is none within so many seconds; such a worker is killed."""
        with suppress(EOFError, OSError):
            if self._line.poll(within):
                return self._line.recv()
        self._line.close()
        self.process.kill()
        return None

    def ask(self, message: object, within: float) -> Any:
        """Return the reply to a message, None when there is none."""
        return self.reply(within) if self.send(message) else None

    def hang_up(self) -> None:
        """Close the line: nothing more is sent, and nothing waited for."""
        self._line.close()

    def end(self) -> None:
        """Have the worker end."""
        self.hang_up()
        if self.process.is_alive():
            self.process.terminate()

    def see_it_end(self) -> None:
        """Wait until it has ended, or make it. The line to it is closed by then."""
        self.process.join(_STOP)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        if self._heard is not None:
            self._heard.see_it_end()
