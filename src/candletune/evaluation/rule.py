"""The decision rule: the plan's criteria, and what it takes to believe them."""

from collections.abc import Mapping
from typing import Final, Literal

from candletune.artifacts.metrics import Comparison, Grounding, GroupMetrics, Interval, Metrics, ReviewSummary
from candletune.artifacts.verdict import VerdictCriterion, VerdictName
from candletune.config import EvaluateConfig
from candletune.evaluation.beaten import must_beat_criteria
from candletune.evaluation.bounds import LEAST_MONTHS

PROMOTE: VerdictName = "promote"
KEEP: VerdictName = "keep"
NOT_ENOUGH: VerdictName = "not enough evidence"
LEAST_WINDOWS: Final = 4
"""Outcome windows side by side below which no share or rate means anything: two days of 12-hour windows."""
NEVER: Final = 0.01
"""A decision is never used when at least this share of it would have been seen."""
LEAST_TRUE: Final = 0.9
"""Share of the reasons that must be true before anyone may lean on them."""
_SURE: Final = 3.0
"""Decisions worth seeing without one of a class before its share is below 1 in so many: minus log 5 %."""

Unit = Literal["points", "share", "count"]


def criteria_of(metrics: Metrics, limits: EvaluateConfig) -> list[VerdictCriterion]:
    """Every criterion: the plan's, and unless `limits.criteria` is `plan` the reviews' and the evidence's.

    Under the full rule the plan's two bare numbers (gain and flips) are shown and do not decide: a candidate that is
    exactly as good as wanted misses a bare number half of the time. Their margins decide instead.
    """
    full = limits.criteria == "full"
    plan = [
        _gain(metrics.comparison.accuracy_signals, limits, decides=not full),
        _flips(metrics.active.flip_rate, metrics.shadow.flip_rate, limits, decides=not full),
        *_class_failures(metrics, limits, full=full),
        _ticker_failure(metrics.tickers),
    ]
    if not full:
        return plan
    evidence = [*_evidence(metrics.comparison, limits), *must_beat_criteria(metrics.baselines, limits)]
    return [*plan, _reviewed(metrics.reviews, limits), *evidence, _true_reasons(metrics.grounding)]


def decide(criteria: list[VerdictCriterion], metrics: Metrics) -> tuple[VerdictName, str]:
    """The verdict and its reason in words.

    `promote` when everything that decides holds. `keep` when a criterion of the plan failed, or what is wanted is
    excluded: an interval lies wholly on the wrong side. Evidence that merely does not suffice is not enough.
    """
    failed = [criterion for criterion in criteria if criterion.decides and criterion.passed is False]
    if not failed:
        unknown = any(criterion.decides and criterion.passed is None for criterion in criteria)
        reason = "every criterion that can be judged holds" if unknown else "every criterion holds"
        return PROMOTE, f"{reason}{_caution(criteria, metrics.grounding)}"
    names = ", ".join(criterion.name for criterion in failed)
    windows = metrics.comparison.windows
    if windows == 0:
        return NOT_ENOUGH, "no outcome is known yet"
    if windows is not None and windows < LEAST_WINDOWS:
        return NOT_ENOUGH, f"only {windows:g} of at least {LEAST_WINDOWS} separate outcome windows have passed"
    if (always := only_decision(metrics)) is not None:
        return KEEP, f"the candidate only ever says {always}; not met: {names}"
    if any(criterion.kind == "plan" or _excluded(criterion) for criterion in failed):
        return KEEP, f"not met: {names}"
    return NOT_ENOUGH, f"nothing speaks against the candidate, but not shown yet: {names}"


def _caution(criteria: list[VerdictCriterion], grounding: Grounding | None) -> str:
    """What the headline adds where the calls are good and the reasons beside them are not."""
    false = any(criterion.name == "true reasons" and criterion.passed is False for criterion in criteria)
    if grounding is None or not false:
        return ""
    side = grounding.shadow
    return f", for its calls alone: only {side.true} of {side.checked} of its reasons are true"


def only_decision(metrics: Metrics) -> str | None:
    """The one decision the candidate ever makes, when there is only one."""
    always = [name for name, share in metrics.shadow.shares.items() if share == 1]
    return always[0] if always else None


def _excluded(criterion: VerdictCriterion) -> bool:
    """Whether more of the same could hardly make a failed criterion hold."""
    if criterion.interval is None:
        return criterion.name == "drawdown"
    low, high = criterion.interval
    return low > criterion.limit if criterion.name == "flips" else high < criterion.limit


