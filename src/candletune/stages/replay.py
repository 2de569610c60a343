"""The `replay` stage: incumbent and candidate over decision times neither was trained on, into the A/B journal.

Decisions come from the logits at the decision token; reasons are written for a sample only. An interrupted replay goes
on behind the last row on disk.
"""

import time
from collections.abc import Sequence

import polars as pl

from candletune.artifacts import JudgedModel, ReplaySummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.decide import Model, Predictor, bare_base, differing_context, told_in
from candletune.live.models import candidate_model, compared_incumbent
from candletune.runs import RunFolder
from candletune.stages.replay_inputs import (
    base_sha256,
    replay_fingerprint,
    replay_inputs,
    resume_journal,
    training_ends,
    unseen_rows,
)
from candletune.stages.replay_rows import RowWriter, asking, unopened
from candletune.stages.runner import Stage
from candletune.stages.torch_control import CONTROL, Asked
from candletune.stages.torch_replay import Decided, TorchReplay, discard, torch_decides
from candletune.stages.untuned import UNTUNED_ROWS, ask_untuned, spread


def replay(config: Config, run: RunFolder, reporter: Reporter) -> ReplaySummary:
    """The stage's work; returns the summary."""
    candidate = candidate_model(run)
    incumbent, named_in = compared_incumbent(config, candidate)
    pair = (incumbent, candidate)
    rows, forced = unseen_rows(config, run, candidate, incumbent)
    torch = TorchReplay(config, run) if torch_decides(config, run, pair, reporter) else None
    digest = replay_fingerprint(config, run, torch=torch is not None)
    done = resume_journal(run.journal, run.replay_fingerprint, digest)
    if done:
        reporter.say(f"resuming the replay behind {done} rows")
    start = time.monotonic()
    opened = unopened(config, run) if torch is None else torch.open
    predictor = Predictor(config, run, engine=opened, copied=config.replay.copies != 1)
    decided: Decided | None = None
    try:
        for model in pair:
            predictor.load(model)  # a wrong file is refused before the first row
        _warn_of_context(predictor, pair, rows, reporter)
        reasons = spread(len(rows), config.replay.reasons)
        if torch is not None:
            decided = torch.decide(_asked(pair, rows, reasons), digest, reporter)
        latency = 0.0 if decided is None else decided.latency_ms
        template = predictor.template.sha256
        writer = RowWriter(rows, pair, reasons, latency, template, base_sha256(config, run), forced)
        with asking(config, run, predictor, pair, reporter) as ask:
            with reporter.task("replay", len(rows)) as task:
                task.resume(done)
                for count in writer.write(run.journal, done, ask):
                    task.advance(count)
            ask_untuned(run.untuned, ask, rows, reporter, wanted=incumbent.kind != "base")
    finally:
        predictor.close()
    discard(run)
    summary = _summary(rows, pair, named_in, forced, round(time.monotonic() - start, 3))
    control = None if decided is None else decided.control
    return summary.model_copy(update={"training_ends": training_ends(candidate, incumbent), "control": control})


def _warn_of_context(predictor: Predictor, pair: tuple[Model, Model], rows: pl.DataFrame, reporter: Reporter) -> None:
    """Say where a model was trained on prompts that told other things than these."""
    told = told_in(rows.iter_rows(named=True))
    for model in pair:
        for sentence in differing_context(predictor.facts(model), told, predictor.template):
            reporter.warn(f"{model.name}: {sentence}")


def _asked(pair: tuple[Model, Model], rows: pl.DataFrame, reasons: Sequence[int]) -> list[Asked]:
    """Both models about every row, and the bare base about some where it is a baseline."""
    prompts = rows["prompt"].to_list()
    asked = [Asked(model, prompts, spread(len(prompts), CONTROL), reasons) for model in pair]
    if pair[0].kind != "base":
        asked.append(Asked(bare_base(), [prompts[number] for number in spread(len(prompts), UNTUNED_ROWS)]))
    return asked


def _summary(
    rows: pl.DataFrame, pair: tuple[Model, Model], named_in: str, forced: bool, seconds: float
) -> ReplaySummary:
    first, last = rows["decision_time"][0], rows["decision_time"][-1]
    incumbent, candidate = pair
    return ReplaySummary(
        headline=f"{len(rows)} decisions of {rows['asset'].n_unique()} tickers, {first:%Y-%m-%d} to "
        f"{last:%Y-%m-%d}: {candidate.name} against {incumbent.name} ({named_in})"
        + (" (FORCED over rows the training saw)" if forced else ""),
        rows=len(rows),
        forced=forced,
        start=first.isoformat(),
        end=last.isoformat(),
        incumbent=JudgedModel(name=incumbent.name, adapter_sha256=incumbent.sha256),
        candidate=JudgedModel(name=candidate.name, adapter_sha256=candidate.sha256),
        incumbent_from=named_in,
        seconds=seconds,
    )


STAGE = Stage(
    name="replay",
    title="Replay both models",
    tables=("replay", "engine", "incumbent", "data", "prompt", "live"),
    inputs=replay_inputs,
    outputs=("replay/ab_test_log.jsonl", "replay/untuned_base.parquet"),
    work=replay,
    summary=ReplaySummary,
)
