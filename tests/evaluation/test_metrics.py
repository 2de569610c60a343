"""Every metric against numbers worked out by hand."""

from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import pytest

from candletune.evaluation.metrics import (
    agreement,
    by_group,
    equity,
    flip_rate,
    outcome_classes,
    probability_scores,
    side_metrics,
)
from candletune.evaluation.outcomes import score_rows

START = datetime(2025, 1, 1, tzinfo=UTC)
# hour, ticker, price, active, shadow, forward return, shadow's probabilities (BUY, SELL, HOLD)
TABLE = [
    (0, "BTC", 100.0, "BUY", "BUY", 0.02, (0.8, 0.1, 0.1)),
    (1, "BTC", 110.0, "BUY", "SELL", -0.03, (0.2, 0.7, 0.1)),
    (2, "BTC", 99.0, "SELL", "SELL", 0.01, (0.1, 0.6, 0.3)),
    (0, "ETH", 10.0, "HOLD", "HOLD", 0.005, (0.2, 0.2, 0.6)),
    (1, "ETH", 10.0, "HOLD", None, -0.02, None),
    (2, "ETH", 12.0, "SELL", "BUY", None, (0.5, 0.3, 0.2)),
]


@pytest.fixture
def rows() -> pl.DataFrame:
    records: list[dict[str, Any]] = []
    for hour, ticker, price, active, shadow, result, chances in TABLE:
        p = chances or (None, None, None)
        records.append(
            {
                "timestamp": START + timedelta(hours=hour),
                "ticker": ticker,
                "price": price,
                "forward_return": result,
                "outcome": None
                if result is None
                else "BUY"
                if result > 0.015
                else "SELL"
                if result < -0.015
                else "HOLD",
                "regime": "calm" if ticker == "ETH" else "wild",
                "active_action": active,
                "active_status": "ok",
                "active_latency_ms": 2.0,
                **{f"active_p_{name}": None for name in ("buy", "sell", "hold")},
                "shadow_action": shadow,
                "shadow_status": "ok" if shadow else "invalid",
                "shadow_latency_ms": 4.0,
                "shadow_p_buy": p[0],
                "shadow_p_sell": p[1],
                "shadow_p_hold": p[2],
            }
        )
    return score_rows(pl.DataFrame(records, infer_schema_length=None), 0.01)


def test_the_plans_rule_is_strict(rows: pl.DataFrame) -> None:
    # the shadow did not answer the fifth row, so nobody is scored on it
    assert rows["active_correct"].to_list() == [True, False, False, True, None, None]
    assert rows["shadow_correct"].to_list() == [True, True, False, True, None, None]
    edge = score_rows(rows.select(*[c for c in rows.columns if "_correct" not in c]).with_columns(
        forward_return=pl.lit(0.01)), 0.01)  # fmt: skip
    # exactly 1 %: no BUY is right, no HOLD either
    assert edge["active_correct"].to_list() == [False, False, False, False, None, False]


def test_side(rows: pl.DataFrame) -> None:
    found = side_metrics(rows, "shadow", move=0.01, fee=0.0)
    assert found.status == {"ok": 5, "invalid": 1, "skipped": 0, "error": 0}
    assert found.coverage == pytest.approx(5 / 6)
    assert found.shares == {"BUY": 2 / 5, "SELL": 2 / 5, "HOLD": 1 / 5}
    assert found.pending == 1
    assert found.signals == 3
    assert found.accuracy_signals == pytest.approx(2 / 3)
    assert found.accuracy_all == pytest.approx(3 / 4)
    # in the called direction: +2 %, +3 %, -1 %
    assert found.direction == pytest.approx(2 / 3)
    assert found.mean_signed_return == pytest.approx(0.04 / 3)
    assert found.latency_ms == 4.0


def test_confusion_and_recall(rows: pl.DataFrame) -> None:
    found = side_metrics(rows, "shadow", move=0.01, fee=0.0)
    # outcomes: up, down, flat (exactly 1 % is not above), flat; decisions: BUY, SELL, SELL, HOLD
    assert found.confusion == ((1, 0, 0), (0, 1, 0), (0, 1, 1))
    assert found.recall == {"BUY": 1.0, "SELL": 1.0, "HOLD": 0.5}
    assert found.precision == {"BUY": 1.0, "SELL": 0.5, "HOLD": 1.0}
    assert found.balanced_accuracy == pytest.approx(2.5 / 3)


