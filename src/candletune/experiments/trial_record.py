"""What is written of a trial that did not finish, and what tells a trial from another one of the same name."""

from candletune.artifacts.sweep import Trial
from candletune.config import Config
from candletune.files import remove_folder
from candletune.hashes import fingerprint, sha256_path
from candletune.runs import RunFolder


def failed(trial: Trial, reason: str, seconds: float = 0.0) -> Trial:
    """The record of a trial that failed."""
    return trial.model_copy(update={"state": "failed", "reason": reason, "seconds": seconds})


def pruned(trial: Trial, step: int, run: RunFolder) -> Trial:
    """The record of a hopeless trial, which is not gone on with."""
    remove_folder(run.checkpoints)
    return trial.model_copy(update={"state": "pruned", "step": step, "log_loss": None})


def trial_fingerprint(config: Config, run: RunFolder) -> str:
    """Of what a trial's result depends on."""
    tables = {name: getattr(config, name).model_dump(mode="json") for name in ("train", "base", "boosting")}
    files = [sha256_path(path) for path in (run.jsonl, run.natural_eval)]
    return fingerprint([tables, files, config.seed, config.sweep.prune, config.sweep.model])
