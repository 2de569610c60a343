"""The report's charts: which figure stands in which place of the page."""

import json
from pathlib import Path

from candletune.artifacts import LoggedStep
from candletune.config import Config
from candletune.errors import InputError
from candletune.evaluation import over_time
from candletune.evaluation.source import Evaluation
from candletune.evaluation.times import times_of
from candletune.report import figures
from candletune.report.methods import Method
from candletune.report.text import NAMES
from candletune.runs import RunFolder


def charts(config: Config, run: RunFolder, evaluation: Evaluation, methods: list[Method]) -> dict[str, figures.Figure]:
    """Figures by the id of their place on the page; those without data are absent.

    Raises:
        InputError: the training's metrics are broken.
    """
    metrics, scored = evaluation.metrics, evaluation.scored
    drawn: dict[str, figures.Figure | None] = {}
    series = over_time.running(times_of(scored, config.horizon), config.evaluate.confidence)
    if series is not None:
        drawn["running"] = figures.running_accuracy(series)
        drawn["difference"] = figures.running_difference(series, config.evaluate.min_gain)
    fee, compounded = config.evaluate.fee, not config.simulate.enabled
    drawn["equity"] = figures.equity(over_time.equity_curves(scored, fee, compounded=compounded))
    curves = {side: over_time.selective(scored, side) for side in NAMES}
    drawn["selective"] = figures.selective({side: curve for side, curve in curves.items() if curve is not None})
    drawn["calibration"] = figures.calibration(metrics)
    drawn["shares"] = figures.shares(metrics)
    if metrics.months:
        drawn["months"] = figures.monthly(metrics.months, over_time.agreement_by_month(scored))
    if any(method.accuracy_signals is not None for method in methods):
        drawn["methods"] = figures.compared(methods)
    drawn["training"] = figures.training(_rows(run.train_metrics))
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _rows(path: Path) -> list[LoggedStep]:
    if not path.exists():
        return []
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [LoggedStep.model_validate(json.loads(line)) for line in lines]
    except ValueError as error:
        raise InputError(f"{path}: not JSON lines ({error}); run `candletune train --force` again") from None
