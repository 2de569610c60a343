"""Gradient boosting in a sweep: what tries settings, names a winner and judges it, in a second a trial."""

import json

import numpy as np
import polars as pl

from candletune.artifacts import EvaluateSummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.decisions import DECISIONS
from candletune.evaluation.baseline_scores import task_of
from candletune.evaluation.baselines.base import features, fitted
from candletune.evaluation.baselines.gradient_boosting import model
from candletune.files import write_text
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.boosting import boosting_stage
from candletune.stages.runner import run_stage

EVERY = 10
"""Trees between two evaluations."""


def score_boosting(config: Config, run: RunFolder, reporter: Reporter) -> float:
    """Fit, log the eval log loss as a training does, and return the last one, in nats."""
    held_out = pl.read_parquet(run.natural_eval)
    labels = held_out["label"].cast(pl.String).replace_strict(dict(zip(DECISIONS, range(3), strict=True))).to_numpy()
    trained = fitted(model(config.seed, config.boosting), task_of(config, run, held_out))
    losses = {}
    for step, found in enumerate(trained.staged_predict_proba(features(held_out)), 1):
        if step % EVERY == 0 or step == config.boosting.max_iter:
            chances = np.zeros((len(held_out), 3))
            chances[:, trained.classes_] = found
            losses[step] = float(-np.log(np.clip(chances[np.arange(len(labels)), labels], 1e-9, None)).mean())
    rows = [json.dumps({"step": step, "eval_log_loss": loss}) for step, loss in losses.items()]
    write_text(run.train_metrics, "".join(f"{row}\n" for row in rows))
    return losses[max(losses)]


def judge_boosting(config: Config, run: RunFolder, reporter: Reporter) -> EvaluateSummary:
    """The winner's replay against somebody who never acts, and its verdict; the caller holds the run folder's lock."""
    run_stage(stage("dataset"), config, run, reporter)
    run_stage(boosting_stage(None), config, run, reporter)
    return run_stage(stage("evaluate"), config, run, reporter).summary_as(EvaluateSummary)
