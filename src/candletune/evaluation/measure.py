"""Everything that is measured on a journal, and what the numbers mean in plain sentences."""

from collections.abc import Mapping

import polars as pl

from candletune.artifacts.metrics import (
    BaselineMetrics,
    Disagreement,
    Grounding,
    LinesLeftOut,
    Metrics,
    ReviewSummary,
    RowsRemarked,
    Wording,
)
from candletune.config import Config, EvaluateConfig
from candletune.evaluation.beaten import notes_on_baselines
from candletune.evaluation.budget import Level
from candletune.evaluation.compare import compare
from candletune.evaluation.controls import shifted_accuracy
from candletune.evaluation.metrics import by_group, side_metrics
from candletune.evaluation.rule import LEAST_TRUE, only_decision
from candletune.journal import SIDES

DISAGREEMENTS = 50
LEAST_CALIBRATED = 200
"""Outcomes below which a calibration would fit noise."""
LEAST_SHIFT = 24
"""Decision times; a call may last as long."""
CHANCE = 0.05
"""Share of the shifts above which the candidate's accuracy is called chance's."""


def measure(
    scored: pl.DataFrame,
    config: Config,
    left_out: LinesLeftOut,
    remarked: RowsRemarked,
    level: Level | None = None,
) -> Metrics:
    """Both sides' metrics and their comparison, without what needs more than the rows (see `complete`).

    Args:
        scored: see `outcomes.score_rows`, in time order.
        config: move, fee, intervals.
        left_out: of the journal.
        remarked: of the journal.
        level: what the gain's bound may spend; see `compare_times`.
    """
    limits = config.evaluate
    comparison = compare(scored, config, level)
    least_shift = max(comparison.overlap + 1, LEAST_SHIFT)
    sides = {side: side_metrics(scored, side, move=limits.move, fee=limits.fee) for side in SIDES}
    return Metrics(
        active=sides["active"],
        shadow=sides["shadow"],
        comparison=comparison,
        tickers=by_group(scored, pl.col("ticker")),
        months=by_group(scored, pl.col("timestamp").dt.strftime("%Y-%m")),
        regimes=by_group(scored, pl.col("regime").fill_null("unknown")),
        controls={side: shifted_accuracy(scored, side, move=limits.move, least_shift=least_shift) for side in SIDES},
        reasons={side: _wording(scored[f"{side}_reasoning"].drop_nulls()) for side in SIDES},
        disagreements=_disagreements(scored),
        problems=left_out,
        journal=remarked,
    )


def complete(
    metrics: Metrics,
    *,
    grounding: Grounding | None,
    baselines: Mapping[str, BaselineMetrics],
    reviews: ReviewSummary | None,
) -> Metrics:
    """The same metrics with what was measured beside the rows."""
    return metrics.model_copy(update={"grounding": grounding, "baselines": baselines, "reviews": reviews})


def notes_of(metrics: Metrics, limits: EvaluateConfig) -> tuple[str, ...]:
    """What the numbers mean beyond the criteria, in plain sentences."""
    notes = []
    if (always := only_decision(metrics)) is not None:
        notes.append(
            f"The candidate says {always} every time: it learnt the most frequent answer instead of the market. Look "
            "at the balance of the training examples and at the decision accuracy of the training's evaluations."
        )
    needed, days = metrics.comparison.days_needed, metrics.comparison.days
    if needed is not None and needed > days:
        notes.append(
            f"{days:.0f} days were seen; with this gain and this noise about {needed - days:,.0f} more are needed to "
            "tell the models apart."
        )
    if metrics.shadow.accuracy_signals is not None:
        notes += notes_on_baselines(metrics.baselines, limits.confidence)
    control = metrics.controls["shadow"]
    if control is not None and control.p_value > CHANCE:
        notes.append(
            f"Held against outcomes of other times, the candidate's calls do as well in {control.p_value:.0%} of "
            "the shifts: its accuracy is what chance gives."
        )
    if (false := _note_on_reasons(metrics.grounding)) is not None:
        notes.append(false)
    if limits.criteria == "plan":
        notes.append("By the plan's three criteria alone: this verdict promotes nothing without --force.")
    reviewed = 0 if metrics.reviews is None else metrics.reviews.items
    if limits.criteria == "full" and reviewed < limits.min_reviewed:
        notes.append(
            f"The reasons are not reviewed by people ({limits.min_reviewed} a model are wanted), so they count neither "
            "for nor against; candletune review opens the page for it."
        )
    if metrics.control is not None:
        notes.append(metrics.control.text)
    return tuple(notes)


def _note_on_reasons(grounding: Grounding | None) -> str | None:
    """Said whatever the verdict: reasons that are clearly too often false; None where they are not, or unknown."""
    if grounding is None or grounding.shadow.interval is None or grounding.shadow.interval[1] >= LEAST_TRUE:
        return None
    counts = {
        side: f"{entry.true} of {entry.checked}"
        for side, entry in (("candidate", grounding.shadow), ("incumbent", grounding.active))
    }
    return (
        f"The candidate's reasons are not to be believed: every checkable claim is true in {counts['candidate']} of "
        f"them (incumbent: {counts['incumbent']}). A call does not come from its reason, so the numbers stand; do not "
        "act on the words."
    )


def _wording(reasons: pl.Series) -> Wording:
    return Wording(written=len(reasons), distinct=reasons.n_unique())


def _disagreements(scored: pl.DataFrame) -> tuple[Disagreement, ...]:
    different = scored.filter(
        pl.col("active_action").is_not_null()
        & pl.col("shadow_action").is_not_null()
        & (pl.col("active_action") != pl.col("shadow_action"))
    )
    chosen = different[:: max(1, len(different) // DISAGREEMENTS)][:DISAGREEMENTS]
    rows = chosen.select(name for name in Disagreement.model_fields)
    return tuple(
        Disagreement(**{**row, "timestamp": row["timestamp"].isoformat()}) for row in rows.iter_rows(named=True)
    )
