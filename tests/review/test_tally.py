"""Rates and intervals from reviews, against numbers worked out by hand or in the literature."""

import pytest

from candletune.artifacts.metrics import Interval, ReviewerAgreement
from candletune.evaluation.review.reviews import Preference, Review
from candletune.evaluation.review.tally import paired_difference, tally
from candletune.evaluation.statistics import wilson


def review(item: str, reviewer: str, preference: Preference | None, clear: int = 3) -> Review:
    scores = {side: {"grounded": 3, "sensible": 2, "clear": clear} for side in ("active", "shadow")}
    return Review(item=item, reviewer=reviewer, scores=scores, preference=preference)


def test_wilson_matches_the_published_interval() -> None:
    """81 of 263, Newcombe (1998), table I, method 3."""
    low, high = wilson(81 / 263, 263, 0.95)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0.0, 0, 0.95) == (0.0, 1.0)


def test_reviewers_of_one_item_are_one_observation() -> None:
    found = tally([review("a", str(i), "shadow") for i in range(9)] + [review("b", "0", "active")], ["a", "b"], 0.95)
    won = found.preference.shadow_preferred
    assert (won.rate, won.items) == (0.5, 2)
    assert found.items == 2


def test_equal_and_unfinished_do_not_decide() -> None:
    found = tally([review("a", "0", "equal"), review("b", "0", None), review("gone", "0", "shadow")], ["a", "b"], 0.95)
    assert found.reviews == 1
    assert found.preference.shadow_preferred.items == 0
    assert found.rates["shadow"]["sensible"].rate == 0.0
    assert found.rates["shadow"]["grounded"].rate == 1.0


def test_agreement_is_corrected_for_chance() -> None:
    """Two of three pairs agree; both answers are equally frequent, so chance is 1/2 and pi is 1/3."""
    pairs: list[tuple[Preference, Preference]] = [("shadow", "shadow"), ("shadow", "shadow"), ("active", "active")]
    perfect = tally([review(str(i), r, p) for i, pair in enumerate(pairs) for r, p in zip("ab", pair, strict=True)],
                    ["0", "1", "2"], 0.95)  # fmt: skip
    assert perfect.agreement == ReviewerAgreement(pairs=3, share=1.0, pi=1.0)
    pairs = [("shadow", "shadow"), ("shadow", "active"), ("active", "active")]
    half = tally([review(str(i), r, p) for i, pair in enumerate(pairs) for r, p in zip("ab", pair, strict=True)],
                 ["0", "1", "2"], 0.95)  # fmt: skip
    assert half.agreement is not None
    assert half.agreement.pi == pytest.approx((2 / 3 - 1 / 2) / (1 / 2))


@pytest.mark.parametrize(("worse", "low", "high"), [(5, -0.1924, 0.0001), (6, -0.2173, -0.0135)])
def test_the_paired_interval_by_hand(worse: int, low: float, high: float) -> None:
    """Of 50 items 5 or 6 are worse and none better: McNemar's exact test has p = 0.063 and 0.031."""
    found = paired_difference([-1.0] * worse + [0.0] * (50 - worse), 0.95)
    assert found.value == -worse / 50
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


def test_differences_are_of_items_whoever_reviewed_them() -> None:
    """One item by nine reviewers weighs as much as one by a single reviewer."""
    worse = {"active": {"grounded": 3, "sensible": 1, "clear": 3}, "shadow": {"grounded": 2, "sensible": 1, "clear": 3}}
    many = [Review(item="a", reviewer=str(i), scores=worse, preference="equal") for i in range(9)]
    found = tally([*many, review("b", "0", "equal")], ["a", "b"], 0.95).differences
    assert found["grounded"].value == -0.5
    assert found["sensible"].value == found["clear"].value == 0.0
    assert tally([], ["a"], 0.95).differences["clear"] == Interval(value=None, low=None, high=None)
