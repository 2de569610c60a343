"""The volatility that was known at each example's decision time, from the candles before it."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import Config, timeframe_minutes
from candletune.dataset.pairs import load_timeframes
from candletune.errors import InputError
from candletune.labels import horizon_volatility, labels_for
from candletune.market.candles import ticker_of


def example_volatility(config: Config, meta: pl.DataFrame) -> NDArray[np.float64]:
    """Standard deviation of the return over the horizon as the candles before each decision have it, (examples,).

    Of the last `labels.volatility_window` candles, times the root of the horizon. Where that many have not been seen
    yet, it is the median of the examples.

    Args:
        config: names candles, horizon and window.
        meta: the sidecar: `asset`, `timeframe` (none: `data.timeframe`), `decision_time`.

    Raises:
        InputError: the candles are missing, or none of the examples has a whole window behind it.
    """
    if "timeframe" not in meta.columns:
        meta = meta.with_columns(timeframe=pl.lit(config.data.timeframe))
    wanted = meta.select("asset", "timeframe", "decision_time").cast({"asset": pl.String, "timeframe": pl.String})
    frames = []
    for pair in config.data.pairs:
        candles = load_timeframes(config, pair)
        for timeframe in config.timeframes:
            frame = candles.of(timeframe).frame
            rule = labels_for(config.labels, config.data.timeframe, timeframe)
            frames.append(
                frame.select(
                    asset=pl.lit(ticker_of(pair)),
                    timeframe=pl.lit(timeframe),
                    decision_time=(pl.col("date") + pl.duration(minutes=timeframe_minutes(timeframe))).cast(
                        wanted.schema["decision_time"]
                    ),
                    volatility=horizon_volatility(frame, rule),
                )
            )
    joined = wanted.join(
        pl.concat(frames), on=["asset", "timeframe", "decision_time"], how="left", maintain_order="left"
    )
    known = joined["volatility"].median()
    if known is None:
        raise InputError(
            f"dataset: no example has labels.volatility_window = {config.labels.volatility_window} candles before it, "
            "which train.objective=utility needs; lower it, or give longer histories"
        )
    found: NDArray[np.float64] = joined["volatility"].fill_null(known).to_numpy()
    return found