def _gain(gain: Interval, limits: EvaluateConfig, *, decides: bool) -> VerdictCriterion:
    return VerdictCriterion(
        name="accuracy gain",
        description="BUY/SELL accuracy of the candidate minus the incumbent's, as the plan asks for it",
        value=gain.value,
        interval=gain.bounds,
        limit=limits.min_gain,
        passed=gain.value is not None and gain.value >= limits.min_gain,
        kind="plan",
        unit="points",
        decides=decides,
    )


def _flips(before: float | None, after: float | None, limits: EvaluateConfig, *, decides: bool) -> VerdictCriterion:
    """The relative increase; from a rate of zero any flip is an infinite one, so the new rate itself counts."""
    increase = None
    if before is not None and after is not None:
        increase = (after - before) / before if before > 0 else after
    return VerdictCriterion(
        name="flip rate",
        description="relative increase of the share of consecutive decisions that change, as the plan asks for it",
        value=increase,
        interval=None,
        limit=limits.max_flip_increase,
        # Rates are ratios of counts: a rise of exactly the limit must not fail by a rounding error.
        passed=increase is not None and increase <= limits.max_flip_increase + 1e-12,
        kind="plan",
        unit="share",
        decides=decides,
    )


def _class_failures(metrics: Metrics, limits: EvaluateConfig, *, full: bool) -> list[VerdictCriterion]:
    shadow = metrics.shadow
    largest, least = max(shadow.shares.values()), min(shadow.shares.values())
    invalid = shadow.status["invalid"] / (sum(shadow.status.values()) or 1)
    return [
        VerdictCriterion(
            name="largest class",
            description="share of the candidate's most frequent decision",
            value=largest,
            interval=None,
            limit=limits.max_class_share,
            passed=largest <= limits.max_class_share,
            kind="plan",
            unit="share",
        ),
        _rarest(least, metrics.comparison.windows if full else None),
        VerdictCriterion(
            name="invalid answers",
            description="share of the candidate's answers that do not parse",
            value=invalid,
            interval=None,
            limit=limits.max_invalid,
            passed=invalid <= limits.max_invalid,
            kind="plan",
            unit="share",
        ),
    ]


def _rarest(least: float, windows: float | None) -> VerdictCriterion:
    """Open while a class that is used in one of a hundred windows may well not have come up yet (the rule of three)."""
    early = windows is not None and windows < _SURE / NEVER
    return VerdictCriterion(
        name="rarest class",
        description="share of the candidate's rarest decision; a class never used is a failure"
        + (", once enough was seen to expect it" if early and least == 0 else ""),
        value=least,
        interval=None,
        limit=0.0,
        passed=None if early and least == 0 else least > 0,
        kind="plan",
        unit="share",
    )


def _ticker_failure(tickers: Mapping[str, GroupMetrics]) -> VerdictCriterion:
    acting = sum(bool(entry.shadow.signals) for entry in tickers.values())
    wanted = min(2, len(tickers))
    return VerdictCriterion(
        name="tickers with signals",
        description="tickers on which the candidate says BUY or SELL",
        value=float(acting),
        interval=None,
        limit=float(wanted),
        passed=acting >= wanted,
        kind="plan",
        unit="count",
    )


def _reviewed(reviews: ReviewSummary | None, limits: EvaluateConfig) -> VerdictCriterion:
    """A systematic failure of the reasons: people find them grounded or sensible clearly less often."""
    items = 0 if reviews is None else reviews.items
    differences = {} if reviews is None or items < limits.min_reviewed else reviews.differences
    known = {name: interval for name in ("grounded", "sensible") if (interval := differences.get(name)) is not None}
    worst = min(known, key=lambda name: known[name].high or 0.0, default=None)
    if worst is None or (bounds := known[worst].bounds) is None:
        return VerdictCriterion(
            name="reviewed",
            description=f"not reviewed: {items} of {limits.min_reviewed} reasons a model; counts neither for nor "
            "against",
            value=None,
            interval=None,
            limit=0.0,
            passed=None,
            kind="plan",
            unit="points",
        )
    return VerdictCriterion(
        name="reviewed",
        description=f"share of the candidate's reasons that reviewers find {worst} minus the incumbent's, the worse of "
        "grounded and sensible; fails when the whole interval is below the limit",
        value=known[worst].value,
        interval=bounds,
        limit=0.0,
        passed=bounds[1] >= 0,
        kind="plan",
        unit="points",
    )


