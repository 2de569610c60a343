"""The decision rule: the plan's criteria, and what it takes to believe them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from candletune.config import EvaluateConfig

PROMOTE, KEEP, NOT_ENOUGH = "promote", "keep", "not enough evidence"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One demand.

    Attributes:
        passed: None when it could not be asked, which blocks nothing.
        kind: `plan` (the plan's rule), or `evidence` (whether the numbers can be believed).
    """

    name: str
    description: str
    value: float | None
    interval: tuple[float, float] | None
    limit: float
    passed: bool | None
    kind: str
    unit: str

    def record(self) -> dict[str, Any]:
        """As verdict.json has it."""
        found = asdict(self)
        found["interval"] = None if self.interval is None else list(self.interval)
        return found


def criteria_of(found: Mapping[str, Any], config: EvaluateConfig) -> list[Criterion]:
    """Every criterion from metrics.json's content.

    Args:
        found: `active`, `shadow` (see `metrics.side_metrics`), `comparison`, `tickers` and, where people
            reviewed the reasons, `reviews` (see `review.tally.tally`).
        config: the limits.
    """
    active, shadow, comparison = found["active"], found["shadow"], found["comparison"]
    gain = comparison["accuracy_signals"]
    bounds = None if gain["low"] is None else (gain["low"], gain["high"])
    plan = [
        Criterion(
            "accuracy gain",
            "BUY/SELL accuracy of the candidate minus the incumbent's",
            gain["value"],
            bounds,
            config.min_gain,
            gain["value"] is not None and gain["value"] >= config.min_gain,
            "plan",
            "points",
        ),
        _flips(active["flip_rate"], shadow["flip_rate"], config.max_flip_increase),
        *_failures(shadow, found["tickers"], config),
    ]
    if config.criteria == "plan":
        return plan
    return [*plan, _reviewed(found.get("reviews"), config), *_evidence(shadow, comparison, bounds, config)]


def _flips(before: float | None, after: float | None, limit: float) -> Criterion:
    """The relative increase; from a rate of zero any flip is an infinite one, so the new rate itself counts."""
    description = "relative increase of the share of consecutive decisions that change"
    if before is None or after is None:
        return Criterion("flip rate", description, None, None, limit, passed=False, kind="plan", unit="share")
    increase = (after - before) / before if before > 0 else after
    # Rates are ratios of counts: a rise of exactly the limit must not fail by a rounding error.
    return Criterion("flip rate", description, increase, None, limit, increase <= limit + 1e-12, "plan", "share")


def _failures(shadow: Mapping[str, Any], tickers: Mapping[str, Any], config: EvaluateConfig) -> list[Criterion]:
    largest = max(shadow["shares"].values())
    least = min(shadow["shares"].values())
    answers = sum(shadow["status"].values()) or 1
    invalid = shadow["status"]["invalid"] / answers
    acting = [name for name, entry in tickers.items() if entry["shadow"]["signals"]]
    wanted = min(2, len(tickers))
    return [
        Criterion(
            "largest class",
            "share of the candidate's most frequent decision",
            largest,
            None,
            config.max_class_share,
            largest <= config.max_class_share,
            "plan",
            "share",
        ),
        Criterion(
            "rarest class",
            "share of the candidate's rarest decision; a class never used is a failure",
            least,
            None,
            0.0,
            least > 0,
            "plan",
            "share",
        ),
        Criterion(
            "invalid answers",
            "share of the candidate's answers that do not parse",
            invalid,
            None,
            config.max_invalid,
            invalid <= config.max_invalid,
            "plan",
            "share",
        ),
        Criterion(
            "tickers with signals",
            "tickers on which the candidate says BUY or SELL",
            float(len(acting)),
            None,
            float(wanted),
            len(acting) >= wanted,
            "plan",
            "count",
        ),
    ]


def _reviewed(reviews: Mapping[str, Any] | None, config: EvaluateConfig) -> Criterion:
    """A systematic failure of the reasons: people find them grounded or sensible clearly less often."""
    items = 0 if reviews is None else reviews["items"]
    if reviews is None or items < config.min_reviewed:
        description = f"not reviewed: {items} of {config.min_reviewed} reasons a model; counts neither for nor against"
        return Criterion("reviewed", description, None, None, 0.0, passed=None, kind="plan", unit="points")
    quality = min(("grounded", "sensible"), key=lambda name: float(reviews["differences"][name]["high"]))
    worse = reviews["differences"][quality]
    return Criterion(
        "reviewed",
        f"share of the candidate's reasons that reviewers find {quality} minus the incumbent's, the worse of grounded "
        "and sensible; fails when the whole interval is below the limit",
        worse["value"],
        (worse["low"], worse["high"]),
        0.0,
        worse["high"] >= 0,
        "plan",
        "points",
    )


def _evidence(
    shadow: Mapping[str, Any],
    comparison: Mapping[str, Any],
    bounds: tuple[float, float] | None,
    config: EvaluateConfig,
) -> list[Criterion]:
    sequential = comparison["sequential"]
    edge = comparison["signed_return"]
    return [
        Criterion(
            "gain beyond chance",
            "lower bound of the gain that holds on every day one looks",
            sequential["low"],
            None if sequential["low"] is None else (sequential["low"], sequential["high"]),
            0.0,
            sequential["low"] is not None and sequential["low"] > 0,
            "evidence",
            "points",
        ),
        Criterion(
            "direction",
            "mean return in the called direction of the candidate's signals; volatility alone cannot make it positive",
            edge["value"],
            None if edge["low"] is None else (edge["low"], edge["high"]),
            0.0,
            edge["low"] is not None and edge["low"] > 0,
            "evidence",
            "share",
        ),
        Criterion(
            "coverage",
            "share of rows both models answered",
            comparison["coverage"],
            None,
            config.min_coverage,
            comparison["coverage"] >= config.min_coverage,
            "evidence",
            "share",
        ),
        Criterion(
            "effective samples",
            "independent observations the candidate's overlapping signals are worth",
            comparison["effective"],
            None,
            float(config.min_effective),
            comparison["effective"] >= config.min_effective,
            "evidence",
            "count",
        ),
    ]


def decide(criteria: list[Criterion]) -> tuple[str, str]:
    """The verdict and its reason in words.

    `promote` when everything holds. A failed plan criterion means `keep`, unless what failed is only the gain, its
    interval still reaches the limit, and too little was seen. Holding plan criteria without evidence is not enough.
    """
    failed = [criterion for criterion in criteria if criterion.passed is False]
    if not failed:
        unknown = any(criterion.passed is None for criterion in criteria)
        return PROMOTE, "every criterion that can be judged holds" if unknown else "every criterion holds"
    plan = [criterion for criterion in failed if criterion.kind == "plan"]
    names = ", ".join(criterion.name for criterion in failed)
    if not plan:
        return NOT_ENOUGH, f"the plan's criteria hold, but not: {names}"
    if [criterion.name for criterion in plan] == ["accuracy gain"] and _open(plan[0], failed):
        return NOT_ENOUGH, f"the gain may yet be there, but too little was seen; not met: {names}"
    return KEEP, f"not met: {names}"


def _open(gain: Criterion, failed: list[Criterion]) -> bool:
    """Whether more data could still show the wanted gain."""
    thin = any(criterion.name in ("effective samples", "coverage") for criterion in failed)
    reachable = gain.interval is None or gain.interval[1] >= gain.limit
    return thin and reachable
