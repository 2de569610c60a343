"""Outcomes and what was known before, on small candle tables."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from candletune.config import Config, load_config
from candletune.errors import InputError
from candletune.evaluation.outcomes import join_outcomes, regime

START = datetime(2025, 1, 1, tzinfo=UTC)
CLOSES = [100.0, 110.0, 99.0, 99.0, 120.0, 120.0]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    frame = pl.DataFrame(
        {
            "date": [START + timedelta(hours=h) for h in range(6)],
            **{name: CLOSES for name in ("open", "high", "low", "close")},
            "volume": [1.0] * 6,
        }
    ).with_columns(pl.col("date").cast(pl.Datetime("ms", "UTC")))
    frame.write_ipc(tmp_path / "BTC_USDT_USDT-1h-futures.feather")
    return load_config(
        None,
        [
            f"data.folder={tmp_path}",
            "data.pairs=['BTC/USDT:USDT']",
            "labels.horizon=2",
            "labels.volatility_window=2",
        ],
    )


def rows(*hours: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"timestamp": [START + timedelta(hours=h) for h in hours], "ticker": ["BTC"] * len(hours)}
    ).cast({"timestamp": pl.Datetime("us", "UTC")})


def test_by_hand(config: Config) -> None:
    # decision time 3 h: the candle opened at 2 h has closed, at 99
    found = join_outcomes(rows(3, 1, 5, 99), config)
    assert found["forward_return"].to_list() == pytest.approx([120 / 99 - 1, -0.01, None, None])
    assert found["past_return"].to_list() == pytest.approx([-0.01, None, 120 / 99 - 1, None])
    # the last two candle returns: +10 % and -10 %
    assert found["volatility"][0] == pytest.approx(0.2 / 2**0.5)
    assert found["volatility"][1] is None


def test_a_ticker_without_candles(config: Config) -> None:
    with pytest.raises(InputError, match="ticker DOGE has no pair"):
        join_outcomes(rows(3).with_columns(ticker=pl.lit("DOGE")), config)


def test_regimes_are_thirds_of_each_ticker() -> None:
    frame = pl.DataFrame({"ticker": ["A"] * 3 + ["B"] * 4, "volatility": [3.0, 1.0, 2.0, 10.0, 30.0, None, 20.0]})
    assert frame.select(regime())["literal"].to_list() == [
        "wild", "calm", "middling", "calm", "wild", "unknown", "middling",
    ]  # fmt: skip
