"""A fold: training on all coins, or on all but one, and the replay of the coins that are asked about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from candletune.artifacts import DatasetManifest
from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import UsageError
from candletune.market.candles import ticker_of
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.boosting import boosting_stage
from candletune.stages.pipeline import refuse_unverified, show
from candletune.stages.runner import Stage, run_stage

Stands = Literal["llm", "boosting"]
ALL: Final = "all"
"""The fold that leaves none out."""
TRAINING: Final = ("base", "dataset", "train", "export", "verify")


@dataclass(frozen=True, slots=True)
class Fold:
    """One training.

    Attributes:
        name: the ticker left out, or `ALL`.
        config: its own, with the pairs that it is trained on; `run.folder` is the fold's.
        asked: pairs of its replay.
        model: what is trained.
    """

    name: str
    config: Config
    asked: tuple[str, ...]
    model: Stands

    @property
    def run(self) -> RunFolder:
        """Its run folder."""
        return RunFolder(self.config.run.folder)

    @property
    def replayed(self) -> Config:
        """The configuration of its replay."""
        return self.config.model_copy(update={"data": self.config.data.model_copy(update={"pairs": self.asked})})

    def train(self, reporter: Reporter) -> None:
        """Whatever comes before the replay; what is up to date is left as it is.

        Raises:
            CandletuneError: a stage was refused, or the export failed its certificate.
        """
        self._do(
            [stage(name) for name in (("dataset",) if self.model == "boosting" else TRAINING)], self.config, reporter
        )

    def replay(self, reporter: Reporter) -> None:
        """Ask about its coins.

        Raises:
            CandletuneError: the stage was refused.
        """
        self._do([boosting_stage(None) if self.model == "boosting" else stage("replay")], self.replayed, reporter)

    def _do(self, stages: Sequence[Stage], config: Config, reporter: Reporter) -> None:
        with self.run.lock():
            for item in stages:
                outcome = run_stage(item, config, self.run, reporter)
                show(outcome, self.run, reporter)
                refuse_unverified(outcome, self.run)


def plan_folds(config: Config, folder: Path, model: Stands, base: Path | None) -> list[Fold]:
    """The training on all coins, then one without each.

    Args:
        config: with `data.folder` at the candles, and all coins.
        folder: of all folds.
        model: what is trained.
        base: the base GGUF that all share; None where none is needed.

    Raises:
        UsageError: fewer than two coins, or rows that training saw are asked for.
    """
    pairs = config.data.pairs
    if len(pairs) < 2:
        raise UsageError(f"data.pairs: {len(pairs)} coin; leaving one out takes two or more")
    if config.replay.force:
        raise UsageError("replay.force: nothing that a training saw is replayed here; leave it out")
    shared: dict[str, object] = {"evaluate": config.evaluate.model_copy(update={"journal": None})}
    if base is not None:
        shared["base"] = config.base.model_copy(update={"gguf": base})
    folds = []
    for name, trained, asked in [
        (ALL, pairs, pairs),
        *((ticker_of(pair), tuple(other for other in pairs if other != pair), (pair,)) for pair in pairs),
    ]:
        own = {
            "run": config.run.model_copy(update={"folder": folder / name}),
            "data": config.data.model_copy(update={"pairs": trained}),
        }
        folds.append(Fold(name, config.model_copy(update=shared | own), asked, model))
    return folds


def same_test(folds: Sequence[Fold]) -> list[Fold]:
    """The folds with the test period that the training on all coins kept out, so that all are asked about the same."""
    manifest = DatasetManifest.read(folds[0].run.dataset_manifest)
    start = manifest.test_start or manifest.train_end + folds[0].config.candle * folds[0].config.dataset.embargo
    found = [folds[0]]
    for fold in folds[1:]:
        dataset = fold.config.dataset.model_copy(update={"test_start": start})
        kept = fold.config.replay.model_copy(update={"start": fold.config.replay.start or start})
        found.append(replace(fold, config=fold.config.model_copy(update={"dataset": dataset, "replay": kept})))
    return found
