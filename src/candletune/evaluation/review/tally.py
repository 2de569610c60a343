"""Rates and intervals from the reviews.

The item is the unit: several reviewers of one item are averaged first, so that they never count as independent
evidence. Intervals of rates are Wilson's (1927), those of paired differences Bonett and Price's (2012): both stay
honest for few items and for rates of 0 and 1.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import NormalDist, fmean

from candletune.artifacts.metrics import Interval, Preference, Rate, ReviewerAgreement, ReviewSummary
from candletune.config import Config
from candletune.errors import InputError
from candletune.evaluation.review.reviews import QUALITIES, Review, read_reviews
from candletune.evaluation.review.sample import load_sample
from candletune.evaluation.statistics import wilson
from candletune.journal import SIDES
from candletune.runs import RunFolder


def _rate(values: Sequence[float], confidence: float) -> Rate:
    rate = fmean(values) if values else None
    return Rate(rate=rate, interval=wilson(rate or 0.0, len(values), confidence), items=len(values))


def reviewed(config: Config, run: RunFolder, adapters: Mapping[str, str | None]) -> ReviewSummary | None:
    """What the run's reviewers said of two models; None when no item of the present sample is finished.

    The reasons are those of the journal that is judged: the replay's, or `evaluate.journal`.

    Args:
        config: gives the sample and the level of the intervals.
        run: whose reviews.
        adapters: hash by side of the models in question (None: the bare base); reasons of others don't count.

    Raises:
        InputError: a line of the reviews is broken.
    """
    reviews = read_reviews(run.reviews)
    if not reviews:
        return None
    source = config.review.model_copy(update={"journal": config.evaluate.journal})
    config = config.model_copy(update={"review": source})
    try:
        sample = load_sample(config, run, prompts=False, reviewed={review.item for review in reviews})
    except InputError:
        return None  # the reasons that were reviewed are gone
    items = [item.key for item in sample if item.adapters == adapters]
    result = tally(reviews, items, config.evaluate.confidence)
    return result if result.reviews else None


def tally(reviews: Sequence[Review], items: Sequence[str], confidence: float) -> ReviewSummary:
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
    gains = {
        quality: [
            fmean((r.scores["shadow"][quality] == 3) - (r.scores["active"][quality] == 3) for r in group)
            for group in by_item.values()
        ]
        for quality in QUALITIES
    }
    decided = [[r for r in group if r.preference != "equal"] for group in by_item.values()]
    return ReviewSummary(
        items=len(by_item),
        sample=len(wanted),
        reviews=len(complete),
        reviewers=tuple(sorted({review.reviewer for review in complete})),
        unblinded=sum(review.decision_shown for review in complete),
        rates=rates,
        differences={quality: paired_difference(values, confidence) for quality, values in gains.items()},
        preference=Preference(
            active=sum(r.preference == "active" for r in complete),
            shadow=sum(r.preference == "shadow" for r in complete),
            equal=sum(r.preference == "equal" for r in complete),
            shadow_preferred=_rate([fmean(r.preference == "shadow" for r in g) for g in decided if g], confidence),
        ),
        agreement=_agreement(list(by_item.values())),
    )


def paired_difference(gains: Sequence[float], confidence: float) -> Interval:
    """The mean of paired differences with an interval.

    Bonett and Price ("Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data", 2012): one item is added that gained everything and one that lost it. On a few contrary items of fifty a
    bootstrap would already see a difference; this agrees with McNemar's exact test.

    Args:
        gains: candidate minus incumbent, an item each, from -1 to 1.
        confidence: level of the interval.
    """
    if not gains:
        return Interval(value=None, low=None, high=None)
    count = len(gains) + 2
    mean = sum(gains) / count
    error = ((sum(gain * gain for gain in gains) + 2) / count - mean * mean) ** 0.5 / count**0.5
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    return Interval(value=fmean(gains), low=max(-1.0, mean - reach), high=min(1.0, mean + reach))


def _agreement(groups: Sequence[Sequence[Review]]) -> ReviewerAgreement | None:
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
    return ReviewerAgreement(pairs=len(pairs), share=observed, pi=corrected)
