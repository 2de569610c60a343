"""One trial of a sweep: a run folder with a dataset and a training of its own, and its score on the eval rows."""

import time
from dataclasses import dataclass

from candletune.artifacts.sweep import Trial
from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import CandletuneError
from candletune.experiments.board import Look
from candletune.experiments.eval_rows import eval_rows
from candletune.experiments.pruning import Curve, curve_of
from candletune.experiments.scores import SCORES
from candletune.experiments.shared_dataset import ready_dataset
from candletune.experiments.trial_record import failed, pruned, trial_fingerprint
from candletune.experiments.watched import TrialReporter
from candletune.runs import RunFolder


class Hopeless(Exception):
    """A training is stopped: the median rule says that it will not win.

    Attributes:
        step: at which that was certain.
    """

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


@dataclass(frozen=True, slots=True)
class Job:
    """A trial that is to be done. It can be sent to another process.

    Attributes:
        place: in the order of the trials; the first is 0.
        trial: its name and settings.
        config: the whole configuration with them; `run.folder` is the trial's.
        known: what an earlier sweep said of it.
        board: knows whether it is hopeless.
        patience: seconds to wait for another process in its folder.
    """

    place: int
    trial: Trial
    config: Config
    known: Trial | None
    board: Look
    patience: float = 0.0


def run_trial(job: Job, reporter: Reporter) -> Trial:
    """Do a trial, or take what is known of the same one; a failure is part of the result.

    Returns:
        Its record. One that finished may be hopeless all the same: `Board` says so when those before it have ended.
    """
    run, start = RunFolder(job.config.run.folder), time.monotonic()
    try:
        with run.lock(patience=job.patience):
            return _tried(job, run, reporter)
    except CandletuneError as error:
        reason = " ".join(str(error).split())
    except Exception as error:  # a kernel that fails, a card that is lost: the other trials go on, and this one is told
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return failed(job.trial, reason, _since(start))


def _tried(job: Job, run: RunFolder, reporter: Reporter) -> Trial:
    config, known, start = job.config, job.known, time.monotonic()
    ready_dataset(config, run, TrialReporter(reporter, 0, lambda: None))
    rows, digest = eval_rows(run), trial_fingerprint(config, run)
    trial = job.trial.model_copy(
        update={
            "base_log_loss": rows.base_log_loss,
            "rows": rows.rows,
            "rows_sha256": rows.sha256,
            "fingerprint": digest,
        }
    )
    if known is not None and known.state == "pruned" and known.fingerprint == digest:
        return known

    def look() -> None:
        if not config.sweep.prune:
            return
        step = job.board.look(job.place, rows.sha256, curve_of(run.train_metrics))
        if step is not None:
            raise Hopeless(step)

    try:
        log_loss = SCORES[config.sweep.model](config, run, TrialReporter(reporter, config.train.eval_steps, look))
    except Hopeless as found:
        return pruned(trial.model_copy(update={"seconds": _since(start)}), found.step, run)
    seconds = known.seconds if known is not None and known.fingerprint == digest else _since(start)
    return trial.model_copy(update={"state": "finished", "log_loss": log_loss, "seconds": seconds})


def trial_curve(config: Config) -> Curve:
    """Log loss on the eval rows by step, as the trial's training logged it."""
    return curve_of(RunFolder(config.run.folder).train_metrics)


def _since(start: float) -> float:
    return round(time.monotonic() - start, 3)
