"""Gradient boosting as a model that answers: what stands in for the language model where a training takes too long."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from candletune.artifacts import DatasetManifest, JudgedModel
from candletune.config import Config
from candletune.decisions import DECISIONS
from candletune.evaluation.baseline_scores import task_of
from candletune.evaluation.baselines.base import HOLD, answers
from candletune.evaluation.baselines.gradient_boosting import model
from candletune.hashes import fingerprint, sha256_path
from candletune.journal import Side
from candletune.runs import RunFolder

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


def silent(count: int) -> list[Side]:
    """What `NOBODY` answers."""
    return [Side("ok", DECISIONS[HOLD], adapter_sha256=NOBODY.adapter_sha256)] * count
