"""The handler behind `dataset --audit N`."""

from pathlib import Path
from typing import TYPE_CHECKING

from candletune.commands import open_session
from candletune.commands.result import say_result, stage_result

if TYPE_CHECKING:
    from candletune.stages.runner import StageOutcome


def audit_command(config_path: Path, assignments: tuple[str, ...], count: int, outcome: "StageOutcome") -> None:
    """`candletune dataset --audit N`: audit the run's dataset and say what was found.

    Raises:
        CheckFailed: a row could not be made again from what was known at its time, or train and eval overlap.
    """
    from candletune.dataset.audit import audit
    from candletune.errors import CheckFailed

    session = open_session(config_path, assignments)
    config, run, reporter = session.with_candles(), session.run, session.reporter
    with run.lock():
        result = audit(config, run, count, reporter)
    hours = result.nearest_train_eval_hours
    reporter.say(
        f"audit     {result.rebuilt} rows rebuilt from cut candles, {len(result.problems)} problems; "
        f"{result.duplicate_prompts} duplicate prompts; {result.train_rows_overlapping_eval} train rows overlap "
        f"eval; nearest train and eval decisions {'-' if hours is None else f'{hours:.0f}'} h apart; effective "
        f"sample size {result.effective_per_asset:.0f} of {result.examples} ({result.effective_pooled:.0f} counting "
        f"assets that move together once); see {run.audit_card}"
    )
    say_result(**stage_result(outcome), audit=result.model_dump(mode="json"))
    if not result.clean:
        shown = "; ".join(result.problems[:3])
        raise CheckFailed(f"audit: {len(result.problems)} problems, the first: {shown}; see audit/audit.json")
