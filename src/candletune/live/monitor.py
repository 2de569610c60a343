"""The watch over a promoted model as the shadow loop carries it: told once, and rolled back where that is allowed."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime

import polars as pl

from candletune.artifacts import DriftReport, LiveState
from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import CandletuneError, UsageError
from candletune.live.drift import look, open_inputs, reference_of, report_path
from candletune.live.faults import Faults
from candletune.live.inputs import InputWatch
from candletune.live.promotion import rollback
from candletune.live.shadow import Due
from candletune.notify import Event

Tell = Callable[[Event, str, str], None]


class DriftMonitor:
    """The watch as the shadow loop carries it: counts each context, looks once a day, tells people, rolls back.

    Whatever goes wrong in it is said once and stops nothing.

    Args:
        config: names state, journal and candles; `live.auto_rollback`.
        reporter: hears alarms and faults.
        tell: sends messages; must return at once.
        clock: the time now, with a zone.
        faults: count alarms and rollbacks.
    """

    def __init__(
        self,
        config: Config,
        reporter: Reporter,
        tell: Tell,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        faults: Faults | None = None,
    ) -> None:
        self._config, self._reporter, self._tell, self._clock = config, reporter, tell, clock
        self._faults = faults or Faults()
        self._looked: date | None = None
        self._version: tuple[int, int] | None = None
        self._inputs: InputWatch | None = None
        self._said: set[str] = set()

    def after(self, answered: Sequence[Due]) -> None:
        """Behind a cycle: count its contexts, and look when a day's outcomes have become known."""
        try:
            self._follow_state()
            if self._inputs is not None and answered:
                for item in answered:
                    self._inputs.add(item.ticker, item.timestamp.date(), item.context)
                self._inputs.save()
            day = (self._clock() - self._config.horizon).date()
            if day != self._looked:
                self._looked = day
                self._look()
        except (CandletuneError, OSError, ValueError, pl.exceptions.PolarsError) as error:
            text = " ".join(str(error).split())[:300]
            if text not in self._said:
                self._said.add(text)
                self._reporter.warn(f"drift: not watched: {text}")

    def _follow_state(self) -> None:
        """A promotion or rollback begins the counts anew."""
        try:
            stat = self._config.live.state.stat()
        except FileNotFoundError:
            return
        version = (stat.st_mtime_ns, stat.st_ino)
        if version == self._version:
            return
        state = LiveState.read(self._config.live.state)
        reference = reference_of(self._config, state.active)
        self._inputs = None if reference is None else open_inputs(self._config, reference)
        self._version, self._looked = version, None

    def _look(self) -> None:
        report = look(self._config, now=self._clock(), inputs=self._inputs)
        if report is None:
            return
        fresh = [watch for watch in report.alarms if watch.name not in report.told]
        self._faults.add("drift", len(fresh))
        for watch in fresh:
            text = f"{watch.name}: {watch.seen}; certified: {watch.expected}; since {watch.since or watch.alarm}"
            self._reporter.warn(f"drift of {report.name}: {text}")
            self._tell(Event.DRIFT, f"drift of {report.name}", f"{text}\n`candletune drift` shows more")
        if fresh:
            told = (*report.told, *(watch.name for watch in fresh))
            report.model_copy(update={"told": told}).write(report_path(self._config))
        if self._config.live.auto_rollback and report.replaced_better:
            self._roll_back(report)

    def _roll_back(self, report: DriftReport) -> None:
        watch = next(watch for watch in report.alarms if watch.model)
        reason = f"drift: {watch.name} {watch.seen}, certified {watch.expected}; the replaced model did better"
        try:
            model = rollback(self._config, reason=reason, only=report.adapter_sha256)
        except UsageError as error:  # somebody promoted or rolled back in between
            self._reporter.warn(f"drift: not rolled back: {error}")
            return
        self._faults.add("rollback")
        self._reporter.warn(f"rolled back: {model.name} acts again ({reason})")
        self._tell(Event.ROLLBACK, f"rolled back: {model.name} acts again", reason)
