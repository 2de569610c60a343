"""Rates and intervals from the reviews.

The item is the unit: several reviewers of one item are averaged first, so that they never count as independent
evidence. Intervals are Wilson's (1927), which stay honest for few items and for rates of 0 and 1.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from candletune.evaluation.statistics import wilson
from candletune.report.reviews import QUALITIES, Review
from candletune.report.sample import SIDES


def _rate(values: Sequence[float], confidence: float) -> dict[str, Any]:
    rate = fmean(values) if values else None
    low, high = wilson(rate or 0.0, len(values), confidence)
    return {"rate": rate, "interval": [low, high], "items": len(values)}


def tally(reviews: Sequence[Review], items: Sequence[str], confidence: float) -> dict[str, Any]:
    """Rates of full marks by side and quality, the preference, and how far reviewers agree.

    Args:
        reviews: all of them; incomplete ones and those of other samples are left out.
        items: keys of the sample.
        confidence: level of the intervals.
    """
    wanted = set(items)
    by_item: dict[str, list[Review]] = defaultdict(list)
    for review in reviews:
        if review.complete and review.item in wanted:
            by_item[review.item].append(review)
    complete = [review for group in by_item.values() for review in group]
    rates = {
        side: {
            quality: _rate(
                [fmean(r.scores[side][quality] == 3 for r in group) for group in by_item.values()], confidence
            )
            for quality in QUALITIES
        }
        for side in SIDES
    }
    decided = [[r for r in group if r.preference != "equal"] for group in by_item.values()]
    return {
        "items": len(by_item),
        "sample": len(wanted),
        "reviews": len(complete),
        "reviewers": sorted({review.reviewer for review in complete}),
        "unblinded": sum(review.decision_shown for review in complete),
        "rates": rates,
        "preference": {
            **{side: sum(r.preference == side for r in complete) for side in (*SIDES, "equal")},
            "shadow_preferred": _rate([fmean(r.preference == "shadow" for r in g) for g in decided if g], confidence),
        },
        "agreement": _agreement(list(by_item.values())),
    }


def _agreement(groups: Sequence[Sequence[Review]]) -> dict[str, Any] | None:
    """Share of equal preferences among pairs of reviewers of one item, and Scott's pi; None for one reviewer.

    Scott's pi (1955) takes away the agreement that chance alone would give.
    """
    pairs = [(a.preference, b.preference) for group in groups for a, b in combinations(group, 2)]
    if not pairs:
        return None
    observed = fmean(a == b for a, b in pairs)
    answers = [answer for pair in pairs for answer in pair]
    chance = sum((answers.count(answer) / len(answers)) ** 2 for answer in set(answers))
    corrected = (observed - chance) / (1 - chance) if chance < 1 else None
    return {"pairs": len(pairs), "share": observed, "pi": corrected}
