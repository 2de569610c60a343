"""One trial of a sweep: a run folder with a dataset and a training of its own, and its score on the eval rows."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from candletune.artifacts import TrainSummary, Trial
from candletune.config import Config
from candletune.console import Reporter
from candletune.console import Task as Bar
from candletune.decisions import DECISIONS
from candletune.errors import CandletuneError
from candletune.experiments.logged import logged_steps
from candletune.experiments.pruning import Curve, curve_of, hopeless_at
from candletune.files import remove
from candletune.hashes import fingerprint, sha256_path
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.runner import run_stage

Before = Callable[[str], Sequence[Curve]]
TRAINING = "training"
"""The task that a training's steps are counted by."""


class Hopeless(Exception):
    """A training is stopped: the median rule says that it will not win."""


@dataclass(frozen=True, slots=True)
class EvalRows:
    """The eval rows at the base rates, on which every trial is scored.

    Attributes:
        rows: their number.
        sha256: hash of asset, timeframe, time and label of each.
        base_log_loss: of their own class shares, in nats.
    """

    rows: int
    sha256: str
    base_log_loss: float


def eval_rows(run: RunFolder) -> EvalRows:
    """Read the dataset's."""
    rows = pl.read_parquet(run.natural_eval, columns=["asset", "timeframe", "decision_time", "label"])
    shares = [int((rows["label"].cast(pl.String) == name).sum()) / max(1, len(rows)) for name in DECISIONS]
    entropy = -sum(share * math.log(share) for share in shares if share)
    text = rows.with_columns(pl.all().cast(pl.String)).rows()
    return EvalRows(len(rows), fingerprint([list(row) for row in text]), entropy)


class _Watched:
    """A training's progress bar, which looks at what was logged behind every evaluation."""

    def __init__(self, bar: Bar, every: int, look: Callable[[], None]) -> None:
        self._bar, self._every, self._look, self._done = bar, every, look, 0

    def resume(self, done: float) -> None:
        self._done = int(done)
        self._bar.resume(done)

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        # An evaluation follows the step that it is due at, so it is on disk when the next step ends.
        if self._every and self._done and self._done % self._every == 0:
            self._look()
        self._done += int(steps)
        self._bar.advance(steps, note)


class TrialReporter:
    """Hears a trial's stages: warnings and bars go on, messages stay out of the sweep's own; stops what is hopeless."""

    def __init__(self, reporter: Reporter, every: int, look: Callable[[], None]) -> None:
        self._reporter, self._every, self._look = reporter, every, look

    def say(self, message: str) -> None:
        """Nothing: the sweep says a line a trial."""

    def warn(self, message: str) -> None:
        self._reporter.warn(message)

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Bar]:
        with self._reporter.task(title, total) as bar:
            yield _Watched(bar, self._every, self._look) if title == TRAINING else bar

    @contextmanager
    def working(self, title: str) -> Iterator[None]:
        with self._reporter.working(title):
            yield


def run_trial(trial: Trial, config: Config, reporter: Reporter, *, before: Before, known: Trial | None) -> Trial:
    """Do a trial, or take what is known of the same one; a failure is part of the result.

    Args:
        trial: its name and settings.
        config: the whole configuration with them; `run.folder` is the trial's.
        reporter: where to report to.
        before: curves of the trials before it, by the hash of the eval rows.
        known: what an earlier sweep said of it.

    Returns:
        Its record.
    """
    run, start = RunFolder(config.run.folder), time.monotonic()
    try:
        with run.lock():
            return _tried(trial, config, run, reporter, before, known)
    except CandletuneError as error:
        reason = " ".join(str(error).split())
    except Exception as error:  # a kernel that fails, a card that is lost: the other trials go on, and this one is told
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return trial.model_copy(update={"state": "failed", "reason": reason, "seconds": _since(start)})


def _tried(
    trial: Trial, config: Config, run: RunFolder, reporter: Reporter, before: Before, known: Trial | None
) -> Trial:
    start = time.monotonic()
    quiet = TrialReporter(reporter, 0, lambda: None)
    run_stage(stage("dataset"), config, run, quiet)
    rows, digest = eval_rows(run), _fingerprint(config, run)
    trial = trial.model_copy(
        update={
            "base_log_loss": rows.base_log_loss,
            "rows": rows.rows,
            "rows_sha256": rows.sha256,
            "fingerprint": digest,
        }
    )
    if known is not None and known.state == "pruned" and known.fingerprint == digest:
        return known
    step: int | None = None

    def look() -> None:
        nonlocal step
        if config.sweep.prune:
            step = hopeless_at(curve_of(logged_steps(run.train_metrics)), before(rows.sha256))
        if step is not None:
            raise Hopeless

    try:
        log_loss = score_llm(config, run, TrialReporter(reporter, config.train.eval_steps, look))
        look()  # evaluated for the last time, or trained by an earlier sweep: the rule is the same
    except Hopeless:
        remove(run.checkpoints)
        return trial.model_copy(update={"state": "pruned", "step": step, "seconds": _since(start)})
    seconds = known.seconds if known is not None and known.fingerprint == digest else _since(start)
    return trial.model_copy(update={"state": "finished", "log_loss": log_loss, "seconds": seconds})


def score_llm(config: Config, run: RunFolder, reporter: Reporter) -> float:
    """Train, and take the log loss on the eval rows from the training's own summary."""
    if config.base.gguf is None:
        run_stage(stage("base"), config, run, reporter)
    summary = run_stage(stage("train"), config, run, reporter).summary_as(TrainSummary)
    found = summary.eval.get("log_loss") if summary.calibration is None else summary.calibration.log_loss
    if not isinstance(found, float) or not math.isfinite(found):
        raise CandletuneError(f"{run.train_summary}: no log loss on the eval rows; raise dataset.natural_eval")
    return found


def trial_curve(config: Config) -> Curve:
    """Log loss on the eval rows by step, as the trial's training logged it."""
    return curve_of(logged_steps(RunFolder(config.run.folder).train_metrics))


def _fingerprint(config: Config, run: RunFolder) -> str:
    """Of what a trial's result depends on."""
    tables = {name: getattr(config, name).model_dump(mode="json") for name in ("train", "base")}
    files = [sha256_path(path) for path in (run.jsonl, run.natural_eval)]
    return fingerprint([tables, files, config.seed, config.sweep.prune])


def _since(start: float) -> float:
    return round(time.monotonic() - start, 3)
