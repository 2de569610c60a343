"""How far a walk is, and what each period came to: `walk/walk.json`, and the same as a table on screen."""

from collections.abc import Mapping, Sequence
from io import StringIO

import polars as pl

from candletune.artifacts import FoldState, PeriodSide, VerifySummary, Walk, WalkPeriod
from candletune.artifacts.metrics import Interval, SideMetrics
from candletune.config import Config
from candletune.console import Reporter
from candletune.evaluation.across_periods import PeriodFigures, figures_by_period
from candletune.experiments.walk.folds import Fold
from candletune.runs import RunFolder

WIDTH = 96


def keep_record(
    folds: Sequence[Fold], config: Config, run: RunFolder, problems: Mapping[int, str], *, judged: bool = False
) -> Walk:
    """Write `walk.json`.

    Args:
        folds: in order.
        config: the walk's.
        run: the walk's folder.
        problems: period -> why it failed.
        judged: whether there is a verdict over all of them.
    """
    figures = figures_by_period(pl.read_parquet(run.scored), config) if judged else {}
    walk = Walk(
        every=config.walk.every,
        window=config.walk.window,
        incumbent=config.walk.incumbent,
        model=config.walk.model,
        periods=tuple(
            _period(fold, run, problems.get(fold.period.number, ""), figures.get(fold.period.number)) for fold in folds
        ),
    )
    walk.write(run.walk_periods)
    return walk


def _period(fold: Fold, run: RunFolder, problem: str, figures: PeriodFigures | None) -> WalkPeriod:
    period, replayed = fold.period, fold.replayed()
    known = WalkPeriod(
        start=period.start.isoformat(),
        end=period.end.isoformat(),
        train_start=None if period.train_start is None else period.train_start.isoformat(),
        folder=fold.run.path.relative_to(run.path).as_posix(),
        state="failed" if problem else _state(fold),
        problem=problem,
        candidate=None if replayed is None else replayed.candidate,
        incumbent=None if replayed is None else replayed.incumbent,
    )
    if figures is None:
        return known
    return known.model_copy(
        update={
            "rows": figures.rows,
            "known": figures.known,
            "active": _side(figures.sides["active"]),
            "shadow": _side(figures.sides["shadow"]),
            "gain": figures.gain,
        }
    )


def _state(fold: Fold) -> FoldState:
    if fold.replayed() is not None:
        return "replayed"
    last = "dataset" if fold.boosting else VerifySummary.STAGE
    return "trained" if fold.run.entry(last) is not None else "planned"


def _side(metrics: SideMetrics) -> PeriodSide:
    return PeriodSide(
        signals=metrics.signals,
        accuracy_signals=metrics.accuracy_signals,
        balanced_accuracy=metrics.balanced_accuracy,
        net_return=metrics.equity.net_return,
    )


def show_periods(walk: Walk, reporter: Reporter) -> None:
    """The periods as a table: share of BUY and SELL calls that was right, balanced accuracy, return."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("period", no_wrap=True)
    for name in ("right", "incumbent", "gain", "interval", "calls", "balanced", "incumbent", "net"):
        table.add_column(name, justify="right")
    for period in walk.periods:
        mine, other = period.shadow, period.active
        if mine is None or other is None:
            continue
        table.add_row(
            f"{period.start[:10]}",
            _percent(mine.accuracy_signals),
            _percent(other.accuracy_signals),
            *_gain(period.gain),
            f"{mine.signals:,}",
            _percent(mine.balanced_accuracy),
            _percent(other.balanced_accuracy),
            "" if mine.net_return is None else f"{mine.net_return:+.0%}",
        )
    out = StringIO()
    Console(file=out, width=WIDTH, force_terminal=False).print(table)
    reporter.say(out.getvalue().rstrip())


def _gain(gain: Interval | None) -> tuple[str, str]:
    """The difference in points, and its interval."""
    if gain is None or gain.value is None:
        return "", ""
    ends = "" if gain.bounds is None else f"{gain.bounds[0] * 100:+.1f} to {gain.bounds[1] * 100:+.1f}"
    return f"{gain.value * 100:+.1f}", ends


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
