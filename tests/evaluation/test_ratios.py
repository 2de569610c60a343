"""Ratios against empyrical on the same daily returns, and by hand on a table small enough."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from candletune.evaluation import ratios
from candletune.evaluation.metrics import portfolio_returns
from candletune.evaluation.outcomes import score_rows

START = datetime(2025, 1, 1, tzinfo=UTC)


def daily_returns(seed: int, count: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, count) * 0.02 + 0.001


def rows(prices: list[float], actions: Sequence[str | None], hours: int = 24) -> pl.DataFrame:
    """One ticker; the incumbent always holds."""
    count = len(prices)
    table = pl.DataFrame(
        {
            "timestamp": [START + timedelta(hours=hours * i) for i in range(count)],
            "ticker": ["BTC"] * count,
            "price": prices,
            "active_action": ["HOLD"] * count,
            "shadow_action": actions,
            "forward_return": [0.02] * count,
        },
        schema_overrides={"shadow_action": pl.String},
    )
    return score_rows(table, 0.01)


@pytest.mark.parametrize("seed", range(4))
def test_ratios_are_empyricals(seed: int) -> None:
    empyrical = pytest.importorskip("empyrical", reason="needs the dev extra (empyrical-reloaded)")
    returns = daily_returns(seed)
    assert ratios.sharpe(returns) == pytest.approx(empyrical.sharpe_ratio(returns, annualization=365))
    assert ratios.sortino(returns) == pytest.approx(empyrical.sortino_ratio(returns, annualization=365))
    assert ratios.calmar(returns) == pytest.approx(empyrical.calmar_ratio(returns, annualization=365))


def test_nothing_is_divided_by_nothing() -> None:
    still, winning = np.zeros(30), np.full(30, 0.01)
    for ratio in (ratios.sharpe, ratios.sortino, ratios.calmar, ratios.profit_factor):
        assert ratio(still) is None
    assert ratios.sortino(winning) is ratios.calmar(winning) is ratios.profit_factor(winning) is None
    assert ratios.sharpe(np.array([0.01])) is None
    assert ratios.ratios_of(rows([], []), "shadow", 0.0) is None


def test_by_hand() -> None:
    """Long for a day (+10 %), short for one (+10 % on a fall of 10 %), then flat; a row without an answer keeps it."""
    table = rows([100.0, 110.0, 99.0, 99.0, 99.0], ["BUY", "SELL", None, "HOLD", "HOLD"])
    found = ratios.ratios_of(table, "shadow", 0.01)
    assert found is not None
    # turnover: 1 in, 2 across, 0, 1 out; a fee of one per cent each
    net = [0.10 - 0.01, 0.10 - 0.02, 0.0, -0.01, 0.0]
    assert found.total == pytest.approx(np.prod([1 + value for value in net]) - 1)
    assert found.drawdown == pytest.approx(0.01)
    assert found.exposure == pytest.approx(3 / 5)
    assert found.turnover == pytest.approx(4 / 5)
    assert (found.days, found.sharpe) == (5, None)
    plain = ratios.ratios_of(table, "shadow", 0.01, compounded=False)
    assert plain is not None
    assert plain.total == pytest.approx(sum(net))
    held = ratios.ratios_of(table, "market", 0.01)
    assert held is not None
    assert held.total == pytest.approx(-0.01)
    assert (held.exposure, held.turnover) == (1.0, None)


def test_hours_of_a_day_are_one_return_and_a_day_off_is_a_zero() -> None:
    table = rows([100.0, 110.0, 121.0, 121.0], ["BUY", "BUY", "HOLD", "HOLD"], hours=12)
    late = table.tail(1).with_columns(pl.col("timestamp") + timedelta(days=2))
    gained = portfolio_returns(pl.concat([table, late]), "shadow", 0.0)
    assert ratios.daily(gained, "net").to_list() == pytest.approx([0.21, 0.0, 0.0, 0.0])


def test_months_multiply_to_the_whole() -> None:
    rng = np.random.default_rng(2)
    prices = (100 * np.cumprod(1 + rng.normal(0, 0.01, 90))).tolist()
    actions = [("BUY", "SELL", "HOLD")[index] for index in rng.integers(3, size=90)]
    table = rows(prices, actions)
    whole = ratios.ratios_of(table, "shadow", 0.001)
    months = ratios.by_month(table, "shadow", 0.001)
    assert whole is not None
    assert list(months) == ["2025-01", "2025-02", "2025-03"]
    assert np.prod([1 + value for value in months.values()]) - 1 == pytest.approx(whole.total)
    mean = ratios.by_month(table, "shadow", 0.001, compounded=False)["2025-01"]
    assert mean == pytest.approx(portfolio_returns(table, "shadow", 0.001)["net"][:31].mean())
    assert None not in (whole.sharpe, whole.sortino, whole.calmar, whole.profit_factor)


def test_worst_drawdowns_by_hand() -> None:
    """Long throughout: 100, 80 and back, then 90 from 110 and not yet back."""
    table = rows([100.0, 80.0, 100.0, 110.0, 99.0, 99.0], ["BUY"] * 6)
    deepest, open_one = ratios.worst_drawdowns(table, "market", 0.0)
    assert (deepest.start, deepest.lowest, deepest.end) == (START, START + timedelta(days=1), START + timedelta(days=2))
    assert deepest.depth == pytest.approx(0.2)
    assert deepest.days == 2
    assert (open_one.start, open_one.end, open_one.days) == (START + timedelta(days=3), None, 2)
    assert open_one.depth == pytest.approx(0.1)
    assert ratios.worst_drawdowns(table, "market", 0.0, count=1) == [deepest]
    assert ratios.worst_drawdowns(rows([], []), "shadow", 0.0) == []
    assert ratios.worst_drawdowns(rows([1.0, 2.0, 3.0], ["BUY"] * 3), "shadow", 0.0) == []


@pytest.mark.parametrize("compounded", [True, False])
def test_the_deepest_is_the_maximum_drawdown(compounded: bool) -> None:
    rng = np.random.default_rng(5)
    prices = (100 * np.cumprod(1 + rng.normal(0, 0.03, 300))).tolist()
    table = rows(prices, rng.choice(["BUY", "SELL", "HOLD"], 300).tolist(), hours=6)
    for side in ("shadow", "market"):
        found = ratios.ratios_of(table, side, 0.001, compounded=compounded)
        falls = ratios.worst_drawdowns(table, side, 0.001, compounded=compounded, count=1000)
        assert found is not None
        assert falls[0].depth == pytest.approx(found.drawdown)
        ordered = sorted(falls, key=lambda fall: fall.start)
        for before, after in pairwise(ordered):
            assert before.end is not None, "only the last one may be open"
            assert before.end <= after.start
