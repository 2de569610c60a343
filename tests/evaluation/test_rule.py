"""The decision rule, every branch: what promotes, what keeps, and what is not enough."""

from typing import Any

import pytest

from candletune.artifacts.metrics import (
    Comparison,
    Grounding,
    GroupMetrics,
    GroupSide,
    Interval,
    Metrics,
    ReviewSummary,
    SideGrounding,
    SideMetrics,
)
from candletune.artifacts.verdict import VerdictCriterion
from candletune.config import EvaluateConfig
from candletune.evaluation.rule import KEEP, NOT_ENOUGH, PROMOTE, criteria_of, decide
from partly import partly

LIMITS = EvaluateConfig()
INTERVALS = (
    "accuracy_signals",
    "sequential",
    "beyond_chance",
    "direction",
    "net_return",
    "flips",
    "log_score",
)


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
            "accuracy_signals": (0.06, 0.02, 0.10),
            "sequential": (0.06, 0.01, 0.11),
            "beyond_chance": (0.05, 0.01, 0.09),
            "direction": (0.004, 0.001, 0.007),
            "net_return": (0.2, 0.05, 0.35),
            "flips": (0.0, -0.05, 0.05),
            "log_score": (0.01, -0.01, 0.03),
            "drawdown": {"active": 0.3, "shadow": 0.2, "holding": 0.4},
            "against": "incumbent",
            "coverage": 1.0,
            "effective": 200.0,
            "windows": 700.0,
            "months": 12,
        },
        "tickers": {"BTC": 9, "ETH": 9},
        "reviews": None,
        "grounding": None,
    }
    for path, new in changes.items():
        target = value
        *parents, last = path.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = new
    comparison = value["comparison"]
    for name in INTERVALS:
        middle, low, high = comparison[name]
        comparison[name] = Interval(value=middle, low=low, high=high)
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
        grounding=value["grounding"],
    )


def judged(metrics: Metrics, limits: EvaluateConfig = LIMITS) -> tuple[str, str]:
    return decide(criteria_of(metrics, limits), metrics)


def reviews(items: int, grounded: tuple[float, float], sensible: tuple[float, float]) -> ReviewSummary:
    """A tally of so many items, with the ends of the two intervals that count; `clear` is always far worse."""
    bounds = {"grounded": grounded, "sensible": sensible, "clear": (-0.9, -0.7)}
    parts = {name: Interval(value=(low + high) / 2, low=low, high=high) for name, (low, high) in bounds.items()}
    return partly(ReviewSummary, items=items, differences=parts)


def reasons(true: int, checked: int, interval: tuple[float, float] | None) -> Grounding:
    """Of the candidate's reasons, so many whose claims are all true."""
    rate = true / checked if checked else None
    return partly(Grounding, shadow=partly(SideGrounding, true=true, checked=checked, rate=rate, interval=interval))


