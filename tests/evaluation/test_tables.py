"""The evaluation on a narrow screen: no cell is broken, what is left out is named, limits say which way they hold."""

from typing import Any

import pytest

from candletune.artifacts import Metrics, Verdict, VerdictCriterion
from candletune.artifacts.metrics import BaselineMetrics, Comparison, Interval, SideMetrics
from candletune.console import SilentReporter
from candletune.evaluation.tables import show_evaluation
from partly import partly

RATE = Interval(value=0.512, low=0.487, high=0.537)


class Lines(SilentReporter):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines += message.splitlines()


def criterion(name: str, **more: Any) -> VerdictCriterion:
    given: dict[str, Any] = {"description": "", "passed": True, "kind": "evidence", "unit": "share"} | more
    return VerdictCriterion(name=name, value=0.1, interval=(0.05, 0.15), limit=0.0, **given)


def shown(width: int, *more: VerdictCriterion) -> list[str]:
    side = partly(
        SideMetrics,
        accuracy_signals=0.512,
        signals=12_345,
        accuracy_all=0.48,
        balanced_accuracy=0.47,
        flip_rate=0.2,
        mean_signed_return=0.00123,
    )
    baseline = BaselineMetrics(
        rows=9,
        signals=9,
        accuracy_signals=0.4,
        accuracy_all=0.4,
        balanced_accuracy=0.4,
        mean_signed_return=0.001,
        interval=RATE,
        lead=RATE,
    )
    comparison = partly(Comparison, sides={"active": RATE, "shadow": RATE})
    metrics = partly(
        Metrics, active=side, shadow=side, comparison=comparison, baselines={"logistic regression": baseline}
    )
    names = ("gain beyond chance", "drawdown", "effective samples", "beats gradient boosting")
    verdict = partly(Verdict, criteria=(*map(criterion, names), *more), notes=())
    reporter = Lines()
    show_evaluation(verdict, metrics, reporter, width)
    return reporter.lines


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 300])
def test_no_cell_is_broken(width: int) -> None:
    lines = shown(width)
    assert max(len(line) for line in lines if "│" in line) <= width
    assert any("logistic regression" in line and "40.0%" in line for line in lines)
    assert any("effective samples" in line and "at least 0.0%" in line for line in lines)
    assert any("drawdown" in line and "at most 0.0%" in line for line in lines)
    assert any("gain beyond chance" in line and "above 0.0%" in line for line in lines)


UNITS = (criterion("accuracy gain", unit="points", decides=False), criterion("log score", unit="nats", decides=False))


@pytest.mark.parametrize("width", [72, 80, 120])
def test_what_decides_nothing_says_so_at_every_width(width: int) -> None:
    lines = shown(width, *UNITS)
    assert max(len(line) for line in lines if "│" in line) <= width
    assert any("only shown" in line for line in lines)
    assert any("accuracy gain" in line and "at least +0.0 pp" in line and "(holds" in line for line in lines)


def test_points_and_nats_are_called_that() -> None:
    lines = "\n".join(shown(120, *UNITS))
    assert "+10.0 pp" in lines
    assert "+5.0 to +15.0 pp" in lines
    assert "at least +0.0 pp" in lines
    assert "0.050 to 0.150" in lines


def test_what_is_left_out_is_said() -> None:
    assert not any("wider terminal" in line for line in shown(120))
    assert "signed return" in "".join(shown(120))
    assert "a wider terminal shows balanced, signed return too" in "".join(shown(95))
