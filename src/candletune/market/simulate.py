"""Simulated markets with a known answer, as freqtrade stores them.

A hidden regime (bull, flat or bear; mean dwell `DWELL` hours) adds a drift to hourly returns. Volatility clusters
(log-AR(1)) and innovations have fat tails (Student t). A long regime shows in trend indicators and goes on for a
while, so they foretell part of the 12-hour return: `signal` scales the drift, and at 0 the price is a
martingale nobody can foretell.
Behind `turn`, if there is one, the market is another: trends no longer go on, the price comes back to where it was in
the days before. Whoever learned before the turn only is wrong behind it.
Because the law is known, the best attainable accuracy is too: an exact forward filter (Hamilton 1989) gives the
regime's probabilities from all past returns, and simulated futures from them give each class's probability.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import SimulateConfig

FloatArray = NDArray[np.float64]

DWELL = 120.0
DRIFT = 0.0032
SIGMA = 0.0045
VOLATILITY_MEMORY = 0.985
VOLATILITY_OF_VOLATILITY = 0.05
TAIL = 5.0
"""Degrees of freedom of the innovations."""
PULL = 3.0
"""How strongly the choice of the next regime leans back to the starting price; keeps years of drift in bounds."""
REGIMES = np.array([1.0, 0.0, -1.0])
REVERT = 1 / 12
"""Share of its distance from the anchor that the price comes back an hour, behind a turn and at full signal."""
ANCHOR = 1 / 168
"""How fast the anchor follows the price: a mean of the last week."""


@dataclass(frozen=True, slots=True)
class Market:
    """One simulated pair: hourly log returns and what drove them; arrays of shape (hours,).

    Attributes:
        anchor: what the price comes back to behind a turn, as known after the hour.
        turn: the first hour behind it; as many as there are hours: there is none.
    """

    returns: FloatArray
    sigma: FloatArray
    level: FloatArray
    regime: NDArray[np.int8]
    anchor: FloatArray
    turn: int


def simulate(
    seed: tuple[int, ...], hours: int, signal: float, turn: float | None = None, events: FloatArray | None = None
) -> Market:
    """Simulate `hours` hourly log returns. The loop is over hours because regime choice depends on the price.

    Args:
        seed: of every draw.
        hours: how many.
        signal: from 0, nothing can be foretold, to 1.
        turn: share of the hours after which the price comes back instead of going on; None: never.
        events: what news adds to each hour's return, (hours,); None: nothing.
    """
    pushes = np.zeros(hours) if events is None else events
    turned = hours if turn is None else round(turn * hours)
    rng = np.random.default_rng(seed)
    log_sigma = np.zeros(hours)
    shocks = rng.normal(0.0, VOLATILITY_OF_VOLATILITY, hours)
    noise = rng.standard_t(TAIL, hours) * np.sqrt((TAIL - 2) / TAIL)
    switch, choice = rng.random(hours), rng.random(hours)
    regime = np.zeros(hours, dtype=np.int8)
    level, log_level = np.zeros(hours), 0.0
    anchors, anchor = np.zeros(hours), 0.0
    state, volatility = int(rng.integers(3)), 0.0
    returns = np.zeros(hours)
    for hour in range(hours):
        if switch[hour] < 1 / DWELL:
            state = int(np.searchsorted(np.cumsum(next_regime(np.array([log_level]))[0]), choice[hour]))
        volatility = VOLATILITY_MEMORY * volatility + shocks[hour]
        log_sigma[hour] = volatility
        regime[hour] = state
        level[hour] = log_level
        drift = signal * DRIFT * REGIMES[state] if hour < turned else signal * REVERT * (anchor - log_level)
        returns[hour] = drift + pushes[hour] + SIGMA * np.exp(volatility) * noise[hour]
        log_level += returns[hour]
        anchor += ANCHOR * (log_level - anchor)
        anchors[hour] = anchor
    return Market(returns, SIGMA * np.exp(log_sigma), level, regime, anchors, turned)


def next_regime(log_level: FloatArray) -> FloatArray:
    """Probabilities (n, 3) of the regime after a switch, given the log price relative to the start."""
    score = -PULL * log_level[:, None] * REGIMES[None, :]
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    probability: FloatArray = weight / weight.sum(axis=1, keepdims=True)
    return probability


def to_candles(market: Market, *, start: datetime, price: float, seed: tuple[int, ...]) -> pl.DataFrame:
    """freqtrade's columns from a simulated market; highs and lows surround open and close."""
    rng = np.random.default_rng((*seed, 1))
    hours = len(market.returns)
    close = price * np.exp(np.cumsum(market.returns))
    opened = np.concatenate([[price], close[:-1]])
    wicks = np.abs(rng.normal(0.0, 0.6, (2, hours))) * market.sigma
    high = np.maximum(opened, close) * (1 + wicks[0])
    low = np.minimum(opened, close) * (1 - wicks[1])
    volume = np.exp(rng.normal(5.0, 0.4, hours)) * (market.sigma / SIGMA) ** 1.5
    first = pl.Series([start.astimezone(UTC)]).cast(pl.Datetime("us", "UTC"))[0]
    dates = pl.datetime_range(
        first, pl.lit(first) + pl.duration(hours=hours - 1), "1h", time_unit="ms", time_zone="UTC", eager=True
    )
    decimals = 2 if price >= 10 else 6
    prices = {"open": opened, "high": high, "low": low, "close": close}
    return pl.DataFrame({"date": dates, **prices, "volume": volume}).with_columns(
        pl.col("open", "high", "low", "close").round(decimals), pl.col("volume").round(3)
    )


