"""The bench that measures the rule: its candidates are what they claim to be, and the rule tells them apart."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "decision.py"))


@pytest.fixture(scope="module")
def market() -> Any:
    return BENCH["simulated"](np.random.default_rng(1))


def rng() -> np.random.Generator:
    return np.random.default_rng(2)


def test_the_candidates_are_what_they_claim(market: Any) -> None:
    returns = market.forward

    def edge(said: Any) -> float:
        return float((said * np.sign(returns))[said != 0].mean())

    drawn = {name: draw(rng(), market) for name, draw in BENCH["NULLS"].items()}
    assert all(said.shape == returns.shape for pair in drawn.values() for said in pair)
    skilled = [edge(said) for said in drawn["equal skill"]]
    assert min(skilled) > 0.05
    assert skilled[0] == pytest.approx(skilled[1], abs=0.03)
    assert max(abs(edge(said)) for said in drawn["calls at random"]) < 0.04
    wild = drawn["wild hours"][1]
    assert (wild[~market.wild] == 0).all()
    assert abs(edge(wild)) < 0.05
    leaning = drawn["wild hours, leaning long, bull year"][1]
    assert (leaning == 1).sum() > 3 * (leaning == -1).sum()
    assert (drawn["near-silent incumbent"][0] != 0).mean() < 0.02
    assert 0.005 < (np.not_equal(*drawn["copies"])).mean() < 0.03
    assert not drawn["edge equal to its costs"][0].any()
    months = np.array_split(drawn["regimes of 25 days"][1] * np.sign(returns), 24)
    means = [float(part.mean()) for part in months]
    assert max(means) > 0.05 and min(means) < -0.05


def test_the_rule_finds_what_is_there_after_a_year_and_promotes_nobody_after_a_month(market: Any) -> None:
    pair = BENCH["better"](rng(), market, 0.6)
    assert BENCH["look"](market, pair, 365).promoted
    assert "months" in BENCH["look"](market, pair, 30).failed
    lucky = BENCH["look"](market, BENCH["wild_hours"](rng(), market), 365)
    assert not lucky.promoted
    assert {"gain beyond chance", "direction"} <= set(lucky.failed)
