"""Keep one running engine in step with the orders: render, check, swap, reload, probe, and go back when that disagrees."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from cdnblock.engines._engine import ApplyError, Change, DownError, Engine, NotTakenError
from cdnblock.engines._folder import ConfigFolder, Swap, Uncached
from cdnblock.engines._probes import Decide, Prober, Table
from cdnblock.engines._rendering import Rendering, no_collections
from cdnblock.engines._samples import names_written
from cdnblock.exporters import Exporter, Options, export
from cdnblock.exporters._plan import Plan
from cdnblock.matching.ruleset import RuleSet
from cdnblock.measures.cache_disable import to_purge
from cdnblock.orders.model import Measure

_SOON: Final = 3.0  # seconds that a gentle means has until a stronger one takes its place
_T = TypeVar("_T")
_LOG: Final = logging.getLogger("cdnblock.apply")


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What an engine goes by now. `changed` are the files that this took, `seconds` what each step of it took.

    `wrong` is what single names get otherwise than decided, although the engine goes by the files.
    """

    revision: str
    until: datetime | None
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    wrong: tuple[str, ...]
    seconds: Mapping[str, float]


def _deciding(rules: RuleSet, at: datetime) -> Decide:
    return lambda name, country: rules.decide(name, country=country, at=at)


@dataclass(kw_only=True, eq=False)
class Applier:
    """One engine, the folder that it reads, and who asks it. Not thread-safe: one at a time calls it.

    `table` tells where clients are, `prober` is None where nobody is to be asked, `served` are the hosts that the
    engine serves, None for any; `partial` agrees to leave out what the target cannot say.
    """

    exporter: Exporter
    engine: Engine
    folder: ConfigFolder
    table: Table
    options: Options
    prober: Prober | None
    now: Callable[[], datetime]
    served: Sequence[str] | None = None
    partial: bool = False
    _plan: Plan | None = field(init=False, default=None)
    _goes_by: Mapping[str, bytes] | None = field(init=False, default=None)  # None: nobody knows
    _rendering: Rendering | None = field(init=False, default=None)
    _coming: Rendering | None = field(init=False, default=None)  # of the next instant, checked
    _generation: str | None = field(init=False, default=None)
    _took: dict[str, float] = field(init=False, default_factory=dict)
    wrong: tuple[str, ...] = field(init=False, default=())  # as of `Applied`, also after `is_still_so`

    def apply(self, rules: RuleSet) -> Applied:
        """Make the engine go by the orders as they are now, if it does not.

        Raises:
            UnsupportedError: the target cannot say what an order asks for.
            RefusedError: the engine's checker does not accept the configuration; nothing was put in place.
            NotTakenError: the engine answers otherwise, and not only for single names; what was right before is back.
            DownError: it does not run; the checked configuration is in place.
            OSError: the folder cannot be written to; it is as it was.

        """
        self._took = {}
        with no_collections():
            return self._apply(rules)

    def is_still_so(self, rules: RuleSet) -> bool:
        """Tell whether files, engine and answers are still as they were; if not, the next `apply` begins from nothing."""
        if self._goes_by is not None and self._plan is not None:
            if self.folder.differing(self._goes_by):
                _LOG.error("cdnblock: somebody changed the files in %s", self.folder.path)
            elif self._generation != self.engine.generation() and self.engine.is_older(self._goes_by):
                _LOG.error("cdnblock: somebody had %s read other files than ours", self.exporter.name)
            elif self._shows(self._goes_by) and self._is_in_step(rules, self._plan, self.now()):
                return True
        self._goes_by = None
        return False

    def prepare(self, rules: RuleSet) -> None:
        """Render and check what is to be in force at the next instant, so that then it need only be put in place.

        Raises what `apply` does.
        """
        if self._plan is None or self._plan.until is None or self._goes_by is None:
            return
        with no_collections():
            coming = self._rendered(rules, self._plan.until)
            if coming is not self._coming:
                change = Change(folder=Path(self.options.folder), before=self._goes_by, after=coming.files)
                if change.names():
                    self._check(change)
                self._coming = coming

    def _apply(self, rules: RuleSet) -> Applied:
        at = self.now()
        rendering = self._timed("render", lambda: self._rendered(rules, at))
        files, plan = rendering.files, rendering.plan
        before = self.folder.right if self._goes_by is None else self._goes_by
        is_known = self._goes_by is not None and self._generation == self.engine.generation()
        is_older = not is_known and self.engine.is_older(files)
        change = Change(
            folder=Path(self.options.folder),
            before=before or self._there(files),
            after=files,
            whole=not is_known,
            forced=is_older,
        )
        astray = self.folder.differing(files)
        is_right = not astray and files == before and not is_older
        if is_right and (self._goes_by is not None or (self._shows(files) and self._is_in_step(rules, plan, at))):
            changed: tuple[str, ...] = ()
        else:
            changed = tuple(astray)
            self._change(change, rules, plan, at)
        self._plan, self._goes_by, self._rendering = plan, files, rendering
        self._generation = self.engine.generation()
        self._keep(rules, files, at)
        return Applied(
            revision=rules.revision,
            until=plan.until,
            changed=changed,
            missing=rendering.missing,
            wrong=self.wrong,
            seconds=self._took,
        )

    def _rendered(self, rules: RuleSet, at: datetime) -> Rendering:
        """Return the configuration for an instant; one that was rendered before, if it still holds then."""
        for known in (self._rendering, self._coming):
            if known is not None and known.holds(rules, at):
                return known
        last = self._coming or self._rendering
        done = export(
            self.exporter, rules, self.table, at, self.options, served=self.served, partial=self.partial,
            since=None if last is None else last.export,
        )  # fmt: skip
        return Rendering(
            rules=rules,
            at=at,
            plan=done.plan,
            files={file.name: file.octets for file in done.files},
            missing=tuple(map(str, done.missing)),
            export=done,
        )

    def _change(self, change: Change, rules: RuleSet, plan: Plan, at: datetime) -> None:
        """Check, swap, reload, probe; where that goes wrong, leave what was right."""
        says_more = change.is_news
        is_checked = self._coming is not None and change.after is self._coming.files and not change.whole
        if says_more and not is_checked:
            self._timed("check", lambda: self._check(change))
        was_up = self.prober is None or self.prober.answers()
        swap = self._timed("swap", lambda: self.folder.swap(change.after, change.before))
        try:
            if says_more:
                self._take(change, rules, plan, at, None if was_up else _SOON)
        except DownError as down:
            if was_up and self.prober is not None and change.before:
                self._go_back(swap, change, down)
            self._goes_by = None
            swap.close()
            raise
        except Exception as error:
            self._goes_by = None
            if change.before:
                self._go_back(swap, change, error)
            swap.close()
            raise
        swap.close()

    def _check(self, change: Change) -> None:
        self.folder.try_out(self.engine.trial(change), change.folder)
        self.engine.check(self.folder.trial(change.folder))

    def _take(self, change: Change, rules: RuleSet, plan: Plan, at: datetime, patience: float | None) -> None:
        """Have the engine take a change, by force where gentleness does not help."""
        strongest = change.forced or not self.engine.gentle
        try:
            strongest, known = self._timed("reload", lambda: self.engine.take(change)), {*self.wrong}
            self._timed("probe", lambda: self._probe(change, rules, plan, at, patience if strongest else _SOON))
            self._require_enough(known, strongest=strongest)
        except NotTakenError as error:
            if strongest:
                raise
            _LOG.warning("cdnblock: %s; trying stronger means", error)
            self._take(replace(change, forced=True), rules, plan, at, patience)

    def _probe(self, change: Change, rules: RuleSet, plan: Plan, at: datetime, patience: float | None) -> None:
        """Ask the engine; raises NotTakenError when it answers otherwise than was decided for `at`."""
        if self.prober is not None:
            before, after, is_unknown = change.before, change.after, self._plan is None
            if is_unknown:  # plans would tell what changed
                before, after = self.engine.legible(before), self.engine.legible(after)
            written = names_written(before, after, some=is_unknown)
            self.wrong = tuple(
                self.prober.require(self._plan, plan, _deciding(rules, at), patience, written=written)
            )  # fmt: skip

    def _require_enough(self, known: Collection[str], *, strongest: bool) -> None:
        """Raise NotTakenError where a name is not as decided that was so before, and there are stronger means."""
        new = [wrong for wrong in self.wrong if wrong not in known]
        if new and not strongest:
            raise NotTakenError(new[0])

    def _shows(self, files: Mapping[str, bytes]) -> bool:
        """Tell whether the engine, asked itself, goes by the files; that nobody can ask it is no sign against it."""
        astray = self.engine.astray(files)
        if astray:
            _LOG.error("cdnblock: %s goes by something else than its %s", self.exporter.name, ", ".join(astray))
        return not astray

    def _is_in_step(self, rules: RuleSet, plan: Plan, at: datetime) -> bool:
        """Tell whether the engine answers as decided; without anybody to ask, that is known only of what we did."""
        if self.prober is None:
            return self._goes_by is not None
        try:
            self.wrong = tuple(self.prober.look(plan, _deciding(rules, at), _SOON))
        except ApplyError as error:
            _LOG.warning("cdnblock: %s", error)
            return False
        return True

    def _go_back(self, swap: Swap, change: Change, why: Exception) -> NoReturn:
        """Put what was right before in place and have the engine take it; raises NotTakenError with what was wrong."""
        again = "what was right before is in place again"
        try:
            swap.undo()
        except OSError as error:
            raise NotTakenError(f"{why}\nand what was right before cannot be put in place again: {error}") from why
        try:
            self.engine.take(change.backwards())
        except ApplyError as error:
            raise NotTakenError(f"{why}\n{again}, and the engine did not take that either: {error}") from why
        if isinstance(why, ApplyError):
            raise NotTakenError(f"{why}\n{again}") from why
        raise why

    def _keep(self, rules: RuleSet, files: Mapping[str, bytes], at: datetime) -> None:
        """Purge what is stored where measure `cdn` starts or ends, and remember what is right now."""
        before, uncached = self.folder.uncached, self._uncached(rules, at)
        if files == self.folder.right and uncached == before and self.folder.is_kept():
            return
        failed: NotTakenError | None = None
        try:
            self._timed("purge", lambda: self.engine.purge(to_purge(before or frozenset(), uncached)))
        except NotTakenError as error:
            failed, uncached = error, before or frozenset()
        try:
            self._timed("keep", lambda: self.folder.keep(files, uncached))
        except OSError as error:
            _LOG.error(
                "cdnblock: %s is right, and cannot be kept for the way back after a restart: %s",
                self.folder.path,
                error,
            )
        if failed is not None:
            raise failed

    def _uncached(self, rules: RuleSet, at: datetime) -> Uncached:
        if Measure.CDN in self.exporter.elsewhere:
            return frozenset()
        return rules.covered_names(Measure.CDN, at)

    def _there(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return what stands in the places of these files, where nobody kept what was right."""
        return {name: text for name in files if (text := self.folder.read(name)) is not None}

    def _timed(self, step: str, act: Callable[[], _T]) -> _T:
        started = time.perf_counter()
        try:
            return act()
        finally:
            self._took[step] = self._took.get(step, 0.0) + time.perf_counter() - started
