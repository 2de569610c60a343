"""A whole run without a model: simulated candles, a real dataset and evaluation, a journal by two seeded deciders."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from candletune.artifacts import JudgedModel, ReplaySummary
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.dataset import decision_rows
from candletune.decisions import DECISIONS
from candletune.evaluation.outcomes import join_outcomes
from candletune.journal import Journal, Row, Side
from candletune.runs import RunFolder
from candletune.stages.dataset import STAGE as DATASET
from candletune.stages.evaluate import STAGE as EVALUATE
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage
from stage_entries import record_stage

HOSTILE = "</blockquote><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script> & RSI"


def config_of(folder: Path, *assignments: str) -> Config:
    """A small simulated market, everything below `folder`."""
    return load_config(
        None,
        [
            f"run.folder={folder / 'run'}",
            f"live.state={folder / 'live' / 'active.json'}",
            f"live.journal={folder / 'live' / 'ab_test_log.jsonl'}",
            "simulate.enabled=true",
            "simulate.years=0.6",
            "dataset.per_class=60",
            "dataset.natural_eval=40",
            "dataset.test_start=2022-06-01",
            "evaluate.resamples=200",
            "review.items=6",
            *assignments,
        ],
    )


def market(config: Config, rows: int) -> pl.DataFrame:
    """The first held-out decision times, with what happened."""
    found = decision_rows(config, start=config.dataset.test_start).rename({"asset": "ticker"}).head(rows)
    return join_outcomes(found.rename({"decision_time": "timestamp"}), config)


def journal_rows(
    config: Config, rows: int, *, reasons: int = 12, reason: str | None = None, skill: float = 0.75, sure: bool = False
) -> list[Row]:
    """A candidate that knows the outcome with a probability of `skill` against an incumbent that guesses.

    With `sure` the candidate's confidence differs from call to call, and is higher where it knows.
    """
    rng = np.random.default_rng(3)
    moods = np.random.default_rng(4)
    made = []
    for index, row in enumerate(market(config, rows).iter_rows(named=True)):
        moved = row["forward_return"] or 0.0
        truth = 0 if moved > config.evaluate.move else 1 if moved < -config.evaluate.move else 2
        text = None if index >= reasons else reason or f"RSI at {row['rsi']:.1f} points to a move."
        known = rng.random() < skill
        knows = truth if known else int(rng.integers(3))
        active = _side(int(rng.integers(3)), 0.4, text and f"The incumbent says: {text}", "a" * 64)
        shadow = _side(knows, 0.35 + 0.6 * moods.beta(5 if known else 2, 2) if sure else 0.7, text, "b" * 64)
        hashes: dict[str, Any] = {"prompt_sha256": row["prompt_sha256"], "template_sha256": "t", "base_sha256": "c"}
        time, price = row["timestamp"], row["close"]
        made.append(Row(time, row["ticker"], price, **hashes, active=active, shadow=shadow, mode="replay"))
    return made


def _side(choice: int, chance: float, reason: str | None, sha256: str) -> Side:
    rest = (1 - chance) / 2
    probabilities = {name: chance if k == choice else rest for k, name in enumerate(DECISIONS)}
    return Side("ok", DECISIONS[choice], reason, probabilities, 12.0, sha256)


def make_run(
    folder: Path,
    *assignments: str,
    rows: int = 400,
    reason: str | None = None,
    reasons: int = 12,
    skill: float = 0.75,
    sure: bool = False,
) -> tuple[Config, RunFolder]:
    """Dataset, journal and evaluation; the verdict is whatever it is."""
    config, reporter = config_of(folder, *assignments), SilentReporter()
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, reporter)
        run_stage(DATASET, config, run, reporter)
        Journal(run.file("replay", "ab_test_log.jsonl")).append_many(
            journal_rows(config, rows, reason=reason, reasons=reasons, skill=skill, sure=sure)
        )
        record_stage(
            run,
            ReplaySummary(
                headline=f"{rows} decisions",
                rows=rows,
                forced=False,
                start="2022-06-01T00:00:00+00:00",
                end="2022-07-01T00:00:00+00:00",
                incumbent=JudgedModel(name="old", adapter_sha256="a" * 64),
                candidate=JudgedModel(name="new", adapter_sha256="b" * 64),
                seconds=1.0,
            ),
        )
        run_stage(EVALUATE, config, run, reporter)
    return config, run


def live_row(config: Config, hours: int) -> Row:
    """A shadow row `hours` after the held-out time begins."""
    assert config.dataset.test_start is not None
    time = config.dataset.test_start + timedelta(hours=hours)
    hashes: dict[str, Any] = {"prompt_sha256": "p", "template_sha256": "t", "base_sha256": "c"}
    active, shadow = _side(0, 0.6, None, "a" * 64), _side(hours % 3, 0.6, None, "b" * 64)
    return Row(time, "BTC", 100.0 + hours, **hashes, active=active, shadow=shadow)


def log_steps(run: RunFolder, first: int, last: int) -> None:
    """What a training logs of these steps."""
    with run.train_metrics.open("a", encoding="utf-8") as stream:
        for step in range(first, last + 1):
            stream.write(f'{{"step": {step}, "loss": {2 / step}}}\n')
            if step % 20 == 0:
                stream.write(f'{{"step": {step}, "eval_accuracy": 0.5, "eval_balanced_accuracy": {step / 400}}}\n')
