"""Which baselines the candidate beats, all of them asked at once, and those that it must beat."""

import math
from collections.abc import Mapping

from candletune.artifacts.metrics import BaselineMetrics
from candletune.artifacts.verdict import VerdictCriterion
from candletune.config import EvaluateConfig
from candletune.errors import UsageError
from candletune.evaluation.baselines import baselines
from candletune.evaluation.bounds import Estimate, Grid, difference
from candletune.evaluation.statistics import Ratio

UNTUNED = "untuned base"


def lead_p_value(candidate: Ratio, baseline: Ratio, grid: Grid) -> float | None:
    """How often a lead at least as large comes of no true lead, at one look; None where a side makes no call.

    The larger one of two tails: of windows that overlap, and of months (see `bounds`).
    """
    found = difference(candidate, baseline, grid)
    return None if found is None else _tail(found)


def _tail(found: Estimate) -> float:
    tails = [_student_tail(found.value, found.windows, found.freedom)]
    if found.stretches >= 2:
        tails.append(_student_tail(found.value, found.months, found.stretches - 1))
    return max(tails)


def _student_tail(value: float, error: float, freedom: int) -> float:
    from scipy.stats import t

    if error == 0:
        return 0.0 if value > 0 else 1.0
    return float(t.sf(value / error, max(freedom, 1)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values adjusted for being asked together (Holm 1979): the k-th smallest of n times n - k + 1, rising."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: (p_values[name], name))):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def with_adjusted(found: Mapping[str, BaselineMetrics]) -> dict[str, BaselineMetrics]:
    """The baselines with the p-values of the candidate's lead adjusted over all of them."""
    adjusted = holm({name: entry.p_value for name, entry in found.items() if entry.p_value is not None})
    return {name: entry.model_copy(update={"adjusted": adjusted.get(name)}) for name, entry in found.items()}


def is_beaten(entry: BaselineMetrics, confidence: float) -> bool:
    """Whether the candidate clearly leads; of a file from before p-values were kept by the lead's interval."""
    if entry.adjusted is None:
        return entry.p_value is None and (entry.lead.low or 0.0) > 0
    return entry.adjusted <= 1 - confidence


def notes_on_baselines(found: Mapping[str, BaselineMetrics], confidence: float) -> list[str]:
    """Which of the baselines that make calls the candidate clearly beats, and which not."""
    calling = {name: entry for name, entry in found.items() if entry.accuracy_signals is not None}
    yes = [name for name, entry in calling.items() if is_beaten(entry, confidence)]
    no = [name for name in calling if name not in yes]
    notes = []
    if yes:
        notes.append(f"The candidate clearly beats (all baselines asked at once): {', '.join(yes)}.")
    if no:
        notes.append(f"The candidate does not clearly beat: {', '.join(no)}.")
    return notes


def check_names(limits: EvaluateConfig) -> None:
    """Refuse an `evaluate.must_beat` that names no baseline, or one while none is fitted.

    Raises:
        UsageError: says which there are.
    """
    if limits.must_beat and not limits.baselines:
        raise UsageError("evaluate.must_beat: no baselines are fitted; set evaluate.baselines=true")
    known = [*(baseline.name for baseline in baselines()), UNTUNED]
    for name in limits.must_beat:
        if name not in known:
            raise UsageError(f"evaluate.must_beat: no baseline is called {name!r}; there are {', '.join(known)}")


def must_beat_criteria(found: Mapping[str, BaselineMetrics], limits: EvaluateConfig) -> list[VerdictCriterion]:
    """A criterion for each baseline of `evaluate.must_beat`; one that was not measured is not beaten."""
    return [_criterion(name, found.get(name), limits) for name in limits.must_beat]


def criterion_name(baseline: str) -> str:
    """What its criterion is called."""
    return f"beats {baseline}"


def _criterion(name: str, entry: BaselineMetrics | None, limits: EvaluateConfig) -> VerdictCriterion:
    silent = entry is not None and entry.accuracy_signals is None
    if entry is None:
        text = "not measured: no baselines were fitted, or nobody asked it"
    elif silent:
        text = "it makes no BUY or SELL call, so there is nothing to beat"
    else:
        p_value = math.nan if entry.adjusted is None else entry.adjusted
        text = (
            "the candidate's BUY/SELL accuracy minus the baseline's; no lead would look so in "
            f"{p_value:.1%} of cases, all baselines asked at once (Holm), and {1 - limits.confidence:.0%} are allowed"
        )
    return VerdictCriterion(
        name=criterion_name(name),
        description=text,
        value=None if entry is None else entry.lead.value,
        interval=None if entry is None else entry.lead.bounds,
        limit=0.0,
        passed=None if silent else entry is not None and is_beaten(entry, limits.confidence),
        kind="evidence",
        unit="points",
    )