def _evidence(comparison: Comparison, limits: EvaluateConfig) -> list[VerdictCriterion]:
    rival = "a coin at the same hours" if comparison.against == "coin" else "the incumbent"
    margin = comparison.sequential
    return [
        VerdictCriterion(
            name="wanted gain",
            description=f"the accuracy gain over {rival} at every look; holds as long as the wanted gain is not "
            "excluded",
            value=margin.value,
            interval=margin.bounds,
            limit=limits.min_gain,
            passed=margin.value is not None and (margin.high is None or margin.high >= limits.min_gain),
            kind="evidence",
            unit="points",
        ),
        _above_zero(
            "gain beyond chance",
            f"gain over {rival} in graded accuracy beyond a coin at the same hours, without the market's drift; its "
            "lower bound holds at every look and in changing regimes",
            comparison.beyond_chance,
            "points",
        ),
        _above_zero(
            "direction",
            "the candidate's mean return in the called direction minus the period's mean, each counted up to the move; "
            "neither volatility nor drift can make it positive, and its lower bound holds at every look",
            comparison.direction,
            "share",
        ),
        _above_zero(
            "net return",
            "what acting on the candidate earned more than acting on the incumbent, after fees and funding; its lower "
            "bound holds at every look",
            comparison.net_return,
            "share",
        ),
        _drawdown(comparison.drawdown),
        _flip_margin(comparison, limits),
        _count("coverage", "share of rows both models answered", comparison.coverage, limits.min_coverage, "share"),
        _count(
            "effective samples",
            "independent observations the gain rests on",
            comparison.effective,
            limits.min_effective,
            "count",
        ),
        _count(
            "months",
            "months seen; in fewer no skill can be told from a regime that suits it",
            comparison.months or 0,
            LEAST_MONTHS,
            "count",
        ),
        _log_score(comparison.log_score),
    ]


def _above_zero(name: str, description: str, interval: Interval, unit: Unit) -> VerdictCriterion:
    return VerdictCriterion(
        name=name,
        description=description,
        value=interval.value,
        interval=interval.bounds,
        limit=0.0,
        passed=interval.low is not None and interval.low > 0,
        kind="evidence",
        unit=unit,
    )


def _count(name: str, description: str, value: float, limit: float, unit: Unit) -> VerdictCriterion:
    return VerdictCriterion(
        name=name,
        description=description,
        value=float(value),
        interval=None,
        limit=float(limit),
        passed=value >= limit,
        kind="evidence",
        unit=unit,
    )


def _drawdown(found: Mapping[str, float]) -> VerdictCriterion:
    """Against the worse of what the trader has had to bear anyway."""
    limit = max(found["active"], found["holding"])
    return VerdictCriterion(
        name="drawdown",
        description="maximum drawdown when each of the candidate's calls is held for the horizon; at most the deeper "
        "one of the incumbent's calls and of holding",
        value=found["shadow"],
        interval=None,
        limit=limit,
        passed=found["shadow"] <= limit,
        kind="evidence",
        unit="share",
    )


def _flip_margin(comparison: Comparison, limits: EvaluateConfig) -> VerdictCriterion:
    """Open against an incumbent that seldom acts: whoever acts changes more often, and the net return pays for it."""
    flips, limit = comparison.flips, limits.max_flip_increase
    within = flips.value is not None and flips.value <= limit + 1e-12
    known = flips.value is not None
    return VerdictCriterion(
        name="flips",
        description="relative increase of the flip rate; fails when its whole interval is above the limit"
        if known
        else "the incumbent seldom acts or never changes, so flips are counted in the net return alone",
        value=flips.value,
        interval=flips.bounds,
        limit=limit,
        passed=(within or (flips.low is not None and flips.low <= limit)) if known else None,
        kind="evidence",
        unit="share",
    )


def _true_reasons(grounding: Grounding | None) -> VerdictCriterion:
    """The decision comes from the logits before a word of its reason is written, so a false reason spoils no call.

    It misleads the reader of the call, though: it is shown beside the verdict, and the headline of a promotion says it.
    """
    side = None if grounding is None else grounding.shadow
    bounds = None if side is None else side.interval
    return VerdictCriterion(
        name="true reasons",
        description="share of the candidate's reasons in which every checkable claim is true; fails when its whole "
        "interval is below the limit. Calls are made without the reason, so it is shown and does not decide"
        if bounds is not None
        else "no reason with a checkable claim was written, so nothing is known of them (replay.reasons)",
        value=None if side is None else side.rate,
        interval=bounds,
        limit=LEAST_TRUE,
        passed=None if bounds is None else bounds[1] >= LEAST_TRUE,
        kind="evidence",
        unit="share",
        decides=False,
    )


def _log_score(score: Interval) -> VerdictCriterion:
    """Further evidence that decides nothing: it also pays for knowing when the market will be wild."""
    return VerdictCriterion(
        name="log score",
        description="mean log probability of what happened, candidate minus incumbent, at every look; knowing the "
        "volatility raises it too, so it is shown and does not decide",
        value=score.value,
        interval=score.bounds,
        limit=0.0,
        passed=None if score.low is None else score.low > 0,
        kind="evidence",
        unit="nats",
        decides=False,
    )
