"""The decision rule: the plan's criteria, and what it takes to believe them."""

from collections.abc import Mapping

from candletune.artifacts.metrics import Comparison, GroupMetrics, Metrics, ReviewSummary, SideMetrics
from candletune.artifacts.verdict import VerdictCriterion, VerdictName
from candletune.config import EvaluateConfig
from candletune.evaluation.measure import only_decision

PROMOTE: VerdictName = "promote"
KEEP: VerdictName = "keep"
NOT_ENOUGH: VerdictName = "not enough evidence"
LEAST_WINDOWS = 4
"""Outcome windows side by side below which no share or rate means anything: two days of 12-hour windows."""


def criteria_of(metrics: Metrics, limits: EvaluateConfig) -> list[VerdictCriterion]:
    """Every criterion: the plan's, and unless `limits.criteria` is `plan` the reviews' and the evidence's."""
    gain = metrics.comparison.accuracy_signals
    plan = [
        VerdictCriterion(
            name="accuracy gain",
            description="BUY/SELL accuracy of the candidate minus the incumbent's",
            value=gain.value,
            interval=gain.bounds,
            limit=limits.min_gain,
            passed=gain.value is not None and gain.value >= limits.min_gain,
            kind="plan",
            unit="points",
        ),
        _flips(metrics.active.flip_rate, metrics.shadow.flip_rate, limits.max_flip_increase),
        *_class_failures(metrics.shadow, limits),
        _ticker_failure(metrics.tickers),
    ]
    if limits.criteria == "plan":
        return plan
    return [*plan, _reviewed(metrics.reviews, limits), *_evidence(metrics.comparison, limits)]


def decide(criteria: list[VerdictCriterion], metrics: Metrics) -> tuple[VerdictName, str]:
    """The verdict and its reason in words.

    `promote` when everything holds. A failed plan criterion means `keep`, unless hardly any outcome is known yet, or
    what failed is only the gain, its interval still reaches the limit, and too little was seen. Holding plan criteria
    without evidence is not enough.
    """
    failed = [criterion for criterion in criteria if criterion.passed is False]
    if not failed:
        unknown = any(criterion.passed is None for criterion in criteria)
        return PROMOTE, "every criterion that can be judged holds" if unknown else "every criterion holds"
    names = ", ".join(criterion.name for criterion in failed)
    windows = metrics.comparison.windows
    if windows == 0:
        return NOT_ENOUGH, "no outcome is known yet"
    if windows is not None and windows < LEAST_WINDOWS:
        return NOT_ENOUGH, f"only {windows:g} of at least {LEAST_WINDOWS} separate outcome windows have passed"
    plan = [criterion for criterion in failed if criterion.kind == "plan"]
    if not plan:
        return NOT_ENOUGH, f"the plan's criteria hold, but not: {names}"
    if (always := only_decision(metrics)) is not None:
        return KEEP, f"the candidate only ever says {always}; not met: {names}"
    if [criterion.name for criterion in plan] == ["accuracy gain"] and _within_reach(plan[0], failed):
        return NOT_ENOUGH, f"the gain may yet be there, but too little was seen; not met: {names}"
    return KEEP, f"not met: {names}"


def _within_reach(gain: VerdictCriterion, failed: list[VerdictCriterion]) -> bool:
    """Whether more data could still show the wanted gain."""
    little_seen = any(criterion.name in ("effective samples", "coverage") for criterion in failed)
    reachable = gain.interval is None or gain.interval[1] >= gain.limit
    return little_seen and reachable


def _flips(before: float | None, after: float | None, limit: float) -> VerdictCriterion:
    """The relative increase; from a rate of zero any flip is an infinite one, so the new rate itself counts."""
    increase = None
    if before is not None and after is not None:
        increase = (after - before) / before if before > 0 else after
    return VerdictCriterion(
        name="flip rate",
        description="relative increase of the share of consecutive decisions that change",
        value=increase,
        interval=None,
        limit=limit,
        # Rates are ratios of counts: a rise of exactly the limit must not fail by a rounding error.
        passed=increase is not None and increase <= limit + 1e-12,
        kind="plan",
        unit="share",
    )


def _class_failures(shadow: SideMetrics, limits: EvaluateConfig) -> list[VerdictCriterion]:
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
        VerdictCriterion(
            name="rarest class",
            description="share of the candidate's rarest decision; a class never used is a failure",
            value=least,
            interval=None,
            limit=0.0,
            passed=least > 0,
            kind="plan",
            unit="share",
        ),
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
    sequential, edge = comparison.sequential, comparison.signed_return
    return [
        VerdictCriterion(
            name="gain beyond chance",
            description="lower bound of the gain that holds on every day one looks",
            value=sequential.low,
            interval=sequential.bounds,
            limit=0.0,
            passed=sequential.low is not None and sequential.low > 0,
            kind="evidence",
            unit="points",
        ),
        VerdictCriterion(
            name="direction",
            description="mean return in the called direction of the candidate's signals; volatility alone cannot make "
            "it positive",
            value=edge.value,
            interval=edge.bounds,
            limit=0.0,
            passed=edge.low is not None and edge.low > 0,
            kind="evidence",
            unit="share",
        ),
        VerdictCriterion(
            name="coverage",
            description="share of rows both models answered",
            value=comparison.coverage,
            interval=None,
            limit=limits.min_coverage,
            passed=comparison.coverage >= limits.min_coverage,
            kind="evidence",
            unit="share",
        ),
        VerdictCriterion(
            name="effective samples",
            description="independent observations the candidate's overlapping signals are worth",
            value=comparison.effective,
            interval=None,
            limit=float(limits.min_effective),
            passed=comparison.effective >= limits.min_effective,
            kind="evidence",
            unit="count",
        ),
    ]
