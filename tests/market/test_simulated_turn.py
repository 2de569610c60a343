"""A simulated market that turns over: what went on comes back, and nothing else changes."""

import numpy as np

from candletune.market.simulate import Market, filtered_regimes, future_returns, simulate

HOURS = 12_000


def persistence(market: Market, hours: slice) -> float:
    """Correlation of the last 12 hours' return with that of the next 12."""
    price = np.cumsum(market.returns)[hours]
    past, following = price[12:-12] - price[:-24], price[24:] - price[12:-12]
    return float(np.corrcoef(past, following)[0, 1])


def test_trends_go_on_before_the_turn_and_come_back_behind_it() -> None:
    market = simulate((4, 1), HOURS, 1.0, 0.5)
    assert market.turn == HOURS // 2
    assert persistence(market, slice(0, HOURS // 2)) > 0.3
    assert persistence(market, slice(HOURS // 2, HOURS)) < -0.2


def test_the_time_before_the_turn_is_that_of_a_market_without_one() -> None:
    plain, turned = simulate((4, 1), HOURS, 1.0), simulate((4, 1), HOURS, 1.0, 0.5)
    assert np.array_equal(plain.returns[: HOURS // 2], turned.returns[: HOURS // 2])
    assert not np.array_equal(plain.returns, turned.returns)
    assert plain.turn == HOURS


def test_without_signal_a_turn_changes_nothing() -> None:
    assert np.array_equal(simulate((4, 1), 4000, 0.0).returns, simulate((4, 1), 4000, 0.0, 0.5).returns)


def test_what_is_attainable_knows_the_turn() -> None:
    """Far above its anchor the price is expected to fall, far below to rise, whatever the filter thinks of regimes."""
    market = simulate((4, 1), HOURS, 1.0, 0.5)
    gap = market.level + market.returns - market.anchor
    behind = np.arange(HOURS // 2, HOURS - 1)
    high, low = behind[gap[behind].argmax()], behind[gap[behind].argmin()]
    beliefs = filtered_regimes(market, 1.0)
    futures = future_returns(market, beliefs, np.array([high, low]), signal=1.0, horizon=12, paths=500, seed=1)
    assert futures[0].mean() < -0.01 < 0.01 < futures[1].mean()
