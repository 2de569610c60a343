"""`base`, `dataset`, `export`, `verify`, `replay`, `evaluate`, `report`: one stage each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from candletune.commands import CANDLES, RUN, open_session, with_config
from candletune.commands.result import say_result, stage_result, with_json

if TYPE_CHECKING:
    from candletune.config import Config
    from candletune.console import Reporter
    from candletune.runs import RunFolder
    from candletune.stages.runner import StageOutcome


def run_one(
    name: str,
    config_path: Path,
    assignments: tuple[str, ...],
    force: bool,
    overrides: Mapping[str, Any] | None = None,
    before: Callable[["Config", "RunFolder", "Reporter"], None] | None = None,
    more: bool = False,
) -> "StageOutcome":
    """Run one stage in its run folder and show its summary.

    Args:
        name: the stage.
        config_path: `--config`.
        assignments: `--set`.
        force: run it though it is up to date.
        overrides: the command's own options.
        before: called before the stage unless that is up to date.
        more: the command goes on and says the result itself.
    """
    from candletune.stages import stage
    from candletune.stages.pipeline import prepare, show
    from candletune.stages.runner import is_current, run_stage

    needs = {"dataset": (CANDLES,), "replay": (RUN, CANDLES), "evaluate": (RUN, CANDLES)}.get(name, (RUN,))
    session = open_session(config_path, assignments, needs=needs, overrides=overrides)
    run, reporter = session.run, session.reporter
    with run.lock():
        config = prepare(session.config, run, reporter)
        if before is not None and (force or not is_current(stage(name), config, run)):
            before(config, run, reporter)
        outcome = run_stage(stage(name), config, run, reporter, force=force)
    show(outcome, run, reporter)
    if not more:
        say_result(**stage_result(outcome))
    return outcome


with_force = click.option("--force", is_flag=True, help="Run even when everything is up to date.")


@click.command(epilog="Example: candletune base --set base.serve_type=Q5_K_M")
@with_config
@with_json
@with_force
def base(config_path: Path, assignments: tuple[str, ...], force: bool) -> None:
    """Write gguf/base.gguf from base.model: the one file that trains and serves. Nothing with base.gguf."""
    run_one("base", config_path, assignments, force)


@click.command(epilog="Example: candletune dataset --set dataset.per_class=500")
@with_config
@with_json
@with_force
@click.option(
    "--audit", type=click.IntRange(min=1), metavar="N", help="Rebuild N random rows from cut candles and compare."
)
def dataset(config_path: Path, assignments: tuple[str, ...], force: bool, audit: int | None) -> None:
    """Read candles, compute indicators, label, render, balance and write dataset/lora_training.jsonl."""
    outcome = run_one("dataset", config_path, assignments, force, more=bool(audit))
    if audit:
        from candletune.commands.audit import audit_command

        audit_command(config_path, assignments, audit, outcome)


@click.command(epilog="Example: candletune export --set export.kind=merged")
@with_config
@with_json
@with_force
@click.option("--fallback", is_flag=True, help="Write a merged model when the adapter's export is refused.")
def export(config_path: Path, assignments: tuple[str, ...], force: bool, fallback: bool) -> None:
    """Write gguf/custom-trading-lora.gguf, or a merged model."""
    run_one("export", config_path, assignments, force, {"export.fallback": True} if fallback else None)


@click.command(epilog="Example: candletune verify --set verify.prompts=100")
@with_config
@with_json
@with_force
def verify(config_path: Path, assignments: tuple[str, ...], force: bool) -> int:
    """Load the export in llama.cpp and hold it against the trained model; exit code 4 when it fails."""
    from candletune.artifacts import VerifySummary

    outcome = run_one("verify", config_path, assignments, force)
    return 0 if outcome.summary_as(VerifySummary).passed else 4


@click.command(epilog="Example: candletune replay --set replay.start=2025-01-01")
@with_config
@with_json
@with_force
@click.option(
    "--ray", metavar="ADDRESS", help="Spread decisions over a Ray cluster: `auto`, or an address (extra `ray`)."
)
def replay(config_path: Path, assignments: tuple[str, ...], force: bool, ray: str | None) -> None:
    """Run both adapters over held-out decision times and write replay/ab_test_log.jsonl."""
    run_one("replay", config_path, assignments, force, None if ray is None else {"replay.ray": ray})


@click.command(epilog="Example: candletune evaluate --criteria plan --require-promote")
@with_config
@with_json
@with_force
@click.option("--criteria", type=click.Choice(["full", "plan"]), help="`plan` applies the plan's three criteria alone.")
@click.option(
    "--journal", type=click.Path(path_type=Path), help="Judge this journal (a shadow test's), not the replay's."
)
@click.option("--require-promote", is_flag=True, help="Exit code 4 unless the verdict is promote.")
@click.option(
    "--register", "ahead", is_flag=True, help="Put the next replay on record before it is run; judges nothing."
)
def evaluate(
    config_path: Path,
    assignments: tuple[str, ...],
    force: bool,
    criteria: str | None,
    journal: Path | None,
    require_promote: bool,
    ahead: bool,
) -> int:
    """Join outcomes, compute metrics, intervals and baselines, and decide.

    Every verdict on the same candles spends of one error budget. With `--register`, before the replay is run, models,
    decision times and rule go on record, and its verdict may use the bound of a single look.
    """
    from candletune.artifacts import EvaluateSummary

    options = {"evaluate.criteria": criteria, "evaluate.journal": journal}
    given = {key: value for key, value in options.items() if value is not None}
    if ahead:
        from candletune.commands.register import register_command

        register_command(config_path, assignments, given, other=force or require_promote)
        return 0
    verdict = run_one("evaluate", config_path, assignments, force, given).summary_as(EvaluateSummary).verdict
    return 4 if require_promote and verdict != "promote" else 0


@click.command(epilog="Example: candletune report")
@with_config
@with_json
@with_force
@click.option(
    "--journal", type=click.Path(path_type=Path), help="Report on this journal's evaluation, into report/shadow.html."
)
def report(config_path: Path, assignments: tuple[str, ...], force: bool, journal: Path | None) -> None:
    """Write report/index.html."""
    run_one("report", config_path, assignments, force, {} if journal is None else {"evaluate.journal": journal})
