"""Baselines with a say: all asked at once, and those that a candidate must beat as criteria of the verdict."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candletune.artifacts import Verdict
from candletune.artifacts.metrics import BaselineMetrics, Interval
from candletune.config import EvaluateConfig
from candletune.console import SilentReporter
from candletune.errors import UsageError
from candletune.evaluation.beaten import (
    check_names,
    holm,
    is_beaten,
    lead_p_value,
    must_beat_criteria,
    with_adjusted,
)
from candletune.evaluation.bounds import grid_of
from candletune.evaluation.statistics import Ratio
from candletune.stages.evaluate import evaluate
from simulated_run import make_run


def baseline(p_value: float | None, *, calls: bool = True, low: float = 0.01) -> BaselineMetrics:
    return BaselineMetrics(
        rows=100,
        signals=50 if calls else 0,
        accuracy_signals=0.4 if calls else None,
        accuracy_all=0.5,
        balanced_accuracy=0.4,
        mean_signed_return=0.0,
        interval=Interval(value=0.4, low=0.3, high=0.5),
        lead=Interval(value=0.05, low=low, high=0.09),
        p_value=p_value,
    )


def test_holm_by_hand() -> None:
    """0.01 * 4, 0.02 * 3, then 0.03 * 2 and 0.2 * 1, never falling."""
    found = holm({"d": 0.2, "a": 0.01, "c": 0.03, "b": 0.02})
    assert found == {"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.2}
    assert holm({}) == {}
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_among_many_baselines_one_is_not_beaten_by_luck() -> None:
    """Alone, 3 % would be clear; as the best of four it is not."""
    four = with_adjusted({"a": baseline(0.03), "b": baseline(0.2), "c": baseline(0.5), "d": baseline(0.6)})
    assert not is_beaten(four["a"], 0.95)
    assert is_beaten(with_adjusted({"a": baseline(0.03)})["a"], 0.95)
    assert is_beaten(baseline(None), 0.95)  # of a file from before p-values
    assert not is_beaten(baseline(None, low=-0.01), 0.95)


def test_the_p_value_is_uniform_without_a_lead() -> None:
    """Two deciders of equal skill, 12-hour windows every hour: at most 5 % of the leads look clear."""
    rng = np.random.default_rng(11)
    times = np.arange(24 * 90)
    grid = grid_of(times / 24, 11)
    found = []
    for _ in range(400):
        right = np.convolve(rng.standard_normal(len(times) + 11), np.ones(12), "valid") > 0
        one, two = (rng.integers(0, 2, len(times) // 6 + 1).repeat(6)[: len(times)].astype(bool) for _ in range(2))
        ones = np.ones(len(times))
        p_value = lead_p_value(
            Ratio((one == right).astype(np.float64), ones), Ratio((two == right).astype(np.float64), ones), grid
        )
        assert p_value is not None
        found.append(p_value)
    assert np.mean(np.array(found) < 0.05) <= 0.075  # 5 % and two standard errors
    assert 0.4 < np.mean(found) < 0.6


def test_a_clear_lead_has_a_small_p_value() -> None:
    rng = np.random.default_rng(12)
    n = 24 * 365
    right = rng.random(n)
    better, coin = (
        Ratio((right < 0.6).astype(np.float64), np.ones(n)),
        Ratio((right < 0.5).astype(np.float64), np.ones(n)),
    )
    p_value = lead_p_value(better, coin, grid_of(np.arange(n) / 24, 0))
    assert p_value is not None
    assert p_value < 0.001
    assert lead_p_value(better, Ratio(np.zeros(n), np.zeros(n)), grid_of(np.arange(n) / 24, 0)) is None


def test_what_must_be_beaten_is_a_criterion() -> None:
    found = with_adjusted(
        {"RSI rule": baseline(0.001), "trend rule": baseline(0.2), "silent": baseline(None, calls=False)}
    )
    limits = EvaluateConfig(must_beat=("RSI rule", "trend rule", "silent", "gradient boosting"))
    criteria = {item.name: item for item in must_beat_criteria(found, limits)}
    assert {name: item.passed for name, item in criteria.items()} == {
        "beats RSI rule": True,
        "beats trend rule": False,
        "beats silent": None,
        "beats gradient boosting": False,
    }
    assert "20.0% of cases" in criteria["beats trend rule"].description
    assert "not measured" in criteria["beats gradient boosting"].description
    assert must_beat_criteria(found, EvaluateConfig()) == []


def test_a_name_that_no_baseline_has_is_refused() -> None:
    check_names(EvaluateConfig(must_beat=("gradient boosting", "untuned base")))
    with pytest.raises(UsageError, match="no baselines are fitted"):
        check_names(EvaluateConfig(must_beat=("RSI rule",), baselines=False))
    with pytest.raises(UsageError, match=r"no baseline is called 'boosting'; there are .*gradient boosting"):
        check_names(EvaluateConfig(must_beat=("boosting",)))


def test_the_verdict_has_the_criterion(tmp_path: Path) -> None:
    config, run = make_run(tmp_path, "evaluate.must_beat=['RSI rule']", rows=300)
    verdict = Verdict.read(run.verdict)
    (item,) = [item for item in verdict.criteria if item.name.startswith("beats ")]
    assert (item.name, item.kind) == ("beats RSI rule", "evidence")
    changes: dict[str, Any] = {"must_beat": ("oracle",)}
    wrong = config.model_copy(update={"evaluate": config.evaluate.model_copy(update=changes)})
    with pytest.raises(UsageError, match="oracle"):
        evaluate(wrong, run, SilentReporter())