NOTHING = (None, None, None)
ONLY_HOLD = {"BUY": 0.0, "SELL": 0.0, "HOLD": 1.0}
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "all holds, nothing reviewed": ({}, PROMOTE, "every criterion that can be judged holds"),
    # The plan's bare numbers are shown: a candidate that is exactly five points better misses one half of the time.
    "gain below the plan's five points, which are not excluded": (
        {"comparison__accuracy_signals": (0.035, 0.01, 0.06), "comparison__sequential": (0.035, 0.005, 0.065)},
        PROMOTE,
        "",
    ),
    "five points excluded": ({"comparison__sequential": (0.02, 0.001, 0.049)}, KEEP, "not met: wanted gain"),
    "five points just not excluded": ({"comparison__sequential": (0.02, -0.01, 0.05)}, PROMOTE, ""),
    "the gain's margin is unknown, the rest is known": ({"comparison__sequential": (0.02, None, None)}, PROMOTE, ""),
    "gain not above chance": (
        {"comparison__beyond_chance": (0.02, -0.001, 0.04)},
        NOT_ENOUGH,
        "nothing speaks against the candidate, but not shown yet: gain beyond chance",
    ),
    "gain below chance": ({"comparison__beyond_chance": (-0.05, -0.09, -0.01)}, KEEP, "gain beyond chance"),
    "volatility or drift only": ({"comparison__direction": (0.001, -0.001, 0.003)}, NOT_ENOUGH, "direction"),
    "the wrong direction": ({"comparison__direction": (-0.003, -0.005, -0.001)}, KEEP, "direction"),
    "an edge equal to its costs": ({"comparison__net_return": (0.0, -0.1, 0.1)}, NOT_ENOUGH, "net return"),
    "costs eat more than the edge": ({"comparison__net_return": (-0.2, -0.3, -0.1)}, KEEP, "net return"),
    "falls deeper than either": (
        {"comparison__drawdown": {"active": 0.3, "shadow": 0.41, "holding": 0.4}},
        KEEP,
        "not met: drawdown",
    ),
    "falls deeper than the incumbent, not than holding": (
        {"comparison__drawdown": {"active": 0.1, "shadow": 0.39, "holding": 0.4}},
        PROMOTE,
        "",
    ),
    "nothing to compare": (
        {
            **{f"comparison__{name}": NOTHING for name in INTERVALS},
            "comparison__effective": 0.0,
        },
        NOT_ENOUGH,
        "not shown yet: wanted gain, gain beyond chance, direction, net return, effective samples",
    ),
    "flips clearly more": ({"comparison__flips": (0.3, 0.2, 0.4)}, KEEP, "not met: flips"),
    "flips more, but a tenth is not excluded": ({"comparison__flips": (0.15, 0.08, 0.22)}, PROMOTE, ""),
    "flips exactly a tenth more, without an interval": ({"comparison__flips": (0.1, None, None)}, PROMOTE, ""),
    "flips more, and nothing is known of it": ({"comparison__flips": (0.15, None, None)}, NOT_ENOUGH, "flips"),
    "the incumbent never flips": (
        {"active__flip_rate": 0.0, "shadow__flip_rate": 0.2, "comparison__flips": NOTHING},
        PROMOTE,
        "",
    ),
    "a silent incumbent can be beaten": (
        {
            "active__flip_rate": 0.001,
            "comparison__against": "coin",
            "comparison__flips": NOTHING,
            "comparison__accuracy_signals": (0.03, 0.01, 0.05),
        },
        PROMOTE,
        "",
    ),
    "a rate is unknown": ({"active__flip_rate": None}, PROMOTE, ""),
    "one class": ({"shadow__shares": {"BUY": 0.95, "SELL": 0.03, "HOLD": 0.02}}, KEEP, "largest class"),
    "a class never used": ({"shadow__shares": {"BUY": 0.5, "SELL": 0.0, "HOLD": 0.5}}, KEEP, "rarest class"),
    "a class never used, early": (
        {
            "shadow__shares": {"BUY": 0.2, "SELL": 0.0, "HOLD": 0.8},
            "comparison__windows": 299.0,
            "comparison__beyond_chance": (0.02, -0.1, 0.14),
        },
        NOT_ENOUGH,
        "not shown yet: gain beyond chance",
    ),
    "garbage": ({"shadow__status": {"ok": 94, "invalid": 6, "skipped": 0, "error": 0}}, KEEP, "invalid answers"),
    "no answers": ({"shadow__status": {"ok": 0, "invalid": 0, "skipped": 0, "error": 0}}, PROMOTE, ""),
    "one ticker": ({"tickers__ETH": 0}, KEEP, "tickers with signals"),
    "few answered": ({"comparison__coverage": 0.8}, NOT_ENOUGH, "coverage"),
    "reviewers see no difference": ({"reviews": reviews(40, (-0.2, 0.1), (-0.1, 0.3))}, PROMOTE, ""),
    "reviewers find it better": ({"reviews": reviews(50, (0.1, 0.3), (0.0, 0.3))}, PROMOTE, "every criterion holds"),
    "an interval that ends at zero": ({"reviews": reviews(50, (-0.2, 0.0), (0.1, 0.3))}, PROMOTE, ""),
    "reviewers find it less grounded": ({"reviews": reviews(40, (-0.4, -0.1), (0.1, 0.3))}, KEEP, "not met: reviewed"),
    "reviewers find it less sensible": ({"reviews": reviews(90, (-0.1, 0.3), (-0.3, -0.01))}, KEEP, "reviewed"),
    "too few reviews to count": ({"reviews": reviews(39, (-0.9, -0.5), (-0.9, -0.5))}, PROMOTE, ""),
    "a worse log score decides nothing": ({"comparison__log_score": (-0.2, -0.3, -0.1)}, PROMOTE, ""),
    "no outcome yet": (
        {
            "comparison__windows": 0.0,
            "comparison__beyond_chance": NOTHING,
            "comparison__effective": 0.0,
            "shadow__shares": ONLY_HOLD,
            "active__flip_rate": None,
        },
        NOT_ENOUGH,
        "no outcome is known yet",
    ),
    "a handful of outcomes": (
        {"comparison__windows": 3.9, "shadow__shares": ONLY_HOLD},
        NOT_ENOUGH,
        "only 3.9 of at least 4 separate outcome windows",
    ),
    "one class, always": (
        {"shadow__shares": ONLY_HOLD, "comparison__beyond_chance": NOTHING},
        KEEP,
        "the candidate only ever says HOLD; not met: largest class, rarest class, gain beyond chance",
    ),
    "metrics of an earlier candletune": (
        {"comparison__windows": None, "comparison__months": None},
        NOT_ENOUGH,
        "not shown yet: months",
    ),
    "few independent": ({"comparison__effective": 49.0}, NOT_ENOUGH, "effective samples"),
    "good calls, false reasons": (
        {"grounding": reasons(0, 25, (0.0, 0.13))},
        PROMOTE,
        "holds, for its calls alone: only 0 of 25 of its reasons are true",
    ),
    "one month": ({"comparison__months": 1}, NOT_ENOUGH, "not shown yet: months"),
}


@pytest.mark.parametrize("case", CASES)
def test_verdicts(case: str) -> None:
    changes, verdict, words = CASES[case]
    got, reason = judged(found(**changes))
    assert (got, words in reason) == (verdict, True), reason


