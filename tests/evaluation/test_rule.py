"""The decision rule, every branch: what promotes, what keeps, and what is not enough."""

from typing import Any

import pytest

from candletune.artifacts.metrics import (
    Comparison,
    GroupMetrics,
    GroupSide,
    Interval,
    Metrics,
    ReviewSummary,
    SideMetrics,
)
from candletune.config import EvaluateConfig
from candletune.evaluation.rule import KEEP, NOT_ENOUGH, PROMOTE, criteria_of, decide
from partly import partly

LIMITS = EvaluateConfig()


def found(**changes: Any) -> Metrics:
    """Metrics under which everything holds, with what the rule reads; a key with `__` replaces one value."""
    value: dict[str, Any] = {
        "active": {"flip_rate": 0.30},
        "shadow": {
            "flip_rate": 0.30,
            "shares": {"BUY": 0.3, "SELL": 0.3, "HOLD": 0.4},
            "status": {"ok": 990, "invalid": 10, "skipped": 0, "error": 0},
        },
        "comparison": {
            "accuracy_signals": {"value": 0.10, "low": 0.04, "high": 0.16},
            "sequential": {"value": 0.10, "low": 0.01, "high": 0.19},
            "signed_return": {"value": 0.004, "low": 0.001, "high": 0.007},
            "coverage": 1.0,
            "effective": 200.0,
            "windows": 400.0,
        },
        "tickers": {"BTC": 9, "ETH": 9},
        "reviews": None,
    }
    for path, new in changes.items():
        target = value
        *parents, last = path.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = new
    comparison = value["comparison"]
    for name in ("accuracy_signals", "sequential", "signed_return"):
        comparison[name] = Interval(**comparison[name])
    tickers = {
        name: partly(GroupMetrics, shadow=GroupSide(signals=signals, accuracy_signals=None))
        for name, signals in value["tickers"].items()
    }
    return partly(
        Metrics,
        active=partly(SideMetrics, **value["active"]),
        shadow=partly(SideMetrics, **value["shadow"]),
        comparison=partly(Comparison, **comparison),
        tickers=tickers,
        reviews=value["reviews"],
    )


def judged(metrics: Metrics, limits: EvaluateConfig = LIMITS) -> tuple[str, str]:
    return decide(criteria_of(metrics, limits), metrics)


def reviews(items: int, grounded: tuple[float, float], sensible: tuple[float, float]) -> ReviewSummary:
    """A tally of so many items, with the ends of the two intervals that count; `clear` is always far worse."""
    bounds = {"grounded": grounded, "sensible": sensible, "clear": (-0.9, -0.7)}
    parts = {name: Interval(value=(low + high) / 2, low=low, high=high) for name, (low, high) in bounds.items()}
    return partly(ReviewSummary, items=items, differences=parts)


