"""Sums by decision time and what is compared of them, by hand and on calls whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from candletune.artifacts.metrics import Comparison
from candletune.config import EvaluateConfig
from candletune.evaluation.bounds import boundary, estimate
from candletune.evaluation.budget import Level
from candletune.evaluation.compare import compare_times
from candletune.evaluation.statistics import Ratio
from candletune.evaluation.times import Panel, drawdown, net_returns, sum_times

Floats = NDArray[np.float64]
LIMITS = EvaluateConfig(fee=0.001, funding=0.0)
NAN = float("nan")


def panel(returns: list[list[float]], active: list[list[float]], shadow: list[list[float]], hours: float = 2) -> Panel:
    """Hourly decision times, tickers as columns."""
    calls = {"active": np.array(active), "shadow": np.array(shadow)}
    return Panel(np.array(returns), calls, np.arange(len(returns)) / 24, hours)


def test_by_hand() -> None:
    found = sum_times(
        panel(
            [[0.03, 0.005], [-0.02, 0.0], [0.02, NAN], [0.01, -0.005]],
            [[1, 0], [1, -1], [-1, 1], [NAN, 0]],
            [[1, -1], [-1, 0], [1, -1], [1, -1]],
        ),
        LIMITS,
    )
    assert (found.overlap, len(found), found.windows) == (1, 4, 2)
    mine, other = found.sides["shadow"], found.sides["active"]
    # the third row of the second ticker has no outcome; the incumbent did not answer the fourth of the first
    assert mine.signals.tolist() == [2, 1, 1, 1]
    assert other.signals.tolist() == [1, 2, 1, 0]
    assert mine.hits.tolist() == [1, 1, 1, 0]
    assert other.hits.tolist() == [1, 0, 0, 0]
    # a coin is right in half of the calls at hours that moved by more than the move, either way
    assert mine.coin.tolist() == [0.5, 0.5, 0.5, 0]
    assert mine.signed == pytest.approx([0.03 - 0.005, 0.02, 0.02, 0.005])
    # counted up to the move of 1 %, and less the means of the rows that count: a third of 1 %, and none
    assert mine.direction == pytest.approx([0.02 / 3 - 0.005, 0.04 / 3, 0.02 / 3, 0.005])
    assert mine.flips.tolist() == [0, 2, 2, 0]
    assert mine.pairs.tolist() == [0, 2, 2, 2]
    assert other.flips.tolist() == [0, 1, 2, 1]  # of the first ticker, whose last answer is missing, one less
    assert other.pairs.tolist() == [0, 2, 2, 1]


def test_a_constant_call_has_no_direction_whatever_the_drift() -> None:
    """It earned what the market did, and knows nothing: the mean of the period is taken off."""
    rng = np.random.default_rng(1)
    returns = rng.normal(0.01, 0.02, (500, 2))
    always = np.ones_like(returns)
    found = sum_times(Panel(returns, {"active": always, "shadow": always}, np.arange(500) / 24, 1.0), LIMITS)
    side = found.sides["shadow"]
    assert side.signed.sum() > 5
    assert side.direction.sum() == pytest.approx(0, abs=1e-9)


def test_net_returns_by_hand() -> None:
    """Two parts of the capital, one a decision time, each held for two hours; a fee of 0.1 % a unit of turnover."""
    said = np.array([[1.0], [1.0], [-1.0], [0.0]])
    returns = np.array([[0.02], [0.01], [-0.04], [0.5]])
    # positions: 0.5, 1, 0, -0.5
    found = net_returns(said, returns, 1, 2.0, LIMITS)
    assert found == pytest.approx([0.01 - 0.0005, 0.005 - 0.0005, 0.02 - 0.001, -0.0005])
    # a long part pays funding for its hours, a short one receives it
    costly = net_returns(said, returns, 1, 8.0, replace_limits(funding=0.002))
    assert costly - found == pytest.approx([-0.001, -0.001, 0.001, 0])
    assert net_returns(np.empty((0, 2)), np.empty((0, 2)), 1, 2.0, LIMITS).tolist() == []


def replace_limits(**values: float) -> EvaluateConfig:
    return LIMITS.model_copy(update=values)


def test_drawdown_by_hand() -> None:
    assert drawdown(np.array([0.1, -0.5, 0.2])) == pytest.approx(0.5)
    assert drawdown(np.array([-0.1])) == pytest.approx(0.1)
    assert drawdown(np.array([])) == 0.0


def calls(rng: np.random.Generator, returns: Floats, skill: float, acts: float) -> Floats:
    guess = rng.choice([-1.0, 1.0], returns.shape)
    said = np.where(rng.random(returns.shape) < skill, np.sign(returns), guess)
    return np.where(rng.random(returns.shape) < acts, said, 0.0)


def compared(
    active: tuple[float, float],
    shadow: tuple[float, float],
    *,
    days: int = 300,
    level: Level | None = None,
    seed: int = 2,
) -> Comparison:
    """Independent windows, eight a day on two tickers; each side by (skill, share of hours it acts in)."""
    rng = np.random.default_rng(2)
    returns = rng.normal(0, 0.02, (2400, 2))
    made = {
        "active": calls(rng, returns, *active),
        "shadow": calls(rng, returns, *shadow),
    }
    times = sum_times(Panel(returns, made, np.arange(len(returns)) / 8, 3.0), EvaluateConfig())
    return compare_times(times, EvaluateConfig(), level, agreement=None, coverage=1.0)


def test_a_silent_incumbent_is_held_against_a_coin() -> None:
    """It could never be beaten: without calls it has no accuracy, and any flip is infinitely more than none."""
    found = compared((0.0, 0.0), (0.3, 0.5))
    assert found.against == "coin"
    assert found.beyond_chance.low is not None and found.beyond_chance.low > 0
    assert found.net_return.low is not None and found.net_return.low > 0
    assert found.accuracy_signals.value is not None and 0.05 < found.accuracy_signals.value < 0.15
    assert found.effective > 1000
    # the same candidate without skill
    chance = compared((0.0, 0.0), (0.0, 0.5))
    assert chance.beyond_chance.low is not None and chance.beyond_chance.low < 0
    # few calls are enough to be compared with, when the candidate makes few as well
    assert compared((0.0, 0.01), (0.0, 0.02)).against == "incumbent"
    assert compared((0.0, 0.005), (0.0, 0.5)).against == "coin"
    assert compared((0.0, 0.1), (0.0, 0.5)).against == "incumbent"
    # and one that acts seldom cannot be flipped as seldom, however well its calls are known
    seldom = compared((0.0, 0.03), (0.0, 0.5))
    assert (seldom.against, seldom.flips.value) == ("incumbent", None)
    assert compared((0.0, 0.3), (0.0, 0.5)).flips.value is not None


def test_an_incumbent_of_equal_skill_is_not_beaten() -> None:
    found = compared((0.3, 0.5), (0.3, 0.5))
    assert found.direction.low is not None and found.direction.low > 0  # both know something
    assert found.beyond_chance.bounds is not None
    assert found.beyond_chance.bounds[0] < 0 < found.beyond_chance.bounds[1]


def test_without_skill_direction_is_not_found_by_looking_every_week() -> None:
    """Calls at random that lean long in a rising market: the bare return in the called direction was above zero at some
    look in far more than one test in twenty."""
    rng = np.random.default_rng(3)
    bare = free = 0
    for _ in range(120):
        returns = rng.normal(0.003, 0.03, (365, 1))
        said = np.where(rng.random((365, 1)) < 0.8, 1.0, -1.0)
        whole = Panel(returns, {"active": said, "shadow": said}, np.linspace(0, 364, 365), 24.0)
        looks = []
        for days in range(70, 366, 7):
            part = replace(
                whole,
                returns=returns[:days],
                calls=dict.fromkeys(whole.calls, said[:days]),
                elapsed=whole.elapsed[:days],
            )
            found = sum_times(part, LIMITS)
            side = found.sides["shadow"]
            signed = estimate(Ratio(side.signed, side.signals), found.grid)
            direction = estimate(Ratio(side.direction, side.signals), found.grid)
            assert signed is not None and direction is not None
            bound = direction.within(boundary(found.days, 365.0, 0.05)).low
            looks.append(((signed.interval(0.95).low or 0.0) > 0, bound is not None and bound > 0))
        bare += any(one for one, _ in looks)
        free += any(other for _, other in looks)
    assert bare / 120 > 0.25
    assert free / 120 <= 0.05


def test_nothing_to_compare() -> None:
    found = compared((0.0, 0.5), (0.0, 0.0))
    assert found.accuracy_signals.value is None
    assert found.beyond_chance.value is None
    assert found.effective == 0.0
    assert found.days_needed is None
    none = np.empty((0, 0))
    empty = sum_times(Panel(none, {"active": none, "shadow": none}, np.empty(0), 12.0), LIMITS)
    nothing = compare_times(empty, LIMITS, agreement=None, coverage=0.0)
    assert (nothing.windows, nothing.months, nothing.net_return.value) == (0.0, 0, None)


def test_a_registered_replay_may_use_the_bound_of_one_look() -> None:
    spread = [
        compared((0.0, 0.5), (0.1, 0.5), level=level).beyond_chance.bounds
        for level in (Level(0.025, one_look=True), Level(0.025), Level(0.01))
    ]
    assert all(spread)
    widths = [bounds[1] - bounds[0] for bounds in spread if bounds]
    assert widths == sorted(widths)
    assert widths[0] < widths[1] < widths[2]


def test_the_log_score_is_paired() -> None:
    returns = np.zeros((400, 1))
    score = np.full((400, 1), 0.2)
    score[::2] = NAN  # rows without probabilities do not count
    base = Panel(returns, {"active": returns, "shadow": returns}, np.arange(400) / 4, 6.0)
    found = compare_times(sum_times(replace(base, log_score=score), LIMITS), LIMITS, agreement=None, coverage=1.0)
    assert found.log_score.value == pytest.approx(0.2)
    without = compare_times(sum_times(base, LIMITS), LIMITS, agreement=None, coverage=1.0)
    assert without.log_score.value is None
