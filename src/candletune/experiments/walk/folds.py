"""A fold: one period's own run folder and configuration, and the work in it. It can be sent to another process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from candletune.artifacts import ReplaySummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.evaluation.stand_in import Fitted
from candletune.experiments.walk.candles import cut_candles
from candletune.experiments.walk.periods import Period
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.boosting import boosting_stage
from candletune.stages.pipeline import refuse_unverified, show
from candletune.stages.runner import Stage, run_stage

Part = Literal["train", "replay"]
TRAINING: Final = ("base", "dataset", "train", "export", "verify")
"""Stages of a fold's first part with a language model."""
FOLDS: Final = "folds"


@dataclass(frozen=True, slots=True)
class Fold:
    """One period of a walk.

    Attributes:
        period: what is replayed.
        config: its own; `run.folder` is the fold's.
        data: the whole history's folder, of which the fold gets what had closed when its period ended.
        rival: run folder of the fold whose training is the incumbent; None: the configured incumbent.
    """

    period: Period
    config: Config
    data: Path
    rival: Path | None

    @property
    def run(self) -> RunFolder:
        """Its run folder."""
        return RunFolder(self.config.run.folder)

    @property
    def boosting(self) -> bool:
        """Whether gradient boosting stands in for the language model."""
        return self.config.walk.model == "boosting"

    def stages(self, part: Part) -> list[Stage]:
        """What is to be done in one of its parts, in order."""
        if part == "train":
            return [stage(name) for name in (("dataset",) if self.boosting else TRAINING)]
        if not self.boosting:
            return [stage("replay")]
        return [boosting_stage(self.rival_fit())]

    def rival_fit(self) -> Fitted | None:
        """The incumbent, where gradient boosting stands in and another fold's is it."""
        return None if self.rival is None else Fitted(RunFolder(self.rival), f"boosting before {self.rival.name}")

    def replayed(self) -> ReplaySummary | None:
        """What its replay said; None while there is none."""
        return self.run.summary_if_done(ReplaySummary)


def plan_folds(config: Config, walk: Path, periods: tuple[Period, ...], base: Path | None) -> tuple[Fold, ...]:
    """Every period's fold.

    Args:
        config: the walk's, with `data.folder` at the candles.
        walk: the walk's folder.
        periods: in order.
        base: the base GGUF that all of them share; None where none is needed.
    """
    folders = [walk / FOLDS / period.name for period in periods]
    folds = []
    for period, folder in zip(periods, folders, strict=True):
        rival = _rival(config, folders, period.number)
        before = folders[period.number - 1] if period.number else None
        own = _config_of(config, period, base, RunFolder(folder), before=before, rival=rival)
        folds.append(Fold(period, own, config.data.folder, rival))
    return tuple(folds)


def _rival(config: Config, folders: list[Path], number: int) -> Path | None:
    if config.walk.incumbent == "first":
        return folders[0]
    return folders[number - 1] if config.walk.incumbent == "previous" and number else None


def _config_of(
    config: Config, period: Period, base: Path | None, run: RunFolder, *, before: Path | None, rival: Path | None
) -> Config:
    updates: dict[str, object] = {
        "run": config.run.model_copy(update={"folder": run.path}),
        "data": config.data.model_copy(update={"folder": run.candles}),
        "dataset": config.dataset.model_copy(update={"test_start": period.start, "train_start": period.train_start}),
        "replay": config.replay.model_copy(update={"start": period.start, "end": period.end, "force": False}),
        "evaluate": config.evaluate.model_copy(update={"journal": None}),
    }
    if before is not None and config.walk.warm_start:
        updates["train"] = config.train.model_copy(update={"init_adapter": RunFolder(before).adapter})
    if base is not None:
        updates["base"] = config.base.model_copy(update={"gguf": base})
    if rival is not None and config.walk.model == "llm":
        updates["incumbent"] = config.incumbent.model_copy(
            update={"adapter": RunFolder(rival).adapter_gguf, "name": f"trained before {rival.name}"}
        )
        # Who acts in the trader's own state is not asked: the incumbent is one of the walk's.
        updates["live"] = config.live.model_copy(update={"state": run.path / "live" / "active.json"})
    return config.model_copy(update=updates)


def work_on(fold: Fold, part: Part, reporter: Reporter, *, patience: float = 0.0) -> None:
    """Do a part of a fold, in its run folder; what is up to date is left as it is.

    Args:
        fold: which.
        part: what.
        reporter: where to report to.
        patience: seconds to wait for another process in its folder.

    Raises:
        CandletuneError: a stage was refused, another process works in the folder, or the export failed its certificate.
    """
    run = fold.run
    with run.lock(patience=patience):
        whole = fold.config.data.model_copy(update={"folder": fold.data})
        cut_candles(fold.config.model_copy(update={"data": whole}), fold.period.end, run)
        for item in fold.stages(part):
            outcome = run_stage(item, fold.config, run, reporter)
            show(outcome, run, reporter)
            refuse_unverified(outcome, run)