def hours_of(config: SimulateConfig) -> int:
    """Candles a pair."""
    return config.hours


def pair_seed(seed: int, index: int) -> tuple[int, ...]:
    """Seed of one pair, so that adding a pair leaves the others as they are."""
    return (seed, 1000 + index)


# --- the best attainable -----------------------------------------------------------------------------------------


def regime_drift(market: Market, signal: float) -> FloatArray:
    """The drift of each hour under each regime, (hours, 3)."""
    hours = np.arange(len(market.returns))
    before = np.concatenate([[0.0], market.anchor[:-1]])
    back = signal * REVERT * (before - market.level)  # the same whatever the regime, which then stays unknown
    drift: FloatArray = np.where((hours < market.turn)[:, None], signal * DRIFT * REGIMES, back[:, None])
    return drift


def filtered_regimes(market: Market, signal: float) -> FloatArray:
    """P(regime | all returns so far), shape (hours, 3): the exact forward filter, volatility known."""
    z = (market.returns[:, None] - regime_drift(market, signal)) / market.sigma[:, None]
    scaled = z / np.sqrt((TAIL - 2) / TAIL)
    likelihood = (1 + scaled**2 / TAIL) ** (-(TAIL + 1) / 2)
    after = next_regime(market.level)
    belief = np.full(3, 1 / 3)
    beliefs = np.empty((len(z), 3))
    for hour in range(len(z)):
        belief = (1 - 1 / DWELL) * belief + after[hour] / DWELL
        belief = belief * likelihood[hour]
        belief /= belief.sum()
        beliefs[hour] = belief
    return beliefs


def future_returns(
    market: Market, beliefs: FloatArray, at: NDArray[np.int64], *, signal: float, horizon: int, paths: int, seed: int
) -> FloatArray:
    """Simulated returns over the next `horizon` hours from each hour in `at`, shape (len(at), paths)."""
    rng = np.random.default_rng(seed)
    state = drawn_states(beliefs[at], paths, rng)
    return continued(market, state, at, signal=signal, events=np.zeros(horizon), rng=rng)


def drawn_states(beliefs: FloatArray, paths: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """States drawn from beliefs (n, states), shape (n, paths)."""
    cumulative = np.cumsum(beliefs, axis=1)
    draw = rng.random((len(beliefs), paths))
    states: NDArray[np.int64] = (draw[..., None] > cumulative[:, None, :]).sum(axis=2).clip(0, beliefs.shape[1] - 1)
    return states


def continued(
    market: Market,
    state: NDArray[np.int64],
    at: NDArray[np.int64],
    *,
    signal: float,
    events: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Simulated returns from each hour in `at`, (n, paths).

    Args:
        market: what was until then.
        state: regimes at those hours, (n, paths).
        at: the hours, (n,).
        signal: of the market.
        events: what news adds in each of the next hours, (hours,) or (hours, n, paths).
        rng: source of every draw.
    """
    shape = state.shape
    volatility = np.broadcast_to(np.log(market.sigma[at] / SIGMA)[:, None], shape).copy()
    level = np.broadcast_to((market.level + market.returns)[at][:, None], shape).copy()
    anchor = np.broadcast_to(market.anchor[at][:, None], shape).copy()
    total = np.zeros(shape)
    for hour in range(1, len(events) + 1):
        flips = rng.random(shape) < 1 / DWELL
        cumulative_next = np.cumsum(next_regime(level.ravel()), axis=1).reshape(*shape, 3)
        fresh = (rng.random(shape)[..., None] > cumulative_next).sum(axis=2).clip(0, 2)
        state = np.where(flips, fresh, state)
        volatility = VOLATILITY_MEMORY * volatility + rng.normal(0.0, VOLATILITY_OF_VOLATILITY, shape)
        noise = rng.standard_t(TAIL, shape) * np.sqrt((TAIL - 2) / TAIL)
        turned = (at + hour >= market.turn)[:, None]
        drift = np.where(turned, signal * REVERT * (anchor - level), signal * DRIFT * REGIMES[state])
        step = drift + events[hour - 1] + SIGMA * np.exp(volatility) * noise
        total += step
        level += step
        anchor += ANCHOR * (level - anchor)
    returns: FloatArray = np.expm1(total)
    return returns