def test_probability_scores(rows: pl.DataFrame) -> None:
    found = side_metrics(rows, "shadow", move=0.01, fee=0.0)
    brier = [0.2**2 + 0.1**2 + 0.1**2, 0.2**2 + 0.3**2 + 0.1**2, 0.1**2 + 0.6**2 + 0.7**2, 0.2**2 + 0.2**2 + 0.4**2]
    assert found.brier == pytest.approx(np.mean(brier))
    assert found.log_loss == pytest.approx(-np.mean(np.log([0.8, 0.7, 0.3, 0.6])))
    curve = {round(point.confidence, 3): (point.accuracy, point.rows) for point in found.calibration}
    assert curve == {0.6: (0.5, 2), 0.7: (1.0, 1), 0.8: (1.0, 1)}
    assert found.calibration_error == pytest.approx((2 * 0.1 + 0.3 + 0.2) / 4)
    chance = (2 * (0.6 * 0.4 / 2) ** 0.5 + (0.7 * 0.3) ** 0.5 + (0.8 * 0.2) ** 0.5) / 4
    assert found.calibration_chance == pytest.approx((2 / np.pi) ** 0.5 * chance)
    assert found.calibration_regimes == {"calm": pytest.approx(0.4), "wild": pytest.approx((0.6 + 0.3 + 0.2) / 3)}
    assert side_metrics(rows, "active", move=0.01, fee=0.0).brier is None


def test_flips_by_ticker(rows: pl.DataFrame) -> None:
    assert flip_rate(rows, "active") == pytest.approx(2 / 4)  # BTC: same, changed; ETH: same, changed
    assert flip_rate(rows, "shadow") == pytest.approx(2 / 3)  # BTC: changed, same; ETH: HOLD then BUY
    assert flip_rate(rows[:1], "active") is None


def test_agreement_counts_answered_rows(rows: pl.DataFrame) -> None:
    assert agreement(rows) == pytest.approx(3 / 5)


def test_equity(rows: pl.DataFrame) -> None:
    # BTC shadow: long 100->110 (+10 %), short 110->99 (+10 %). ETH: flat, keeps flat without an answer.
    found = equity(rows, "shadow", 0.0)
    assert found.net_return == pytest.approx(1.05 * 1.05 - 1)
    assert found.max_drawdown == 0.0
    # equal weights: +5 %, then (-10 % + 20 %) / 2 = +5 %
    assert found.buy_and_hold == pytest.approx(1.05 * 1.05 - 1)
    # BTC turns over 1, then 2, then 0; ETH 0, 0, then 1; half the capital each
    assert found.turnover == pytest.approx((1 + 2 + 0 + 1) / 2)
    costly = equity(rows, "shadow", 0.01)
    assert costly.net_return == pytest.approx((1 + 0.05 - 0.005) * (1 + 0.05 - 0.01) * (1 - 0.005) - 1)


def test_drawdown() -> None:
    prices = [100.0, 120.0, 90.0, 99.0]
    rows = pl.DataFrame(
        {
            "timestamp": [START + timedelta(hours=h) for h in range(4)],
            "ticker": ["BTC"] * 4,
            "price": prices,
            "active_action": ["BUY"] * 4,
        }
    )
    found = equity(rows, "active", 0.0)
    assert found.net_return == pytest.approx(-0.01)
    assert found.max_drawdown == pytest.approx(0.25)


def test_groups(rows: pl.DataFrame) -> None:
    found = by_group(rows, pl.col("ticker"))
    assert list(found) == ["BTC", "ETH"]
    assert found["BTC"].shadow.model_dump() == {"signals": 3, "accuracy_signals": pytest.approx(2 / 3)}
    assert found["ETH"].shadow.model_dump() == {"signals": 0, "accuracy_signals": None}


def test_outcome_classes() -> None:
    returns = pl.Series([0.0101, 0.01, -0.01, -0.0101])
    assert outcome_classes(returns, 0.01).tolist() == [0, 2, 2, 1]


def test_exact_probabilities_are_calibrated() -> None:
    """Of a 2 % label, by what the labels say; held against the plan's 1 % they showed an error of 0.2."""
    rng = np.random.default_rng(8)
    count = 60_000
    sigma = rng.choice([0.01, 0.02, 0.03], count)
    returns = rng.normal(0, sigma)
    up = np.array([1 - NormalDist(0, one).cdf(0.02) for one in (0.01, 0.02, 0.03)])[
        np.rint(sigma * 100).astype(int) - 1
    ]
    outcome = np.where(returns > 0.02, "BUY", np.where(returns < -0.02, "SELL", "HOLD"))
    probabilities = {f"active_p_{name}": values for name, values in (("buy", up), ("sell", up), ("hold", 1 - 2 * up))}
    frame = pl.DataFrame({"outcome": outcome, "forward_return": returns, "regime": ["calm"] * count, **probabilities})
    found = probability_scores(frame, "active")
    assert found.calibration_error is not None and found.calibration_error < 0.01
    assert found.calibration_chance is not None and found.calibration_chance < 0.01
    assert found.regimes["calm"] == pytest.approx(found.calibration_error)
    plan = np.where(returns > 0.01, "BUY", np.where(returns < -0.01, "SELL", "HOLD"))
    against_the_plan = probability_scores(frame.with_columns(outcome=pl.Series(plan)), "active").calibration_error
    assert against_the_plan is not None and against_the_plan > 0.15
    assert probability_scores(frame.drop("outcome"), "active").log_loss is None
