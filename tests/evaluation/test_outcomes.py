"""Outcomes and what was known before, on small candle tables."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from candletune.config import Config, load_config
from candletune.errors import InputError
from candletune.evaluation.outcomes import join_outcomes, regimes

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


def test_a_candle_still_forming_is_no_outcome(config: Config) -> None:
    """The last candle of the file opened at 5 h; before 6 h its close is not known yet."""
    forming = join_outcomes(rows(4), config, now=START + timedelta(hours=5, minutes=59))
    assert forming["forward_return"].to_list() == [None]
    closed = join_outcomes(rows(4), config, now=START + timedelta(hours=6))
    assert closed["forward_return"].to_list() == pytest.approx([120 / 99 - 1])


def test_the_outcome_is_the_labels_own(config: Config) -> None:
    assert join_outcomes(rows(3, 1, 5), config)["outcome"].to_list() == ["BUY", "HOLD", None]
    labels = {"method": "volatility", "volatility_factor": 1.5}
    barrier = config.model_copy(update={"labels": config.labels.model_copy(update=labels)})
    # after hours of plus and minus 10 %, 21 % in two hours are no move
    assert join_outcomes(rows(3), barrier)["outcome"].to_list() == ["HOLD"]


def test_a_regime_is_known_at_the_decision() -> None:
    """What comes later changes none, and the first month has nothing to be held against."""
    times = pl.Series([START + timedelta(days=day) for day in range(90)])
    volatility = pl.Series([0.01 * (1 + day % 3) for day in range(90)])
    found = regimes(times, volatility)
    assert set(found[:31]) == {"unknown"}
    assert found[31:34].to_list() == ["middling", "wild", "calm"]
    for length in (45, 60, 75):
        assert regimes(times[:length], volatility[:length]).to_list() == found[:length].to_list()
    wild = pl.concat([volatility[:60], volatility[60:] * 100])
    assert regimes(times, wild)[:60].to_list() == found[:60].to_list()
    assert set(regimes(times, wild)[60:]) == {"wild"}
    assert regimes(times[:40], pl.Series([None] * 39 + [0.1])).to_list() == ["unknown"] * 40