NOTHING = {"value": None, "low": None, "high": None}
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "all holds, nothing reviewed": ({}, PROMOTE, "every criterion that can be judged holds"),
    "gain exactly at the limit": (
        {"comparison__accuracy_signals": {"value": 0.05, "low": 0.01, "high": 0.1}},
        PROMOTE,
        "",
    ),
    "gain too small": (
        {"comparison__accuracy_signals": {"value": 0.049, "low": 0.01, "high": 0.1}},
        KEEP,
        "accuracy gain",
    ),
    "gain too small, little seen, still possible": (
        {
            "comparison__accuracy_signals": {"value": 0.02, "low": -0.1, "high": 0.14},
            "comparison__effective": 20.0,
        },
        NOT_ENOUGH,
        "may yet be there",
    ),
    "gain too small, little seen, out of reach": (
        {
            "comparison__accuracy_signals": {"value": -0.2, "low": -0.3, "high": -0.1},
            "comparison__effective": 20.0,
        },
        KEEP,
        "accuracy gain",
    ),
    "no signals at all": (
        {
            "comparison__accuracy_signals": NOTHING,
            "comparison__sequential": NOTHING,
            "comparison__signed_return": NOTHING,
            "comparison__effective": 0.0,
        },
        NOT_ENOUGH,
        "too little was seen",
    ),
    "flips more": ({"shadow__flip_rate": 0.34}, KEEP, "flip rate"),
    "flips exactly a tenth more": ({"active__flip_rate": 0.5, "shadow__flip_rate": 0.55}, PROMOTE, ""),
    "incumbent never flips, candidate does": ({"active__flip_rate": 0.0, "shadow__flip_rate": 0.2}, KEEP, "flip rate"),
    "neither flips": ({"active__flip_rate": 0.0, "shadow__flip_rate": 0.0}, PROMOTE, ""),
    "one row only": ({"active__flip_rate": None}, KEEP, "flip rate"),
    "candidate's rate unknown": ({"shadow__flip_rate": None}, KEEP, "flip rate"),
    "one class": ({"shadow__shares": {"BUY": 0.95, "SELL": 0.03, "HOLD": 0.02}}, KEEP, "largest class"),
    "a class never used": ({"shadow__shares": {"BUY": 0.5, "SELL": 0.0, "HOLD": 0.5}}, KEEP, "rarest class"),
    "garbage": ({"shadow__status": {"ok": 94, "invalid": 6, "skipped": 0, "error": 0}}, KEEP, "invalid answers"),
    "no answers": ({"shadow__status": {"ok": 0, "invalid": 0, "skipped": 0, "error": 0}}, PROMOTE, ""),
    "one ticker": ({"tickers__ETH": 0}, KEEP, "tickers with signals"),
    "interval reaches zero": (
        {"comparison__sequential": {"value": 0.1, "low": -0.01, "high": 0.2}},
        NOT_ENOUGH,
        "gain beyond chance",
    ),
    "volatility only": (
        {"comparison__signed_return": {"value": 0.001, "low": -0.001, "high": 0.003}},
        NOT_ENOUGH,
        "direction",
    ),
    "few answered": ({"comparison__coverage": 0.8}, NOT_ENOUGH, "coverage"),
    "reviewers see no difference": ({"reviews": reviews(40, (-0.2, 0.1), (-0.1, 0.3))}, PROMOTE, ""),
    "reviewers find it better": ({"reviews": reviews(50, (0.1, 0.3), (0.0, 0.3))}, PROMOTE, "every criterion holds"),
    "an interval that ends at zero": ({"reviews": reviews(50, (-0.2, 0.0), (0.1, 0.3))}, PROMOTE, ""),
    "reviewers find it less grounded": ({"reviews": reviews(40, (-0.4, -0.1), (0.1, 0.3))}, KEEP, "not met: reviewed"),
    "reviewers find it less sensible": ({"reviews": reviews(90, (-0.1, 0.3), (-0.3, -0.01))}, KEEP, "reviewed"),
    "too few reviews to count": ({"reviews": reviews(39, (-0.9, -0.5), (-0.9, -0.5))}, PROMOTE, ""),
    "no outcome yet": (
        {
            "comparison__windows": 0.0,
            "comparison__accuracy_signals": NOTHING,
            "comparison__effective": 0.0,
            "shadow__shares": {"BUY": 0.0, "SELL": 0.0, "HOLD": 1.0},
            "active__flip_rate": None,
        },
        NOT_ENOUGH,
        "no outcome is known yet",
    ),
    "a handful of outcomes": (
        {"comparison__windows": 3.9, "shadow__shares": {"BUY": 0.0, "SELL": 0.0, "HOLD": 1.0}},
        NOT_ENOUGH,
        "only 3.9 of at least 4 separate outcome windows",
    ),
    "one class, always": (
        {"shadow__shares": {"BUY": 0.0, "SELL": 0.0, "HOLD": 1.0}, "comparison__accuracy_signals": NOTHING},
        KEEP,
        "the candidate only ever says HOLD; not met: accuracy gain, largest class, rarest class",
    ),
    "metrics of an earlier candletune": ({"comparison__windows": None, "shadow__flip_rate": 0.5}, KEEP, "flip rate"),
    "few independent": ({"comparison__effective": 49.0}, NOT_ENOUGH, "effective samples"),
}


@pytest.mark.parametrize("case", CASES)
def test_verdicts(case: str) -> None:
    changes, verdict, words = CASES[case]
    got, reason = judged(found(**changes))
    assert (got, words in reason) == (verdict, True), reason


def test_the_plan_alone_wants_no_evidence() -> None:
    plan = EvaluateConfig(criteria="plan")
    thin = found(comparison__effective=3.0, comparison__sequential=NOTHING, comparison__coverage=0.1)
    criteria = criteria_of(thin, plan)
    assert {criterion.kind for criterion in criteria} == {"plan"}
    assert decide(criteria, thin)[0] == PROMOTE
    assert judged(thin)[0] == NOT_ENOUGH


def test_the_plan_alone_asks_no_reviewer() -> None:
    bad = found(reviews=reviews(50, (-0.9, -0.5), (-0.9, -0.5)))
    assert judged(bad, EvaluateConfig(criteria="plan"))[0] == PROMOTE
    assert judged(bad)[0] == KEEP


def test_reviews_in_the_record() -> None:
    def record(**changes: Any) -> dict[str, Any]:
        every = criteria_of(found(**changes), EvaluateConfig(min_reviewed=12))
        return next(criterion.model_dump(mode="json") for criterion in every if criterion.name == "reviewed")

    for missing in ({}, {"reviews": None}):
        none = record(**missing)
        assert (none["passed"], none["value"], none["interval"]) == (None, None, None)
        assert none["description"].startswith("not reviewed: 0 of 12 reasons")
    assert record(reviews=reviews(11, (-0.4, -0.1), (0, 1)))["description"].startswith("not reviewed: 11 of 12")
    worse = record(reviews=reviews(12, (0.1, 0.3), (-0.4, -0.1)))
    assert (worse["passed"], worse["interval"], worse["kind"]) == (False, [-0.4, -0.1], "plan")
    assert "find sensible" in worse["description"]


def test_one_configured_ticker_may_be_the_only_one() -> None:
    assert judged(found(tickers={"BTC": 9}))[0] == PROMOTE


def test_records_carry_number_interval_and_limit() -> None:
    gain = criteria_of(found(), LIMITS)[0].model_dump(mode="json")
    assert gain["value"] == 0.10
    assert gain["interval"] == [0.04, 0.16]
    assert gain["limit"] == 0.05
    assert gain["passed"] is True
    assert criteria_of(found(comparison__accuracy_signals=NOTHING), LIMITS)[0].interval is None
