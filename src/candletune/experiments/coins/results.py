"""What the trainings answered about each coin, the one that saw it against the one that never did."""

from collections.abc import Sequence

import polars as pl

from candletune.artifacts.coins import Coin, Coins, CoinSide
from candletune.config import Config
from candletune.evaluation.across_runs import Paired, compare_runs
from candletune.evaluation.metrics import side_metrics
from candletune.evaluation.outcomes import join_outcomes, score_rows
from candletune.experiments.coins.folds import ALL, Fold
from candletune.journal import read_frame
from candletune.market.candles import ticker_of


def results_of(folds: Sequence[Fold], config: Config) -> Coins:
    """Every coin's figures.

    Args:
        folds: all replayed, the training on all coins first.
        config: with `data.folder` at the candles, and all coins.

    Raises:
        InputError: a journal or a candle file is missing or broken.
    """
    scored = {fold.name: _scored(fold, config) for fold in folds}
    pairs = compare_runs(
        scored,
        ALL,
        move=config.evaluate.move,
        horizon=config.horizon,
        confidence=config.evaluate.confidence,
    )
    coins = [_coin(pair, scored, pairs[ticker_of(pair)], config) for pair in config.data.pairs]
    start = folds[1].config.dataset.test_start
    return Coins(
        model=folds[0].model,
        test_start="" if start is None else start.isoformat(),
        confidence=config.evaluate.confidence,
        coins=tuple(coins),
    )


def _scored(fold: Fold, config: Config) -> pl.DataFrame:
    rows = join_outcomes(read_frame(fold.run.journal).sort("timestamp", "ticker"), config)
    return score_rows(rows, config.evaluate.move)


def _coin(pair: str, scored: dict[str, pl.DataFrame], paired: Paired, config: Config) -> Coin:
    ticker = ticker_of(pair)
    return Coin(
        pair=pair,
        ticker=ticker,
        rows=paired.rows,
        seen=_side(ALL, scored[ALL].filter(ticker=ticker), config),
        unseen=_side(ticker, scored[ticker], config),
        gain=paired.gain,
        log_score=paired.log_score,
        p_value=paired.p_value,
        adjusted=paired.adjusted,
        finding=paired.problem or paired.finding,
    )


def _side(name: str, rows: pl.DataFrame, config: Config) -> CoinSide:
    figures = side_metrics(rows, "shadow", move=config.evaluate.move, fee=config.evaluate.fee)
    return CoinSide(
        folder=f"folds/{name}",
        signals=figures.signals,
        accuracy_signals=figures.accuracy_signals,
        balanced_accuracy=figures.balanced_accuracy,
        log_loss=figures.log_loss,
    )
