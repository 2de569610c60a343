"""One trial of a sweep: a run folder with a dataset and a training of its own, and its score on the eval rows."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from candletune.artifacts.sweep import Trial
from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import CandletuneError
from candletune.experiments.eval_rows import eval_rows
from candletune.experiments.pruning import Curve, curve_of, hopeless_at
from candletune.experiments.scores import SCORES
from candletune.experiments.shared_dataset import ready_dataset
from candletune.experiments.watched import TrialReporter
from candletune.files import remove
from candletune.hashes import fingerprint, sha256_path
from candletune.runs import RunFolder


@dataclass(frozen=True, slots=True)
class Before:
    """The trials before one.

    Attributes:
        names: of their folders, beside its own.
        by_rows: hash of the eval rows -> curves of those that were scored on them.
    """

    names: Sequence[str] = ()
    by_rows: Mapping[str, Sequence[Curve]] = field(default_factory=dict)

    def curves(self, rows_sha256: str) -> Sequence[Curve]:
        """Of those over the same eval rows."""
        return self.by_rows.get(rows_sha256, ())


class Hopeless(Exception):
    """A training is stopped: the median rule says that it will not win."""


def run_trial(trial: Trial, config: Config, reporter: Reporter, *, before: Before, known: Trial | None) -> Trial:
    """Do a trial, or take what is known of the same one; a failure is part of the result.

    Args:
        trial: its name and settings.
        config: the whole configuration with them; `run.folder` is the trial's.
        reporter: where to report to.
        before: the trials before it.
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
    earlier = (RunFolder(run.path.with_name(name)) for name in before.names)
    ready_dataset(config, run, earlier, quiet)
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
            step = hopeless_at(curve_of(run.train_metrics), before.curves(rows.sha256))
        if step is not None:
            raise Hopeless

    try:
        log_loss = SCORES[config.sweep.model](config, run, TrialReporter(reporter, config.train.eval_steps, look))
        look()  # evaluated for the last time, or trained by an earlier sweep: the rule is the same
    except Hopeless:
        remove(run.checkpoints)
        return trial.model_copy(update={"state": "pruned", "step": step, "seconds": _since(start)})
    seconds = known.seconds if known is not None and known.fingerprint == digest else _since(start)
    return trial.model_copy(update={"state": "finished", "log_loss": log_loss, "seconds": seconds})


def trial_curve(config: Config) -> Curve:
    """Log loss on the eval rows by step, as the trial's training logged it."""
    return curve_of(RunFolder(config.run.folder).train_metrics)


def _fingerprint(config: Config, run: RunFolder) -> str:
    """Of what a trial's result depends on."""
    tables = {name: getattr(config, name).model_dump(mode="json") for name in ("train", "base", "boosting")}
    files = [sha256_path(path) for path in (run.jsonl, run.natural_eval)]
    return fingerprint([tables, files, config.seed, config.sweep.prune, config.sweep.model])


def _since(start: float) -> float:
    return round(time.monotonic() - start, 3)