PLAN = EvaluateConfig(criteria="plan")
PLAN_CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "gain exactly at the limit": ({"comparison__accuracy_signals": (0.05, 0.01, 0.1)}, PROMOTE, ""),
    "gain too small": ({"comparison__accuracy_signals": (0.049, 0.01, 0.1)}, KEEP, "accuracy gain"),
    "no gain": ({"comparison__accuracy_signals": NOTHING}, KEEP, "accuracy gain"),
    "flips more": ({"shadow__flip_rate": 0.34}, KEEP, "flip rate"),
    "flips exactly a tenth more": ({"active__flip_rate": 0.5, "shadow__flip_rate": 0.55}, PROMOTE, ""),
    "incumbent never flips, candidate does": ({"active__flip_rate": 0.0, "shadow__flip_rate": 0.2}, KEEP, "flip rate"),
    "neither flips": ({"active__flip_rate": 0.0, "shadow__flip_rate": 0.0}, PROMOTE, ""),
    "one row only": ({"active__flip_rate": None}, KEEP, "flip rate"),
    "candidate's rate unknown": ({"shadow__flip_rate": None}, KEEP, "flip rate"),
    "a class never used, early": (
        {"shadow__shares": {"BUY": 0.2, "SELL": 0.0, "HOLD": 0.8}, "comparison__windows": 20.0},
        KEEP,
        "rarest class",
    ),
    "evidence is not asked for": (
        {"comparison__effective": 3.0, "comparison__beyond_chance": NOTHING, "comparison__coverage": 0.1},
        PROMOTE,
        "",
    ),
    "reviewers are not asked": ({"reviews": reviews(50, (-0.9, -0.5), (-0.9, -0.5))}, PROMOTE, ""),
}


@pytest.mark.parametrize("case", PLAN_CASES)
def test_the_plan_alone(case: str) -> None:
    changes, verdict, words = PLAN_CASES[case]
    metrics = found(**changes)
    criteria = criteria_of(metrics, PLAN)
    assert {criterion.kind for criterion in criteria} == {"plan"}
    assert all(criterion.decides for criterion in criteria)
    got, reason = decide(criteria, metrics)
    assert (got, words in reason) == (verdict, True), reason


def record(name: str, limits: EvaluateConfig = LIMITS, **changes: Any) -> VerdictCriterion:
    return next(item for item in criteria_of(found(**changes), limits) if item.name == name)


def test_the_plans_numbers_stay_in_sight() -> None:
    """As the plan states them, passed or failed, under the full rule too; they do not decide there."""
    gain = record("accuracy gain", comparison__accuracy_signals=(0.035, 0.01, 0.06))
    assert (gain.passed, gain.decides, gain.limit, gain.interval) == (False, False, 0.05, (0.01, 0.06))
    flips = record("flip rate", shadow__flip_rate=0.34)
    assert (flips.passed, flips.decides, flips.limit) == (False, False, 0.10)
    assert record("accuracy gain", comparison__accuracy_signals=NOTHING).interval is None


def test_what_a_silent_incumbent_is_replaced_by_is_said() -> None:
    assert "over a coin at the same hours" in record("wanted gain", comparison__against="coin").description
    assert "over the incumbent" in record("wanted gain").description
    assert record("flips", comparison__flips=NOTHING).passed is None


def test_a_log_score_is_shown() -> None:
    assert record("log score").passed is False
    assert record("log score", comparison__log_score=(0.02, 0.01, 0.03)).passed is True
    assert record("log score", comparison__log_score=NOTHING).passed is None
    assert not record("log score").decides


def test_true_reasons_in_the_record() -> None:
    """Three states; it decides nothing, and a promotion with sound or unknown reasons says no more than before."""
    for grounding, passed in (
        (reasons(0, 25, (0.0, 0.13)), False),
        (reasons(24, 25, (0.80, 0.99)), True),
        (reasons(0, 0, None), None),
        (None, None),
    ):
        item = record("true reasons", grounding=grounding)
        assert (item.passed, item.decides, item.limit) == (passed, False, 0.9)
        assert ("for its calls alone" in judged(found(grounding=grounding))[1]) is (passed is False)
    assert "replay.reasons" in record("true reasons").description


def test_reviews_in_the_record() -> None:
    def reviewed(**changes: Any) -> VerdictCriterion:
        return record("reviewed", EvaluateConfig(min_reviewed=12), **changes)

    for missing in ({}, {"reviews": None}):
        none = reviewed(**missing)
        assert (none.passed, none.value, none.interval) == (None, None, None)
        assert none.description.startswith("not reviewed: 0 of 12 reasons")
    assert reviewed(reviews=reviews(11, (-0.4, -0.1), (0, 1))).description.startswith("not reviewed: 11 of 12")
    worse = reviewed(reviews=reviews(12, (0.1, 0.3), (-0.4, -0.1)))
    assert (worse.passed, worse.interval, worse.kind) == (False, (-0.4, -0.1), "plan")
    assert "find sensible" in worse.description


def test_one_configured_ticker_may_be_the_only_one() -> None:
    assert judged(found(tickers={"BTC": 9}))[0] == PROMOTE
