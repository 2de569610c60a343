"""Gradient boosting in the language model's place: a replay without training, export and certificate.

The same dataset, decision times, journal and verdict; a fit takes a second where a training takes an hour. So whatever
is built on many trainings (`candletune walk`) can be tried before a GPU is spent on it.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import polars as pl

from candletune.artifacts import DatasetManifest, ReplaySummary, TrainingEnds
from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset.unseen import candle_files, held_out_rows
from candletune.evaluation.stand_in import BASE, NOBODY, Fitted, silent
from candletune.files import write_bytes
from candletune.journal import Row
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages.runner import Stage


def boosting_rows(config: Config, run: RunFolder) -> tuple[pl.DataFrame, bool]:
    """The decision rows of the replay, see `held_out_rows`."""
    manifest = DatasetManifest.read(run.dataset_manifest)
    return held_out_rows(config, manifest.train_end, manifest.test_start)


def replay(incumbent: Fitted | None, config: Config, run: RunFolder, reporter: Reporter) -> ReplaySummary:
    """The stage's work.

    Args:
        incumbent: who the candidate is compared with; None: somebody who always says HOLD.
        config: the run's.
        run: whose dataset the candidate is fitted on.
        reporter: where to report to.
    """
    rows, forced = boosting_rows(config, run)
    candidate = Fitted(run)
    shadow = candidate.sides(config, rows)
    active = silent(len(rows)) if incumbent is None else incumbent.sides(config, rows)
    template = load_template(config.prompt.template).sha256
    lines = [
        Row(
            timestamp=row["decision_time"],
            ticker=row["asset"],
            price=row["close"],
            prompt_sha256=row["prompt_sha256"],
            template_sha256=template,
            base_sha256=BASE,
            active=left,
            shadow=right,
            mode="replay",
            forced=forced,
        ).line()
        for row, left, right in zip(rows.iter_rows(named=True), active, shadow, strict=True)
    ]
    write_bytes(run.journal, b"".join(lines))
    first, last = rows["decision_time"][0], rows["decision_time"][-1]
    models = (NOBODY if incumbent is None else incumbent.judged(config), candidate.judged(config))
    return ReplaySummary(
        headline=f"{len(rows)} decisions, {first:%Y-%m-%d} to {last:%Y-%m-%d}: {models[1].name} against "
        f"{models[0].name}",
        rows=len(rows),
        forced=forced,
        start=first.isoformat(),
        end=last.isoformat(),
        incumbent=models[0],
        candidate=models[1],
        incumbent_from="walk.incumbent",
        training_ends=TrainingEnds(
            candidate=candidate.train_end(), incumbent=None if incumbent is None else incumbent.train_end()
        ),
        seconds=0.0,
    )


def boosting_stage(incumbent: Fitted | None) -> Stage:
    """The replay with gradient boosting as candidate and, where one is given, as incumbent."""

    def inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
        named = {"dataset": run.dataset, **candle_files(config)}
        optional = {"data.fear_greed": config.data.fear_greed, "data.headlines": config.data.headlines}
        found = {name: path for name, path in optional.items() if path is not None}
        return named | found | ({} if incumbent is None else {"incumbent": incumbent.run.dataset})

    return Stage(
        name="replay",
        title="Replay gradient boosting",
        tables=("replay", "data", "prompt", "labels", "train", "boosting"),
        inputs=inputs,
        outputs=("replay/ab_test_log.jsonl",),
        work=partial(replay, incumbent),
        summary=ReplaySummary,
    )
