"""Gradient boosting in the language model's place: a replay without training, export and certificate.

The same dataset, decision times, journal and verdict; a fit takes a second where a training takes an hour. So whatever
is built on many trainings (`candletune walk`) can be tried before a GPU is spent on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl

from candletune.artifacts import DatasetManifest, JudgedModel, ReplaySummary, TrainingEnds
from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset.unseen import candle_files, held_out_rows
from candletune.decisions import DECISIONS
from candletune.evaluation.baseline_scores import task_of
from candletune.evaluation.baselines.base import HOLD, answers
from candletune.evaluation.baselines.gradient_boosting import model
from candletune.files import write_bytes
from candletune.hashes import fingerprint, sha256_path
from candletune.journal import Row, Side
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages.runner import Stage

NAME: Final = "gradient boosting"
BASE: Final = fingerprint(NAME)
"""Stands in journals where a base's hash does."""
NOBODY: Final = JudgedModel(name="always HOLD", adapter_sha256=fingerprint("always HOLD"))
"""The incumbent where none is fitted: it never acts, so the candidate is held against a coin at the same hours."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Gradient boosting on a run's dataset.

    Attributes:
        run: holds the dataset.
        name: as tables show it.
    """

    run: RunFolder
    name: str = NAME

    def judged(self, config: Config) -> JudgedModel:
        """Its name, and a hash of everything that a fit depends on."""
        manifest = DatasetManifest.read(self.run.dataset_manifest)
        facts = [
            NAME,
            model(config.seed).get_params(),
            sha256_path(self.run.meta),
            sha256_path(self.run.natural_eval),
            dict(manifest.natural_prior),
            {name: getattr(config.train, name) for name in ("policy_steps", "call_share")},
            config.labels.threshold,
        ]
        return JudgedModel(name=self.name, adapter_sha256=fingerprint(facts))

    def train_end(self) -> str:
        """When the last outcome that it learned from was known, ISO 8601."""
        return DatasetManifest.read(self.run.dataset_manifest).train_end.isoformat()

    def sides(self, config: Config, rows: pl.DataFrame) -> list[Side]:
        """Its answer to every market row; fitted anew, which gives the same."""
        digest = self.judged(config).adapter_sha256
        actions, chances = answers(model(config.seed), task_of(config, self.run, rows))
        return [
            Side("ok", DECISIONS[action], probabilities=dict(zip(DECISIONS, row, strict=True)), adapter_sha256=digest)
            for action, row in zip(actions, chances.tolist(), strict=True)
        ]


def _silent(count: int) -> list[Side]:
    return [Side("ok", DECISIONS[HOLD], adapter_sha256=NOBODY.adapter_sha256)] * count


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
    active = _silent(len(rows)) if incumbent is None else incumbent.sides(config, rows)
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
        tables=("replay", "data", "prompt", "labels", "train"),
        inputs=inputs,
        outputs=("replay/ab_test_log.jsonl",),
        work=partial(replay, incumbent),
        summary=ReplaySummary,
    )
